"""The order of a set's samples and the seed of each, functions of (seed, epoch, pass, sample)."""
import numpy as np

# The constants of numpy's SeedSequence (O'Neill, "Developing a seed_seq alternative", 2015). Arrays of one: numpy is
# several times slower where a scalar meets an array.
_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_LEFT, _RIGHT, _SHIFT = (np.array([value], np.uint32) for value in (0xCA01F9DD, 0x4973F715, 16))
_POWERS = np.array([_INIT_A * pow(_MULT_A, i, 2**32) % 2**32 for i in range(17)], np.uint32)[:, None]
_LAST = tuple(np.array([value], np.uint32) for value in (_INIT_B, _INIT_B * _MULT_B % 2**32))
_OTHERS = [[target for target in range(4) if target != source] for source in range(4)]


def sample_order(seed: int, epoch: int, round_: int, count: int, shuffle: bool) -> np.ndarray:
    """The order of the samples in one pass over a set.

    Args:
        seed: The run's seed.
        epoch: Which epoch, from 1.
        round_: Which pass within the epoch, from 0 (an epoch of many steps passes over a small set several times).
        count: Number of samples.
        shuffle: Whether to shuffle at all (evaluation does not).

    Returns:
        int64 [count]: a permutation of 0..count-1.
    """
    return np.random.default_rng([seed, epoch, round_]).permutation(count) if shuffle else np.arange(count)


def sample_seeds(seed: int, epoch: int, rounds: np.ndarray | int, indices: np.ndarray) -> np.ndarray:
    """The seeds of some samples' augmentation: of each the first word of numpy's SeedSequence, for all at once.

    Args:
        seed: The run's seed, below 2**32, as all of these.
        epoch: Which epoch, from 1.
        rounds: Which pass within the epoch each sample is seen in, from 0; one for all, or [n].
        indices: Which samples, [n].

    Returns:
        uint32 [n].
    """
    pool = np.empty((4, len(indices)), np.uint32)
    pool[0], pool[1], pool[2], pool[3] = seed, epoch, rounds, indices
    pool = _scramble(pool, 0)
    for source, others in enumerate(_OTHERS):
        mixed = pool[others] * _LEFT - _scramble(pool[source], 4 + 3 * source, 3) * _RIGHT
        pool[others] = mixed ^ (mixed >> _SHIFT)
    word = (pool[0] ^ _LAST[0]) * _LAST[1]
    return word ^ (word >> _SHIFT)


def _scramble(words: np.ndarray, start: int, count: int = 4) -> np.ndarray:
    """SeedSequence's hash of words, [n] or [count, n], by the constants from the start-th on: uint32 [count, n]."""
    words = (words ^ _POWERS[start:start + count]) * _POWERS[start + 1:start + count + 1]
    return words ^ (words >> _SHIFT)
