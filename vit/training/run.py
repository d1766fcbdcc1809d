"""The run, written once: pretrain, copy the encoder, finetune, write the results. A script supplies only `train`."""
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fe_compat

from vit.checkpoints import Access, Checkpoint, check_saving, checkpoint_name, saver, set_aside
from vit.data import DataPair, Dataset, load
from vit.errors import UserError
from vit.files import canonical
from vit.model import dropout, parameters, precision
from vit.model.config import VARIANTS, ViTConfig
from vit.model.parameters import Weights
from vit.training import pipeline, recipe_file
from vit.training.pretrained import read as read_pretrained
from vit.training.recipe import Recipe
from vit.training.report import results
from vit.training.resume import Resume, find
from vit.training.traces import history as traces
from vit.training.traces.best import best_model_saver
from vit.training.traces.ema import average
from vit.training.traces.loss_scale import loss_scaling
from vit.training.traces.profile import profiling


@dataclass
class Job:
    """One run: its recipe, its data and where its files go.

    Args:
        backend: "torch", "tf" or "ms".
        recipe: What to train.
        data: The pair of sets.
        model_dir: Where the files go.
        num_workers: Processes that prepare batches.
        log_steps: Steps between FastEstimator's log lines; 0 for epochs only.
        tensorboard: Folder for TensorBoard's event files, one folder a stage; None for none.
        profile: Whether a few steps of the first stage are traced for the framework's viewer, into `profile/`.
        dtype: Of the weights and of everything computed with them: "float32", or "float64" to compare frameworks.
        checkpoint_every: Steps between checkpoints, "epoch", or None for no checkpoints.
        keep: How many of a stage's newest checkpoints stay.
        on_save_error: "stop" or "continue" where a checkpoint cannot be written.
        options: What a checkpoint says of how the run was started, beside the recipe.
        base: The model of the file that the run starts from, in place of the recipe's variant; or None.
        points: Each stage's checkpoint to go on from, where there is one.
        stages: What was trained so far.
    """
    backend: str
    recipe: Recipe
    data: DataPair
    model_dir: Path
    num_workers: int = 0
    log_steps: int = 100
    dtype: str = "float32"
    checkpoint_every: int | str | None = None
    keep: int = 3
    on_save_error: str = "continue"
    options: dict = field(default_factory=dict)
    base: ViTConfig | None = None
    points: dict[str, Checkpoint] = field(default_factory=dict)
    tensorboard: Path | None = None
    profile: bool = False
    stages: list["Stage"] = field(default_factory=list)

    def __post_init__(self) -> None:
        fe_compat.use_one_gpu()

    def config(self, dataset: Dataset) -> ViTConfig:
        """The variant, with a head and an input side for a set.

        Raises:
            UserError: The set's images do not fit the variant's patches, or are smaller than the recipe's cutout_size.
        """
        try:
            config = self.recipe.model(len(dataset.classes), self.recipe.image_size or dataset.train.image_size, self.base)
        except ValueError as error:
            raise UserError(str(error)) from None
        if self.recipe.cutout_size > config.image_size:
            raise UserError(f"cutout_size must be at most the side of the images ({config.image_size}), "
                            f"not {self.recipe.cutout_size}")
        return config

    def steps_per_epoch(self, dataset: Dataset) -> int:
        """Training steps of an epoch over a set."""
        return self.recipe.train_steps_per_epoch or math.ceil(len(dataset.train) / self.recipe.batch_size)

    def stage(self, name: str, dataset: Dataset, epochs: int) -> "Stage":
        """Begin a stage."""
        self.stages.append(Stage(self, name, dataset, epochs, self.config(dataset)))
        return self.stages[-1]


