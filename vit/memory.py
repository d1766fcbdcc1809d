"""How much memory there is: what cannot be there is refused before the kernel ends the process without a word."""
import resource
from collections.abc import Iterator
from pathlib import Path

from vit.errors import UserError

# The files of a container's limit and of its figures, and the figure of what cannot be given back, as cached files can:
# of cgroups 2 and 1.
_CGROUPS = (("memory.max", "memory.stat", "anon"), ("memory/memory.limit_in_bytes", "memory/memory.stat", "total_rss"))


def check(needed: int, what: str, way_out: str) -> None:
    """Hold what will be needed at least to what there is.

    Args:
        needed: Bytes.
        what: What needs them, as the message begins.
        way_out: What to do, as it ends.

    Raises:
        UserError: There is less.
    """
    free = min(_free(), default=needed)
    if free < needed:
        raise UserError(f"{what} take {_gigabytes(needed)} GB of memory at least, and there are {_gigabytes(free)}; "
                        f"{way_out}")


def _gigabytes(size: int) -> str:
    return f"{max(size, 0) / 1e9:,.1f}"


def _free() -> Iterator[int]:
    """Bytes that are left: on the machine, in the container, and of the process's own limits (ulimit -v, -d)."""
    machine, own = _table("/proc/meminfo"), _table("/proc/self/status")
    if "MemAvailable" in machine:
        yield machine["MemAvailable"] + machine.get("SwapFree", 0)
    for limit, figures, name in _CGROUPS:
        try:
            yield int(Path("/sys/fs/cgroup", limit).read_text()) - _table(f"/sys/fs/cgroup/{figures}")[name]
        except (OSError, ValueError, KeyError):  # there is none, or it is "max"
            continue
    for kind, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and name in own:
            yield limit - own[name]


def _table(path: str) -> dict[str, int]:
    """The figures of a file of /proc or /sys, bytes; empty where there is no such file."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    return {one[0].rstrip(":"): int(one[1]) * (1024 if one[2:] == ["kB"] else 1)
            for one in words if len(one) > 1 and one[1].isdecimal()}
