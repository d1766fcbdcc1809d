"""The checks of test_levels.py must go red: one defect at a time is planted into the torch model, and named."""
import dataclasses

import numpy as np
import pytest

import vit_torch
from tests.parity.conftest import CONFIGS, RECIPES, start
from vit.backend import torch as backend
from vit.backend.dropout import torch as dropout_module
from vit.backend.dropout.torch import Dropout
from vit.model import dropout
from vit.parity import differences, levels, pairs, trajectories
from vit.training.recipe import Recipe

pytestmark = pytest.mark.backend("torch")
torch, F = backend.torch, backend.F
# Four heads, so that an order of heads can be wrong; every bias present, so that one can be dropped.
CONFIG = CONFIGS["tiny_dropout"].replace(depth=2)
KEYS = dropout.keys(3, 1, 0, np.arange(4))
GELU, SOFTMAX = F.gelu, torch.softmax


def _weights():
    return {name: value for name, value in start("tiny", "float64").items()
            if not name.startswith(("blocks.2", "blocks.3"))}


def _forward(config=CONFIG, weights=None, ours=KEYS):
    """What the suite's forward check, dropout on, says of the torch model against the oracle."""
    images = levels.sample_images(CONFIG, 4, "float64")[0]
    return levels.forward_rows(CONFIG, levels.stages("torch", config, weights or _weights(), images, ours),
                               levels.stages("numpy", CONFIG, _weights(), images, KEYS),
                               pairs.BARS["forward", "float64"])


def _first(rows):
    return next((row.name for row in rows if row.over), None)


def test_without_a_defect_the_forward_check_is_green():
    assert _first(_forward()) is None


