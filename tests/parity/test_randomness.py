"""Dropout and stochastic depth in each framework: each site drops what keys choose and scales the rest, as the oracle.

That what is dropped is random, tests/model/test_dropout_quality.py shows; what leaves a layer is counted here once
more, at significance 1e-6 (two-sided, |z| < 4.9) with fixed seeds.
"""
import functools
import math

import numpy as np
import pytest

from vit.backend import load_script
from vit.model import dropout, parameters
from vit.model.config import ViTConfig
from vit.parity import differences, levels

Z = 4.9
RATE = 0.3
CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=2, heads=1, mlp_dim=32, num_classes=10, dropout=RATE,
                   attention_dropout=RATE, drop_path=RATE, pool="mean", class_token=False)
SITES = {
    "tokens": lambda model: model.drop,
    "blocks.1.attn.proj": lambda model: model.blocks[1].attn.drop,
    "blocks.1.mlp.fc2": lambda model: model.blocks[1].mlp.drop2,
    "blocks.1.attn.path": lambda model: model.blocks[1].drop_path1,
    "blocks.1.mlp.path": lambda model: model.blocks[1].drop_path2,
}


@functools.cache
def _model(backend):
    script = load_script(backend)
    return script.from_numpy(script.ViT(CONFIG), parameters.perturbed(CONFIG, 3))


@pytest.fixture
def framework(backend):
    """(backend, script, model)."""
    return backend, load_script(backend), _model(backend)


@pytest.fixture(scope="module")
def key():
    """Keys of 1024 samples."""
    return dropout.keys(11, 1, 0, np.arange(1024))


def _run(framework, layer, *arrays):
    backend, script, _ = framework
    make = {"torch": lambda: script.torch.tensor, "tf": lambda: script.tf.constant, "ms": lambda: script.ms.Tensor}
    out = layer(*[None if array is None else make[backend]()(array) for array in arrays])
    return (out.detach() if backend == "torch" else out).numpy() if backend != "ms" else out.asnumpy()


def _z(hits, trials, rate):
    return (hits - trials * rate) / math.sqrt(trials * rate * (1 - rate))


@pytest.mark.parametrize("name", SITES)
def test_a_site_drops_what_its_keys_say_and_scales_the_rest(framework, key, name):
    site = dropout.sites(CONFIG)[name]
    ones = np.ones((len(key), CONFIG.tokens, CONFIG.width), np.float32)
    out = _run(framework, SITES[name](framework[2]), ones, key)
    kept = np.broadcast_to(dropout.keep(key, site), out.shape)
    np.testing.assert_array_equal(out, kept * np.float32(1 / site.kept))
    independent = out if math.prod(site.shape) > 1 else out[:, 0, 0]
    assert abs(_z((independent != 0).sum(), independent.size, site.kept)) < Z
    assert abs(out.mean() - 1) < 0.1, "the mean stays"


def test_stochastic_depth_of_the_first_block_is_off(framework, key):
    ones = np.ones((len(key), 2, 2), np.float32)
    np.testing.assert_array_equal(_run(framework, framework[2].blocks[0].drop_path1, ones, key), ones)


def test_attention_weights_are_dropped_and_scaled(framework, key):
    """q = k = 0 makes every weight 1/N, and v = the identity shows them."""
    backend, script, _ = framework
    N = D = CONFIG.width
    assert CONFIG.tokens == N
    config = CONFIG.replace(dropout=0.0, drop_path=0.0)
    model = script.ViT(config)
    values = {name: np.zeros_like(value) for name, value in script.to_numpy(model).items()}
    values["blocks.0.attn.qkv.weight"][2 * D:] = np.eye(D)
    values["blocks.0.attn.proj.weight"] = np.eye(D, dtype=np.float32)
    script.from_numpy(model, values)
    key = key[:256]
    site = dropout.sites(config)["blocks.0.attn.weights"]
    out = _run((backend, script, model), model.blocks[0].attn, np.tile(np.eye(N, dtype=np.float32), (256, 1, 1)), key)
    kept = dropout.keep(key, site)[:, 0]
    np.testing.assert_allclose(out, kept / N / site.kept, rtol=1e-5)
    assert abs(_z((out != 0).sum(), out.size, site.kept)) < Z


def test_without_keys_all_is_kept(framework):
    ones = np.ones((64, 16, 16), np.float32)
    for layer in SITES.values():
        np.testing.assert_array_equal(_run(framework, layer(framework[2]), ones, None), ones)
    images = levels.sample_images(CONFIG, 2, "float32")[0]
    quiet = CONFIG.replace(dropout=0.0, attention_dropout=0.0, drop_path=0.0)
    ours = framework[1].backend.run_stages(framework[2], images)
    oracle = levels.stages("numpy", quiet, parameters.perturbed(CONFIG, 3), images)
    rows = levels.forward_rows(CONFIG, ours, oracle, 1e-5)
    assert not any(row.over for row in rows), differences.report(rows)