@dataclass
class Stage:
    """One training: everything that a framework's `train` needs to know.

    Args:
        job: The run that it is part of.
        name: "pretrain", "finetune" or "scratch".
        dataset: What it trains and is evaluated on.
        epochs: Passes over the training images.
        config: The model.
        history: Filled while it trains.
        model: The framework's model, once it trains.
        weights: What it ended with.
        saving: The trace that writes its checkpoints, once it trains.
    """
    job: Job
    name: str
    dataset: Dataset
    epochs: int
    config: ViTConfig
    history: traces.History = field(default_factory=traces.History)
    model: object = None
    weights: Weights | None = None
    saving: object = None

    @property
    def recipe(self) -> Recipe:
        return self.job.recipe

    @property
    def freeze_encoder(self) -> bool:
        """Whether the head alone is trained: only under a pretrained encoder."""
        return self.recipe.freeze_encoder and self.name == "finetune"

    @property
    def eval_steps(self) -> int | None:
        """Steps of an evaluation, or None for the whole set: FastEstimator would pass over a smaller one again."""
        steps = self.recipe.eval_steps_per_epoch
        return steps if steps and steps * self.recipe.batch_size < len(self.dataset.test) else None

    @property
    def log_steps(self) -> int:
        return self.job.log_steps

    @property
    def dtype(self) -> str:
        return self.job.dtype

    def pipeline(self, channels_first: bool):
        """FastEstimator's Pipeline over the stage's data, in the layout that the framework wants."""
        return pipeline.build(self.dataset.train, self.dataset.test, self.job.data, self.recipe, channels_first,
                              self.job.num_workers, self.dtype, self.config)

    @property
    def train_inputs(self) -> str | tuple[str, str]:
        """Keys of a training batch that go to the model: the images and, if it has dropout, the masks."""
        return ("x", "masks") if dropout.sites(self.config) else "x"

    def run(self, train: "Train", weights: Weights) -> Weights:
        """Train from `weights`, or from the stage's checkpoint; one that was finished is not trained again."""
        point = self.job.points.get(self.name)
        if point is not None and point.phase == "finished" and point.epoch >= self.epochs:
            point.refill(self.history)
            self.weights = point.average or point.weights
            return self.weights
        if point is not None and point.phase == "finished" and self.name == "pretrain":
            # More epochs are asked for: what was trained from it was trained from less.
            folder = self.job.model_dir / "checkpoints"
            set_aside(folder, folder / checkpoint_name("pretrain", point.step))
            self.job.points = {"pretrain": point}
        try:
            self.weights = train(self, weights)
        finally:
            if self.saving is not None:
                self.saving.close()
        return self.weights

    def traces(self, model, access: Access, profiler: Callable) -> list:
        """FastEstimator's Accuracy, BestModelSaver and LRScheduler, the history, the progress bar and checkpoints.

        Args:
            model: The model that is trained.
            access: Its script's functions.
            profiler: Its script's function of that name.
        """
        from fastestimator.trace.adapt import LRScheduler
        from fastestimator.trace.metric import Accuracy
        self.model = model
        steps = self.job.steps_per_epoch(self.dataset)

        def rate(step: int) -> float:
            return self.recipe.rate(step, steps * self.epochs, steps)

        def updates() -> int:
            return access.optimizer_steps(model.current_optimizer)

        scaling = averaging = profiled = None
        if precision.scales_loss(self.recipe.precision):
            scaling = loss_scaling(model, access.set_loss_scale, self.recipe.accumulate_steps)
        if self.recipe.ema_decay:
            averaging = average(model, access.to_numpy, access.from_numpy, self.recipe.ema_decay, updates)
        if self.job.checkpoint_every:
            self.saving = saver(model, access, self.config, self.job.model_dir / "checkpoints",
                                self.job.checkpoint_every, self.job.keep, self.job.on_save_error, self.name,
                                history=self.history, average=averaging, scaling=scaling,
                                accumulate=self.recipe.accumulate_steps, resume=self.job.points.get(self.name),
                                recipe=self.recipe.to_dict(), options=self.job.options, backend=self.job.backend)
        if self.job.profile:
            profiled = profiling(profiler, self.job.model_dir / "profile", steps)
            self.job.profile = False  # one stage is enough
        return [
            *([LRScheduler(model, rate)] if self.recipe.scheduled else []),
            Accuracy(true_key="y", pred_key="y_pred"),
            best_model_saver(model, self.job.model_dir / "best", "accuracy", self.job.on_save_error),
            *traces.build(self.history, model, steps, self.epochs, self.name, rate,
                          self.job.tensorboard and self.job.tensorboard / self.name, scaling),
            *(trace for trace in (scaling, averaging, self.saving, profiled) if trace is not None),
        ]


