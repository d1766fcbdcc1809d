"""Muon's update in numpy: held to the singular value decomposition, which it comes near without one."""
import numpy as np
import pytest

from vit.model import muon

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(48, 48), (80, 24), (24, 80), (1, 5)])
@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_singular_values_become_alike_and_singular_vectors_stay(shape, size):
    d = size * RNG.normal(size=shape)
    found = muon.direction(d) / (muon.RMS * max(shape)**0.5)
    u, s, vt = np.linalg.svd(d, full_matrices=False)
    inside = u.T @ found @ vt.T
    np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-9)
    large = s / np.linalg.norm(s) > 0.003
    assert large.sum() >= len(s) - 1 and (np.diag(inside)[large] > 0.68).all() and (np.diag(inside) < 1.21).all()
    np.testing.assert_allclose(u @ inside @ vt, found, atol=1e-9)


def test_entries_are_as_large_as_adamws():
    assert np.sqrt(np.square(muon.direction(RNG.normal(size=(96, 64)))).mean()) == pytest.approx(0.2, rel=0.15)


def test_the_matrices_of_a_weight_are_orthogonalized_apart():
    parts = [RNG.normal(size=(24, 24)), 1e-3 * RNG.normal(size=(24, 24)), RNG.normal(size=(24, 24))]
    together = np.concatenate(parts)
    np.testing.assert_array_equal(muon.direction(together, 3), np.concatenate([muon.direction(d) for d in parts]))
    assert np.abs(muon.direction(together)[24:48]).max() < 0.1 * np.abs(muon.direction(together, 3)[24:48]).max()


def test_zeros_stay_zeros():
    assert not muon.direction(np.zeros((4, 3))).any()
