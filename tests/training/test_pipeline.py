"""The pipeline's batches: functions of (seed, epoch, sample), the same bytes for any number of workers."""
import random

import numpy as np
import pytest

from vit.data import DataPair, Dataset, Images
from vit.data.share import Share
from vit.model.config import ViTConfig
from vit.training import pipeline
from vit.training.recipe import Recipe

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.4)
COUNT = 22
PLAIN = {"crop_padding": 0, "hflip_prob": 0.0, "cutout_size": 0}


def _images(count, seed):
    """Random images whose label is their index, so that a batch says which samples it holds."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return Images(images, np.arange(count, dtype=np.int64))


TRAIN, TEST = _images(COUNT, 1), _images(9, 2)


def _batches(mode="train", epoch=1, steps=None, workers=0, channels_first=True, hflip=True, train=TRAIN, line=None,
             **recipe):
    """Every batch of an epoch as arrays, from a fresh pipeline unless one is given."""
    line = line or _line(workers, channels_first, hflip, train, **recipe)
    with line(mode=mode, epoch=epoch, steps_per_epoch=steps) as loader:
        return [{key: value.numpy().copy() for key, value in batch.items()} for batch in loader]


def _line(workers=0, channels_first=True, hflip=True, train=TRAIN, **recipe):
    sets = Dataset("set", ("a", ), train, TEST)
    pair = DataPair(sets, sets, MEAN, STD, hflip)
    return pipeline.build(train, TEST, pair, Recipe(**{"batch_size": 4, "seed": 5} | recipe), channels_first, workers)


def _bytes(batches):
    return [(batch["x"].shape, batch["x"].tobytes(), batch["y"].tobytes()) for batch in batches]


def _join(batches, key):
    return np.concatenate([batch[key] for batch in batches])


def _normalized(images):
    return (images / 255 - MEAN) / STD


# Functions of (seed, epoch, sample).

@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("mode", "epoch", "steps"), [("train", 1, None), ("train", 3, None), ("train", 2, 13),
                                                      ("eval", 1, None)])
def test_workers_change_no_byte(mode, epoch, steps, workers):
    assert _bytes(_batches(mode, epoch, steps, workers)) == _bytes(_batches(mode, epoch, steps))


@pytest.mark.parametrize("change", [{"epoch": 2}, {"seed": 6}])
def test_another_epoch_or_seed_has_another_order_and_other_images(change):
    first, other = _batches(), _batches(**change)
    assert _join(first, "y").tolist() != _join(other, "y").tolist()
    by_sample = [dict(zip(_join(b, "y").tolist(), _join(b, "x"), strict=True)) for b in (first, other)]
    assert all((by_sample[0][i] != by_sample[1][i]).any() for i in range(COUNT))


@pytest.mark.parametrize("workers", [0, 2])
def test_epoch_three_needs_no_epochs_before_it(workers):
    line = _line(workers)
    for epoch in (1, 2):
        _batches(epoch=epoch, line=line)
        _batches("eval", epoch=epoch, line=line)
    assert _bytes(_batches(epoch=3, line=line)) == _bytes(_batches(epoch=3))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_was_left_early_leaves_no_trace(workers):
    line = _line(workers)
    with line(mode="train", epoch=1) as loader:
        next(iter(loader))
    assert _bytes(_batches(epoch=2, line=line)) == _bytes(_batches(epoch=2))
    assert _bytes(_batches(epoch=1, line=line)) == _bytes(_batches(epoch=1))


def test_what_others_draw_changes_nothing():
    first = _bytes(_batches())
    np.random.seed(1)
    random.seed(2)
    assert _bytes(_batches()) == first


def test_a_sample_does_not_depend_on_its_batch():
    assert _join(_batches(), "x").tobytes() == _join(_batches(batch_size=7), "x").tobytes()


def test_every_sample_comes_once_in_a_pass():
    for epoch in (1, 2, 3):
        batches = _batches(epoch=epoch)
        assert sorted(_join(batches, "y")) == list(range(COUNT))
        assert [len(batch["y"]) for batch in batches] == [4, 4, 4, 4, 4, 2]


def test_a_long_epoch_passes_again_in_another_order_with_other_images():
    batches = _batches(steps=11)
    y, x = _join(batches, "y"), _join(batches, "x")
    assert [len(batch["y"]) for batch in batches] == [4] * 11
    first, second = y[:COUNT].tolist(), y[COUNT:].tolist()
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second
    assert all((x[first.index(i)] != x[COUNT + second.index(i)]).any() for i in range(COUNT))
    assert x[:20].tobytes() == _join(_batches(), "x")[:20].tobytes()


def test_a_short_epoch_is_the_beginning_of_a_whole_one():
    assert _bytes(_batches(steps=2)) == _bytes(_batches())[:2]


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize(("mode", "steps"), [("train", None), ("train", 11), ("eval", None)])
def test_shares_are_parts_of_the_batches(mode, steps, size):
    mixed = {"mixup": 0.4, "label_smoothing": 0.1}
    config = ViTConfig(image_size=32, patch_size=8, width=16, depth=1, heads=2, mlp_dim=16, num_classes=COUNT,
                       dropout=0.1)
    sets = Dataset("set", ("a", ), TRAIN, TEST)
    recipe = Recipe(batch_size=4, seed=5, **mixed)
    lines = [pipeline.build(TRAIN, TEST, DataPair(sets, sets, MEAN, STD, True), recipe, True, config=config,
                            share=Share(rank, of)) for rank, of in ((0, 1), *((rank, size) for rank in range(size)))]
    whole, *shares = (_batches(mode, 2, steps, line=line) for line in lines)
    for batch, *parts in zip(whole, *shares, strict=True):
        count = len(batch["y"])
        assert {len(part["y"]) for part in parts} == {-(-count // size)} and "weight" not in batch
        for key, value in batch.items():
            joined = np.concatenate([part[key] for part in parts])
            assert joined[:count].tobytes() == value.tobytes(), key
            assert all((padding == joined[count - 1]).all() for padding in joined[count:])
        weights = np.concatenate([part["weight"] for part in parts])
        assert (weights[:count] == np.float32(1 / count)).all() and not weights[count:].any()


# What is in a batch.

def test_evaluation_is_in_order_and_not_augmented():
    for epoch in (1, 2):
        batches = _batches("eval", epoch, channels_first=False)
        assert _join(batches, "y").tolist() == list(range(9))
        np.testing.assert_allclose(_join(batches, "x"), _normalized(TEST.images), atol=1e-5)


def test_types_and_shapes():
    first, last = _batches()[0], _batches(channels_first=False)[0]
    assert (first["x"].shape, first["x"].dtype, first["y"].shape, first["y"].dtype) == (
        (4, 3, 32, 32), np.float32, (4, ), np.int64)
    assert last["x"].shape == (4, 32, 32, 3)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_channels_first_is_the_transpose_of_channels_last(mode):
    first, last = _batches(mode), _batches(mode, channels_first=False)
    assert [batch["y"].tolist() for batch in first] == [batch["y"].tolist() for batch in last]
    for left, right in zip(first, last, strict=True):
        assert left["x"].tobytes() == right["x"].transpose(0, 3, 1, 2).tobytes()


def test_source_images_stay_as_they_are():
    before = TRAIN.images.tobytes()
    _batches()
    assert TRAIN.images.tobytes() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_an_op_of_ones_own_gets_whole_batches(workers):
    from fastestimator.op.numpyop import LambdaOp
    line, shapes = _line(workers), []
    line.ops.append(LambdaOp(lambda x: shapes.append(x.shape) or 2 * x, inputs="x", outputs="x", mode="train"))
    for own, plain in zip(_batches(line=line), _batches(), strict=True):
        np.testing.assert_array_equal(own["x"], 2 * plain["x"])
    assert workers or shapes == [(4, 3, 32, 32)] * 5 + [(2, 3, 32, 32)]


# Augmentation, one op at a time.

MANY = _images(240, 3)


def _augmented(hflip=True, train=MANY, **recipe):
    """Each source image, normalized, beside what training saw of it."""
    batches = _batches(train=train, hflip=hflip, channels_first=False, batch_size=60, **PLAIN | recipe)
    y = _join(batches, "y")
    return list(zip(_normalized(train.images[y]), _join(batches, "x"), strict=True))


def _same(left, right):
    return np.allclose(left, right, atol=1e-4)


def test_without_ops_training_sees_the_images_themselves():
    assert all(_same(source, seen) for source, seen in _augmented())


def test_crops_are_windows_of_the_image_with_a_reflected_border():
    offsets = []
    for source, seen in _augmented(crop_padding=4):
        padded = np.pad(source, ((4, 4), (4, 4), (0, 0)), mode="reflect")
        found = [(r, c) for r in range(9) for c in range(9) if _same(padded[r:r + 32, c:c + 32], seen)]
        assert len(found) == 1
        offsets += found
    rows, columns = (np.bincount(values, minlength=9) for values in zip(*offsets, strict=True))
    assert (rows > 5).all() and (columns > 5).all()
    assert len(set(offsets)) > 50


def test_images_are_flipped_about_half_the_time():
    kept = [_same(source, seen) for source, seen in _augmented(hflip_prob=0.5)]
    flipped = [_same(source[:, ::-1], seen) for source, seen in _augmented(hflip_prob=0.5)]
    assert all(k != f for k, f in zip(kept, flipped, strict=True))
    assert 90 < sum(flipped) < 150


def test_every_image_is_flipped_at_rate_one():
    assert all(_same(source[:, ::-1], seen) for source, seen in _augmented(hflip_prob=1.0))


def test_images_that_must_not_be_flipped_never_are():
    assert all(_same(source, seen) for source, seen in _augmented(hflip=False, hflip_prob=1.0))


def test_each_image_has_one_square_hole():
    corners = set()
    for source, seen in _augmented(cutout_size=8, train=Images(np.full((60, 32, 32, 3), 200, np.uint8), np.arange(60))):
        blank = (seen == 0).all(axis=-1)
        assert np.array_equal(blank, (seen == 0).any(axis=-1))
        rows, columns = np.nonzero(blank.any(axis=1))[0], np.nonzero(blank.any(axis=0))[0]
        assert blank.sum() == 64
        assert (np.ptp(rows), np.ptp(columns)) == (7, 7)
        assert _same(seen[~blank], source[~blank])
        corners.add((rows[0], columns[0]))
    assert len(corners) > 40
