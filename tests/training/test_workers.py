"""Several workers are one: the same losses, norms, evaluations and weights, in all of them.

`make scale-test` runs all of it, three workers and MindSpore too.
"""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training import ranks
from vit.data.share import Share
from vit.model import parameters
from vit.parity import differences
from vit.training.workers import ALONE

EXACT = [name for name in ranks.CASES if name != "fp16"]
BAR, CHECKPOINT = 1e-9, "checkpoints/finetune-00000006.safetensors"


def launcher(backend, count):
    """The command line that starts workers: torchrun's own, or `vit launch`."""
    if backend == "torch":
        return "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)
    return "-m", "vit", "launch", "--backend", backend, "--nproc", str(count)


def start(backend, count, out, *cases):
    """Run `tests/training/ranks.py` with so many workers."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(map(str, (root, root / "packages/fe_compat", root / "packages/fe_mindspore")))
    done = subprocess.run([sys.executable, *launcher(backend, count), ranks.__file__, backend, str(out), *cases],
                          cwd=out, capture_output=True, text=True, timeout=900,
                          env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return {case: [dict(np.load(out / (str(i) if "/" in case else case) / f"rank{rank}.npz")) for rank in range(count)]
            for i, case in enumerate(cases)}


def case_of(defect):
    """In which case a defect is planted."""
    return "fp16" if defect == "overflow_hidden" else "sgd"


def rows(one, several):
    """Compare what two trainings left: step by step, evaluation by evaluation, then weights and moments."""
    found = [differences.row(f"{name} {step}", a, b, BAR) for name in ("losses", "norms", "sizes", "evaluations")
             for step, (a, b) in enumerate(zip(several[name], one[name], strict=True), 1)]
    return found + [differences.row(name, several[name], one[name], BAR) for name in one if "/" in name]


def digest(found):
    """Fingerprint the weights and moments that a worker ended with."""
    return parameters.sha256({name: value for name, value in found.items() if "/" in name})


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A function that trains a case of a framework with one worker, in this process; each once."""
    known = {}

    def train(backend, name):
        folder = tmp_path_factory.mktemp(f"{backend}-{name}")
        if (backend, name) not in known:
            known[backend, name] = ranks.train(backend, name, ALONE, folder), folder
        return known[backend, name]

    return train


@pytest.fixture(scope="module")
def two(tmp_path_factory, alone):
    """A function: what two workers of a framework make of its cases, and where they left their checkpoints; once.

    PyTorch's are trained together; they have defects as well, and one goes on from the checkpoint of a single worker.
    """
    known = {}

    def run(backend, name="adamw"):
        key = (backend, None if backend == "torch" else name)
        if key not in known:
            out, cases = tmp_path_factory.mktemp(f"{backend}-two"), [name]
            if backend == "torch":
                one = alone("torch", "adamw")[1] / CHECKPOINT
                cases = [*ranks.CASES, *(f"{case_of(name)}:{name}" for name in ranks.DEFECTS), f"adamw:{one}"]
            known[key] = start(backend, 2, out, *cases), out
        return known[key]

    return run


@pytest.fixture
def hold():
    """A function: two trainings must be the same to the bar."""
    def check(one, several):
        found = rows(one, several)
        assert not any(row.over for row in found), differences.report(found)
    return check


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_shares_make_up_the_batch(count, size):
    shares = [Share(rank, size).take(count) for rank in range(size)]
    assert len({len(places) for places, _ in shares}) == 1
    places, weights = (np.concatenate(parts) for parts in zip(*shares, strict=True))
    assert places[weights > 0].tolist() == list(range(count))
    assert (weights[weights > 0] == 1 / count).all() and (places[count:] == count - 1).all()


@pytest.mark.parametrize(("backend", "name"), [
    *(pytest.param("torch", name, marks=pytest.mark.backend("torch")) for name in EXACT),
    pytest.param("tf", "sgd", marks=pytest.mark.backend("tf")),
    pytest.param("tf", "adamw", marks=[pytest.mark.backend("tf"), pytest.mark.full]),
    *(pytest.param("ms", name, marks=[pytest.mark.backend("ms"), pytest.mark.full]) for name in ("adamw", "sgd"))])
def test_two_are_one(backend, name, alone, two, hold):
    one, (first, second) = alone(backend, name)[0], two(backend, name)[0][name]
    assert sorted(set(one["sizes"])) == ([1, 3] if name == "frozen" else [13, 16])
    hold(one, first)
    assert digest(first) == digest(second)


@pytest.mark.full
@pytest.mark.backend("torch")
@pytest.mark.parametrize("count", [3, 5])
def test_more_are_one(count, alone, tmp_path, hold):
    for name, found in start("torch", count, tmp_path, *EXACT).items():
        hold(alone("torch", name)[0], found[0])
        assert len(set(map(digest, found))) == 1


@pytest.mark.backend("torch")
@pytest.mark.parametrize("defect", ranks.DEFECTS)
def test_a_defect_is_seen(defect, alone, two):
    case = case_of(defect)
    one, (first, _) = alone("torch", case)[0], two("torch")[0][f"{case}:{defect}"]
    if defect == "padding_kept":
        assert first["sizes"].tolist() != one["sizes"].tolist()
    elif defect == "overflow_hidden":
        assert first["scales"].tolist() != one["scales"].tolist()
    else:
        assert any(row.over for row in rows(one, first))


@pytest.mark.backend("torch")
def test_two_skip_the_steps_that_one_skips(alone, two):
    one, found = alone("torch", "fp16")[0], two("torch")[0]["fp16"]
    taken = np.isfinite(one["norms"])
    assert not taken[0] and taken[-1] and one["scales"][1, 0] > ranks.SCALE / 2 ** one["scales"][1, 1], "it grew"
    for worker in found:
        assert np.isfinite(worker["norms"]).tolist() == taken.tolist()
        assert worker["scales"].tolist() == one["scales"].tolist()
        np.testing.assert_allclose(worker["losses"], one["losses"], rtol=2e-3)
    assert digest(found[0]) == digest(found[1])


@pytest.mark.backend("torch")
def test_one_goes_on_where_two_stopped(alone, two, tmp_path, hold):
    hold(alone("torch", "adamw")[0],
         ranks.train("torch", "adamw", ALONE, tmp_path, two("torch")[1] / "adamw" / CHECKPOINT))


@pytest.mark.backend("torch")
def test_two_go_on_where_one_stopped(alone, two, hold):
    found = two("torch")[0]
    hold(alone("torch", "adamw")[0], found[f"adamw:{alone('torch', 'adamw')[1] / CHECKPOINT}"][0])


@pytest.mark.full
@pytest.mark.backend("tf", "ms")
def test_one_of_another_framework_goes_on_where_two_stopped(alone, two, tmp_path, hold):
    for backend, other in (("tf", "ms"), ("ms", "tf")):
        hold(alone(other, "adamw")[0],
             ranks.train(other, "adamw", ALONE, tmp_path / other, two(backend)[1] / "adamw" / CHECKPOINT))
