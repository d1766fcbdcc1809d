"""What dropout drops: which sites there are, the rates that are kept, keys, and the batches that bring them.

That it is random, tests/model/test_dropout_quality.py shows.
"""
import itertools

import numpy as np
import pytest

from vit.data import DataPair, Dataset, Images
from vit.model import dropout
from vit.model.config import VARIANTS, ViTConfig
from vit.training import pipeline
from vit.training.recipe import Recipe

CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=3, heads=2, mlp_dim=32, dropout=0.3,
                   attention_dropout=0.1, drop_path=0.4)
RATES = (1e-9, 0.0005, 0.001, 0.0019, 0.002, 0.01, 0.02, 0.039, 0.05, 0.1, 0.2, 0.5, 0.9, 0.998, 0.999999)


def test_every_site_has_its_shape_and_rate_and_words_of_its_own():
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
        assert sites[name].kept == pytest.approx(1 - rate, abs=0.002)
        assert sites[name].words * sites[name].lanes - sites[name].size in range(sites[name].lanes)
    assert next(iter(sites.values())).start == 0
    for one, two in itertools.pairwise(sites.values()):
        assert two.start == one.start + one.words


def test_a_model_without_dropout_has_no_sites():
    assert dropout.sites(VARIANTS["tiny"]) == {}


@pytest.mark.parametrize("rate", [*RATES, *np.random.default_rng(0).random(50)])
def test_a_rate_is_kept_to_0_002_and_never_to_nothing_or_everything(rate):
    site = dropout.site_at(0, (4,), rate)
    dropped = 1 - site.kept
    assert abs(dropped - rate) <= 0.002
    assert 0 < site.kept < 1
    if 2**-15 < rate < 1 - 2**-15:
        assert abs(dropped - rate) <= 0.05 * rate
    assert np.float32(site.kept) == site.kept
    assert site.bits == 8 or rate < 0.04 or rate > 0.99
    assert -2**(site.bits - 1) <= site.threshold < 2**(site.bits - 1), "a signed value of so many bits"


def test_keys_are_a_function_of_seed_epoch_pass_and_sample():
    keys = dropout.keys(1, 2, 0, np.arange(5))
    assert keys.dtype == np.int32 and keys.shape == (5, 2)
    np.testing.assert_array_equal(keys[[3]], dropout.keys(1, 2, 0, 3))
    # So that a change of the function, which would break old runs' repeatability, is seen.
    assert keys[:2].tolist() == [[200268492, 439407731], [-1292896229, 712914369]]
    several = [dropout.keys(*key, np.arange(1000)) for key in ((1, 2, 0), (1, 2, 1), (1, 3, 0), (2, 2, 0), (2, 1, 0))]
    assert len(np.unique(np.concatenate(several).view(np.int64))) == 5000


def test_what_is_kept_is_a_function_of_the_key():
    site = dropout.sites(CONFIG)["tokens"]
    kept = dropout.keep(dropout.keys(1, 2, 0, np.arange(3)), site)
    assert kept.dtype == bool and kept.shape == (3, 17, 16)
    np.testing.assert_array_equal(kept[1:2], dropout.keep(dropout.keys(1, 2, 0, 1), site))
    assert "".join(map(str, kept[0, :2].ravel().astype(int))) == "11110111011101011011100110111101"
    for one, two in itertools.pairwise(kept):
        assert (one != two).mean() > 0.3


def _in_python(key, site):
    """One sample's flags, in plain integers, one by one."""
    a, b = (int(half) % 2**32 for half in key)
    found = []
    for element in range(site.size):
        h = site.start + element // site.lanes
        h ^= h >> 16
        h = h * 0x7FEB352D % 2**32
        h ^= h >> 15
        h = h * 0x846CA68B % 2**32
        h = (h ^ h >> 16 ^ a) * 0x7FEB352D % 2**32
        h = ((h ^ h >> 15) + b) * 0x846CA68B % 2**32
        h ^= h >> 16
        value = h >> site.bits * (element % site.lanes) & 2**site.bits - 1
        found.append(((value + 2**(site.bits - 1)) % 2**site.bits) < site.level)
    return np.reshape(found, site.shape)


@pytest.mark.parametrize("site", [dropout.site_at(0, (17, 16), 0.3), dropout.site_at(2**31 - 3, (7, 5), 0.1),
                                  dropout.site_at(2**32 - 40, (3, 7), 0.001), dropout.site_at(5, (1, 1), 0.4)])
