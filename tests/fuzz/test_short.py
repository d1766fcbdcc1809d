"""The fuzzer's short form: some inputs for each target, the same ones each time. `make fuzz` is the long one."""
import pytest

from tests.fuzz.campaign import TARGETS, Tally, explore
from tests.fuzz.sandbox import Sandbox

COUNT = {"recipes": 40, "flags": 25, "weights": 40, "manifests": 25, "checkpoints": 15, "images": 15, "shards": 10,
         "cifar": 20, "exports": 20}


@pytest.fixture(scope="module")
def sandbox():
    """A sandbox that all targets share."""
    with Sandbox() as opened:
        yield opened


@pytest.mark.backend("torch")
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_ends_badly(sandbox, target):
    tally = Tally(target)
    explore(tally, sandbox, COUNT[target], number=None)
    assert [(case.arguments, faults, outcome.err) for case, outcome, faults in tally.bad.values()] == []
    assert tally.tried >= COUNT[target] * 3 // 4 and tally.refused > 0