def _heads_in_wrong_order(self, x, key):
    N, D, H = x.shape[1], self.width, self.heads
    q, k, v = self.qkv(x).reshape(-1, N, 3, D // H, H).permute(2, 0, 4, 1, 3)
    x = self.drop_weights(torch.softmax(q * (D // H)**-0.5 @ k.transpose(-2, -1), dim=-1), key) @ v
    return self.drop(self.proj(x.permute(0, 2, 1, 3).reshape(-1, N, D)), key)


def _unscaled(self, x, key):
    return x if key is None or self.site is None else x * self.keep(key)


FORWARD_DEFECTS = {
    "position embedding off by one": ("tokens", lambda w, patch: {
        "weights": {**w, "pos_embed": np.roll(w["pos_embed"], 1, axis=1)}}),
    "LayerNorm eps": ("blocks.0.attn", lambda w, patch: {"config": CONFIG.replace(block_norm_eps=1e-5)}),
    "final LayerNorm eps": ("norm", lambda w, patch: {"config": CONFIG.replace(final_norm_eps=1e-5)}),
    "norm order": ("blocks.0.attn", lambda w, patch: {"config": CONFIG.replace(norm_order="post")}),
    "q/k/v order": ("blocks.0.attn", lambda w, patch: {
        "weights": {**w, "blocks.0.attn.qkv.weight": np.roll(w["blocks.0.attn.qkv.weight"], CONFIG.width, axis=0)}}),
    "head reshape order": ("blocks.0.attn", lambda w, patch: patch(
        vit_torch.Attention, "forward", _heads_in_wrong_order)),
    "missing scale": ("blocks.0.attn", lambda w, patch: patch(
        torch, "softmax", lambda x, dim: SOFTMAX(x * (CONFIG.width // CONFIG.heads)**0.5, dim=dim))),
    "a transposed kernel": ("blocks.1.attn", lambda w, patch: {
        "weights": {**w, "blocks.1.attn.proj.weight": w["blocks.1.attn.proj.weight"].T.copy()}}),
    "tanh GELU": ("blocks.0.mlp", lambda w, patch: patch(
        F, "gelu", lambda x, approximate: GELU(x, approximate="tanh"))),
    "an unscaled dropout": ("tokens", lambda w, patch: patch(Dropout, "forward", _unscaled)),
    "stochastic depth that scales by another rate": ("blocks.1.attn", lambda w, patch: {
        "config": CONFIG.replace(drop_path=0.1)}),
    "another sample's key": ("tokens", lambda w, patch: {"ours": np.roll(KEYS, 1, axis=0)}),
    "no dropout": ("tokens", lambda w, patch: patch(Dropout, "forward", lambda self, x, key: x)),
    "a dropped bias": ("blocks.1.mlp", lambda w, patch: {
        "weights": {**w, "blocks.1.mlp.fc2.bias": np.zeros_like(w["blocks.1.mlp.fc2.bias"])}}),
}


@pytest.mark.parametrize("defect", FORWARD_DEFECTS)
def test_a_defect_in_the_model_is_named_by_its_stage(defect, monkeypatch):
    stage, plant = FORWARD_DEFECTS[defect]
    rows = _forward(**(plant(_weights(), monkeypatch.setattr) or {}))
    assert _first(rows) == stage
    assert f"DIFFERENT: first at {next(row for row in rows if row.over).location}" in differences.report(rows)


def test_a_norm_before_the_pooling_is_named_by_its_stage():
    config, weights = CONFIGS["fc_norm"], start("fc_norm", "float64")
    images = levels.sample_images(config, 4, "float64")[0]
    moved = {name.replace("fc_norm.", "norm."): value for name, value in weights.items()}
    rows = levels.forward_rows(config, levels.stages("torch", config.replace(fc_norm=False), moved, images),
                               levels.stages("numpy", config, weights, images), pairs.BARS["forward", "float64"])
    assert _first(rows) == "norm"


def test_a_summed_loss_turns_the_gradient_check_red(monkeypatch):
    images, labels = levels.sample_images(CONFIG, 4, "float64")
    whole = levels.gradients("torch", CONFIG, _weights(), images, labels)
    mean = F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda x, y: mean(x, y, reduction="sum"))
    defective = levels.gradients("torch", CONFIG, _weights(), images, labels)
    rows = levels.gradient_rows(defective, whole, pairs.BARS["gradient", "float64"])
    assert all(row.over for row in rows)
    assert _first(rows) == "loss"


def _train(recipe, config=CONFIG):
    return trajectories.train("torch", config, _weights(), recipe, 12, "float64")


def _each(change):
    """The change of lists, from that of one weight."""
    def changes(self, w, g, decay, centralized, matrices, moment1, moment2, t):
        return [change(self, *one, t) for one in zip(w, g, decay, moment1, moment2, strict=True)]
    return changes


@_each
def _rate_in_the_velocity(self, w, g, decay, moment1, moment2, t):
    """Keras' order: the velocity holds the learning rate of the step in which a gradient came."""
    rate = self.param_groups[0]["lr"]
    v = self.momentum * moment1 + rate * (g + decay * w)
    moment1.copy_(v)
    return v / rate


@_each
def _epsilon_inside(self, w, g, decay, moment1, moment2, t):
    """The other AdamW: epsilon under the square root."""
    m = self.beta1 * moment1 + (1 - self.beta1) * g
    v = self.beta2 * moment2 + (1 - self.beta2) * torch.square(g)
    moment1.copy_(m)
    moment2.copy_(v)
    return decay * w + m / (1 - self.beta1**t) / torch.sqrt(v / (1 - self.beta2**t) + self.epsilon)


def _loss_summed(patch):
    from fastestimator.op.tensorop.loss import CrossEntropy
    mean = CrossEntropy.forward
    patch(CrossEntropy, "forward", lambda self, data, state: mean(self, data, state) * len(data[1]))


RATE, ORTHOGONALIZES, DROPOUT_KEYS = Recipe.rate, Recipe.orthogonalizes, dropout.keys
COSINE_SGD = dataclasses.replace(RECIPES["adamw"], optimizer="sgd", learning_rate=0.01, warmup_steps=4)
TRAIN_DEFECTS = {
    "weight decay on biases": (RECIPES["adamw"], lambda patch: patch(
        Recipe, "decay_of", lambda recipe, name: recipe.weight_decay)),
    "momentum order": (COSINE_SGD, lambda patch: patch(backend.Optimizer, "change", _rate_in_the_velocity)),
    "epsilon's place": (RECIPES["adamw"], lambda patch: patch(backend.Optimizer, "change", _epsilon_inside)),
    "a learning rate one step late": (COSINE_SGD, lambda patch: patch(
        Recipe, "rate", lambda recipe, step, *rest: RATE(recipe, max(step - 1, 1), *rest))),
    "a norm clipped too low": (RECIPES["nesterov"], lambda patch: patch(
        backend, "clip", lambda gradients, clip_norm, clip=backend.clip: clip(gradients, clip_norm * 0.999))),
    "the mean of a matrix's columns": (RECIPES["nesterov"], lambda patch: patch(
        backend, "centralize", lambda g: g - g.mean(dim=0, keepdim=True))),
    "a milestone one step late": (RECIPES["nesterov"], lambda patch: patch(
        Recipe, "rate", lambda recipe, step, *rest: RATE(recipe, max(step - 1, 1), *rest))),
    "q, k and v orthogonalized as one matrix": (RECIPES["muon"], lambda patch: patch(
        Recipe, "orthogonalizes", lambda recipe, name: min(ORTHOGONALIZES(recipe, name), 1))),
    "an iteration of Newton and Schulz too few": (RECIPES["muon"], lambda patch: patch(backend.muon, "ITERATIONS", 4)),
    "loss summed instead of averaged": (RECIPES["sgd"], _loss_summed),
    "keys of another epoch": (RECIPES["sgd"], lambda patch: patch(
        dropout, "keys", lambda seed, epoch, *rest: DROPOUT_KEYS(seed, epoch + 1, *rest))),
    "sites that drop alike": (RECIPES["sgd"], lambda patch: patch(
        dropout_module, "mixed_index", lambda site: dropout.mixed_index(site._replace(start=0)))),
    "an unscaled dropout": (RECIPES["sgd"], lambda patch: patch(Dropout, "forward", _unscaled)),
}


@pytest.fixture(scope="module")
def healthy():
    """The undisturbed training with each recipe that a defect is planted into."""
    return {id(recipe): _train(recipe) for recipe, _ in TRAIN_DEFECTS.values()}


@pytest.mark.parametrize("defect", TRAIN_DEFECTS)
def test_a_defect_in_training_turns_the_trajectory_check_red(defect, healthy, monkeypatch):
    recipe, plant = TRAIN_DEFECTS[defect]
    plant(monkeypatch.setattr)
    rows = trajectories.train_rows(_train(recipe), healthy[id(recipe)], pairs.BARS["train", "float64"])
    assert _first(rows) is not None


def test_without_a_defect_the_trajectory_check_is_green(healthy):
    rows = trajectories.train_rows(_train(COSINE_SGD), healthy[id(COSINE_SGD)], pairs.BARS["train", "float64"])
    assert _first(rows) is None


def test_a_value_that_is_not_a_number_is_over_the_bar():
    assert differences.row("loss", np.nan, 1.0, 1e-3).over
    assert differences.row("loss", 1.0, np.nan, 1e-3).over


def test_other_shapes_are_refused_not_broadcast():
    with pytest.raises(ValueError, match="logits"):
        differences.row("logits", np.zeros((2, 3)), np.zeros((1, 3)), 1e-3)
