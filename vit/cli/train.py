"""The flags that the three scripts share, and how they end: status 0, or one line on stderr and status 2."""
import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import fe_compat

from vit.data import NAMES
from vit.errors import UserError
from vit.model.config import VARIANTS
from vit.training import recipe_file
from vit.training.recipe import CHOICES, Recipe


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser(description: str) -> argparse.ArgumentParser:
    """The parser of a script's flags. Those of the recipe are in its result only if given: others override a file."""
    flags = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = flags.add_argument

    def field(name: str, kind: type, metavar: str, text: str) -> None:
        """A flag for a field of the recipe."""
        default = getattr(Recipe, name)
        shown = "" if default is None else f" (default: {default})"
        add(f"--{name}", type=kind, default=argparse.SUPPRESS, metavar=metavar, help=text + shown)

    add("--recipe", metavar="FILE", help="YAML file of a recipe, such as recipes/small_data.yaml; the flags below and "
        "--set override it (default: FastEstimator's apphub job)")
    add("--set", action="append", default=[], dest="settings", metavar="FIELD=VALUE",
        help=f"any field of the recipe, several times: {', '.join(recipe_file.FIELDS)}")
    field("data", str, "NAME", f"pair of sets to pretrain and finetune on, or a folder of images to finetune on: "
          f"{', '.join(NAMES)}")
    add("--data_dir", metavar="DIR", help="folder with CIFAR's archives or the folders extracted from them (default: "
        "a per-user cache, downloaded into once); for --data folder, what holds train/<class>/ and val/<class>/")
    add("--skip_bad_images", action="store_true", help="with --data folder, leave out images that cannot be read")
    field("variant", str, "NAME", f"model: {', '.join(VARIANTS)}")
    field("pretrain_epochs", int, "N", "passes over the many-class set")
    field("finetune_epochs", int, "N", "passes over the few-class set")
    field("batch_size", int, "N", "images of a step")
    field("train_steps_per_epoch", int, "N", "end a training epoch after N steps (default: all)")
    field("eval_steps_per_epoch", int, "N", "end an evaluation after N steps (default: all)")
    field("image_size", int, "N",
          "side of the images that the model sees (default: that of the data's images, or the variant's)")
    field("learning_rate", float, "R", "highest learning rate")
    field("precision", str, "NAME", f"of the matrix products: {', '.join(CHOICES['precision'])}")
    field("seed", int, "N", "of initial weights, sample order, augmentation and dropout")
    add("--model_dir", metavar="DIR", help="where the run's files go (default: runs/<time>-<backend>)")
    add("--num_workers", type=int, default=0, metavar="N",
        help="processes that prepare batches; 0 prepares them in this one (default: %(default)s)")
    add("--log_steps", type=int, default=100, metavar="N",
        help="steps between log lines; 0 logs epochs only (default: %(default)s)")
    add("--checkpoint_every", type=_every, default="epoch", metavar="N",
        help='training steps between checkpoints, or "epoch" (default: %(default)s)')
    add("--keep", type=int, default=3, metavar="N",
        help="how many of a stage's newest checkpoints stay, beside the best (default: %(default)s)")
    add("--on_save_error", choices=("stop", "continue"), default="continue",
        help="what to do where a checkpoint cannot be written (default: %(default)s)")
    add("--resume", metavar="WHERE", help="go on with a stopped run: auto (the newest checkpoint that is whole, in "
        "--model_dir), or a checkpoint's file; any of the three scripts goes on with any other's; flags that are not "
        "fields of the recipe, such as --checkpoint_every, are to be given again")
    add("--resume_override", action="append", default=[], metavar="FIELD=VALUE",
        help="a field of the recipe that may differ from the stopped run's")
    add("--tensorboard", metavar="DIR", help="also write TensorBoard's event files there (default: none)")
    add("--profile", action="store_true",
        help="trace a few training steps for the framework's own viewer, into MODEL_DIR/profile")
    add("--compare_scratch", action="store_true", help="also finetune from scratch, to compare")
    add("--pretrained", metavar="FILE", help="start the finetune from this file instead of pretraining: this one's, "
        "timm's, Hugging Face's (also a folder), torchvision's, Google's (.npz) or MindCV's (.ckpt)")
    add("--freeze_encoder", action="store_true", default=argparse.SUPPRESS,
        help="train the head alone in the finetune (a linear probe)")
    return flags


def _every(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def main(script, arguments=None):
    flags = parser(script.__doc__)
    if script.backend.DEVICE_TARGETS:
        flags.add_argument("--device_target", choices=script.backend.DEVICE_TARGETS, help="where to run (default: what is there)")
    if status := report_errors(lambda: _run(flags, script.fastestimator_run, arguments)):
        sys.exit(status)


def _run(flags: argparse.ArgumentParser, run: Callable[..., dict], arguments: list[str] | None) -> None:
    options = vars(flags.parse_args(arguments))
    settings = dict(recipe_file.setting(text) for text in options.pop("settings"))
    if twice := sorted(set(settings) & set(options)):
        raise UserError(f"{twice[0]} is given both by --set and by another flag: leave one out")
    run(**options, **settings)


# Of OSError: what is wrong with a disk or with rights, and not with the program.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)


def report_errors(function: Callable[[], int | None]) -> int | None:
    """Call a function; what the person at the terminal can mend is one line on stderr.

    Returns:
        What the function returns; or 2 after bad input and where the machine lacks space or rights, 130 after Ctrl-C.
    """
    try:
        return function()
    except KeyboardInterrupt:
        line, status = "interrupted", 130
    except (UserError, fe_compat.Unusable) as error:
        # One that was raised in a data worker comes as its traceback, the last line of which is the message.
        line, status = str(error).strip().splitlines()[-1].removeprefix("vit.errors.UserError: "), 2
    except MemoryError as error:
        line, status = f"out of memory ({error}); a smaller --batch_size, --image_size or --variant needs less", 2
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        line, status = f"{error.filename or 'a file'}: {error.strerror}", 2
    print(f"error: {line}", file=sys.stderr)
    return status
