"""A training that was begun in one framework and goes on in another is the one that never moved."""
import dataclasses
import functools
import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from tests.parity.conftest import CONFIGS, RECIPES
from vit import checkpoints
from vit.backend import SCRIPTS, load_script
from vit.model import parameters
from vit.parity import levels, trajectories
from vit.training.job import Job, Stage
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.train import fit

STEPS, STOP = 12, 5
# The published float32 drift (benchmarks/parity.md): SGD's, up to step 100; AdamW's key biases have none to speak of.
BARS = {"float64": 1e-9, "float32": 1e-5}
CHAIN = [("torch", "tf"), ("tf", "ms")]  # each framework moves to or from another one
_FOLDERS = []


def _train(backend, dtype, folder, checkpoint=None):
    recipe = RECIPES["muon" if dtype == "float64" else "nesterov"]  # Muon's has SGD's velocity and AdamW's moments
    recipe = dataclasses.replace(recipe, train_steps_per_epoch=STEPS // 2, eval_steps_per_epoch=1, warmup_steps=3,
                                 schedule="cosine", ema_decay=0.9, accumulate_steps=1)
    config = CONFIGS["tiny"].replace(depth=1)
    pair = levels.digits_for(config)
    job = Job(load_script(backend), recipe, pair, Path(folder),
              RunOptions(log_steps=0, checkpoint_every=STOP, keep=9), dtype, saves_checkpoints=True,
              checkpoints={"finetune": checkpoint} if checkpoint else {})
    stage = Stage(job, "finetune", pair.finetune, 2, config)
    values = {name: value.astype(dtype) for name, value in parameters.initial(config, seed=1).items()}
    final = fit(stage, values)
    losses, norms = (np.array(values) for values in (stage.history.step_losses, stage.history.gradient_norms))
    return trajectories.Trajectory(losses, norms, final, {})


@functools.cache
def _unmoved(backend, dtype):
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)  # lives as long as the tests
    return _train(backend, dtype, folder.name), Path(folder.name)


@pytest.mark.parametrize(("a", "b", "dtype"), [
    pytest.param(a, b, dtype, marks=[pytest.mark.backend(a, b),
                                     *([] if (a, b) in CHAIN and dtype == "float64" else [pytest.mark.full])])
    for a, b in permutations(SCRIPTS, 2) for dtype in BARS])
def test_the_rest_of_the_curve_is_the_same(a, b, dtype, tmp_path, hold):
    unmoved, folder = _unmoved(a, dtype)
    checkpoint = checkpoints.load(folder / "checkpoints" / f"finetune-{STOP:08d}.safetensors")
    assert (checkpoint.phase, checkpoint.backend) == ("training", a)
    assert (checkpoint.batch, checkpoint.optimizer_steps) == (STOP, STOP)
    moved = _train(b, dtype, tmp_path, checkpoint)
    assert len(moved.losses) == len(unmoved.losses) == STEPS
    np.testing.assert_array_equal(moved.losses[:STOP], unmoved.losses[:STOP])
    hold(f"resumed elsewhere, {dtype}", f"{a} to {b}", trajectories.train_rows(moved, unmoved, BARS[dtype]))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("slot", ["moment1", "moment2", "ema"])
def test_a_state_that_is_lost_on_the_way_is_seen(slot, tmp_path):
    unmoved, folder = _unmoved("torch", "float64")
    checkpoint = checkpoints.load(folder / "checkpoints" / f"finetune-{STOP:08d}.safetensors")
    setattr(checkpoint, slot, {name: np.zeros_like(value) for name, value in getattr(checkpoint, slot).items()})
    rows = trajectories.train_rows(_train("torch", "float64", tmp_path, checkpoint), unmoved, BARS["float64"])
    assert any(row.over for row in rows)


@pytest.mark.backend("torch")
def test_a_rate_that_starts_over_is_seen(tmp_path, monkeypatch):
    unmoved, folder = _unmoved("torch", "float64")
    checkpoint = checkpoints.load(folder / "checkpoints" / f"finetune-{STOP:08d}.safetensors")
    rate = Recipe.rate
    monkeypatch.setattr(Recipe, "rate", lambda recipe, step, *rest: rate(recipe, max(step - STOP, 1), *rest))
    rows = trajectories.train_rows(_train("torch", "float64", tmp_path, checkpoint), unmoved, BARS["float64"])
    assert any(row.over for row in rows)
