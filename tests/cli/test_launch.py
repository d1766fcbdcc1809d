"""`vit launch`: variables, lines, signals and exit statuses, of scripts that do nothing else."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from vit.cli import launch
from vit.cli.commands import main


@pytest.fixture
def script(tmp_path):
    """A function that writes a script, in which `rank` is the worker's."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(f"import os, signal, sys, time\nrank = int(os.environ['RANK'])\n{text}\n")
        return str(path)

    return write


def _run(capfd, script, *arguments, count=2):
    status = main(["launch", "--backend", "torch", "--nproc", str(count), script, *arguments])
    return status, *capfd.readouterr()


def test_workers_find_each_other_as_their_framework_does():
    torch, tf, ms = (launch.environments(name, 2) for name in ("torch", "tf", "ms"))
    assert [(one["RANK"], one["LOCAL_RANK"], one["WORLD_SIZE"]) for one in torch] == [("0", "0", "2"), ("1", "1", "2")]
    assert torch[0]["MASTER_PORT"] == torch[1]["MASTER_PORT"]
    configs = [json.loads(one["TF_CONFIG"]) for one in tf]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": 0}, {"type": "worker", "index": 1}]
    assert configs[0]["cluster"] == configs[1]["cluster"] and len(set(configs[0]["cluster"]["worker"])) == 2
    assert [one["MS_ROLE"] for one in ms] == ["MS_WORKER", "MS_WORKER", "MS_SCHED"]
    assert [one.get("MS_NODE_ID") for one in ms] == ["0", "1", None]
    assert launch.environments("torch", 1) == [{}]


def test_lines_come_behind_their_rank_and_flags_are_the_scripts(capfd, script):
    status, out, err = _run(capfd, script("print(rank, sys.argv[1:]); print('note', file=sys.stderr)"), "--nproc", "5")
    assert status == 0
    assert sorted(out.splitlines()) == ["[0] 0 ['--nproc', '5']", "[1] 1 ['--nproc', '5']"]
    assert sorted(err.splitlines()) == ["[0] note", "[1] note"]


def test_the_status_is_that_of_the_worker_that_ended_badly(capfd, script):
    assert _run(capfd, script("sys.exit(3 * rank)"))[0] == 3


def test_a_worker_that_is_killed_ends_all_in_one_line(capfd, script, monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 0.2)
    status, _, err = _run(capfd, script("os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(300)"))
    assert status == 137
    assert err == ("error: rank 1 of 2 (PyTorch) was ended by SIGKILL; to go on, start the same command with "
                   "--resume auto\n")


def test_what_a_worker_has_said_is_not_said_again(capfd, script):
    status, _, err = _run(capfd, script("os.kill(os.getpid(), signal.SIGKILL) if rank else (time.sleep(0.5), "
                                        "sys.exit(75))"))
    assert (status, err) == (137, "")


def test_a_signal_goes_on_to_each_worker_once(script, tmp_path, repo):
    path = script(f"""
seen = []
signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
open({str(tmp_path)!r} + f'/ready{{rank}}', 'w').close()
while not seen: time.sleep(0.01)
time.sleep(0.3)
print(len(seen), 'signal')
sys.exit(143)""")
    process = subprocess.Popen([sys.executable, "-m", "vit", "launch", "--backend", "torch", "--nproc", "2", path],
                               cwd=repo, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(repo)})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("ready*"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert sorted(out.splitlines()) == ["[0] 1 signal", "[1] 1 signal"]


@pytest.mark.parametrize(("arguments", "fragment"), [
    (("--nproc", "0", __file__), "--nproc must be at least 1"), (("--nproc", "2", "none.py"), "none.py: there is no")])
def test_what_cannot_be_started_is_one_line(capfd, arguments, fragment):
    assert main(["launch", "--backend", "torch", *arguments]) == 2
    err = capfd.readouterr().err
    assert fragment in err and err.count("\n") == 1