def test_numpy_has_the_bits_of_plain_integers(site):
    keys = np.array([[0, 0], [-1, -1], [2**31 - 1, -2**31], [-2**31, 1], *dropout.keys(3, 1, 0, [1, 2])], np.int32)
    np.testing.assert_array_equal(dropout.keep(keys, site), [_in_python(key, site) for key in keys])


def _batches(workers, mode="train", config=CONFIG, batch_size=4, steps=None):
    images = np.zeros((10, 16, 16, 3), np.uint8)
    part = Images(images, np.arange(10))
    sets = Dataset("set", tuple("abcdefghij"), part, part)
    recipe = Recipe(batch_size=batch_size, seed=5, crop_padding=0, hflip_prob=0.0, cutout_size=0)
    line = pipeline.build(part, part, DataPair(sets, sets, (0, 0, 0), (1, 1, 1), False), recipe, True, workers,
                          config=config)
    with line(mode=mode, epoch=2, steps_per_epoch=steps) as loader:
        return [{key: value.numpy().copy() for key, value in batch.items()} for batch in loader]


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 4), (1, 4), (2, 4), (0, 3)])
def test_a_training_batch_brings_each_images_own_key(workers, batch_size):
    batches = _batches(workers, batch_size=batch_size)
    for batch in batches:
        assert batch["key"].dtype == np.int32
        np.testing.assert_array_equal(batch["key"], dropout.keys(5, 2, 0, batch["y"]))
    assert sum(len(batch["key"]) for batch in batches) == 10


def test_a_batch_of_two_passes_has_the_keys_of_both():
    batches = _batches(0, steps=5)
    rounds = np.arange(20) // 10  # the third batch has two images of the first pass and two of the second
    keys, labels = (np.concatenate([batch[name] for batch in batches]) for name in ("key", "y"))
    for key, label, round_ in zip(keys, labels, rounds, strict=True):
        np.testing.assert_array_equal(key, dropout.keys(5, 2, int(round_), label)[0])


@pytest.mark.parametrize(("mode", "config"), [("eval", CONFIG), ("train", VARIANTS["tiny"])])
def test_evaluation_and_a_model_without_dropout_bring_none(mode, config):
    assert all(set(batch) == {"x", "y"} for batch in _batches(0, mode, config))


# Patches.

PATCHES = CONFIG.replace(patch_dropout=0.4)


def test_a_models_patches_come_first_and_its_other_sites_are_of_what_is_left():
    sites = dropout.sites(PATCHES)
    assert next(iter(sites)) == "patches"
    assert (sites["patches"].start, sites["patches"].words, sites["tokens"].start) == (0, 16, 16)
    assert sites["tokens"].shape == (11, 16) and sites["blocks.0.attn.weights"].shape == (2, 11, 11)
    assert sites["patches"].kept == pytest.approx(10 / 16)
    assert list(dropout.sites(VARIANTS["tiny"].replace(patch_dropout=0.5))) == ["patches"]
    assert dropout.sites(VARIANTS["tiny"].replace(patch_dropout=0.01)) == {}, "not one of sixteen patches"


@pytest.mark.parametrize("config", [PATCHES, VARIANTS["vit_b_16_384"].replace(patch_dropout=0.5),
                                    VARIANTS["apphub"].replace(patch_dropout=0.99)])
def test_kept_patches_are_as_many_of_each_sample_and_none_twice(config):
    keys = dropout.keys(1, 2, 0, np.arange(200))
    kept = dropout.kept_patches(keys, config)
    assert kept.dtype == np.int32 and kept.shape == (200, config.trained_patches)
    assert kept.min() >= 0 and kept.max() < config.patches
    assert all(len(set(row)) == len(row) for row in kept.tolist())
    np.testing.assert_array_equal(kept[3:4], dropout.kept_patches(keys[3:4], config))


def test_every_patch_is_kept_as_often():
    """At |z| < 5.5: 64 patches, and whether two neighbours are kept together, of 20,000 samples."""
    config = VARIANTS["apphub"].replace(patch_dropout=0.5)
    kept = np.zeros((20_000, 64), bool)
    np.put_along_axis(kept, dropout.kept_patches(dropout.keys(3, 1, 0, np.arange(20_000)), config), True, axis=1)
    assert (kept.sum(axis=1) == 32).all()
    both, share = kept[:, 1:] & kept[:, :-1], 32 * 31 / (64 * 63)
    assert np.abs(kept.sum(axis=0) - 10_000).max() < 5.5 * np.sqrt(20_000 / 4)
    assert np.abs(both.sum(axis=0) - 20_000 * share).max() < 5.5 * np.sqrt(20_000 * share * (1 - share))
