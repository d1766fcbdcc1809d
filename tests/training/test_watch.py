"""The watch over workers, in processes that do nothing else: which one is lost, who says so, and how the others end."""
import os
import signal
import subprocess
import sys
import time

import pytest

# Their exchange is a wait for each other's files.
WORKER = """
import os, sys, time
from pathlib import Path
from vit.errors import WorkerLost
from vit.training.watch import Watch

rank, size, seconds = map(int, sys.argv[1:4])
folder, what = Path(sys.argv[4]), sys.argv[5]
turn = 0

def gather_texts(text):
    global turn
    turn += 1
    (folder / f"{turn}-{rank}.part").write_text(text)
    os.replace(folder / f"{turn}-{rank}.part", folder / f"{turn}-{rank}")
    with watch.waiting():
        while len(list(folder.glob(f"{turn}-*[0-9]"))) < size:
            time.sleep(0.01)
    return [(folder / f"{turn}-{other}").read_text() for other in range(size)]

watch = Watch(rank, size, "PyTorch", seconds, rank)
watch.to_go_on = "this"
watch.meet(gather_texts)
(folder / f"ready{rank}").touch()
late = int(what.split("=")[1]) if "=" in what else -1
try:
    if what == "ends":
        for _ in range(3):
            gather_texts("")
        time.sleep(rank == 0)  # it writes the results, when the others have gone
    elif what.startswith("leaves"):
        if rank != late:
            gather_texts("")
    else:
        if rank == late or what == "busy" and rank == 0:
            time.sleep(60 if rank == late else 4)
        gather_texts("")
except WorkerLost as error:
    print(rank, "raised", error.said, flush=True)
    sys.exit(error.status)
watch.close(goodbye=True)
"""


@pytest.fixture
def start(tmp_path, repo):
    """A function that starts workers, and gives their processes once they watch each other."""
    started = []

    def run(what, size=3, seconds=60):
        for rank in range(size):
            started.append(subprocess.Popen(
                [sys.executable, "-c", WORKER, str(rank), str(size), str(seconds), str(tmp_path), what], text=True,
                cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(repo)}))
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("ready*"))) < size:
            assert time.monotonic() < deadline and all(one.poll() in (None, 0) for one in started)
            time.sleep(0.01)
        return started

    yield run
    for process in started:
        process.kill()
        process.communicate()


def ends(processes):
    """The exit status, and what was written on stderr and stdout, of each."""
    told = [process.communicate(timeout=60) for process in processes]
    return [(process.returncode, err, out) for process, (out, err) in zip(processes, told, strict=True)]


def test_workers_that_end_well_say_nothing(start):
    assert ends(start("ends")) == [(0, "", "")] * 3


@pytest.mark.parametrize("killed", [0, 2])
def test_one_that_is_killed_is_named_once(start, killed):
    processes = start("late=2")
    time.sleep(0.1)
    processes[killed].kill()
    found = ends(processes if killed == 2 else processes[:2])
    line = f"error: rank {killed} of 3 (PyTorch) has ended without a word, as one that is killed; once all workers " \
           "have ended, go on with this\n"
    assert [status for status, *_ in found] == [-9 if rank == killed else 75 for rank in range(len(found))]
    # Rank 0 speaks; where it is gone itself, the first of each host.
    assert [err for _, err, _ in found] == [line if rank == (0 if killed else 1) else "" for rank in range(len(found))]


def test_one_that_hangs_is_named(start):
    processes = start("late=1", seconds=1)
    (zero, said, _), (two, unsaid, _) = ends([processes[0], processes[2]])
    assert (zero, two, unsaid) == (75, 75, "")
    assert said == ("error: rank 1 of 3 (PyTorch) hangs: the others have waited for it for 1 seconds (--dist_timeout); "
                    "once all workers have ended, go on with this\n")
    assert processes[1].poll() is not None or processes[1].wait(timeout=60) == 75  # it is no longer waited for


@pytest.mark.full
def test_a_first_one_that_hangs_is_named_by_another(start):
    processes = start("late=0", seconds=1)
    os.kill(processes[0].pid, signal.SIGSTOP)
    found = ends(processes[1:])
    assert [status for status, *_ in found] == [75, 75]
    assert found[0][1].startswith("error: rank 0 of 3 (PyTorch) hangs")


@pytest.mark.full
def test_one_that_is_late_does_not_hang(start):
    assert ends(start("busy", seconds=30)) == [(0, "", "")] * 3


@pytest.mark.full
def test_one_that_left_is_not_waited_for(start):
    found = ends(start("leaves=2"))
    assert [status for status, *_ in found] == [75, 75, 0]
    assert [err.count("rank 2 of 3 (PyTorch) has ended") for _, err, _ in found] == [1, 0, 0]
