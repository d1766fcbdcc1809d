"""A weights file of this project: safetensors with canonical names, and the model's spec as its manifest.

Format 2 is format 1 with two promises: the checksum is always there, and a spec that lacks a field means its default.
"""
import json
import os

from vit.errors import UserError, one_line
from vit.files.atomic import whole_file
from vit.files.format_number import check_format
from vit.files.model_check import check_model, check_tensors
from vit.files.safetensors import open_tensors, write_tensors
from vit.files.untrusted import listed
from vit.files.usage import Usage
from vit.model.config import ViTConfig
from vit.model.parameters import Weights, check, not_finite

FORMAT = "vit-canonical-2"
_KNOWN = ("vit-canonical-1", FORMAT)


def save(path: str | os.PathLike, weights: Weights, config: ViTConfig, usage: Usage | None = None) -> None:
    """Write weights with their model's spec, whole or not at all.

    Args:
        path: The file.
        weights: Canonical weights.
        config: Their model's spec.
        usage: How the model is used, where that is known.

    Raises:
        UserError: The weights are not this model's, or not finite, or the path is no file.
        OSError: The file cannot be written; what was there is as it was.
    """
    check(weights, config)
    if bad := not_finite(weights):  # no reader would take them
        raise UserError(f"{path}: not written: {len(bad)} of its {len(weights)} tensors hold values that are not "
                        f"finite: {listed(bad, 3)}")
    metadata = {"format": FORMAT, "spec": json.dumps(config.to_dict())}
    if usage is not None:
        metadata["usage"] = usage.to_json()
    with whole_file(path) as file:
        write_tensors(file, weights, metadata)


def load(path: str | os.PathLike, expected: ViTConfig | None = None) -> tuple[Weights, ViTConfig]:
    """Read a file that `save` wrote, in this version or an older one.

    Args:
        path: The file.
        expected: The model that the file must hold (its head and its dropout rates may differ), or None for any.

    Returns:
        The weights in the types in which they were saved, and their model's spec.

    Raises:
        UserError: The file is missing, cut off or damaged, not safetensors, without a manifest, or of another model.
    """
    tensors, metadata = open_tensors(path)
    check_format(path, metadata, _KNOWN, "weights file")
    config = parse_spec(path, metadata.get("spec"))
    try:
        check_tensors(tensors, config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if expected is not None:
        check_model(path, config, expected)
    return {name: tensor.load() for name, tensor in tensors.items()}, config


def parse_spec(path: str | os.PathLike, text: str | None) -> ViTConfig:
    """Read the spec that a file carries as its manifest.

    Args:
        path: The file, for the message.
        text: The spec's fields as JSON; None where the file has none.

    Raises:
        UserError: It is no model spec, or that of a masked autoencoder.
    """
    try:
        config = ViTConfig.from_dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: its manifest is not a model spec ({one_line(error)})") from None
    if not config.has_head:
        raise UserError(f"{path}: is of a masked autoencoder, which has no classes; take what a later stage has left")
    return config
