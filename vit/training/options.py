"""The options of a run that are no part of its recipe, and the signature that a script's `fastestimator_run` has."""
import dataclasses
import inspect
import os
import reprlib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vit.aliases import names_of, resolve
from vit.backend import script_of
from vit.errors import UserError
from vit.fields import check, first_sentence, option
from vit.remote.address import is_address
from vit.training.recipe import Recipe


@dataclass(frozen=True)
class RunOptions:
    """Everything that a run takes beside the fields of its recipe. Paths may be strings or `pathlib.Path`s.

    Raises:
        ValueError: An option has an impossible value; the message names the option, the value and what is allowed.
    """
    recipe: str | os.PathLike | dict | Recipe | None = option(
        None, """Recipe: a YAML file, or a shipped one by name, such as small_data (default: FastEstimator's apphub).

        From Python also a dict of fields, or a `Recipe`. Fields that are given beside it override it.""",
        flag="recipe", metavar="FILE")
    data_dir: str | os.PathLike | None = option(
        None, """Folder with CIFAR's archives, or with your own images, or an address (default: a per-user cache).

        CIFAR's archives may have been extracted; what is missing from the cache is downloaded into it. Your own images
        are in train/<class>/ and val/<class>/, or in the shards that `vit shards make` has made of them, which
        may also be at s3://, https:// or http://. Of data "arrays" it is a .npz file.""",
        flag="data", metavar="DIR")
    train_dataset: object | None = option(
        None, """Images to train on, from Python: (images, labels), or a dataset of Hugging Face.

        Or a dict of images, labels and the names of the classes; `vit/data/arrays.py` says what they may be. They take
        the place of data.""")
    eval_dataset: object | None = option(
        None, "Images to evaluate on, in the same form as train_dataset (default: `val_fraction` sets some apart).")
    skip_bad_images: bool = option(
        False, "Leave out those of your own images that cannot be read.", flag="data",
        aliases=("skip_bad_pictures",))
    num_workers: int = option(
        0, "Processes that prepare batches; with 0 the training does so itself.", limits="[0, inf)", flag="scale")
    pretrained: str | os.PathLike | object | None = option(
        None, """File of weights to finetune, instead of pretraining.

        It may be one of this project, timm, DeiT, MAE, Hugging Face (also a folder), torchvision, Google (.npz),
        MindCV (.ckpt) or FastEstimator's apphub; or a checkpoint, or the folder of a run. It may be at s3://, https://
        or http://. From Python also a model: a ViT of any of the scripts.""",
        flag="model", metavar="FILE")
    on_nan: str = option(
        "stop", """What to do when a loss, or a gradient, is no finite number.

        A step that float16's loss scale skips is none of that.""", choices=("stop", "continue"), flag="training")
    compare_scratch: bool = option(False, "Also finetune from scratch, to compare.", flag="training")
    device_target: str | None = option(
        None, """Device that MindSpore computes on (default: what is there).

        PyTorch and TensorFlow take no such option, but the first GPU that CUDA_VISIBLE_DEVICES shows.""",
        flag="scale")
    reduce: str = option(
        "ordered", """How the gradients of several workers are added.

        "ordered", by rank, gives all workers the same bits, as often as one likes; "fast" is the framework's own
        all-reduce. For one worker there is nothing to add.""", choices=("ordered", "fast"), flag="scale")
    dist_timeout: int = option(
        1800, """Seconds after which a worker that others wait for counts as hanging, and the run ends.

        It must be longer than what one worker does while the others wait: download, compile, save.""",
        limits="[1, inf)", flag="scale")
    compile: bool = option(
        False, """Compile the model: torch.compile, or XLA in TensorFlow; minutes at first, then steps may be faster.

        Numbers agree with those of the uncompiled model to rounding, not to the bit. MindSpore compiles always.""",
        flag="scale")
    activation_checkpointing: bool = option(
        False, """Keep only the input of each block for the backward pass, which computes the rest of it again.

        A step takes less memory and a forward pass more time. Its numbers stay what they are, in PyTorch to the bit.
        MindSpore ignores it.""", flag="scale")
    model_dir: str | os.PathLike | None = option(
        None, """Folder that the run's files go to, or an address in S3 (default: runs/<time>-<backend>).

        At s3://BUCKET/KEY the files are what they are in a folder: each is there whole or not at all.""",
        flag="saving", metavar="DIR")
    overwrite: bool = option(
        False, "Move a run that lies in model_dir aside, whole, to a name with .old behind it.", flag="saving")
    checkpoint_every: int | str = option(
        "epoch", 'Training steps between checkpoints, or "epoch" for one after each epoch.', limits="[1, inf)",
        choices=("epoch",), flag="saving", metavar="N")
    keep: int = option(
        3, "How many of a stage's newest checkpoints are kept, beside the best.", limits="[1, inf)", flag="saving")
    on_save_error: str = option(
        "continue", "What to do when a checkpoint cannot be written.", choices=("stop", "continue"), flag="saving")
    resume: str | os.PathLike | None = option(
        None, """Go on with a stopped run, from a checkpoint or, with "auto", the newest whole one in model_dir.

        Where "auto" finds no checkpoint, the run starts from the beginning, with a note. Each of the three scripts goes
        on with any other's run. Its recipe and its data_dir, skip_bad_images, pretrained and compare_scratch are in the
        checkpoint; the other options must be given again.""",
        flag="saving", metavar="FILE")
    resume_override: tuple[str, ...] = option(
        (), "Field of the recipe that may differ from the stopped run's.", flag="saving", metavar="FIELD=VALUE")
    quiet: bool = option(
        False, "Print warnings and errors alone; the file train.log in model_dir has all lines.", flag="output")
    verbose: bool = option(
        False, "Print what FastEstimator prints, too; it is in the file train.log anyway.", flag="output")
    log_steps: int = option(
        100, "Training steps between FastEstimator's lines in the log; 0 for none within epochs.",
        limits="[0, inf)", flag="output")
    tensorboard: str | os.PathLike | None = option(
        None, "Folder for TensorBoard's event files (default: none are written).", flag="output", metavar="DIR")
    profile: bool = option(
        False, "Trace a few training steps for the framework's own viewer, into MODEL_DIR/profile.", flag="output")

    def __post_init__(self) -> None:
        check(self)
        if not isinstance(self.pretrained, str | None) and script_of(self.pretrained) is None:
            raise ValueError("pretrained must be a file, or a ViT of vit_torch, vit_tf or vit_ms, not "
                             f"{reprlib.repr(self.pretrained)}")
        if is_address(self.tensorboard):
            raise ValueError("tensorboard must be a local folder, not an address")
        for field in dataclasses.fields(self):
            if getattr(self, field.name) == "":
                what = "a folder" if field.metadata["metavar"] == "DIR" else "a file"
                raise ValueError(f"{field.name} is empty: name {what}, or leave --{field.name} out")


