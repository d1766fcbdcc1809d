"""The data: `--data NAME` names a pair of sets, and `load` reads it."""
from pathlib import Path

from vit.data.sets import DataPair, Dataset, Images
from vit.errors import UserError
from vit.remote.address import is_address, parse

__all__ = ["NAMES", "DataPair", "Dataset", "Images", "load"]

NAMES = ("digits", "cifar", "cifair", "folder", "arrays")


def load(name: str, data_dir: str | None = None, skip_bad_images: bool = False, given: tuple = (None, None),
         untested: bool = False, classes: int | None = None) -> DataPair:
    """Read the pair of sets that `--data` names.

    Args:
        name: "digits" (bundled with scikit-learn), "cifar", "cifair", "folder" or "arrays".
        data_dir: Folder that holds CIFAR's archives or the folders extracted from them, or the folder of images or
            of their shards; shards may also be at an address. Of arrays the .npz file.
        skip_bad_images: Whether to leave out the images of a folder that cannot be read.
        given: What to train on and, or None, what to test on, of arrays: as `vit.data.arrays` says.
        untested: Whether a folder or arrays may be without images to test on.
        classes: Of CIFAR's two sets only the one with so many is read, if one has.

    Raises:
        UserError: The name is unknown, the folder is missing, or a file in it is not what it should be.
    """
    if name not in NAMES:
        raise UserError(f"unknown data {name!r}: choose one of {', '.join(NAMES)}")
    if is_address(data_dir):
        if name != "folder":
            raise UserError(f"data {name!r} is read from a local data_dir; an address is for shards, of data 'folder'")
        from vit.data import shards
        return shards.load(shards.RemoteShards(parse(data_dir)), skip_bad_images)
    if name == "arrays":
        from vit.data import arrays
        return arrays.load(*(arrays.read(data_dir) if given[0] is None else given), untested=untested)
    if data_dir is not None and not (data_dir and Path(data_dir).is_dir()):
        raise UserError(f"{data_dir or repr(data_dir)}: no such data_dir folder")
    if name == "digits":
        from vit.data import digits
        return digits.load()
    if name == "folder":
        if data_dir is None:
            raise UserError("data 'folder' needs --data_dir: a folder with train/<class>/ and val/<class>/ in it, "
                            "or with shards of such")
        from vit.data import image_folder, shards
        if (Path(data_dir) / shards.INDEX).exists():
            return shards.load(shards.LocalShards(Path(data_dir)), skip_bad_images)
        return image_folder.load(Path(data_dir), skip_bad_images, untested)
    from vit.data import cifar
    return cifar.load(name, None if data_dir is None else Path(data_dir), classes)
