"""Memory: how much of it is left for this process, and one line where something cannot fit.

Where there is too little, Linux kills the process without a word; so what is known to need more than there is, is
refused before it begins.
"""
import ctypes
import multiprocessing
import resource
from pathlib import Path

from vit.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's <malloc.h>


def available(root: Path = Path("/")) -> int | None:
    """Say how many bytes this process may still take, at most.

    That is what the machine has free or could free, with its swap, or what is left of the limit of a control group
    (of a container, or of a job of a cluster) or of the process's own (`ulimit -v`, `-d`), if that is less. A group's
    caches count as free.

    Args:
        root: Where `proc` and `sys` are.

    Returns:
        Bytes; None where the machine does not say.
    """
    free = _table(root / "proc/meminfo")
    if "MemAvailable" not in free:
        return None
    swap = free.get("SwapFree", 0) << 10
    left = [(free["MemAvailable"] << 10) + swap]
    for group in _groups(root):
        for limit, used in (("memory.max", "anon"), ("memory.limit_in_bytes", "total_rss")):
            most = _text(group / limit).strip()
            if most.isdecimal():  # else it is "max", or there is no such file
                left.append(int(most) - _table(group / "memory.stat").get(used, 0) + swap)
    own = _table(root / "proc/self/status")
    for kind, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            left.append(limit - (own.get(used, 0) << 10))
    return max(0, min(left))


def peak(root: Path = Path("/")) -> int:
    """Say how many bytes this process has held at once, at most.

    `getrusage` would count what the process held that this one was forked from.

    Args:
        root: Where `proc` is: Linux alone has one.
    """
    return _table(root / "proc/self/status")["VmHWM"] << 10


def keep_freed() -> None:
    """Let this process keep the memory that it frees, for what it needs next.

    A training step takes and frees the same large buffers each time. Where they go back to the system, each page must
    be mapped and cleared anew: in TensorFlow that was a third of a step's processor time. The process then holds until
    its end what it held at its peak. Does nothing where the C library is not glibc.
    """
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        allocator.mallopt(M_MMAP_MAX, 0)
        allocator.mallopt(M_TRIM_THRESHOLD, -1)


def check_room(needed: int, what: str, way_out: str) -> None:
    """Refuse what needs more memory than there is.

    Args:
        needed: Bytes that it takes at least.
        what: What takes them, in words.
        way_out: What takes less: "a smaller --batch_size needs less".

    Raises:
        UserError: There is less; the message has both figures.
    """
    there = available()
    if there is not None and needed > there:
        raise UserError(f"{what} takes at least {_gigabytes(needed)} of memory, and there are {_gigabytes(there)}; "
                        f"{way_out}")


def check_shared() -> None:
    """Refuse a machine without shared memory to write to: the locks of FastEstimator's pipelines are in it.

    Raises:
        UserError: There is none.
    """
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise UserError(f"/dev/shm: {error.strerror}; FastEstimator's pipelines have their locks there: let it be a "
                        "tmpfs that you may write to") from None


def has_accelerator(root: Path = Path("/")) -> bool:
    """Tell whether the machine may have a GPU or an NPU: one of NVIDIA, of AMD, under Windows, or an Ascend."""
    return any((root / "dev" / name).exists() for name in ("nvidiactl", "kfd", "dxg", "davinci_manager"))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def _groups(root: Path) -> list[Path]:
    """The control groups that this process may be in, from its own up; in a container only the last one may be seen."""
    folders = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys/fs/cgroup" / controllers
            own = top / path.lstrip("/")
            folders += [own, *(parent for parent in own.parents if parent.is_relative_to(top))]
    return folders


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file whose lines are `name: number` or `name number`."""
    words = [line.replace(":", " ").split() for line in _text(path).splitlines()]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
