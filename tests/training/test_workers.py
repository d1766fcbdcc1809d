"""Several workers are one: the same losses, norms, evaluations and weights, in all of them."""
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

BAR = 1e-9
LAUNCH = {"torch": ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node")}


def start(backend, count, out, *cases):
    """Run `tests/training/ranks.py` with so many workers."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(map(str, (root, root / "packages/fe_compat", root / "packages/fe_mindspore")))
    done = subprocess.run([sys.executable, *LAUNCH[backend], str(count), ranks.__file__, backend, str(out), *cases],
                          cwd=out, capture_output=True, text=True, timeout=500,
                          env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return {case: [dict(np.load(out / case / f"rank{rank}.npz")) for rank in range(count)] for case in cases}


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
    """What two workers of PyTorch make of each case, whole, with defects, and from one worker's checkpoint."""
    checkpoint = alone("torch", "adamw")[1] / "checkpoints" / "finetune-00000002.safetensors"
    out = tmp_path_factory.mktemp("two")
    (out / "adamw:checkpoint").symlink_to(out)
    found = start("torch", 2, out, *ranks.CASES, *(f"sgd:{name}" for name in ranks.DEFECTS))
    return found, out, checkpoint


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_shares_make_up_the_batch(count, size):
    shares = [Share(rank, size).take(count) for rank in range(size)]
    assert len({len(places) for places, _ in shares}) == 1
    places, weights = (np.concatenate(parts) for parts in zip(*shares, strict=True))
    assert places[weights > 0].tolist() == list(range(count))
    assert (weights[weights > 0] == 1 / count).all() and (places[count:] == count - 1).all()


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", ranks.CASES)
def test_two_are_one(name, alone, two):
    one, (first, second) = alone("torch", name)[0], two[0][name]
    assert sorted(set(one["sizes"])) == ([1, 3] if name == "frozen" else [13, 16])
    found = rows(one, first)
    assert not any(row.over for row in found), differences.report(found)
    assert digest(first) == digest(second)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("defect", ranks.DEFECTS)
def test_a_defect_is_seen(defect, alone, two):
    one, (first, _) = alone("torch", "sgd")[0], two[0][f"sgd:{defect}"]
    if defect == "padding_kept":
        assert first["sizes"].tolist() != one["sizes"].tolist()
    else:
        assert any(row.over for row in rows(one, first))
