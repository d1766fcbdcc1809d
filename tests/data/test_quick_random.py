"""The quick generator draws numpy's numbers."""
import numpy as np
import pytest

from vit.data.quick_random import QuickRandomState


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1])
def test_it_draws_what_a_random_state_draws(seed):
    known, quick = np.random.RandomState(seed), QuickRandomState()
    quick.normal()  # leaves a second number behind, which a seed must forget
    quick.seed(seed)
    for count in (25, 50_000, 1, 7, 32, 2, 64, 65, 2**32, 2**31 + 1, 1, 3) * 20:
        assert quick.randint(count) == known.randint(count)
        assert quick.normal(9, 0.5) == known.normal(9, 0.5)
        assert quick.random_sample() == known.uniform()
        assert quick.beta(0.2, 0.2) == known.beta(0.2, 0.2)
