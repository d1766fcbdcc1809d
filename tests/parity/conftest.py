"""What the parity tests share: the models, one computation per backend, and the table that they end with."""
import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from vit.model import dropout, parameters
from vit.model.config import VARIANTS, ViTConfig
from vit.parity import differences, levels, trajectories
from vit.training.recipe import Recipe

# The spec's corners: both norm orders, both poolings, with and without class token and biases, widths and head counts
# that are no powers of two, two image sizes, one to six blocks.
CONFIGS = {
    "tiny": VARIANTS["tiny"].replace(num_classes=10),
    "apphub": VARIANTS["apphub"].replace(num_classes=10),
    "post_mean_48": ViTConfig(image_size=48, patch_size=8, width=36, depth=2, heads=3, mlp_dim=52, num_classes=10,
                              norm_order="post", qkv_bias=False, pool="mean", activation="relu", dropout=0.2,
                              attention_dropout=0.1, drop_path=0.3, patch_dropout=0.4),
    "tiny_dropout": VARIANTS["tiny"].replace(num_classes=10, dropout=0.1, attention_dropout=0.2, drop_path=0.2,
                                             patch_dropout=0.25),
    "pre_no_token": ViTConfig(width=40, patch_size=8, depth=2, heads=5, mlp_dim=72, num_classes=10, patch_bias=False,
                              pool="mean", class_token=False, block_norm_eps=1e-3, final_norm_eps=1e-12),
    "fc_norm": ViTConfig(width=32, patch_size=8, depth=2, heads=2, mlp_dim=48, num_classes=10, pool="mean",
                         fc_norm=True),
    "one_head_48": ViTConfig(image_size=48, patch_size=16, width=24, depth=1, heads=1, mlp_dim=24, num_classes=10,
                             patch_bias=False, qkv_bias=False, activation="gelu_tanh"),
}
WITH_DROPOUT = [name for name, config in CONFIGS.items() if dropout.sites(config)]
RECIPES = {
    "sgd": Recipe(data="digits", batch_size=16),
    "nesterov": Recipe(data="digits", batch_size=16, nesterov=True, clip_norm=2.0, weight_decay=1e-2,
                       decay_bias_and_norm=False, gradient_centralization=True, schedule="milestones",
                       milestones=(0.25, 0.5), milestone_rates=(0.02, 0.005)),
    "adamw": Recipe(data="digits", batch_size=16, optimizer="adamw", learning_rate=1e-3, weight_decay=0.05,
                    decay_bias_and_norm=False, clip_norm=1.0, schedule="cosine", warmup_steps=10),
    # Without decay on biases: the keys' have no gradient but rounding, and Adam makes a decay of that grow a
    # thousandfold each step (rate * decay / epsilon), whatever the framework.
    "adam": Recipe(data="digits", batch_size=16, optimizer="adam", learning_rate=1e-3, weight_decay=0.01,
                   decay_bias_and_norm=False, layer_decay=0.75, accumulate_steps=2, clip_norm=1.0, ema_decay=0.9,
                   schedule="exponential", decay_rate=0.5, decay_epochs=0.5, warmup_steps=5, label_smoothing=0.1,
                   mixup=0.4),
    "muon": Recipe(data="digits", batch_size=16, optimizer="muon", learning_rate=1e-3, momentum=0.95, weight_decay=0.05,
                   decay_bias_and_norm=False, layer_decay=0.75, accumulate_steps=2, clip_norm=1.0, ema_decay=0.9,
                   gradient_centralization=True, schedule="cosine", warmup_steps=10),
    "muon once": Recipe(data="digits", batch_size=16, optimizer="muon", learning_rate=1e-3, momentum=0.95,
                        weight_decay=0.05, layer_decay=0.75, clip_norm=0.5),
    "uncentralized": Recipe(data="digits", batch_size=16, nesterov=True, clip_norm=2.0, weight_decay=1e-2,
                            decay_bias_and_norm=False),
}
_seen: dict[tuple, tuple[float, float]] = {}


@functools.cache
def start(name: str, dtype: str):
    """Weights of a config that are nowhere at an initial 0 or 1."""
    return {key: value.astype(dtype) for key, value in parameters.perturbed(CONFIGS[name], seed=1).items()}


@functools.cache
def stages(backend: str, name: str, dtype: str):
    """One backend's forward stages, computed once."""
    return levels.stages(backend, CONFIGS[name], start(name, dtype), levels.sample_images(CONFIGS[name], 4, dtype)[0])


@functools.cache
def dropped_stages(backend: str, name: str, dtype: str):
    """One backend's forward stages with dropout on, computed once.

    In float32 at initial weights: in six post-norm blocks of noisy ones, rounding alone grows to 1e-5.
    """
    config = CONFIGS[name]
    key = dropout.keys(5, 1, 0, np.arange(4))
    values = start(name, dtype) if dtype == "float64" else parameters.initial(config, seed=1)
    return levels.stages(backend, config, values, levels.sample_images(config, 4, dtype)[0], key)


@functools.cache
def gradients(backend: str, name: str, dtype: str):
    """One backend's loss and gradients, computed once."""
    return levels.gradients(backend, CONFIGS[name], start(name, dtype), *levels.sample_images(CONFIGS[name], 4, dtype))


@functools.cache
def trained(backend: str, name: str, recipe: str, steps: int, dtype: str):
    """One backend's training through FastEstimator, dropout on where the config has it, done once.

    It is of the config's first two blocks: in them is all that a training knows of blocks. A trajectory begins at
    initial weights: from `start` the post-norm model's SGD is chaotic, and torch alone turns a change of 1e-15 in its
    weights into one of 3e-8 after 100 steps; from initial weights it stays below 1e-12.
    """
    config = CONFIGS[name].replace(depth=min(CONFIGS[name].depth, 2))
    values = start(name, dtype) if steps == 1 else parameters.initial(config, seed=1)
    return trajectories.train(backend, config, values, RECIPES[recipe], steps, dtype)


@pytest.fixture
def hold():
    """A function that asserts that no row is over its bar, and remembers the worst for the table."""

    def check(level: str, pair: str, rows: list[differences.Row]) -> None:
        worst = max(row.relative for row in rows)
        key = (level, pair)
        _seen[key] = (max(worst, _seen.get(key, (0.0, 0.0))[0]), rows[0].bar)
        assert not any(row.over for row in rows), differences.report(rows)

    return check


def pytest_terminal_summary(terminalreporter) -> None:
    """The table: level, pair, worst difference seen, bar; and, into the file that PARITY_KEPT names, as JSON."""
    if _seen and (path := os.environ.get("PARITY_KEPT")):
        _keep(Path(path))
    if _seen:
        terminalreporter.section("parity")
        terminalreporter.write_line(f"{'level':<34}{'pair':<16}{'worst relative':>15}{'bar':>9}")
        for (level, pair), (worst, bar) in sorted(_seen.items()):
            terminalreporter.write_line(f"{level:<34}{pair:<16}{worst:>15.1e}{bar:>9.0e}")


def _keep(path: Path) -> None:
    """Add what was seen to a file; pairs that were not compared this time stay as they are."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    for (level, pair), (worst, bar) in sorted(_seen.items()):
        kept.setdefault(level, {})[pair] = {"worst": worst, "bar": bar}
    path.write_text(f"{json.dumps(kept, indent=1)}\n")
