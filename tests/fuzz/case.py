"""One input of the fuzzer, and what is held against how it ended."""
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.sandbox import Outcome, Sandbox

MAX_LINE = 1100  # characters: an error is shortened to 1,000, and `(see ... --help)` may follow
MAX_BYTES = 300 << 20  # of memory
SECONDS = 20.0  # of computing
# What an error says where memory, or the sandbox's limit on a file's size, ran out.
_EXHAUSTED = re.compile(r"out of memory|MemoryError|[Uu]nable to allocate|bad_alloc|not enough memory|File too large")

_CACHES = re.compile(r"tmp/(cache|torchinductor_\w+)(/|$)")  # one a user: of downloads, and torch's own


@dataclass(frozen=True)
class Case:
    """One input: some files and a command line.

    Args:
        entry: What is called, as `Sandbox.attempt` takes it.
        arguments: Its command line. It runs in a folder with the files in it.
        files: Contents by path: bytes, or "fifo", or a text "-> target" for a symbolic link.
        names: Texts of which an error must hold one, so that a person knows what it is about; none for any.
        written: Path of the file or folder that it may write.
        keeps: Whether what it had written before it ended with an error may stay, as a stopped training's files do.
        statuses: How it may end.
    """
    entry: str
    arguments: tuple[str, ...]
    files: dict[str, bytes | str] = field(default_factory=dict, repr=False)
    names: tuple[str, ...] = ()
    written: str = "out"
    keeps: bool = False
    statuses: tuple[int, ...] = (0, 2)

    def lay_out(self, folder: Path) -> None:
        """Write the files."""
        for name, content in self.files.items():
            path = os.path.join(os.fsencode(folder), os.fsencode(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if content == "fifo":
                os.mkfifo(path)
            elif isinstance(content, str):
                os.symlink(content.removeprefix("-> "), path)
            else:
                Path(os.fsdecode(path)).write_bytes(content)

    @property
    def size(self) -> int:
        """How large it is, to keep the smallest of a kind."""
        return sum(len(content) for content in self.files.values()) + sum(map(len, self.arguments))


def attempt(case: Case, sandbox: Sandbox, folder: Path, seconds: float = SECONDS) -> tuple[Outcome, list[str]]:
    """Run a case in an empty folder.

    Returns:
        How it ended, and what is wrong with that: nothing, where all is well.
    """
    work = folder / "work"
    for path in (work, folder / "tmp"):
        path.mkdir()
    case.lay_out(work)
    before = _contents(folder)
    outcome = sandbox.attempt(case.entry, list(case.arguments), work, seconds)
    faults = [*_ending(case, outcome), *_files(case, outcome, before, _contents(folder))]
    return outcome, faults


def _ending(case: Case, outcome: Outcome) -> Iterator[str]:
    """What is wrong with the status, the output, the memory and the time."""
    if outcome.timed_out:
        yield f"had not ended after {outcome.seconds:.0f} s"
    elif outcome.signal:
        yield f"was ended by {outcome.signal}"
    elif outcome.status not in case.statuses:
        yield f"status {outcome.status}"
    if outcome.peak_bytes > MAX_BYTES:
        yield f"took {outcome.peak_bytes >> 20} MB"
    if found := _EXHAUSTED.search(outcome.err):
        yield f"asked for too much: {found[0]}"
    if odd := sorted({letter for letter in outcome.out + outcome.err if not letter.isprintable()} - {"\n"}):
        yield f"printed {''.join(odd[:5])!a}"
    lines = outcome.err.splitlines()
    errors = [line for line in lines if not line.startswith(("note: ", "warning: "))]
    if "Traceback" in outcome.err:
        yield f"a traceback: {lines[-1][:200]}"
    elif outcome.status == 2 and not (len(errors) == 1 and errors[0].startswith("error: ") and errors[0][7:].strip()):
        yield f"{len(errors)} lines of errors: {errors[:3]}"
    elif outcome.status == 0 and errors:
        yield f"noise: {errors[:3]}"
    if outcome.status == 2 and case.names and not any(name in outcome.err for name in case.names):
        yield f"names none of {', '.join(case.names[:5])}"
    if longest := max((line for line in lines if len(line) > MAX_LINE), key=len, default=""):
        yield f"a line of {len(longest)} characters"


def _files(case: Case, outcome: Outcome, before: dict, after: dict) -> Iterator[str]:
    """What is wrong with the files: inputs that have changed, and what was left."""
    for name, content in before.items():
        aside = [after[other] for other in after if other.startswith(f"{name}.superseded")]  # by a run that goes on
        if after.get(name) != content and content not in aside:
            yield f"{name} was {'changed' if name in after else 'removed'}"
    written = f"work/{case.written}"
    for name in sorted(after.keys() - before.keys()):
        if re.search(r"\.superseded\d*$", name) or _CACHES.match(name):
            continue
        base = os.path.basename(name)
        if not (name == written or name.startswith(f"{written}/")):
            yield f"left {name}"
        elif base.startswith("."):
            yield f"left {name}, half-written"
        elif outcome.status != 0 and after[name] != "folder" and not case.keeps:
            yield f"left {name} with status {outcome.status}"


def _contents(folder: Path) -> dict[str, object]:
    """All that is in a folder: the bytes of files, and the kinds of everything else."""
    found = {}
    for root, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(root, name)
            mode = os.lstat(path).st_mode
            kind = "folder" if stat.S_ISDIR(mode) else os.readlink(path) if stat.S_ISLNK(mode) else str(mode)
            found[os.path.relpath(path, folder)] = Path(path).read_bytes() if stat.S_ISREG(mode) else kind
    return found
