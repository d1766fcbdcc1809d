"""The masked autoencoder in numpy: what its loss hangs on, and what it does not."""
import numpy as np
import pytest

from vit.model import dropout, oracle, parameters
from vit.model.config import ViTConfig, stage_names

CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=1, heads=2, mlp_dim=32, patch_dropout=0.75,
                   decoder_depth=1, decoder_width=12, decoder_heads=3)
KEYS = dropout.keys(3, 1, 0, np.arange(2))
KEPT = dropout.kept_patches(KEYS, CONFIG)
IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 3))


def _losses(images, config=CONFIG, **changed):
    weights = parameters.perturbed(config, seed=1) | changed
    stages = oracle.forward(config, weights, images, key=KEYS)
    assert list(stages) == stage_names(config)
    return stages["norm"], stages["losses"]


def _changed(patch, change):
    """The images with the pixels of one patch changed in the first of them."""
    images, (row, column) = IMAGES.copy(), divmod(int(patch), 4)
    part = images[0, 4 * row:4 * row + 4, 4 * column:4 * column + 4]
    part[...] = change(part)
    return images


def test_there_is_a_decoder_in_the_place_of_a_head():
    shapes = parameters.shapes(CONFIG)
    assert not any(name.startswith("head.") for name in shapes)
    assert shapes["decoder.blocks.0.mlp.fc1.weight"] == (48, 12) and shapes["decoder.pred.weight"] == (48, 12)
    assert not any(name.startswith("decoder.") for name in parameters.shapes(CONFIG.replace(decoder_depth=0)))
    names = list(shapes)
    assert names.index("norm.bias") < names.index("decoder.embed.weight") < names.index("decoder.pred.bias")


@pytest.mark.parametrize("config", [CONFIG, CONFIG.replace(class_token=False, pool="mean", norm_order="post")])
def test_the_encoder_sees_no_hidden_patch(config):
    hidden = np.setdiff1d(np.arange(16), KEPT[0])
    seen, losses = _losses(IMAGES, config)
    assert seen.shape == (2, 4 + config.class_token, 16) and losses.shape == (2,)
    other, changed = _losses(_changed(hidden[0], lambda pixels: pixels[::-1]), config)
    np.testing.assert_array_equal(other, seen)
    assert abs(changed - losses)[0] > 1e-3 and changed[1] == losses[1]
    other, _ = _losses(_changed(KEPT[0][0], lambda pixels: pixels[::-1]), config)
    assert abs(other - seen)[0].max() > 1e-3


def test_targets_are_each_patchs_normalized_pixels():
    hidden = np.setdiff1d(np.arange(16), KEPT[0])
    _, losses = _losses(IMAGES)
    _, brighter = _losses(_changed(hidden[0], lambda pixels: 3 * pixels + 1))
    np.testing.assert_allclose(brighter, losses, rtol=1e-5)
    nothing = {"decoder.pred.weight": np.zeros((48, 12)), "decoder.pred.bias": np.zeros(48)}
    np.testing.assert_allclose(_losses(IMAGES, **nothing)[1], 1, rtol=1e-5)  # the variance of what is normalized


def test_seen_patches_are_no_targets():
    """Predictions of 0 cost 1 a hidden patch, whatever those of seen ones would."""
    nothing = {"decoder.pred.weight": np.zeros((48, 12)), "decoder.pred.bias": np.zeros(48)}
    flat = _changed(KEPT[0][0], np.zeros_like)  # its targets are 0 too
    np.testing.assert_allclose(_losses(flat, **nothing)[1], 1, rtol=1e-5)
