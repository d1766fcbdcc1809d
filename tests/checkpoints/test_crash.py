"""The short form of `make crash-test`: a run killed with SIGKILL, several times over, ends as if it never was."""
import pytest

from tests.checkpoints import crash

MOMENTS = {
    "torch": [("pretrain", "save", 13), ("finetune", "step", 6)],
    "tf": [("pretrain", "step", 15)],
    "ms": [("finetune", "save", 4)],
}


@pytest.mark.full  # a process for every kill
def test_killed_and_resumed_is_the_same_as_never_killed(backend, tmp_path):
    whole = crash.chain(backend, [], tmp_path / "whole")
    assert len(whole["history"].splitlines()) == 1 + crash.EPOCHS + 1
    assert crash.chain(backend, MOMENTS[backend], tmp_path / "killed") == whole
