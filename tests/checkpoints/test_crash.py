"""The short form of `make crash-test`: a run killed with SIGKILL, several times over, ends as if it never was."""
import json
import subprocess
import sys

import pytest

from tests.checkpoints import crash
from tests.checkpoints.crash import Moment

MOMENTS = {
    "torch": [Moment("pretrain", "save", 13), Moment("finetune", "step", 6)],
    "tf": [Moment("pretrain", "step", 15)],
    "ms": [Moment("finetune", "save", 4)],
}


@pytest.mark.full  # a process for every kill
def test_killed_and_resumed_is_the_same_as_never_killed(backend, tmp_path):
    whole = crash.chain(backend, [], tmp_path / "whole")
    assert len(whole["history"].splitlines()) == 1 + crash.EPOCHS + 1
    assert crash.chain(backend, MOMENTS[backend], tmp_path / "killed") == whole


@pytest.mark.full
@pytest.mark.backend("torch")
def test_a_worker_is_killed_and_others_go_on(tmp_path):
    """With as many workers: the same bits. With another number: the same losses, and both are in the record."""
    whole = crash.chain("torch", [], tmp_path / "whole", [2])
    assert crash.chain("torch", [Moment("pretrain", "step", 15, rank=1)], tmp_path / "two", [2, 2]) == whole
    ended = crash.chain("torch", [Moment("pretrain", "step", 15, rank=0)], tmp_path / "one", [2, 1])
    assert crash.same(ended, whole, [2, 1]) and not crash.same(ended | {"history": _off(whole)}, whole, [2, 1])
    stretches = json.loads((tmp_path / "one" / "results.json").read_text())["stretches"]
    assert [(one["stage"], one["step"], one["world_size"]) for one in stretches] == [
        ("pretrain", 0, 2), ("pretrain", 12, 1)]


@pytest.mark.full
@pytest.mark.backend("torch")
def test_torchrun_goes_on_by_itself(tmp_path):
    """It starts all workers again, with the same command line."""
    script = tmp_path / "vit_torch.py"
    script.write_text(crash.DEADLY.format(root=str(crash.ROOT), script="vit_torch", stage="pretrain", kind="step",
                                          moment=15, rank=1))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max_restarts", "1", "--nproc_per_node", "2",
         str(script), *crash.FLAGS, "--model_dir", str(tmp_path / "run"), "--resume", "auto"], cwd=crash.ROOT,
        capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "so the run starts from the beginning" in done.stderr
    assert "rank 1 of 2 (PyTorch) has ended without a word" in done.stderr
    stretches = json.loads((tmp_path / "run" / "results.json").read_text())["stretches"]
    assert [(one["stage"], one["step"], one["world_size"]) for one in stretches] == [
        ("pretrain", 0, 2), ("pretrain", 12, 2)]


def _off(end):
    """A history whose losses are off by a little more than rounding."""
    head, *lines = end["history"].decode().splitlines()
    place = head.split(",").index("eval_loss")
    rows = [line.split(",") for line in lines]
    return "\n".join([head, *(",".join([*row[:place], str(float(row[place]) + 1e-4), *row[place + 1:]])
                              for row in rows)]).encode()
