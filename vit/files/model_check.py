"""Whether a file holds the model that was asked for."""
import os
from collections.abc import Mapping

from vit.errors import UserError, one_line
from vit.files.lazy_tensor import LazyTensor
from vit.model import parameters
from vit.model.config import ViTConfig

# The head is made for the data, and rates of dropout act in training only: files that differ in these hold one model.
HEAD_AND_RATES = ("num_classes", "dropout", "attention_dropout", "drop_path", "patch_dropout")


def check_tensors(tensors: Mapping[str, LazyTensor], config: ViTConfig) -> None:
    """Hold the tensors of an opened file to a model's names and shapes, before any of them is loaded.

    Raises:
        UserError: They are of another model; the message says in what.
    """
    blocks = config.depth + config.decoder_depth
    if blocks > len(tensors):  # before so many are listed: a file may claim billions
        raise UserError(f"weights do not fit the model: {len(tensors)} tensors for {blocks} blocks")
    try:
        outlines = {name: tensor.outline for name, tensor in tensors.items()}
    except ValueError as error:  # NumPy has no such shape
        raise UserError(f"weights do not fit the model: {one_line(error)}") from None
    parameters.check(outlines, config)


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
