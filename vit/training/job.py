"""A run and its stages, as data: what is trained on what, from where, and what came of it."""
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from vit.checkpoints import Checkpoint
from vit.data import DataPair, Dataset
from vit.errors import UserError
from vit.model.config import ViTConfig
from vit.model.dropout import sites
from vit.model.parameters import Weights
from vit.training.history import History, evaluations_since_best
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.workers import ALONE, World


@dataclass(slots=True)  # FastEstimator looks into the __dict__ of what its traces are given, and chokes on modules
class Job:
    """One run: its script, its recipe, its data and where its files go.

    Args:
        script: The module of the script: `vit_torch`, `vit_tf` or `vit_ms`. Who needs the framework asks it by name.
        recipe: What to train.
        data: The pair of sets.
        model_dir: Where the files go.
        options: What the run was asked for beside the recipe.
        dtype: Of the weights and of everything computed with them: "float32", or "float64" to compare frameworks.
        saves_checkpoints: Whether checkpoints are written, as the options say.
        started_with: What a checkpoint says of how the run was started, beside the recipe; plain values.
        fingerprint: What a checkpoint says of the data, as `vit.data.fingerprint` gives it; or None.
        base: The model of the file that the run starts from, in place of the recipe's variant; or None.
        checkpoints: Each stage's checkpoint to go on from, where there is one.
        stages: What was trained so far.
        stretches: Each process that trained a part of the run, as `vit.training.stretches` notes it.
        trains: Whether this process is the last of them.
        world: The workers that train it together.
        mirror: Where the files are copied to, if model_dir is the local part of a folder elsewhere; or None.
    """
    script: ModuleType
    recipe: Recipe
    data: DataPair
    model_dir: Path
    options: RunOptions = field(default_factory=RunOptions)
    dtype: str = "float32"
    saves_checkpoints: bool = False
    started_with: dict = field(default_factory=dict)
    fingerprint: dict | None = None
    base: ViTConfig | None = None
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    stages: list["Stage"] = field(default_factory=list)
    stretches: list[dict] = field(default_factory=list)
    trains: bool = False
    world: World = ALONE
    mirror: object = None

    def shown(self, path: Path) -> str:
        """Name a file of the run as a person knows it."""
        return self.mirror.shown(path) if self.mirror else str(path)

    @property
    def backend(self) -> str:
        """The framework's short name: "torch", "tf" or "ms"."""
        return self.script.backend.NAME

    def config(self, dataset: Dataset) -> ViTConfig:
        """Give the model for a set: the variant with the set's classes and image size.

        Raises:
            UserError: The set's images do not fit the variant's patches, or are smaller than the recipe's
                cutout or border.
        """
        image_size = self.recipe.image_size or dataset.train.image_size
        try:
            config = self.recipe.model(len(dataset.classes), image_size, self.base)
        except ValueError as error:
            raise UserError(str(error)) from None
        for name in ("cutout_size", "crop_padding"):
            if getattr(self.recipe, name) > config.image_size:
                raise UserError(f"{name} must be at most the size of the images ({config.image_size}), "
                                f"not {getattr(self.recipe, name)}")
        return config

    def steps_per_epoch(self, dataset: Dataset) -> int:
        """Count the training steps of an epoch over a set."""
        return self.recipe.train_steps_per_epoch or math.ceil(len(dataset.train) / self.recipe.batch_size)

    def stops_early(self, done: list[dict], epochs: int) -> bool:
        """Tell whether a stage ends where it is, by `early_stopping_patience`.

        Args:
            done: What its history says of the epochs so far.
            epochs: How many there would be.
        """
        patience = self.recipe.early_stopping_patience
        return bool(patience) and len(done) < epochs and evaluations_since_best(done) >= patience

    def autoencoder(self, dataset: Dataset) -> ViTConfig:
        """Give the masked autoencoder for a set.

        Raises:
            UserError: It cannot be made of the model.
        """
        try:
            return self.recipe.autoencoder(self.config(dataset))
        except ValueError as error:
            raise UserError(f"mae_epochs: {error}") from None

    def stage(self, name: str, dataset: Dataset, epochs: int) -> "Stage":
        """Begin a stage."""
        config = self.autoencoder(dataset) if name == "mae" else self.config(dataset)
        self.stages.append(Stage(self, name, dataset, epochs, config))
        return self.stages[-1]


@dataclass(slots=True)
class Stage:
    """One training of a run.

    Args:
        job: The run that it is part of.
        name: "mae" (a masked autoencoder), "pretrain", "finetune" or "scratch".
        dataset: What it trains on, and is evaluated on.
        epochs: Passes over the training images.
        config: The model.
        history: Filled while it trains.
        model: The framework's model, once it trains.
        weights: What it ended with.
        saver: The trace that writes its checkpoints, once it trains.
        tested: What its best epoch's weights do on the test images, where the best was chosen by others; else None.
    """
    job: Job
    name: str
    dataset: Dataset
    epochs: int
    config: ViTConfig
    history: History = field(default_factory=History)
    model: object = None
    weights: Weights | None = None
    saver: object = None
    tested: dict | None = None

    @property
    def freeze_encoder(self) -> bool:
        """Whether the head alone is trained: only under a pretrained encoder."""
        return self.job.recipe.freeze_encoder and self.name == "finetune"

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch."""
        return self.job.steps_per_epoch(self.dataset)

    @property
    def steps(self) -> int:
        """Training steps of the whole stage."""
        return self.steps_per_epoch * self.epochs

    def evaluates(self, epoch: int) -> bool:
        """Say whether the stage is evaluated after one of its epochs, counted from 1."""
        return self.job.recipe.evaluates(epoch, self.epochs)

    @property
    def stops_early(self) -> bool:
        """Whether it has come to the end that `early_stopping_patience` sets, before its last epoch."""
        return self.job.stops_early(self.history.epochs, self.epochs)

    @property
    def eval_steps(self) -> int | None:
        """Steps of an evaluation, or None for the whole set: FastEstimator would pass over a smaller one again."""
        steps = self.job.recipe.eval_steps_per_epoch
        return steps if steps and steps * self.job.recipe.batch_size < len(self.dataset.evaluation) else None

    @property
    def train_inputs(self) -> str | tuple[str, str]:
        """Keys of a training batch that go to the model: the images and, if it has dropout, their keys."""
        return ("x", "key") if sites(self.config) else "x"

    @property
    def eval_inputs(self) -> str | tuple[str, str]:
        """Those of a batch of an evaluation: the images and, if patches are hidden there too, their keys."""
        return "x" if self.classifies else self.train_inputs

    @property
    def classifies(self) -> bool:
        """Whether its model has classes to be right about; else its evaluations have a loss alone."""
        return self.config.has_head

    @property
    def tensorboard(self) -> Path | None:
        """Folder for the stage's TensorBoard files, or None for none."""
        return Path(self.job.options.tensorboard) / self.name if self.job.options.tensorboard else None

    def last_checkpoint(self) -> str:
        """Say which checkpoint a training that has failed can go on from."""
        written = self.saver.written if self.saver is not None else None
        return f"the last checkpoint is {self.job.shown(written)}" if written else "no checkpoint was written in it"

    def learning_rate(self, step: int) -> float:
        """Give the learning rate of a training step, counted from 1."""
        return self.job.recipe.rate(step, self.steps, self.steps_per_epoch)
