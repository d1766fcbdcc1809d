"""What a run is asked for and will not use: said in one note each, where silence would let a person believe in it."""
import sys
from collections.abc import Collection, Iterator
from dataclasses import fields

from vit.training.options import RunOptions
from vit.training.recipe import Recipe


def tell(options: RunOptions, recipe: Recipe, given: Collection[str], backend: str = "", workers: int = 1) -> None:
    """Print a note on stderr for each option and field that has no effect on this run.

    Args:
        options: The run's options.
        recipe: Its recipe.
        given: The fields of the recipe that were given beside the recipe's file.
        backend: Which framework trains: "torch", "tf" or "ms".
        workers: How many processes train together.
    """
    for name, why in ignored(options, recipe, given, backend, workers).items():
        print(f"note: {name} is ignored: {why}", file=sys.stderr, flush=True)


def ignored(options: RunOptions, recipe: Recipe, given: Collection[str], backend: str = "",
            workers: int = 1) -> dict[str, str]:
    """List what was asked for and has no effect, each with the reason. Of a resumed run it was listed as it began.

    A field that has its default's value counts as asked for only where it is in `given`: a file may list all fields.
    """
    if options.resume is not None:
        return {}
    asked = set(given) | _changed(recipe) | _changed(options)
    flags = {field.name for field in (*fields(Recipe), *fields(RunOptions)) if field.metadata["flag"]}
    return {f"--{name}" if name in flags else name: why
            for names, why in _without_effect(options, recipe, backend, workers) for name in names if name in asked}


def _changed(spec: RunOptions | Recipe) -> set[str]:
    return {field.name for field in fields(spec) if getattr(spec, field.name) != field.default}


def _without_effect(options: RunOptions, recipe: Recipe, backend: str = "",
                    workers: int = 1) -> Iterator[tuple[tuple[str, ...], str]]:
    """The options and fields that this run has no use for, and why."""
    if backend == "ms":
        yield ("compile",), "MindSpore compiles all training steps"
        yield ("activation_checkpointing",), "MindSpore frees no memory by it; a smaller batch_size does"
    if workers == 1:
        yield ("reduce",), "one worker has nothing to add"
        yield ("dist_timeout",), "one worker waits for none"
    if options.pretrained is not None:
        yield ("pretrain_epochs",), "--pretrained takes the place of the pretraining"
    elif recipe.data in ("folder", "arrays"):
        yield ("pretrain_epochs",), f'data "{recipe.data}" has no set to pretrain on'
        yield ("compare_scratch",), "nothing is pretrained, so the finetune itself is from scratch"
    if recipe.data != "folder":
        names = ("skip_bad_images",) if recipe.data == "arrays" else ("skip_bad_images", "eval_crop_pct")
        yield names, f'it is for data "folder", and data is "{recipe.data}"'
    if options.train_dataset is not None:
        yield ("data_dir",), "train_dataset is what is trained on"
    if recipe.data == "digits":
        yield ("data_dir",), 'data "digits" comes with scikit-learn'
        yield ("hflip_prob",), "a digit is never flipped"
    if recipe.optimizer not in ("sgd", "muon"):
        yield ("momentum",), f'it is for optimizer "sgd" or "muon", and optimizer is "{recipe.optimizer}"'
    if recipe.optimizer != "sgd":
        yield ("nesterov",), f'it is for optimizer "sgd", and optimizer is "{recipe.optimizer}"'
    if recipe.optimizer == "sgd":
        yield ("beta1", "beta2", "epsilon"), 'it is for optimizer "adam", "adamw" or "muon", and optimizer is "sgd"'
    if recipe.schedule != "cosine":
        yield ("min_learning_rate",), f'it is for schedule "cosine", and schedule is "{recipe.schedule}"'
    if recipe.schedule != "milestones":
        yield ("milestones", "milestone_rates"), f'it is for schedule "milestones", and schedule is "{recipe.schedule}"'
    if recipe.precision != "fp16":
        yield ("loss_scale",), f'it is for precision "fp16", and precision is "{recipe.precision}"'
    if recipe.schedule not in ("step", "exponential"):
        yield ("decay_rate", "decay_epochs"), (f'it is for schedule "step" or "exponential", and schedule is '
                                               f'"{recipe.schedule}"')
    if not (recipe.mixup or recipe.cutmix):
        yield ("mixup_prob",), "mixup and cutmix are 0"
    if not recipe.crop_scale_min:
        yield ("crop_scale_max",), "crop_scale_min is 0"
    if recipe.augment != "randaugment":
        yield (("randaugment_number", "randaugment_magnitude", "randaugment_std"),
               f'it is for augment "randaugment", and augment is "{recipe.augment}"')
    if options.pretrained is not None and not options.compare_scratch:
        yield ("initialization",), "the weights are those of --pretrained, and a head begins alike"
