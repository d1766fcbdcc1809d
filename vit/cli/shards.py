"""`python -m vit shards`: a folder of images as a few tar files, and whether they are whole."""
import argparse
from pathlib import Path

from vit.errors import UserError, printable
from vit.files.kinds import check_file


def add_parser(commands) -> None:
    """Add the command and its parts."""
    parser = commands.add_parser(
        "shards", help="a folder of images as a few tar files, which train as the folder does",
        description="Write a folder of images as a few tar files, its shards, or only their index; or check them.")
    parts = parser.add_subparsers(required=True, metavar="PART", dest="part")
    make = parts.add_parser("make", help="write a folder of images as shards", description=(
        "Write the images of DIR/train/<class>/ and DIR/val/<class>/ as .tar files in webdataset's layout, with an "
        "index, shards.json. --data folder --data_dir OUT then trains on the same images, in the same order."))
    make.add_argument("source", metavar="DIR", help="a folder of images, as --data folder reads it")
    make.add_argument("folder", metavar="OUT", help="the folder to write")
    make.add_argument("--per_shard", type=int, default=1000, metavar="N",
                      help="images of a file (default: %(default)s)")
    make.add_argument("--skip_bad_images", action="store_true", help="leave out images that cannot be read")
    make.set_defaults(run=_make)
    index = parts.add_parser("index", help="write the index of shards that others have made", description=(
        "Read .tar files in webdataset's layout, train*.tar and val*.tar or test*.tar, and write their index, "
        "shards.json. The class of KEY.jpg is in KEY.cls, or is the folder that it is in."))
    index.add_argument("folder", metavar="DIR", help="the folder of the .tar files")
    index.add_argument("--classes", metavar="FILE", help="names of the classes, one a line, where KEY.cls has numbers")
    index.set_defaults(run=_index)
    check = parts.add_parser("check", help="whether shards are whole", description=(
        "Read all shards of a folder and compare them with its index; or say in one line what is wrong."))
    check.add_argument("folder", metavar="DIR", help="a folder with shards.json")
    check.set_defaults(run=_check)


def _make(options: argparse.Namespace) -> int:
    from vit.data import sharding
    index = sharding.make(Path(options.source), Path(options.folder), options.per_shard, options.skip_bad_images)
    print(_summary(options.folder, index))
    return 0


def _index(options: argparse.Namespace) -> int:
    from vit.data import shard_indexing
    names = None
    if options.classes is not None:
        try:
            check_file(options.classes)
            names = tuple(Path(options.classes).read_text(encoding="utf-8").splitlines())
        except OSError as error:
            raise UserError(f"{options.classes}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise UserError(f"{options.classes}: is no text in UTF-8") from None
    print(_summary(options.folder, shard_indexing.write(Path(options.folder), names)))
    return 0


def _check(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from vit.data import download, shards
    place = shards.LocalShards(Path(options.folder))
    index = shards.parse(place.index(), f"{place}/{shards.INDEX}")
    place.check(index)
    for shard in tqdm([shard for part in index.parts.values() for shard in part.shards], "reading", disable=None):
        path = place.folder / shard.file
        try:
            found = download.sha256(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if found != shard.sha256:
            raise UserError(f"{path}: its sha256 is not that of {shards.INDEX}: copy it again, or make the shards "
                            "again")
    print(_summary(options.folder, index))
    return 0


def _summary(folder: str, index) -> str:
    """What there is, in a line."""
    counts = {name: (sum(len(shard.labels) for shard in part.shards), len(part.shards))
              for name, part in index.parts.items()}
    parts = ", ".join(f"{images:,} images of {name} in {files:,} files" for name, (images, files) in counts.items())
    return f"{printable(folder)}: {parts}; {len(index.classes):,} classes"
