"""What a run is about to do, in a few lines before its first step."""
from vit import terminal
from vit.backend import TITLES
from vit.data import Dataset
from vit.errors import printable
from vit.model import summary
from vit.training.job import Job
from vit.training.report.log import FILE, say


def tell(job: Job, stages: dict[str, tuple[Dataset, int]]) -> None:
    """Say what is trained on what, with what, and where it goes.

    Args:
        job: The run, whose folder is its own.
        stages: By the name of each stage that it will have, its set and its epochs.
    """
    rows = [("model", _model(job, next(iter(stages.values()))[0]))]
    rows += [(name, _stage(job, *of)) for name, of in stages.items()]
    rows.append(("on", _device(job)))
    rows.append(("folder", f"{job.shown(job.model_dir)}, its log in {FILE}"))
    for name, value in rows:
        name = f"{name:<9}"
        line = f"{name} {value}"
        shown = terminal.wrapped(line, terminal.width(), indent=" " * 10)
        say(line, terminal.styled(name, "dim") + shown.removeprefix(name))


def _model(job: Job, dataset: Dataset) -> str:
    config = job.config(dataset)
    name = job.options.pretrained or job.recipe.variant
    return (f"{name}: {summary.parameters(config):,} parameters, depth {config.depth}, width {config.width}; images of "
            f"{config.image_size} x {config.image_size} in patches of {config.patch_size} x {config.patch_size}")


def _stage(job: Job, dataset: Dataset, epochs: int) -> str:
    counts = [(len(dataset.train), "training"), (0 if dataset.val is None else len(dataset.val), "validation"),
              (len(dataset.test), "test")]
    images = ", ".join(f"{count:,} {part}" for count, part in counts if count)
    return (f"{printable(dataset.name)}: {images} images, {len(dataset.classes):,} classes; {epochs:,} "
            f"epoch{'s' * (epochs > 1)} of {job.steps_per_epoch(dataset):,} steps of {job.recipe.batch_size:,}")


def _device(job: Job) -> str:
    parts = [job.script.backend.device_name(), TITLES.get(job.backend, job.backend), job.recipe.precision]
    return ", ".join([*parts, *([] if job.world.alone else [f"{job.world.size} workers"])])
