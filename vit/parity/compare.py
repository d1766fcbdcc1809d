"""Which stage differs first between two frameworks: forward, gradients, or training through FastEstimator.

A difference is relative to the largest value of what is compared: max|a - b| / max|b|.
"""
import contextlib
import dataclasses
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vit.backend import SCRIPTS, load_script
from vit.data import DataPair, Dataset, Images, digits
from vit.errors import UserError
from vit.model import oracle
from vit.model.config import ViTConfig, stage_names
from vit.model.parameters import Weights
from vit.training import run as flow
from vit.training.recipe import Recipe

BACKENDS = (*SCRIPTS, "numpy")
STAGES = ("forward", "gradient", "train")
# The bars of the house; that of float32 training is some fifty times the drift measured in benchmarks/parity.md.
BARS = {
    ("forward", "float64"): 1e-12, ("forward", "float32"): 1e-5,
    ("gradient", "float64"): 1e-10, ("gradient", "float32"): 1e-4,
    ("train", "float64"): 1e-9, ("train", "float32"): 1e-3,
}


@dataclass(frozen=True)
class Row:
    """One thing compared.

    Args:
        name: A stage, a parameter, or "loss of step 7".
        max_abs: Largest absolute difference.
        relative: The same over the largest absolute value of the second backend.
        bar: What it must not exceed.
    """
    name: str
    max_abs: float
    relative: float
    bar: float

    @property
    def over(self) -> bool:
        """Whether it differs too much; something that is not a number does."""
        return not self.relative <= self.bar

    @property
    def place(self) -> str:
        """Where in the model it is: block, half and parameter in words."""
        parts = self.name.split(".")
        if parts[0] != "blocks":
            return self.name
        half = {"attn": "attention half", "norm1": "attention half", "mlp": "MLP half", "norm2": "MLP half"}[parts[2]]
        parameter = ".".join(parts[2:])
        return f"block {parts[1]}, {half}" + ("" if parameter in ("attn", "mlp") else f", {parameter}")


@dataclass(frozen=True)
class Trajectory:
    """What a training left behind: each step's loss and gradient norm, the final weights and optimizer moments."""
    losses: np.ndarray
    norms: np.ndarray
    weights: Weights
    moments: dict[str, np.ndarray]


def row(name: str, a: np.ndarray, b: np.ndarray, bar: float) -> Row:
    """Compare two arrays of one shape.

    Raises:
        ValueError: The shapes differ.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{name}: {a.shape} against {b.shape}")
    difference, size = np.abs(a - b).max(), np.abs(b).max()
    return Row(name, float(difference), float(difference / size if size else difference), bar)


def sample_images(config: ViTConfig, count: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Real handwritten digits at a model's side, normalized, and labels within its classes.

    Returns:
        [count, S, S, C] of the dtype, and int64 [count].
    """
    pair = _digits(config)
    images = (pair.finetune.test.images[:count] / 255.0 - pair.mean[0]) / pair.std[0]
    return images.astype(dtype), pair.finetune.test.labels[:count]


def stages(backend: str, config: ViTConfig, weights: Weights, images: np.ndarray,
           masks: np.ndarray | None = None) -> list[np.ndarray]:
    """Every stage of one backend's forward pass, with masks or without dropout, in the dtype of the images."""
    if backend == "numpy":
        return list(oracle.forward(config, weights, images, masks=masks).values())
    script = load_script(backend)
    return script.run_stages(script.from_numpy(script.ViT(config, str(images.dtype)), weights), images, masks)


def gradients(backend: str, config: ViTConfig, weights: Weights, images: np.ndarray,
              labels: np.ndarray) -> tuple[float, Weights]:
    """One backend's mean loss and its gradients, dropout off, in the dtype of the images."""
    script = load_script(backend)
    return script.loss_gradients(script.from_numpy(script.ViT(config, str(images.dtype)), weights), images, labels)


def train(backend: str, config: ViTConfig, weights: Weights, recipe: Recipe, steps: int, dtype: str) -> Trajectory:
    """Train through FastEstimator's Estimator on digits, with the recipe's optimizer and augmentation."""
    script, pair = load_script(backend), _digits(config)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        recipe = dataclasses.replace(recipe, train_steps_per_epoch=steps, eval_steps_per_epoch=1)
        job = flow.Job(backend, recipe, pair, Path(folder), log_steps=0, dtype=dtype)
        stage = flow.Stage(job, "compare", pair.finetune, 1, config)
        trained = script.train(stage, weights)
        moments = [script.to_numpy(stage.model, slot)
                   for slot in script.moments(stage.model, stage.model.current_optimizer)]
    return Trajectory(np.array(stage.history.step_losses), np.array(stage.history.gradient_norms), trained,
                      {f"moment{i}.{name}": value for i, slot in enumerate(moments, 1) for name, value in slot.items()})


