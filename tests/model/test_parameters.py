"""Canonical weights: initial values, checks, fingerprints, and the copy of an encoder."""
import numpy as np
import pytest

from vit.model.config import VARIANTS
from vit.model.parameters import check, copy_encoder, initial, sha256, shapes
from vit.training.recipe import Recipe

# Initial values.

def test_initial_values_have_the_canonical_names_and_shapes():
    config = VARIANTS["tiny"]
    weights = initial(config, 3)
    assert {name: value.shape for name, value in weights.items()} == shapes(config)
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("change", [{"num_classes": 10}, {"depth": 2}, {"dropout": 0.5}, {"norm_order": "post"}])
def test_initial_value_depends_on_seed_and_name_alone(change):
    before, after = initial(VARIANTS["tiny"], 3), initial(VARIANTS["tiny"].replace(**change), 3)
    shared = [name for name in after if after[name].shape == before[name].shape]
    assert len(shared) >= len(after) - 2
    assert [name for name in shared if before[name].tobytes() != after[name].tobytes()] == []


def test_another_seed_draws_every_matrix_anew():
    before, after = initial(VARIANTS["tiny"], 3), initial(VARIANTS["tiny"], 4)
    drawn = [name for name in before if np.ptp(before[name])]
    assert {"cls_token", "pos_embed", "head.weight", "patch_embed.proj.weight"} < set(drawn)
    assert [name for name in drawn if np.any(before[name] == after[name])] == []


def test_tensors_of_one_shape_start_differently():
    weights = initial(VARIANTS["tiny"], 3)
    for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        assert not np.any(weights[f"blocks.0.{layer}.weight"] == weights[f"blocks.1.{layer}.weight"])


def test_scales_and_shifts_start_neutral():
    for name, value in initial(VARIANTS["tiny"], 3).items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif "norm" in name:
            assert (value == 1).all(), name


@pytest.mark.parametrize(("name", "fans"), [
    ("patch_embed.proj.weight", 64 + 3 * 8 * 8),
    ("blocks.0.attn.qkv.weight", 64 + 64),  # q, k and v are matrices of their own
    ("blocks.3.attn.proj.weight", 64 + 64),
    ("blocks.1.mlp.fc1.weight", 64 + 128),
    ("blocks.2.mlp.fc2.weight", 64 + 128),
])
def test_matrices_are_xavier_uniform(name, fans):
    values = initial(VARIANTS["tiny"], 3)[name]
    limit = np.sqrt(6 / fans)
    assert 0.99 * limit < values.max() <= limit * 1.000001
    assert -limit * 1.000001 <= values.min() < -0.99 * limit
    assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.03)


@pytest.mark.parametrize("name", ["cls_token", "pos_embed", "head.weight"])
def test_tokens_and_head_are_normal(name):
    values = initial(VARIANTS["vit_b_32_224"].replace(depth=1), 3)[name]
    assert values.std() == pytest.approx(0.02, rel=0.08)
    assert abs(values.mean()) < 0.002
    assert np.abs(values).max() > 0.05


def test_initial_values_stay_what_they_were():
    weights = initial(VARIANTS["tiny"], 0)
    assert weights["cls_token"][0, 0, :3] == pytest.approx([-0.0098416, -0.01653673, -0.01149877], abs=1e-7)
    assert weights["blocks.0.attn.qkv.weight"][0, :2] == pytest.approx([-0.15634751, -0.02938213], abs=1e-7)


# Checks and fingerprints.

def test_check_lists_every_kind_of_fault(small, random_weights, refused):
    weights = random_weights(small)
    del weights["cls_token"]
    weights["extra"] = np.zeros(1)
    weights["head.bias"] = np.zeros(11)
    with refused("missing cls_token", "unexpected extra", "head.bias is [11], not [10]"):
        check(weights, small)


def test_check_counts_the_faults_that_it_does_not_list(small, refused):
    with refused("missing cls_token", f"and {len(shapes(small)) - 6} more"):
        check({}, small)


@pytest.mark.parametrize("change", [
    lambda w: w["head.bias"].__setitem__(0, np.nextafter(w["head.bias"][0], np.inf)),
    lambda w: w.__setitem__("head.bias", w["head.bias"].view(np.int64)),
    lambda w: w.__setitem__("head.bias", w["head.bias"][None]),
    lambda w: w.__setitem__("head.shift", w.pop("head.bias")),
    lambda w: w.pop("head.bias"),
    lambda w: w["pos_embed"].__setitem__(0, w["pos_embed"][0, ::-1].copy()),
], ids=["value", "dtype", "shape", "name", "fewer", "order of values"])
def test_fingerprint_notices(small, random_weights, change):
    weights = random_weights(small)
    before = sha256(weights)
    change(weights)
    assert sha256(weights) != before


def test_fingerprint_ignores_the_order_of_names_and_the_memory_layout(small, random_weights):
    weights = random_weights(small)
    other = {name: np.asfortranarray(weights[name]) for name in reversed(weights)}
    assert sha256(other) == sha256(weights)


# The copy of an encoder.

def test_encoder_is_copied_under_a_new_head(small, random_weights):
    source, target = random_weights(small, 1), random_weights(small.replace(num_classes=3), 2)
    result, report = copy_encoder(source, target)
    assert list(result) == list(target)
    for name, value in result.items():
        assert (value == (target if name.startswith("head.") else source)[name]).all(), name
    encoder = [value for name, value in source.items() if not name.startswith("head.")]
    assert "\n" not in report
    assert f"{len(encoder)} tensors" in report
    assert f"{sum(value.size for value in encoder):,} values" in report
    assert "head.weight [3, 16]" in report and "head.bias [3]" in report


def test_an_autoencoders_encoder_is_copied_without_its_decoder(small, random_weights):
    source, target = random_weights(Recipe(mae_decoder_width=8).autoencoder(small)), random_weights(small, 2)
    result, _ = copy_encoder(source, target)
    assert list(result) == list(target) and len(source) > len(target)
    assert all((value == (target if name.startswith("head.") else source)[name]).all()
               for name, value in result.items())


def test_copied_encoder_shares_no_memory(small, random_weights):
    source, target = random_weights(small, 1), random_weights(small, 2)
    result, _ = copy_encoder(source, target)
    assert not any(np.shares_memory(result[name], origin[name]) for origin in (source, target) for name in result)


@pytest.mark.parametrize(("change", "named"), [
    ({"depth": 1}, "blocks.1."),
    ({"mlp_dim": 32}, "blocks.0.mlp.fc1.weight"),
    ({"qkv_bias": False}, "blocks.0.attn.qkv.bias"),
    ({"image_size": 32}, "pos_embed"),
    ({"class_token": False, "pool": "mean"}, "cls_token"),
])
@pytest.mark.parametrize("swap", [False, True])
def test_encoders_that_differ_are_refused(small, random_weights, refused, change, named, swap):
    pair = [random_weights(small), random_weights(small.replace(**change))]
    with refused("encoders differ", named):
        copy_encoder(*(pair[::-1] if swap else pair))
