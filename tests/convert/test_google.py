"""Google's npz, of vision_transformer and of big_vision, against a forward pass over its own names."""
import numpy as np
import pytest

from tests.convert import google
from tests.convert.conftest import BACKENDS, convert_command, converted, difference, logits, random_images
from vit import convert
from vit.files import canonical

SIZE = {"size": 32, "width": 24, "depth": 2, "heads": 4, "patch": 8, "classes": 5}
CASES = {
    "vision_transformer": (google.OLD, {"positions": 17}),
    "vision_transformer, gap": (google.OLD, {"token": False}),
    "big_vision, gap": (google.NEW, {"token": False}),
    "big_vision, tok": (google.NEW, {}),
}


def theirs(case, dtype="float64", **changes):
    names, options = CASES[case]
    return names, google.weights(names, **SIZE | options | changes, dtype=dtype)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_logits_are_theirs(tmp_path, case, dtype, bars):
    names, their_weights = theirs(case, dtype)
    np.savez(tmp_path / "g.npz", **their_weights)
    values, config, out = converted(tmp_path / "g.npz", tmp_path)
    assert (config.heads, config.activation, config.block_norm_eps) == (4, "gelu_tanh", 1e-6)
    assert ("big_vision" in out) == case.startswith("big_vision")
    images = random_images(config, dtype)
    assert difference(logits("torch", config, values, images),
                      google.forward(their_weights, names, images, 2)) < bars[dtype]


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_theirs_everywhere(tmp_path, backend, bars):
    names, their_weights = theirs("big_vision, tok")
    np.savez_compressed(tmp_path / "g.npz", **their_weights)
    values, config, out = converted(tmp_path / "g.npz", tmp_path)
    assert "no position of its own" in out
    images = random_images(config, "float64")
    assert difference(logits(backend, config, values, images),
                      google.forward(their_weights, names, images, 2)) < bars["float64"]


@pytest.mark.parametrize("defect", [{"activation": "gelu"}, {"block_norm_eps": 1e-7}, {"heads": 2}])
def test_a_planted_defect_is_seen(tmp_path, defect, bars):
    names, their_weights = theirs("vision_transformer")
    np.savez(tmp_path / "g.npz", **their_weights)
    values, config, _ = convert.read(tmp_path / "g.npz")
    images = random_images(config, "float64")
    assert difference(logits("numpy", config.replace(**defect), values, images),
                      google.forward(their_weights, names, images, 2)) > 10 * bars["float64"]


@pytest.mark.parametrize("settings", [{}, {"pool": "mean", "class_token": False}, {"patch_bias": False},
                                      {"qkv_bias": False}])
def test_what_is_written_for_them_gives_the_same_logits(tmp_path, small, random_weights, settings, bars):
    config = small.replace(activation="gelu_tanh", **settings)
    values = random_weights(config)
    canonical.save(tmp_path / "ours.safetensors", values, config)
    assert convert_command(tmp_path / "ours.safetensors", tmp_path / "g.npz", "--to", "npz")[0] == 0
    with np.load(tmp_path / "g.npz", allow_pickle=False) as file:
        their_weights = dict(file)
    shapes = google.weights(google.OLD, size=16, width=16, depth=2, heads=2, patch=8, classes=10,
                            token=config.class_token, positions=config.tokens)
    assert set(their_weights) == set(shapes)
    images = random_images(config, "float64")
    assert difference(google.forward(their_weights, google.OLD, images, 2),
                      logits("torch", config, values, images)) < bars["float64"]
    again, _, _ = converted(tmp_path / "g.npz", tmp_path)
    assert all(np.array_equal(again[name], value) for name, value in values.items())


def test_a_departure_from_their_defaults_is_said_and_kept(tmp_path, small, random_weights):
    canonical.save(tmp_path / "ours.safetensors", random_weights(small), small)
    status, out, _ = convert_command(tmp_path / "ours.safetensors", tmp_path / "g.npz", "--to", "npz")
    assert status == 0
    assert "approximate=False" in out
    _, config, _ = converted(tmp_path / "g.npz", tmp_path)
    assert config == small


@pytest.mark.parametrize(("extra", "named"), [
    ("pre_logits/kernel", "pre_logits"), ("conv_root/kernel", "ResNet"), ("MAPHead_0/probe", "attention pooling"),
])
def test_what_cannot_be_expressed_is_refused_by_name(tmp_path, refused, extra, named):
    _, their_weights = theirs("vision_transformer")
    np.savez(tmp_path / "g.npz", **their_weights, **{extra: np.zeros((3, 3))})
    with refused(named, extra):
        convert.read(tmp_path / "g.npz")


def test_the_number_of_positions_is_not_taken_for_one_with_a_token(tmp_path):
    _, their_weights = theirs("big_vision, gap", size=224, patch=16)
    assert their_weights["pos_embedding"].shape[1] == 196
    np.savez(tmp_path / "g.npz", **their_weights)
    _, config, _ = convert.read(tmp_path / "g.npz")
    assert (config.grid, config.tokens, config.class_token) == (14, 196, False)