def forward_rows(config: ViTConfig, a: list[np.ndarray], b: list[np.ndarray], bar: float) -> list[Row]:
    """Compare two forward passes stage by stage."""
    return [row(name, *pair, bar) for name, *pair in zip(stage_names(config), a, b, strict=True)]


def gradient_rows(a: tuple[float, Weights], b: tuple[float, Weights], bar: float) -> list[Row]:
    """Compare two losses and their gradients parameter by parameter."""
    return [row("loss", a[0], b[0], bar), *(row(name, a[1][name], b[1][name], bar) for name in b[1])]


def train_rows(a: Trajectory, b: Trajectory, bar: float) -> list[Row]:
    """Compare two trainings step by step, then their final weights."""
    rows = []
    for step, (ours, theirs) in enumerate(zip(zip(a.losses, a.norms, strict=True),
                                              zip(b.losses, b.norms, strict=True), strict=True), 1):
        rows += [row(f"loss of step {step}", ours[0], theirs[0], bar),
                 row(f"gradient norm of step {step}", ours[1], theirs[1], bar)]
    return rows + [row(name, a.weights[name], b.weights[name], bar) for name in b.weights]


def compare(a: str, b: str, config: ViTConfig, weights: Weights, stage: str = "forward", dtype: str = "float64",
            steps: int = 20, recipe: Recipe | None = None) -> list[Row]:
    """Compare two backends on real images.

    Args:
        a: "torch", "tf", "ms" or, for the forward stage, "numpy".
        b: Another one.
        config: The model.
        weights: Its weights.
        stage: "forward", "gradient" or "train".
        dtype: "float64" or "float32".
        steps: Training steps.
        recipe: Of the training; None is FastEstimator's apphub's with batches of 16.

    Returns:
        What was compared, in the order in which it is computed.

    Raises:
        UserError: A backend is unknown, not installed, or cannot do the stage.
    """
    for backend in (a, b):
        if backend not in BACKENDS:
            raise UserError(f"unknown backend {backend!r}: choose two of {', '.join(BACKENDS)}")
        if backend == "numpy" and stage != "forward":
            raise UserError(f"numpy is the oracle of the forward stage only, not of {stage!r}")
        if backend != "numpy":
            load_script(backend)
    bar = BARS[stage, dtype]
    weights = {name: value.astype(dtype) for name, value in weights.items()}
    images, labels = sample_images(config, 8, dtype)
    if stage == "forward":
        return forward_rows(config, *(stages(backend, config, weights, images) for backend in (a, b)), bar)
    if stage == "gradient":
        return gradient_rows(*(gradients(backend, config, weights, images, labels) for backend in (a, b)), bar)
    recipe = recipe or Recipe(data="digits", batch_size=16)
    return train_rows(*(train(backend, config, weights, recipe, steps, dtype) for backend in (a, b)), bar)


def report(rows: list[Row]) -> str:
    """The rows as a table; the first one over its bar is marked, and named below."""
    first = next((line for line in rows if line.over), None)
    width = max(len(line.name) for line in rows)
    lines = [f"{'':2}{'':{width}}  {'max abs':>9}  {'relative':>9}"]
    lines += [f"{'>' if line is first else '':2}{line.name:{width}}  {line.max_abs:9.1e}  {line.relative:9.1e}"
              for line in rows]
    worst = max(rows, key=lambda line: np.inf if np.isnan(line.relative) else line.relative)
    lines.append(f"the same: worst relative difference {worst.relative:.1e} ({worst.place}), bar {worst.bar:.0e}"
                 if first is None else
                 f"DIFFERENT: first at {first.place}, relative difference {first.relative:.1e}, bar {first.bar:.0e}; "
                 f"{sum(line.over for line in rows)} of {len(rows)} over it")
    return "\n".join(lines)


def _digits(config: ViTConfig) -> DataPair:
    """The digits at a model's side, with labels within its classes."""
    pair = digits.load()

    def fit(part: Images) -> Images:
        side = config.image_size
        images = part.images if side == 32 else np.stack([cv2.resize(image, (side, side)) for image in part.images])
        return Images(images[..., :config.in_channels], part.labels % config.num_classes)

    fitted = Dataset("digits10", pair.finetune.classes, fit(pair.finetune.train), fit(pair.finetune.test))
    return dataclasses.replace(pair, finetune=fitted)