Train = Callable[[Stage, Weights], Weights]


def pretrain(job: Job, train: Train) -> Weights:
    """Train on the many-class set from the seed's initial weights; writes `pretrained.safetensors`."""
    stage = job.stage("pretrain", job.data.pretrain, job.recipe.pretrain_epochs)
    stage.run(train, parameters.initial(stage.config, job.recipe.seed))
    canonical.save(job.model_dir / "pretrained.safetensors", stage.weights, stage.config)
    return stage.weights


def finetune(job: Job, train: Train, pretrained: Weights | None) -> Weights:
    """Train on the few-class set, from a pretrained encoder under a new head or, without one, from scratch.

    Writes `finetuned.safetensors` or `scratch.safetensors`.
    """
    name = "scratch" if pretrained is None else "finetune"
    stage = job.stage(name, job.data.finetune, job.recipe.finetune_epochs)
    weights = parameters.initial(stage.config, job.recipe.seed)
    if pretrained is not None:
        weights, report = parameters.copy_encoder(pretrained, weights)
        print(report, flush=True)
    stage.run(train, weights)
    file = "scratch.safetensors" if pretrained is None else "finetuned.safetensors"
    canonical.save(job.model_dir / file, stage.weights, stage.config)
    return stage.weights


def prepare(backend: str, data_dir: str | None = None, model_dir: str | None = None, num_workers: int = 0,
            log_steps: int = 100, recipe: str | None = None, skip_bad_images: bool = False,
            tensorboard: str | None = None, checkpoint_every: int | str = "epoch", keep: int = 3,
            on_save_error: str = "continue", profile: bool = False, own_model: bool = True, **fields) -> Job:
    """Check a run's options and read its data; nothing is written.

    Args:
        backend: "torch", "tf" or "ms".
        data_dir: Folder with CIFAR's archives or folders, or with images.
        model_dir: Where the files will go; None is `runs/<time>-<backend>`.
        num_workers: Processes that prepare batches.
        log_steps: Steps between log lines; 0 for epochs only.
        recipe: A YAML file of a recipe; None for the defaults.
        checkpoint_every: Steps between checkpoints, or "epoch".
        keep: How many of a stage's newest checkpoints stay, beside the best.
        on_save_error: "stop" or "continue" where a checkpoint cannot be written.
        skip_bad_images: Whether to leave out what cannot be read in a folder of images.
        tensorboard: Folder for TensorBoard's event files; None for none.
        profile: Whether a few steps are traced for the framework's viewer.
        own_model: Whether the model is the recipe's variant, and not that of a file which is read later.
        fields: Fields of `Recipe`; they override the file's.

    Raises:
        UserError: Bad input.
    """
    checked = recipe_file.build(recipe, own_model, **fields)
    for name, value in (("num_workers", num_workers), ("log_steps", log_steps)):
        if value < 0:
            raise UserError(f"{name} must not be negative, not {value}")
    if model_dir == "":
        raise UserError("model_dir is empty: name a folder, or leave --model_dir out")
    folder = Path(model_dir or f"runs/{time.strftime('%Y%m%d-%H%M%S')}-{backend}")
    check_saving(checkpoint_every, keep, on_save_error)
    data = load(checked.data, data_dir, skip_bad_images)
    job = Job(backend, checked, data, folder, num_workers, log_steps, tensorboard=tensorboard and Path(tensorboard),
              checkpoint_every=checkpoint_every, keep=keep, on_save_error=on_save_error, profile=profile)
    for dataset in filter(None, (data.pretrain, data.finetune)) if own_model else ():
        job.config(dataset)
    return job


