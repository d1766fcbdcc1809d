"""Compiled graphs that are kept between processes: what MindSpore's frontend takes 10 to 20 seconds for is read in one.

MindSpore can save what it compiles, and load it in the next process (`MS_COMPILER_CACHE_ENABLE`). But it takes the n-th
graph of one process for the n-th of the other, whatever they are, as long as the program's files are the same. So it
gets a folder of this process's own, in which there is, for each compilation, the graph of that very description or
none: who calls `keep` says what all graphs depend on, and each graph adds its plan, inputs and parameters. A file is
written whole or not at all, and one whose checksum is wrong is not read, so any number of processes can share a folder.

It binds a loaded graph's parameters by name to those of a Cell, so that only jitted Cells can be kept, as `Step`'s are.
"""
import atexit
import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
from fe_compat import quiet_stderr
from mindspore import nn
from mindspore.graph import api

MOST = 32  # of the keys in a folder: those that were used last stay
_VARIABLES = ("MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH")
_HASH = "compile_dependency.hash"  # MindSpore's, of the program's files; 64 bytes
_cache = None


def keep(folder: str | os.PathLike, key: str) -> None:
    """Load graphs that are compiled from now on from a folder, or save them there.

    Nothing is kept if `MS_COMPILER_CACHE_ENABLE` is set, to whatever value: then MindSpore does as it says; nor on
    other devices than a CPU. A folder that cannot be written is no error.

    Args:
        folder: Where to keep them, for all programs and processes; it is made if need be.
        key: What they depend on beside their plans, inputs and parameters: the program's files, the values that it
            puts into its Cells. The releases of Python, MindSpore and FastEstimator, and this package, are added.
    """
    global _cache
    if _cache is None:
        if any(name in os.environ for name in _VARIABLES) or ms.get_context("device_target") != "CPU":
            return
        _cache = _GraphCache()
    _cache.store = _store(Path(folder), key)


@contextlib.contextmanager
def compiling(cell: nn.Cell, description: str, values: Sequence[Any]) -> Iterator[None]:
    """Surround a call of a jitted Cell, which compiles it if its inputs have not been seen before."""
    if _cache is None or _cache.store is None:
        yield
        return
    described = json.dumps([description, [_kind(value) for value in values], _parameters(cell)])
    if (id(cell), described) in _cache.seen:
        yield
        return
    _cache.seen[id(cell), described] = cell  # which keeps its id its own
    path = _cache.store / hashlib.sha256(described.encode()).hexdigest()
    loaded = _cache.place(path)
    try:
        with quiet_stderr():  # MindSpore warns of what `keep` is for
            yield
        _cache.after(None if loaded else path)
    except Exception:
        _cache.after(None)
        if loaded:
            path.unlink(missing_ok=True)
        raise


class _GraphCache:
    """This process's folder, and how many graphs were compiled in it."""

    def __init__(self) -> None:
        self.count, self.store, self.seen = 0, None, {}
        root = tempfile.mkdtemp(prefix="graphs-")
        atexit.register(_remove, root, os.getpid())
        self.folder = Path(root) / f"rank_{os.environ.get('RANK_ID', 0)}" / "graph_cache"
        self.folder.mkdir(parents=True)
        os.environ.update(MS_COMPILER_CACHE_ENABLE="1", MS_COMPILER_CACHE_PATH=root)
        # It would look for the program's files before each compilation; the key says what is to be known of them.
        api._get_compile_cache_dep_files = lambda: [__file__]

    def place(self, path: Path) -> bool:
        """Let MindSpore find a file of the store, if it is there and whole; the first one decides of all others."""
        self._take_files()  # of graphs that others have compiled since
        if self.count and not (self.folder / _HASH).exists():
            return False
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            digest, hash_, graph = content[:32], content[32:96], content[96:]
            if digest == hashlib.sha256(hash_ + graph).digest():
                if not self.count:
                    (self.folder / _HASH).write_bytes(hash_)
                (self.folder / f"compile_cache_{self.count}.mindir").write_bytes(graph)
                os.utime(path.parent)
                return True
        return False

    def after(self, path: Path | None) -> None:
        """Put what MindSpore has compiled into the store, if it is to be there, and leave it nothing to find.

        It counts what others compile as well, and would take a file of ours for theirs: so there is never one but while
        the graph that it belongs to is compiled. (Should the counts differ, it does not find it, and compiles.)
        """
        files = self._take_files()
        if not files:
            self.count += 1
        elif path is not None:
            with contextlib.suppress(OSError):
                _write(path, (self.folder / _HASH).read_bytes() + files[-1])

    def _take_files(self) -> list[bytes]:
        """Take the graphs that are in MindSpore's folder out of it, the last one last; count on behind it."""
        numbered = {int(file.stem.rpartition("_")[2]): file for file in self.folder.glob("compile_cache_*.mindir")}
        taken = []
        for number, file in sorted(numbered.items()):
            self.count = number + 1
            taken.append(file.read_bytes())
            file.unlink()
        return taken


def _write(path: Path, content: bytes) -> None:
    """Write a file of the store, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(hashlib.sha256(content).digest() + content)
    try:
        os.replace(file.name, path)
    except OSError:
        os.unlink(file.name)
        raise
    _prune(path.parent.parent)


def _store(folder: Path, key: str) -> Path:
    """The folder of what a key says, within the folder of all."""
    import fastestimator
    found = hashlib.sha256(repr((key, sys.version, ms.__version__, fastestimator.__version__)).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    settings = {name: value for name, value in os.environ.items() if name.startswith("MS_") and name not in _VARIABLES}
    found.update(repr(sorted(settings.items())).encode())
    return folder / found.hexdigest()


def _kind(value: Any) -> Any:
    """Of an input, what a graph is compiled for: not the values of tensors."""
    if isinstance(value, ms.Tensor):
        return [list(value.shape), str(value.dtype)]
    if isinstance(value, (tuple, list)):
        return [_kind(one) for one in value]
    return repr(value)


def _parameters(cell: nn.Cell) -> list:
    return [[name, list(one.shape), str(one.dtype), one.requires_grad] for name, one in cell.parameters_and_names()]


def _prune(folder: Path) -> None:
    """Remove the keys that have not been used for longest."""
    keys = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in keys[:-MOST]:
        shutil.rmtree(path, ignore_errors=True)


def _remove(folder: str, owner: int) -> None:
    """Remove a process's folder, unless this is a child of the process."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
