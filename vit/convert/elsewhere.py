"""Weights at an address, as a local file."""
from pathlib import Path

from vit.convert import huggingface, runs
from vit.errors import UserError
from vit.files.atomic import write_whole
from vit.remote import cache, transfer
from vit.remote.address import Address, parse


def fetched(text: str) -> Path:
    """Give a local copy of a file of weights, with the settings that Hugging Face's projects keep beside it.

    Args:
        text: Its address; of a folder in S3 it may be a run's or one of Hugging Face.

    Raises:
        UserError: It cannot be had.
    """
    address = _file(parse(text))
    path = cache.local(address)
    if address.name in huggingface.FILES:
        for name in huggingface.SETTINGS:
            _beside(path, address.parent / name)
    return path


def _file(address: Address) -> Address:
    """The file that an address stands for."""
    if address.scheme != "s3":
        return address
    with transfer.told():
        there = transfer.names(address)
    if not there:
        return address
    known = (*huggingface.FILES, *runs.FINISHED.values())
    for name in known:
        if name in there:
            return address / name
    raise UserError(f"{address}: is a folder without {', '.join(known)}; name a file in it")


def _beside(path: Path, address: Address) -> None:
    """Put a small file beside another, if it is there: servers that are asked for none may also deny it."""
    with transfer.told():
        try:
            transfer.look(address)
        except (FileNotFoundError, PermissionError):
            return
    write_whole(path.with_name(address.name), cache.local(address).read_bytes())
