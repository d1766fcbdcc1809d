"""The order of the samples and the seed of each."""
import numpy as np
import pytest

from vit.data.seeds import sample_order, sample_seeds


def test_order_is_a_permutation_or_none():
    assert sorted(sample_order(5, 2, 0, 50, shuffle=True)) == list(range(50))
    assert sample_order(5, 2, 0, 50, shuffle=False).tolist() == list(range(50))


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (7, 3), (2**32 - 1, 100), (123456789, 2**31)])
def test_a_samples_seed_is_that_of_numpys_seed_sequence(seed, epoch):
    rng = np.random.default_rng(0)
    rounds, indices = rng.integers(0, 5, 60), rng.integers(0, 2**32, 60)
    wanted = [int(np.random.SeedSequence([seed, epoch, round_, index]).generate_state(1)[0])
              for round_, index in zip(rounds.tolist(), indices.tolist(), strict=True)]
    found = sample_seeds(seed, epoch, rounds, indices)
    assert (found.dtype, found.tolist()) == (np.uint32, wanted)
    assert sample_seeds(seed, epoch, 0, indices[:1]) == sample_seeds(seed, epoch, rounds * 0, indices)[0]


def test_sample_seeds_do_not_repeat():
    seeds = {seed for key in np.ndindex(3, 4, 2) for seed in sample_seeds(*key, np.arange(100)).tolist()}
    assert len(seeds) == 3 * 4 * 2 * 100
