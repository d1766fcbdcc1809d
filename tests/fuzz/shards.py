"""Sets in shards: indexes that are nearly right, and tar files that are damaged."""
import functools
import json
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.case import Case
from tests.fuzz.mutations import changed_bytes, json_text
from vit.data import sharding, shards


@functools.cache
def _whole() -> dict[str, bytes]:
    """The files of a whole set, by name."""
    with tempfile.TemporaryDirectory() as folder:
        for place in ("train/a", "train/b", "val/a", "val/b"):
            (Path(folder) / "images" / place).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(Path(folder) / "images" / place / f"{number}.png")
        sharding.make(Path(folder) / "images", Path(folder) / "in", per_shard=3)
        return {path.name: path.read_bytes() for path in sorted((Path(folder) / "in").iterdir())}


@st.composite
def _cases(draw) -> Case:
    files: dict[str, bytes | str] = dict(_whole())
    how = draw(st.sampled_from(["index", "index", "index", "bytes", "shard", "shard", "gone", "odd"]))
    name = shards.INDEX if how in ("index", "bytes") else draw(st.sampled_from(sorted(set(files) - {shards.INDEX})))
    if how == "index":
        files[name] = draw(json_text(json.loads(files[name])))
    elif how in ("bytes", "shard"):
        files[name] = draw(changed_bytes(files[name]))
    elif how == "gone":
        del files[name]
    else:
        files[name] = draw(st.sampled_from([b"", b"\0" * 512, "fifo", "-> nothing", "-> /dev/zero", "-> ."]))
    command = draw(st.sampled_from(["train", "train", "check", "index"]))
    if command == "index":
        del files[shards.INDEX]
    files = {f"in/{name}": content for name, content in files.items()}
    if command != "train":
        return Case("commands.vit", ("shards", command, "in"), files, ("in",), written="in/shards.json")
    arguments = ("--data", "folder", "--data_dir", "in", "--variant", "tiny", "--image_size", "32", "--batch_size", "8",
                 "--model_dir", "out")
    return Case("script.prepare", arguments, files, ("in",))


cases = _cases()