def split(given: Mapping) -> tuple[RunOptions, dict]:
    """Part the keyword arguments of `fastestimator_run`.

    Args:
        given: Values by option, by today's names or older ones.

    Returns:
        The run's options, checked, and the fields of the recipe that are given, unchecked: `recipe_file.build` takes
        them.

    Raises:
        UserError: An option is unknown, is given by two names, or has an impossible value.
    """
    values = resolve(given, names_of(RunOptions, Recipe), "option", "help(fastestimator_run) and --help show them all")
    own = {field.name for field in dataclasses.fields(RunOptions)}
    try:
        options = RunOptions(**{name: value for name, value in values.items() if name in own})
    except ValueError as error:
        raise UserError(str(error)) from None
    fields = {name: value for name, value in values.items() if name not in own}
    if options.eval_dataset is not None and options.train_dataset is None:
        raise UserError("eval_dataset needs train_dataset: another data has its own images to evaluate on")
    if options.train_dataset is not None and fields.setdefault("data", "arrays") != "arrays":
        raise UserError(f"train_dataset takes the place of data {fields['data']!r}: leave one of them out")
    return options, fields


def documented(function: Callable[..., dict]) -> Callable[..., dict]:
    """Give `fastestimator_run(recipe, **options)` a signature with every option, and documentation made of their texts.

    Returns:
        The function itself.
    """
    own, recipe = dataclasses.fields(RunOptions), dataclasses.fields(Recipe)
    lines = [line for field in own for line in _entry(field.name, " ".join(field.metadata["text"].split()))]
    lines += ["", "    Fields of the recipe (`python -m vit recipe fields` explains them in full):"]
    lines += [line for field in recipe for line in _entry(field.name, f"{first_sentence(field.metadata['text'])}.")]
    function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Args:", *lines])
    function.__signature__ = inspect.Signature(
        [inspect.Parameter(field.name, _by_name(field.name), default=field.default, annotation=field.type)
         for field in (*own, *recipe)], return_annotation=dict)
    return function


def _by_name(option: str):
    """The recipe is the one argument that need not be named."""
    return inspect.Parameter.POSITIONAL_OR_KEYWORD if option == "recipe" else inspect.Parameter.KEYWORD_ONLY


def _entry(name: str, text: str) -> list[str]:
    """One entry of a docstring's Args."""
    return textwrap.wrap(f"{name}: {text}", 100, initial_indent="    ", subsequent_indent="        ",
                         break_on_hyphens=False, break_long_words=False)
