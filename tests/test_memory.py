"""How much memory there is, of the machine and of control groups; and what is refused for lack of it."""
import multiprocessing
import resource

import numpy as np
import pytest

from vit import memory

GB = 10**9
MEMINFO = "MemTotal: 16000000 kB\nMemFree: 100 kB\nMemAvailable: 8000000 kB\nSwapFree: 1000 kB\nHugePages_Total: 0\n"


def _write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine_says_it():
    assert 10**8 < memory.available() < 10**14


def test_what_a_machine_could_free_counts_with_its_swap(tmp_path):
    assert memory.available(_write(tmp_path, {"proc/meminfo": MEMINFO})) == 8001000 * 1024


@pytest.mark.parametrize("text", ["", "MemTotal: 16000000 kB\n", "nothing\n\n", "MemAvailable: many kB\n"])
def test_a_machine_that_does_not_say_it(tmp_path, text):
    assert memory.available(_write(tmp_path, {"proc/meminfo": text})) is None
    assert memory.available(tmp_path / "none") is None


@pytest.mark.parametrize(("cgroup", "files", "left"), [
    ("0::/\n", {"memory.max": "3000000000\n", "memory.stat": "anon 1000000000\nfile 1900000000\n"}, 2 * GB),
    ("0::/a/job\n", {"a/memory.max": "3000000000\n", "a/memory.stat": "anon 1000000000\n",
                     "a/job/memory.max": "max\n", "a/job/memory.stat": "anon 5\n"}, 2 * GB),
    ("0::/docker/5e1f\n", {"memory.max": "3000000000\n", "memory.stat": "anon 4000000000\n"}, 0),
    ("4:memory:/job\n1:cpu:/\n", {"memory/job/memory.limit_in_bytes": "3000000000\n",
                                  "memory/job/memory.stat": "rss 5\ntotal_rss 1000000000\n"}, 2 * GB),
    ("4:memory:/job\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8000000 * 1024),
    ("1:cpu:/\n", {"memory.max": "5\n"}, 8000000 * 1024), ("0::/\n", {"memory.max": "max\n"}, 8000000 * 1024)])
def test_a_control_group_has_a_limit(tmp_path, cgroup, files, left):
    _write(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup})
    _write(tmp_path / "sys/fs/cgroup", files)
    assert memory.available(tmp_path) in (left, left + 1000 * 1024)  # with the swap, but for what is used up


@pytest.mark.parametrize(("kind", "used"), [(resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")])
def test_the_process_has_limits_of_its_own(tmp_path, monkeypatch, kind, used):
    _write(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/status": f"{used}:\t 1000000 kB\n"})
    monkeypatch.setattr(resource, "getrlimit", lambda asked: (3 * GB if asked == kind else resource.RLIM_INFINITY, 0))
    assert memory.available(tmp_path) == 3 * GB - 1000000 * 1024


def test_the_peak_is_that_of_the_process_alone(run_python):
    """Not of the one that started it, whose peak `getrusage` hands down."""
    held = np.ones(1 << 25)
    done = run_python("-c", "from vit import memory; print(memory.peak()); b = b'x' * (1 << 28); print(memory.peak())")
    first, second = map(int, done.stdout.split())
    assert 0 < first < held.nbytes < second < memory.peak()


def test_what_cannot_fit_is_one_line_with_both_figures(monkeypatch, refused):
    monkeypatch.setattr(memory, "available", lambda: 2 * GB)
    memory.check_room(2 * GB, "it", "less")
    with refused("it takes at least 3,000.0 GB of memory, and there are 2.0 GB; take less"):
        memory.check_room(3000 * GB, "it", "take less")
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.check_room(3000 * GB, "it", "less")


def test_shared_memory_that_may_not_be_written_to_is_named(monkeypatch, refused):
    memory.check_shared()

    def refuse():
        raise PermissionError(13, "Permission denied")  # as the system's semaphores do, which name no file

    monkeypatch.setattr(multiprocessing, "Lock", refuse)
    with refused("/dev/shm: Permission denied", "tmpfs"):
        memory.check_shared()


@pytest.mark.parametrize("device", ["nvidiactl", "kfd", "dxg", "davinci_manager"])
def test_an_accelerator_is_a_device_of_the_machine(tmp_path, device):
    (tmp_path / "dev").mkdir()
    assert not memory.has_accelerator(tmp_path)
    (tmp_path / "dev" / device).touch()
    assert memory.has_accelerator(tmp_path)


FAULTS = """
import ctypes, resource, sys
from vit import memory

PR_SET_THP_DISABLE = 41  # of <linux/prctl.h>: pages are small, so that they can be counted
assert ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0

def step():
    for megabytes in (48, 80, 16):
        bytearray(b"x") * (megabytes << 20)

if sys.argv[1] == "kept":
    memory.keep_freed()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize("what", ["kept", "given back"])
def test_a_step_takes_the_memory_of_the_one_before(run_python, what):
    done = run_python("-c", FAULTS, what)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100 if what == "kept" else int(done.stdout) > 10_000
