"""The masks of dropout: which sites there are, that flags are a function of their key, and that they are random.

The statistical tests are at significance 1e-6 (two-sided, |z| < 4.9) with fixed seeds.
"""
import itertools
import math

import numpy as np
import pytest

from vit.data import DataPair, Dataset, Images
from vit.model import dropout
from vit.model.config import VARIANTS, ViTConfig
from vit.training import pipeline
from vit.training.recipe import Recipe

Z = 4.9
CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=3, heads=2, mlp_dim=32, dropout=0.3,
                   attention_dropout=0.1, drop_path=0.4)


def test_every_site_has_its_shape_and_rate_and_the_row_has_no_gap():
    sites = dropout.sites(CONFIG)
    block = {"attn.weights": ((2, 17, 17), 0.1), "attn.proj": ((17, 16), 0.3), "attn.path": ((1, 1), None),
             "mlp.fc1": ((17, 32), 0.3), "mlp.fc2": ((17, 16), 0.3), "mlp.path": ((1, 1), None)}
    wanted = {"tokens": ((17, 16), 0.3)}
    for i, path in enumerate((0.0, 0.2, 0.4)):
        wanted |= {f"blocks.{i}.{name}": (shape, path if rate is None else rate)
                   for name, (shape, rate) in block.items() if rate is not None or path}
    assert list(sites) == list(wanted)
    for name, (shape, rate) in wanted.items():
        assert sites[name].shape == shape
        assert sites[name].kept == pytest.approx(1 - rate, abs=2**-17)
        assert np.float32(sites[name].kept) == sites[name].kept
        assert sites[name].stop - sites[name].start == math.prod(shape)
    ends = [site.stop for site in sites.values()]
    assert [site.start for site in sites.values()] == [0, *ends[:-1]]
    assert dropout.draw(CONFIG, 1).shape == (ends[-1], )


def test_a_model_without_dropout_has_no_masks():
    assert dropout.sites(VARIANTS["tiny"]) == {}
    assert dropout.draw(VARIANTS["tiny"], 1) is None


def test_a_rate_next_to_1_keeps_something():
    assert dropout.sites(ViTConfig(dropout=0.999999))["tokens"].kept == 2**-16


def test_flags_are_a_function_of_the_key():
    row = dropout.draw(CONFIG, 1, 2, 3)
    assert row.dtype == np.uint8 and set(np.unique(row)) == {0, 1}
    np.testing.assert_array_equal(row, dropout.draw(CONFIG, 1, 2, 3))
    # So that a change of the generator, which would break old runs' repeatability, is seen.
    assert row[:24].tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0]
    for other in ((1, 2, 4), (1, 3, 3), (2, 2, 3)):
        assert (row != dropout.draw(CONFIG, *other)).mean() > 0.1


def _z(hits, trials, rate):
    return (hits - trials * rate) / math.sqrt(trials * rate * (1 - rate))


def _lag_z(kept):
    """z of the correlation between neighbours along the first axis, where independent values have none."""
    centred = (kept - kept.mean()) / kept.std()
    products = (centred[1:] * centred[:-1]).ravel()
    return products.mean() * math.sqrt(products.size)


@pytest.fixture(scope="module")
def rows():
    return np.stack([dropout.draw(CONFIG, 7, 1, 0, index) for index in range(2000)])


@pytest.mark.parametrize("name", dropout.sites(CONFIG))
def test_a_site_keeps_its_share_independently_of_neighbours_and_of_other_samples(rows, name):
    site = dropout.sites(CONFIG)[name]
    kept = rows[:, site.start:site.stop]
    assert abs(_z(kept.sum(), kept.size, site.kept)) < Z
    for axis in range(2):
        values = np.moveaxis(kept, axis, 0).astype(float)
        if len(values) > 1:
            assert abs(_lag_z(values)) < Z, f"axis {axis}"


def test_sites_of_one_sample_are_independent(rows):
    sites = list(dropout.sites(CONFIG).values())
    for one, two in itertools.pairwise(sites):
        size = min(one.stop - one.start, two.stop - two.start)
        a, b = (rows[:, site.start:site.start + size].astype(bool) for site in (one, two))
        agreement = one.kept * two.kept + (1 - one.kept) * (1 - two.kept)
        assert abs(_z((a == b).sum(), a.size, agreement)) < Z


def test_the_checks_see_a_wrong_rate_and_a_repeated_mask():
    kept = np.random.default_rng(0).random((256, 16, 16)) > 0.32
    assert abs(_z(kept.sum(), kept.size, 0.7)) > Z
    repeated = np.repeat(np.random.default_rng(0).random((128, 16, 16)) > 0.3, 2, axis=0)
    assert abs(_lag_z(repeated.astype(float))) > Z


def _batches(workers, mode="train", config=CONFIG, batch_size=4):
    images = np.zeros((10, 16, 16, 3), np.uint8)
    part = Images(images, np.arange(10))
    sets = Dataset("set", tuple("abcdefghij"), part, part)
    recipe = Recipe(batch_size=batch_size, seed=5, crop_padding=0, hflip_prob=0.0, cutout_size=0)
    line = pipeline.build(part, part, DataPair(sets, sets, (0, 0, 0), (1, 1, 1), False), recipe, True, workers,
                          config=config)
    with line(mode=mode, epoch=2) as loader:
        return [{key: value.numpy().copy() for key, value in batch.items()} for batch in loader]


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 4), (1, 4), (2, 4), (0, 3)])
def test_a_training_batch_brings_each_images_own_flags(workers, batch_size):
    seen = 0
    for batch in _batches(workers, batch_size=batch_size):
        for label, row in zip(batch["y"], batch["masks"], strict=True):
            np.testing.assert_array_equal(row, dropout.draw(CONFIG, 5, 2, 0, int(label)))
            seen += 1
    assert seen == 10


@pytest.mark.parametrize(("mode", "config"), [("eval", CONFIG), ("train", VARIANTS["tiny"])])
def test_evaluation_and_a_model_without_dropout_bring_none(mode, config):
    assert all(set(batch) == {"x", "y"} for batch in _batches(0, mode, config))
