"""The flags that the three scripts share, and how they end: status 0, or one line on stderr and status 2."""
import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from vit.config import VARIANTS
from vit.data import NAMES
from vit.errors import UserError
from vit.recipe import Recipe


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser(description: str) -> argparse.ArgumentParser:
    """The parser of a script's flags."""
    flags = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = flags.add_argument
    add("--data", default=Recipe.data, metavar="NAME",
        help=f"pair of sets to pretrain and finetune on: {', '.join(NAMES)} (default: %(default)s)")
    add("--data_dir", metavar="DIR", help="folder with CIFAR's archives or the folders extracted from them "
        "(default: a per-user cache, downloaded into once)")
    add("--variant", default=Recipe.variant, metavar="NAME",
        help=f"model: {', '.join(VARIANTS)} (default: %(default)s)")
    add("--pretrain_epochs", type=int, default=Recipe.pretrain_epochs, metavar="N",
        help="passes over the many-class set (default: %(default)s)")
    add("--finetune_epochs", type=int, default=Recipe.finetune_epochs, metavar="N",
        help="passes over the few-class set (default: %(default)s)")
    add("--batch_size", type=int, default=Recipe.batch_size, metavar="N",
        help="pictures of a step (default: %(default)s)")
    add("--train_steps_per_epoch", type=int, metavar="N", help="end a training epoch after N steps (default: all)")
    add("--eval_steps_per_epoch", type=int, metavar="N", help="end an evaluation after N steps (default: all)")
    add("--seed", type=int, default=Recipe.seed, metavar="N",
        help="of initial weights, sample order, augmentation and dropout (default: %(default)s)")
    add("--model_dir", metavar="DIR", help="where the run's files go (default: runs/<time>-<backend>)")
    add("--num_workers", type=int, default=0, metavar="N",
        help="processes that prepare batches; 0 prepares them in this one (default: %(default)s)")
    add("--log_steps", type=int, default=100, metavar="N",
        help="steps between log lines; 0 logs epochs only (default: %(default)s)")
    add("--compare_scratch", action="store_true", help="also finetune from scratch, to compare")
    add("--pretrained", metavar="FILE", help="start the finetune from this weights file instead of pretraining")
    return flags


def main(description: str, run: Callable[..., dict], arguments: list[str] | None = None,
         device_targets: Sequence[str] = ()) -> None:
    """Parse the flags and run; bad input ends in one line on stderr and exit status 2.

    Args:
        description: The script's docstring.
        run: The script's `fastestimator_run`.
        arguments: The command line; None is the process's own.
        device_targets: What `--device_target` may name, where the framework wants to be told.
    """
    flags = parser(description)
    if device_targets:
        flags.add_argument("--device_target", choices=device_targets, help="where to run (default: what is there)")
    options = flags.parse_args(arguments)
    try:
        run(**vars(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
