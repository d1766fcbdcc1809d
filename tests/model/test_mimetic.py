"""Mimetic initial weights: the products that the paper asks for, and that nothing else changes."""
import numpy as np
import pytest

from vit.model import mimetic
from vit.model.config import VARIANTS, ViTConfig
from vit.model.parameters import initial, shapes

CONFIG = ViTConfig(image_size=16, patch_size=4, width=64, depth=2, heads=4, mlp_dim=32, num_classes=10)
WEIGHTS = initial(CONFIG, 3, "mimetic")


def _qkv(weights, block=0):
    return weights[f"blocks.{block}.attn.qkv.weight"].astype(np.float64).reshape(3, 64, 64)


def test_attention_and_positions_alone_are_others():
    plain = initial(CONFIG, 3)
    assert {name: value.shape for name, value in WEIGHTS.items()} == shapes(CONFIG)
    assert {value.dtype for value in WEIGHTS.values()} == {np.dtype(np.float32)}
    changed = {name for name in plain if plain[name].tobytes() != WEIGHTS[name].tobytes()}
    assert changed == {"pos_embed", *(f"blocks.{i}.attn.{layer}.weight" for i in range(2) for layer in ("qkv", "proj"))}


def test_value_and_projection_make_minus_the_identity_and_noise():
    product = _qkv(WEIGHTS)[2].T @ WEIGHTS["blocks.0.attn.proj.weight"].T.astype(np.float64)
    noise = product + 0.4 * np.eye(64)
    assert noise.std() == pytest.approx(0.4 * 64**-0.5, rel=0.05)
    assert np.trace(product) / 64 == pytest.approx(-0.4, abs=0.05)


def test_a_heads_query_and_key_are_the_nearest_of_their_rank():
    """By Eckart & Young 1936: as far from 0.7 Z + 0.7 I as the singular values that are left out are large."""
    q, k, _ = _qkv(WEIGHTS)
    for head in range(4):
        rows = slice(16 * head, 16 * head + 16)
        product = q[rows].T @ k[rows]
        s = np.linalg.svd(product, compute_uv=False)
        assert (s[:16] > 0.7).all() and (s[16:] < 1e-5).all()
        np.testing.assert_allclose(np.linalg.norm(q[rows], axis=1), np.linalg.norm(k[rows], axis=1), rtol=1e-5)
        assert 0 < np.trace(product) / 16 < 0.7 * 4
    assert not np.allclose(q[:16], q[16:32])


def test_it_is_a_function_of_seed_and_name_alone():
    again = initial(CONFIG.replace(num_classes=3, depth=1, dropout=0.5), 3, "mimetic")
    other = initial(CONFIG, 4, "mimetic")
    for name in ("blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight"):
        assert again[name].tobytes() == WEIGHTS[name].tobytes() != other[name].tobytes()
    assert not np.allclose(_qkv(WEIGHTS, 0), _qkv(WEIGHTS, 1))


@pytest.mark.parametrize("config", [VARIANTS["apphub"], VARIANTS["compact"], CONFIG.replace(width=30, heads=2)])
def test_near_positions_are_alike(config):
    found = mimetic.positions(config)[0].astype(np.float64)
    assert found.shape == (config.tokens, config.width) and np.abs(found).max() <= 1
    assert not found[:int(config.class_token)].any()
    patches = found[int(config.class_token):]
    alike = patches @ patches.T
    G = config.grid
    assert alike[0, 0] > alike[0, 1] > alike[0, 3] and alike[0, G] > alike[0, 3 * G]
    np.testing.assert_allclose(alike[0, 1], alike[0, G])  # a column on is as near as a row on
