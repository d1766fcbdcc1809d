"""The sums that an export carries: by them a damaged one is refused before its runtime, which may crash on it, sees it.

A file ends with the sha256 of all that is before it, where its form has room for that; a folder has a file of sums.
"""
import hashlib
import os
import zipfile
from pathlib import Path

from vit.errors import UserError
from vit.files.atomic import write_whole
from vit.files.kinds import check_file
from vit.files.untrusted import MAX_HEADER_BYTES

SUMS = "vit.sha256"  # of a folder: lines as the command sha256sum has them
_DIGITS = 64
# Field 14 of both forms' ModelProto: texts by name (`metadata_props`, `user_info`), which may be in several places.
_PROTOBUF = b"\x72\x4e\x0a\x0avit.sha256\x12\x40"
# What comes before the digits. That of LiteRT is in the comment of the zip archive that is behind the model.
_MARKS = {"onnx": _PROTOBUF, "mindir": _PROTOBUF, "litert": b"sha256:"}


def seal(path: Path, kind: str) -> None:
    """Put the sums into an export that was just written; into one of torch.export, which is not opened again, none.

    Args:
        path: The file or folder.
        kind: Its form, one of `vit.use.formats.FORMATS`.
    """
    if path.is_dir():
        lines = [f"{_sum(file)}  {name}\n" for name, file in sorted(_files(path).items())]
        write_whole(path / SUMS, "".join(lines).encode())
        return
    if kind not in _MARKS:
        return
    end = _MARKS[kind] + bytes(_DIGITS)
    if kind == "litert":
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = end
    else:
        with open(path, "ab") as file:
            file.write(end)
    with open(path, "r+b") as file:
        digest = _digest(file, os.path.getsize(path) - _DIGITS)
        file.write(digest.encode())


def check(path: Path, kind: str, title: str) -> None:
    """Hold an export to its sums.

    Args:
        path: The file or folder.
        kind: Its form.
        title: The form as people write it, for messages.

    Raises:
        UserError: It is not as it was written, or `vit export` has not written it.
    """
    if fault := _folders_fault(path) if path.is_dir() else _files_fault(path, kind):
        what = "folder" if path.is_dir() else "file"
        raise UserError(f"{path}: is no whole {title} {what} of `vit export`: {fault}")


def _files_fault(path: Path, kind: str) -> str:
    mark, size = _MARKS[kind], os.path.getsize(path)
    with open(path, "rb") as file:
        digest = _digest(file, max(0, size - _DIGITS))
        file.seek(max(0, size - _DIGITS - len(mark)))
        begin, digits = file.read(len(mark)), file.read()
    if begin != mark:
        return "its sum is not at its end"
    return "" if digits == digest.encode() else "its sum is another"


def _folders_fault(path: Path) -> str:
    check_file(path / SUMS)
    if not (path / SUMS).is_file():
        return f"there is no {SUMS} in it"
    if os.path.getsize(path / SUMS) > MAX_HEADER_BYTES:
        return f"its {SUMS} is too long"
    lines = (path / SUMS).read_text(errors="replace").splitlines()
    sums = {name: digits for digits, _, name in (line.partition("  ") for line in lines)}
    files = _files(path)
    if odd := sorted(set(sums) ^ set(files)):
        return f"{odd[0]!a} is {'not there' if odd[0] in sums else f'not in its {SUMS}'}"
    for name, file in files.items():
        check_file(file)
        if _sum(file) != sums[name]:
            return f"the sum of {name!a} is another"
    return ""


def _files(path: Path) -> dict[str, Path]:
    """A folder's files by name, without its sums and without hidden ones, which file managers leave behind."""
    return {name: file for file in path.rglob("*") if not file.is_dir()
            and (name := str(file.relative_to(path))) != SUMS and not file.name.startswith(".")}


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return _digest(file, os.path.getsize(path))


def _digest(file, size: int) -> str:
    """The sha256 of so many bytes of an open file, in hex; the file is behind them then."""
    found, left = hashlib.sha256(), size
    while left:
        part = file.read(min(left, 1 << 20))
        if not part:
            break
        found.update(part)
        left -= len(part)
    return found.hexdigest()
