"""Two backends compared on real images at one level: forward, gradients, or training through FastEstimator."""

from vit.backend import SCRIPTS, load_script
from vit.errors import UserError
from vit.model.config import ViTConfig
from vit.model.parameters import Weights
from vit.parity import levels, trajectories
from vit.parity.differences import Row
from vit.training.recipe import Recipe

BACKENDS = (*SCRIPTS, "numpy")
STAGES = ("forward", "gradient", "train")
# The bars of the house; that of float32 training is some fifty times the drift measured in benchmarks/parity.md.
BARS = {
    ("forward", "float64"): 1e-12, ("forward", "float32"): 1e-5,
    ("gradient", "float64"): 1e-10, ("gradient", "float32"): 1e-4,
    ("train", "float64"): 1e-9, ("train", "float32"): 1e-3,
}


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
    images, labels = levels.sample_images(config, 8, dtype)
    if stage == "forward":
        passes = (levels.stages(backend, config, weights, images) for backend in (a, b))
        return levels.forward_rows(config, *passes, bar)
    if stage == "gradient":
        passes = (levels.gradients(backend, config, weights, images, labels) for backend in (a, b))
        return levels.gradient_rows(*passes, bar)
    recipe = recipe or Recipe(data="digits", batch_size=16)
    trained = (trajectories.train(backend, config, weights, recipe, steps, dtype) for backend in (a, b))
    return trajectories.train_rows(*trained, bar)
