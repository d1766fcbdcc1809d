"""A training in three lines of Python: the scripts' own run, then what has come of it."""
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from vit.backend import load_script
from vit.data import NAMES, arrays, splitting
from vit.errors import UserError
from vit.model.config import VARIANTS
from vit.remote.address import is_address
from vit.training import recipe_file, run
from vit.training.options import split
from vit.training.report import folder
from vit.use.classifier import BATCH_SIZE, title
from vit.use.evaluation import choose, evaluate
from vit.use.image_classifier import ImageClassifier, OneImage


class Trainer:
    """Train a model on a set, evaluate it, and predict with it.

    Args:
        model: A variant by name; or what to finetune: a file of weights of any known project, the folder of a run, an
            address, or a script's ViT. None is the recipe's variant.
        train_dataset: A set by name ("digits", "cifar", "cifair"), a folder of images or of their shards, a .npz file,
            (images, labels), a dict of images, labels and classes, or a dataset of Hugging Face, as
            `vit/data/arrays.py` says. None is the recipe's data.
        eval_dataset: Images to evaluate on, in one of the last three forms; the others have their own. None needs a
            `val_fraction`.
        recipe: A recipe's file, its name, a dict of its fields, or a `vit.training.recipe.Recipe`.
        backend: "torch", "tf" or "ms".
        model_dir: Folder for the run's files, or an address in S3; with a run that lies there already, `evaluate` and
            `predict` are its model's. None is `runs/<time>-<backend>`, made when the training begins.
        options: Any other option of `fastestimator_run`, such as `finetune_epochs=5` or `quiet=True`.

    Attributes:
        model_dir: Where the run's files are.
        options: What it was made with, by the scripts' names.

    Raises:
        UserError: An option is unknown or impossible.
    """

    def __init__(self, model: object = None, train_dataset: object = None, eval_dataset: object = None,
                 recipe: object = None, backend: str = "torch", model_dir: str | os.PathLike | None = None,
                 **options) -> None:
        self.backend, self.model_dir = backend, model_dir
        given = _model(model) | _data(train_dataset, eval_dataset) | ({} if recipe is None else {"recipe": recipe})
        if twice := sorted(set(given) & set(options)):
            raise UserError(f"{twice[0]} is given twice: leave one of them out")
        self.options = self.asked = given | options
        self.start = given.get("pretrained")
        self._classifier: ImageClassifier | None = None
        split(self.options)

    def train(self, resume: bool | str | os.PathLike = False, **options) -> dict:
        """Train, as `python vit_torch.py` and its siblings do.

        Args:
            resume: Whether to go on with the run in `model_dir`, from its newest checkpoint, or from which one.
            options: Options for this time alone, such as `resume_override=["finetune_epochs=9"]`.

        Returns:
            What `results.json` holds.

        Raises:
            UserError: Bad input.
        """
        script = load_script(self.backend)
        asked = self.asked = self.options | options
        if resume:
            asked = asked | {"resume": "auto" if resume is True else resume}
        made = None
        if self.model_dir is None:
            if resume is True:
                raise UserError("resume needs model_dir, the folder of the run to go on with")
            if not resume:
                made = self._new_folder(script)
        try:
            results = script.fastestimator_run(**asked, model_dir=self.model_dir or made)
        finally:
            self._classifier = None
            if made is not None:
                with contextlib.suppress(OSError):
                    made.rmdir()  # where nothing was written
                self.model_dir = str(made) if made.exists() else None
        return results

    def evaluate(self, dataset: object = None) -> dict:
        """Evaluate what was trained; before that, the weights that were given.

        Args:
            dataset: Images with labels, in one of the forms of `eval_dataset`; None is all that each epoch is evaluated
                on: with a `val_fraction`, the images that it sets apart.

        Returns:
            "images", "top1", "top5", "loss" and "calibration_error", as `vit evaluate` gives them.

        Raises:
            UserError: There is nothing to evaluate yet, or the images have other classes than the model.
        """
        model = self._ready().model
        if dataset is not None:
            return evaluate(model, arrays.labelled(dataset, model.classes, "the dataset")).result()
        options, fields = split(self.asked)
        recipe = recipe_file.build(options.recipe, options.pretrained is None, **fields)
        pair = splitting.apart(run.read(recipe, options), recipe.val_fraction, recipe.seed)
        return evaluate(model, choose(pair, model, title(self._source())).evaluation).result()

    def predict(self, images: OneImage | Sequence[OneImage], top_k: int = 5) -> list:
        """Name the likeliest classes of images, as `vit.hub.pipeline` does.

        Args:
            images: As of a call of `vit.use.image_classifier.ImageClassifier`.
            top_k: Classes that are named.

        Returns:
            Of one image its classes, the likeliest first, as {"label": name, "score": probability}; of several a list
            of such lists.

        Raises:
            UserError: There is nothing to predict with yet, or an image cannot be read.
        """
        return self._ready()(images, top_k)

    def _ready(self) -> ImageClassifier:
        if self._classifier is None:
            self._classifier = ImageClassifier(self._source(), self.backend, BATCH_SIZE)
        return self._classifier

    def _source(self) -> object:
        """The run's folder, or the weights or the model that it would start from."""
        place = self.model_dir
        if place is not None and (is_address(place) or any(Path(place).glob("**/*.safetensors"))):
            return str(place)
        if self.start is not None:
            return self.start
        raise UserError("nothing is trained yet: call train() first")

    def _new_folder(self, script) -> Path:
        announced = script.backend.workers.announced()
        if announced and announced[1] > 1:
            raise UserError("several workers need a model_dir that all of them are given")
        return folder.unused(Path(f"runs/{time.strftime('%Y%m%d-%H%M%S')}-{self.backend}"))


def _model(model: object) -> dict:
    if model is None:
        return {}
    if isinstance(model, str) and model in VARIANTS and not os.path.exists(model):
        return {"variant": model}
    return {"pretrained": model}


def _data(train: object, test: object) -> dict:
    """What the options of a run say of the sets."""
    if not isinstance(train, str | os.PathLike):
        return {name: value for name, value in (("train_dataset", train), ("eval_dataset", test)) if value is not None}
    if test is not None:
        raise UserError(f"train_dataset {str(train)!r} has its own images to evaluate on: leave eval_dataset out")
    if train in NAMES and train not in ("folder", "arrays"):
        return {"data": train}
    return {"data": "arrays" if str(train).endswith(".npz") else "folder", "data_dir": train}
