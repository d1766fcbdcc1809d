"""Position embeddings: which is the class token's, and the resize against torch's."""
import numpy as np
import pytest
import torch

from tests.convert.conftest import converted
from vit import convert
from vit.convert import positions
from vit.files import canonical
from vit.model import parameters


@pytest.mark.parametrize(("count", "token", "grid", "expected"), [
    (197, True, None, (14, 14, True)), (196, True, None, (14, 14, False)), (196, False, None, (14, 14, False)),
    (65, True, None, (8, 8, True)), (64, True, None, (8, 8, False)), (2, True, None, (1, 1, True)),
    (193, True, (12, 16), (12, 16, True)), (192, True, (12, 16), (12, 16, False)),
    (192, False, (16, 12), (16, 12, False)),
])
def test_what_positions_are(count, token, grid, expected):
    assert positions.grid_of(count, token, grid) == expected


@pytest.mark.parametrize(("count", "token", "grid"), [
    (197, False, None), (195, True, None), (198, True, None), (193, True, None), (192, False, None), (0, True, None),
    (0, False, None), (196, True, (12, 16)), (193, False, (12, 16)),
])
def test_positions_that_are_no_grid_are_refused(refused, count, token, grid):
    with refused(f"{count} positions", "with a class token" if token else "without a class token"):
        positions.grid_of(count, token, grid)


@pytest.mark.parametrize("old", [(14, 14), (7, 12), (1, 1), (2, 3)])
@pytest.mark.parametrize("new", [24, 7, 14, 1])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_resize_is_torchs(old, new, dtype):
    values = np.random.default_rng(1).normal(size=(old[0] * old[1], 5)).astype(dtype)
    grid = torch.tensor(values.reshape(1, *old, 5)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    ours = positions.resize(values, old, new)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, expected[0].permute(1, 2, 0).reshape(new * new, 5).numpy(), rtol=0,
                               atol=1e-13 if dtype == "float64" else 1e-5)


def test_another_kernel_would_be_seen(monkeypatch):
    values = np.random.default_rng(1).normal(size=(196, 5))
    right = positions.resize(values, (14, 14), 24)
    cubic = positions._cubic
    monkeypatch.setattr(positions, "_cubic", lambda distance: cubic(distance, a=-0.5))
    assert np.abs(positions.resize(values, (14, 14), 24) - right).max() > 1e-2


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("size", [48, 8])
def test_the_class_token_keeps_its_position(tmp_path, small, random_weights, token, size):
    config = small.replace(image_size=32, pool="mean", class_token=token)
    before = random_weights(config)
    canonical.save(tmp_path / "w", before, config)
    after, spec, out = converted(tmp_path / "w", tmp_path, "--image_size", size)
    assert spec == config.replace(image_size=size)
    assert "resized  pos_embed" in out and f"from 4 x 4 to {size // 8} x {size // 8}" in out
    assert np.array_equal(after["pos_embed"][:, :int(token)], before["pos_embed"][:, :int(token)])
    grid = torch.tensor(before["pos_embed"][0, int(token):].reshape(1, 4, 4, 16)).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(size // 8, ) * 2, mode="bicubic", align_corners=False)
    expected = grid[0].permute(1, 2, 0).reshape(-1, 16).numpy()
    np.testing.assert_allclose(after["pos_embed"][0, int(token):], expected, rtol=0, atol=1e-12)
    assert all(np.array_equal(after[name], value) for name, value in before.items() if name != "pos_embed")


def test_the_same_size_changes_no_bit(tmp_path, small, random_weights):
    canonical.save(tmp_path / "w", random_weights(small), small)
    after, _, report = convert.read(tmp_path / "w", image_size=16)
    assert parameters.sha256(after) == parameters.sha256(random_weights(small))
    assert report.named("resized") == []


def test_a_size_that_is_no_multiple_of_the_patch_is_refused(tmp_path, small, random_weights, refused):
    canonical.save(tmp_path / "w", random_weights(small), small)
    with refused("image_size 20", "patch_size 8"):
        convert.read(tmp_path / "w", image_size=20)
