"""That what dropout drops is random: rates, bytes, neighbours, samples, sites, epochs, and what a single bit changes.

Every statistic is a z: normal, with a deviation of 1, where values are independent and have their rates. At fixed seeds
each of them is below Z: significance 1e-6 over all 150 together (two-sided, Bonferroni). Defects that are planted into
the hash are over it. Smaller ones (a multiplication less, an index that is not mixed) only batteries see, on gigabytes:
docs/dropout.md.
"""
import math

import numpy as np
import pytest
from scipy import stats

from vit.model import dropout
from vit.model.config import VARIANTS

Z = 5.81
SITES = dropout.sites(VARIANTS["apphub"])
WEIGHTS = SITES["blocks.2.attn.weights"]
RATES = (0.0005, 0.001, 0.002, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 0.999)


def _keys(count, seed=7, epoch=1, pass_=0):
    return dropout.keys(seed, epoch, pass_, np.arange(count))


def _words(count, site, **key):
    return dropout.words(_keys(count, **key), dropout.mixed_index(site))


def _chi2(counts):
    """z of the counts of cells that are equally likely."""
    expected = counts.sum() / counts.size
    assert expected > 10
    return _normal(((counts - expected)**2 / expected).sum(), counts.size - 1)


def _normal(chi2, freedom):
    """z of a chi-squared (Wilson & Hilferty 1931)."""
    return ((chi2 / freedom)**(1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))


def _alike(a, b, kept):
    """z of the correlation between pairs of flags."""
    return ((a - kept) * (b - kept)).sum(dtype=float) / (math.sqrt(a.size) * kept * (1 - kept))


def _rows_alike(rows, kept):
    """z of the greatest correlation, of the mean one and of the spread, between every two rows of flags [n, m]."""
    centred = (rows.reshape(len(rows), -1) - np.float32(kept)) / np.float32(math.sqrt(kept * (1 - kept)))
    z = (centred @ centred.T / math.sqrt(centred.shape[1]))[np.triu_indices(len(rows), 1)]
    greatest = stats.norm.isf(min(1, 2 * z.size * stats.norm.sf(np.abs(z).max())) / 2)
    return {"greatest": greatest, "mean": z.mean() * math.sqrt(z.size), "spread": _normal((z**2).sum(), z.size)}


def rates():
    """How much each site, and a site of each of some rates, keeps."""
    many = [(name, site, 64 if site.size > 1 else 4096) for name, site in SITES.items()]
    many += [(f"rate {rate}", dropout.site_at(0, (50_000,), rate), 20) for rate in RATES]
    for name, site, count in many:
        kept = dropout.keep(_keys(count), site)
        yield name, (kept.sum() - kept.size * site.kept) / math.sqrt(kept.size * site.kept * (1 - site.kept))


def bytes_():
    """The 256 values of each byte; and its pairs with its neighbours, in 65,536 cells."""
    one = _words(160, WEIGHTS)
    quads = one.view(np.uint8).reshape(*one.shape, 4)  # samples, words, lanes
    later = _words(160, WEIGHTS, epoch=2).view(np.uint8).reshape(quads.shape)
    for lane in range(4):
        yield f"byte {lane}", _chi2(np.bincount(quads[..., lane].ravel(), minlength=256))
        after = quads[:, 1:, 0] if lane == 3 else quads[:, :-1, lane + 1]
        for what, a, b in [("next byte", quads[:, :-1, lane], after),
                           ("next word", quads[:, :-1, lane], quads[:, 1:, lane]),
                           ("next sample", quads[:-1, :, lane], quads[1:, :, lane]),
                           ("next epoch", quads[..., lane], later[..., lane])]:
            pairs = a.astype(np.uint16) * np.uint16(256) + b
            yield f"byte {lane} and {what}", _chi2(np.bincount(pairs.ravel(), minlength=2**16))


def neighbours():
    """Flags some elements apart, in the next row and head, and on the other side of the diagonal."""
    kept = dropout.keep(_keys(24), WEIGHTS)
    flat = kept.reshape(len(kept), -1).astype(np.float32)
    for lag in (*range(1, 33), 63, 64, 65, 66, 127, 128, 130, 256, 1024, 4096, 4225):
        yield f"lag {lag}", _alike(flat[:, :-lag], flat[:, lag:], WEIGHTS.kept)
    upper = (slice(None), slice(None), *np.triu_indices(kept.shape[-1], 1))
    yield "transposed", _alike(kept[upper].astype(np.float32), kept.swapaxes(2, 3)[upper], WEIGHTS.kept)


def pairs():
    """Every two of some samples, sites, epochs, seeds and passes."""
    half = dropout.site_at(WEIGHTS.start, (8000,), 0.5)
    many = {
        "samples": _keys(256),
        "samples far apart": dropout.keys(7, 1, 0, np.arange(256) * 2**20),
        "epochs": np.concatenate([_keys(1, epoch=epoch) for epoch in range(1, 41)]),
        "seeds": np.concatenate([_keys(1, seed=seed) for seed in range(40)]),
        "passes": np.concatenate([_keys(1, pass_=pass_) for pass_ in range(8)]),
    }
    for name, keys in many.items():
        yield from ((f"{name}: {what}", z) for what, z in _rows_alike(dropout.keep(keys, half), half.kept).items())
    size = min(site.size for site in SITES.values())
    sites = np.stack([dropout.keep(_keys(2), site).reshape(2, -1)[:, :size].ravel() for site in SITES.values()])
    yield from ((f"sites: {what}", z) for what, z in _rows_alike(sites, WEIGHTS.kept).items())


