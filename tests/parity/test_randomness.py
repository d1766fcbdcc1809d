"""Dropout and stochastic depth, in each framework: rate, scale, independence; off in evaluation.

Every test here is at significance 1e-6 (two-sided, |z| < 4.9) with fixed seeds: it is deterministic, and a correct
sampler of another seed would fail once in a million.
"""
import math

import numpy as np
import pytest

from vit import backends
from vit.config import ViTConfig

Z = 4.9
RATE = 0.3
CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=2, heads=1, mlp_dim=32, num_classes=10, dropout=RATE,
                   attention_dropout=RATE, drop_path=RATE, pool="mean", class_token=False)


@pytest.fixture(scope="module", params=backends.SCRIPTS)
def framework(request):
    """(backend, script, model in training mode)."""
    backend = request.param
    script = backends.script(backend)
    {"torch": lambda: script.torch.manual_seed(11), "tf": lambda: script.tf.random.set_seed(11),
     "ms": lambda: script.ms.set_seed(11)}[backend]()
    return backend, script, script.ViT(CONFIG)


def _run(framework, layer, x, training=True):
    backend, script, model = framework
    if backend == "tf":
        # Keras hands `training` down from the layer that is called.
        holder = script.tf.keras.Sequential([layer])
        return holder(script.tf.constant(x), training=training).numpy()
    if backend == "torch":
        model.train(training)
        with script.torch.no_grad():
            return layer(script.torch.tensor(x)).numpy()
    model.set_train(training)
    return layer(script.ms.Tensor(x)).asnumpy()


SITES = {
    "tokens": lambda model: model.drop,
    "attention output": lambda model: model.blocks[1].attn.drop,
    "mlp": lambda model: model.blocks[1].mlp.drop,
}


def _z(hits, trials, rate):
    return (hits - trials * rate) / math.sqrt(trials * rate * (1 - rate))


def _lag_z(kept):
    """z of the correlation between neighbours along the first axis, where independent values have none."""
    centred = (kept - kept.mean()) / kept.std()
    products = (centred[1:] * centred[:-1]).ravel()
    return products.mean() * math.sqrt(products.size)


@pytest.mark.parametrize("site", SITES)
def test_dropout_keeps_scales_and_is_independent(framework, site):
    ones = np.ones((256, 16, 16), np.float32)
    out = _run(framework, SITES[site](framework[2]), ones)
    kept = out != 0
    np.testing.assert_allclose(out[kept], 1 / (1 - RATE), rtol=1e-6)
    assert abs(_z(kept.sum(), kept.size, 1 - RATE)) < Z
    for axis in range(3):
        assert abs(_lag_z(np.moveaxis(kept, axis, 0).astype(float))) < Z, f"axis {axis}"
    again = _run(framework, SITES[site](framework[2]), ones) != 0
    agreement = (1 - RATE)**2 + RATE**2
    assert abs(_z((kept == again).sum(), kept.size, agreement)) < Z, "two steps draw two masks"


def test_stochastic_depth_drops_whole_samples_independently(framework):
    out = _run(framework, framework[2].blocks[1].drop_path, np.ones((8192, 3, 2), np.float32))
    per_sample = out.reshape(len(out), -1)
    assert (per_sample == per_sample[:, :1]).all(), "a branch is dropped whole"
    kept = per_sample[:, 0] != 0
    np.testing.assert_allclose(per_sample[kept], 1 / (1 - RATE), rtol=1e-6)
    assert abs(_z(kept.sum(), kept.size, 1 - RATE)) < Z
    assert abs(_lag_z(kept.astype(float))) < Z


def test_stochastic_depth_of_the_first_block_is_off(framework):
    ones = np.ones((4096, 2, 2), np.float32)
    np.testing.assert_array_equal(_run(framework, framework[2].blocks[0].drop_path, ones), ones)


def test_attention_weights_are_dropped_and_scaled(framework):
    """q = k = 0 makes every weight 1/N, and v = the identity shows them."""
    backend, script, _ = framework
    N = D = CONFIG.width
    assert CONFIG.tokens == N
    config = CONFIG.replace(dropout=0.0, drop_path=0.0)
    model = script.ViT(config)
    weights = {name: np.zeros_like(value) for name, value in script.to_numpy(model).items()}
    weights["blocks.0.attn.qkv.weight"][2 * D:] = np.eye(D)
    weights["blocks.0.attn.proj.weight"] = np.eye(D, dtype=np.float32)
    script.from_numpy(model, weights)
    out = _run((backend, script, model), model.blocks[0].attn, np.tile(np.eye(N, dtype=np.float32), (512, 1, 1)))
    kept = out != 0
    np.testing.assert_allclose(out[kept], 1 / N / (1 - RATE), rtol=1e-5)
    assert abs(_z(kept.sum(), kept.size, 1 - RATE)) < Z
    assert abs(_lag_z(kept.astype(float))) < Z


@pytest.mark.parametrize("site", SITES)
def test_all_of_it_is_off_in_evaluation(framework, site):
    ones = np.ones((64, 16, 16), np.float32)
    np.testing.assert_array_equal(_run(framework, SITES[site](framework[2]), ones, training=False), ones)
    np.testing.assert_array_equal(_run(framework, framework[2].blocks[1].drop_path, ones, training=False), ones)


def test_the_checks_see_an_unscaled_a_wrong_and_a_repeated_mask():
    kept = np.random.default_rng(0).random((256, 16, 16)) > RATE + 0.02
    assert abs(_z(kept.sum(), kept.size, 1 - RATE)) > Z, "a rate that is off by 0.02"
    repeated = np.repeat(np.random.default_rng(0).random((128, 16, 16)) > RATE, 2, axis=0)
    assert abs(_lag_z(repeated.astype(float))) > Z, "neighbours that share a mask"
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(np.ones(3), 1 / (1 - RATE), rtol=1e-6)
