"""Trainings compared step by step: losses, gradient norms, final weights and moments."""
import contextlib
import dataclasses
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit.backend import load_script
from vit.model.config import ViTConfig
from vit.model.parameters import Weights
from vit.parity.differences import Row, row
from vit.parity.levels import digits_for
from vit.training.job import Job, Stage
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.train import fit


@dataclass(frozen=True)
class Trajectory:
    """What a training left behind: each step's loss and gradient norm, the final weights and optimizer moments."""
    losses: np.ndarray
    norms: np.ndarray
    weights: Weights
    moments: dict[str, np.ndarray]


def train(backend: str, config: ViTConfig, weights: Weights, recipe: Recipe, steps: int, dtype: str) -> Trajectory:
    """Train through FastEstimator's Estimator on digits, with the recipe's optimizer and augmentation."""
    script, pair = load_script(backend), digits_for(config)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        recipe = dataclasses.replace(recipe, train_steps_per_epoch=steps, eval_steps_per_epoch=1)
        job = Job(script, recipe, pair, Path(folder), RunOptions(log_steps=0), dtype)
        stage = Stage(job, "compare", pair.finetune, 1, config)
        job.stages.append(stage)
        trained = fit(stage, weights)
        moments = [script.to_numpy(stage.model, slot) for slot in stage.model.current_optimizer.moments()]
    return Trajectory(np.array(stage.history.step_losses), np.array(stage.history.gradient_norms), trained,
                      {f"moment{i}.{name}": value for i, slot in enumerate(moments, 1) for name, value in slot.items()})


def train_rows(a: Trajectory, b: Trajectory, bar: float) -> list[Row]:
    """Compare two trainings step by step, then their final weights."""
    rows = []
    for step, (ours, theirs) in enumerate(zip(zip(a.losses, a.norms, strict=True),
                                              zip(b.losses, b.norms, strict=True), strict=True), 1):
        rows += [row(f"loss of step {step}", ours[0], theirs[0], bar),
                 row(f"gradient norm of step {step}", ours[1], theirs[1], bar)]
    return rows + [row(name, a.weights[name], b.weights[name], bar) for name in b.weights]