def avalanche():
    """A bit of the word's index, of the sample's number, of epoch, pass or seed changes half of a word's bits."""
    def changed(a, b):
        count = int(np.unpackbits((a ^ b).view(np.uint8)).sum())
        return (count - 16 * a.size) / math.sqrt(8 * a.size)

    index, site = np.arange(0, 4000), dropout.site_at(0, (2**20 * 4,), 0.5)
    mixed = dropout.mixed_index(site)
    few = dropout.site_at(0, (400,), 0.5)
    for bit in range(20):
        words = dropout.words(_keys(20), np.stack([mixed[index], mixed[index ^ 1 << bit]]).reshape(-1))
        yield f"index bit {bit}", changed(*np.split(words, 2, axis=1))
    for bit in range(20):
        a, b = (dropout.words(dropout.keys(7, 1, 0, number), dropout.mixed_index(few))
                for number in (np.arange(800), np.arange(800) ^ 1 << bit))
        yield f"sample bit {bit}", changed(a, b)
    for name in ("epoch", "pass_", "seed"):
        yield name, changed(_words(800, few), _words(800, few, **{name: 4}))


GROUPS = (rates, bytes_, neighbours, pairs, avalanche)


@pytest.mark.parametrize("group", GROUPS)
def test_it_is_random(group):
    found = dict(group())
    over = {name: z for name, z in found.items() if not abs(z) < Z}
    assert not over
    assert np.std(list(found.values())) > 0.3, "a z that is always 0 would see nothing"


def test_so_many_statistics_the_significance_is_for():
    assert sum(len(dict(group())) for group in (rates, neighbours, pairs, avalanche)) + 4 * 5 <= 170


def _hash(key, index, *, first=dropout.FIRST, second=dropout.SECOND, shifts=(15, 16)):
    """`vit.model.dropout.words` with other constants."""
    a, b = np.split(key.view(np.uint32), 2, axis=1)
    h = (index ^ a) * np.uint32(first)
    h = ((h ^ h >> shifts[0]) + b) * np.uint32(second)
    return h ^ h >> shifts[1]


DEFECTS = {
    "hardly a xorshift": (bytes_, "words", lambda key, index: _hash(key, index, shifts=(31, 31))),
    "no multiplication": (bytes_, "words", lambda key, index: _hash(key, index, first=1, second=1)),
    "sites alike": (pairs, "mixed_index", lambda site, whole=dropout.mixed_index: whole(site._replace(start=0))),
    "epochs alike": (pairs, "keys", lambda seed, epoch, pass_, index, keys=dropout.keys: keys(seed, 1, pass_, index)),
    "seeds alike": (pairs, "keys", lambda seed, epoch, pass_, index, keys=dropout.keys: keys(1, epoch, pass_, index)),
    "two samples alike": (pairs, "keys", lambda seed, epoch, pass_, index, keys=dropout.keys: keys(
        seed, epoch, pass_, np.atleast_1d(index) // 2)),
    "keys that are not mixed": (pairs, "keys", lambda seed, epoch, pass_, index: np.stack(np.broadcast_arrays(
        np.uint32(seed + epoch + pass_), np.atleast_1d(index)), axis=1).astype(np.int32)),
    "a rate off by one level": (rates, "keep", lambda key, site, keep=dropout.keep: keep(
        key, site._replace(level=site.level - 1))),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_seen(defect, monkeypatch):
    group, name, planted = DEFECTS[defect]
    monkeypatch.setattr(dropout, name, planted)
    if name == "mixed_index":
        monkeypatch.setattr(dropout, "_held_index", planted)
    assert any(not abs(z) < Z for _, z in group())


def test_keys_of_many_epochs_have_no_pair():
    """Of 32 bits they would have some 120."""
    keys = np.concatenate([dropout.keys(0, epoch, 0, np.arange(50_000)) for epoch in range(1, 21)])
    assert len(np.unique(keys.view(np.int64))) == len(keys)
    halves = [len(keys) - len(np.unique(half)) for half in keys.T]
    expected = len(keys)**2 / 2**33
    assert all(abs(pairs - expected) < Z * math.sqrt(expected) for pairs in halves), halves


def test_the_statistics_have_a_deviation_of_one():
    """Over all groups but the sums of many: neither much less (which would hide) nor more (which would cry)."""
    values = [z for group in (neighbours, avalanche) for _, z in group()]
    assert 0.75 < np.sqrt(np.mean(np.square(values))) < 1.3


def test_the_statistics_are_green_on_another_generator_and_red_on_a_repeated_mask():
    rng = np.random.default_rng(0)
    found = [*_rows_alike(rng.random((64, 4000)) < 0.9, 0.9).values(),
             _chi2(np.bincount(rng.integers(0, 256, 10**6), minlength=256))]
    assert all(abs(z) < Z for z in found)
    repeated = np.repeat(rng.random((32, 4000)) < 0.9, 2, axis=0)
    assert not all(abs(z) < Z for z in _rows_alike(repeated, 0.9).values())
