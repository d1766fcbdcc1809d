"""Whether a file holds the model that was asked for."""
import os

from vit.errors import UserError
from vit.model.config import ViTConfig

# The head is made for the data, and rates of dropout act in training only: files that differ in these hold one model.
HEAD_AND_RATES = ("num_classes", "dropout", "attention_dropout", "drop_path")


def check_model(path: str | os.PathLike, found: ViTConfig, expected: ViTConfig,
                free: tuple[str, ...] = HEAD_AND_RATES) -> None:
    """Hold the model that a file holds to the one that was asked for.

    Args:
        path: The file, for the message.
        found: Its model.
        expected: The model that was asked for.
        free: The fields that may differ.

    Raises:
        UserError: Another field differs; the message names it and both values.
    """
    theirs, ours = found.to_dict(), expected.to_dict()
    differing = [f"{name} {theirs[name]!r} (expected {ours[name]!r})" for name in ours
                 if name not in free and theirs[name] != ours[name]]
    if differing:
        raise UserError(f"{path}: holds another model: {', '.join(differing)}; leave --variant out, or choose the one "
                        "that the file was made with")
