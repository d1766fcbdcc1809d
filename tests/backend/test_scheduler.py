"""The guard beside MindSpore's scheduler: a worker that ends without a goodbye ends the scheduler, no other does."""
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from vit.backend.workers import scheduler

SCHEDULER = """
import sys, time
from vit.backend.workers import scheduler
scheduler.guard(sys.argv[1])
print("guarded", flush=True)
time.sleep(60)
"""


@pytest.fixture
def guarded(repo):
    """A process that stands for a scheduler, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-c", SCHEDULER, port], cwd=repo, stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(repo)})
    assert process.stdout.readline() == "guarded\n"
    yield process, port
    process.kill()
    process.communicate()


def test_a_worker_that_ends_without_a_goodbye_ends_the_scheduler(guarded):
    process, port = guarded
    [well], [killed] = scheduler.hold(port), scheduler.hold(port)
    well.send(scheduler.GOODBYE)
    well.close()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    killed.close()
    assert process.wait(timeout=60) == -signal.SIGKILL


def test_the_guard_ends_with_the_scheduler(guarded):
    process, port = guarded
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while scheduler.hold(port):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_on_another_host_there_is_no_guard():
    assert scheduler.hold("none") == []
