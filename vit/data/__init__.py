"""Datasets, download and the deterministic pipeline. `--data NAME` names a pair of sets; `load` reads it."""
from pathlib import Path

from vit.data.pictures import DataPair, Dataset, Pictures
from vit.errors import UserError

__all__ = ["NAMES", "DataPair", "Dataset", "Pictures", "load"]

NAMES = ("digits", "cifar", "cifair", "folder")


def load(name: str, data_dir: str | None = None) -> DataPair:
    """Read the pair of sets that `--data` names.

    Args:
        name: "digits" (bundled with scikit-learn), "cifar" or "cifair".
        data_dir: Folder that holds CIFAR's archives or the folders extracted from them.

    Raises:
        UserError: The name is unknown, the folder is missing, or a file in it is not what it should be.
    """
    if name not in NAMES:
        raise UserError(f"unknown data {name!r}: choose one of {', '.join(NAMES)}")
    if data_dir is not None and not (data_dir and Path(data_dir).is_dir()):
        raise UserError(f"{data_dir or repr(data_dir)}: no such data_dir folder")
    if name == "digits":
        from vit.data import digits
        return digits.load()
    if name == "folder":
        raise UserError("data 'folder' is not there yet: choose another")
    from vit.data import cifar
    return cifar.load(name, None if data_dir is None else Path(data_dir))
