"""A weights file: safetensors with the model's spec as its manifest."""
import json
import os

import safetensors

from vit.errors import UserError, one_line
from vit.files.atomic import whole_file
from vit.files.safetensors import verify, with_bfloat16, write_safetensors
from vit.model.config import ViTConfig
from vit.model.parameters import Weights, check

FORMAT = "vit-canonical-1"
# Not part of what a weights file must agree on: rates act in training only, and the head is made for the data.
_FREE_FIELDS = ("num_classes", "dropout", "attention_dropout", "drop_path")


def save(path: str | os.PathLike, weights: Weights, config: ViTConfig) -> None:
    """Write a safetensors file with the spec as its manifest; whole or not at all.

    Raises:
        UserError: The weights are not this model's.
        OSError: The file cannot be written.
    """
    check(weights, config)
    with whole_file(path) as file:
        write_safetensors(file, weights, {"format": FORMAT, "spec": json.dumps(config.to_dict())})


def load(path: str | os.PathLike, like: ViTConfig | None = None) -> tuple[Weights, ViTConfig]:
    """Read a file that `save` wrote.

    Args:
        path: The file.
        like: The model that the file must hold (its head and its dropout rates may differ), or None for any.

    Returns:
        The weights and their model's spec.

    Raises:
        UserError: The file is missing, cut off or damaged, not safetensors, without a manifest, or of another model.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            if any(file.get_slice(name).get_dtype() == "BF16" for name in names):
                weights = with_bfloat16(path)  # which the library does not give to numpy
            else:
                weights = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({one_line(error)})") from None
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: has no {FORMAT} manifest, so it was not written by this project")
    try:
        config = ViTConfig.from_dict(json.loads(metadata["spec"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: its manifest is not a model spec ({one_line(error)})") from None
    try:
        check(weights, config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if like is not None:
        theirs, ours = config.to_dict(), like.to_dict()
        other = [f"{name} {theirs[name]!r} (wanted {ours[name]!r})" for name in ours
                 if name not in _FREE_FIELDS and theirs[name] != ours[name]]
        if other:
            raise UserError(f"{path}: holds another model: {', '.join(other)}; choose the --variant it was made with")
    verify(path)
    return weights, config