def run(backend: str, pretrain: Callable[[Job], Weights], finetune: Callable[[Job, Weights | None], Weights],
        multiply: Callable[[str], None], pretrained: str | None = None, compare_scratch: bool = False,
        resume: str | None = None, resume_override: Sequence[str] = (), **options) -> dict:
    """Pretrain (or read a file), copy the encoder, finetune, and write the results.

    Where the data has no set to pretrain on, the finetune is all, from a file or from scratch.

    Args:
        backend: "torch", "tf" or "ms".
        pretrain: The script's function of that name.
        finetune: The script's function of that name.
        multiply: The script's function of that name.
        pretrained: A weights file to start the finetune from instead of pretraining.
        compare_scratch: Whether to finetune from scratch as well.
        resume: "auto", or the checkpoint to go on from.
        resume_override: "FIELD=VALUE" for each field of the recipe that may differ from the checkpoint's.
        options: What `prepare` takes.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: Bad input; nothing was written.
    """
    started = time.perf_counter()
    found = None
    if resume is not None:
        found = _resume(resume, resume_override, options)
        options = {**options, **found.recipe, "recipe": None, "model_dir": str(found.model_dir)}
        # What a file was called may have changed since.
        options["data_dir"] = options.get("data_dir") or found.options.get("data_dir")
        options["skip_bad_images"] = options.get("skip_bad_images") or found.options.get("skip_bad_images", False)
        pretrained = pretrained or found.options.get("pretrained")
        compare_scratch = compare_scratch or found.options.get("compare_scratch", False)
    job = prepare(backend, own_model=pretrained is None, **options)
    precision.check(job.recipe.precision, multiply, backend)
    job.points = found.points if found else {}
    job.options = {"data_dir": options.get("data_dir"), "skip_bad_images": options.get("skip_bad_images", False),
                   "pretrained": pretrained, "compare_scratch": compare_scratch}
    weights = None
    if pretrained is not None:
        chosen = resume is None and (options.get("recipe") or "variant" in options)  # a stopped run's file was checked
        like = VARIANTS[job.recipe.variant] if chosen else None
        weights, job.base = read_pretrained(pretrained, job.recipe.image_size or job.data.finetune.train.image_size, like)
        job.config(job.data.finetune)
    elif job.data.pretrain is None and job.recipe.freeze_encoder:
        raise UserError("freeze_encoder needs --pretrained: an encoder from scratch must be trained")
    _check_updates(job, pretrains=weights is None and job.data.pretrain is not None)
    fe_compat.load_fastestimator()  # what keeps it from loading must show before a folder is made
    if job.tensorboard:
        results.probe(job.tensorboard, "tensorboard")
    if options.get("model_dir") is None:
        job.model_dir = results.unused(job.model_dir)
    results.open_folder(job.model_dir, resuming=found is not None)
    if found is not None:
        found.set_aside()
    (job.model_dir / "recipe.yaml").write_text(recipe_file.dump(job.recipe))
    (job.model_dir / "classes.json").write_text(json.dumps(job.data.finetune.classes, ensure_ascii=False, indent=0))
    if weights is None and job.data.pretrain is not None:
        weights = pretrain(job)
    finetune(job, weights)
    if compare_scratch and weights is not None:
        finetune(job, None)
    return results.write(job, pretrained, time.perf_counter() - started)


def _check_updates(job: Job, pretrains: bool) -> None:
    """Refuse to gather gradients for longer than a stage lasts: its weights would stay as they are."""
    stages = [("finetune", job.data.finetune, job.recipe.finetune_epochs)]
    if pretrains:
        stages.insert(0, ("pretraining", job.data.pretrain, job.recipe.pretrain_epochs))
    for name, dataset, epochs in stages:
        steps = job.steps_per_epoch(dataset) * epochs
        if job.recipe.accumulate_steps > steps:
            raise UserError(f"accumulate_steps must be at most {steps}, the steps of the {name}, "
                            f"not {job.recipe.accumulate_steps}: no weight would ever change")


def _resume(resume: str, overrides: Sequence[str], options: dict) -> Resume:
    asked = {name: value for name, value in options.items() if name in recipe_file.FIELDS}
    if options.get("recipe"):
        asked = recipe_file.build(options["recipe"], **asked).to_dict()
    return find(resume, options.get("model_dir"), asked, list(overrides))
