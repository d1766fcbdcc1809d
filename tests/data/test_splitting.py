"""The part of the training images that is set apart: by class, a function of the seed, and nothing is in both parts."""
import numpy as np
import pytest

from vit.data import load, splitting
from vit.data.sets import IMAGENET, DataPair, Dataset, Images


def _pair(counts, test=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = labels[np.random.default_rng(1).permutation(len(labels))]
    numbers = np.arange(len(labels))
    images = np.stack([numbers & 255, numbers >> 8, numbers * 0], axis=1).astype(np.uint8).reshape(-1, 1, 1, 3)
    classes = tuple("abcdefgh"[:len(counts)])
    dataset = Dataset("some", classes, Images(images, labels), Images(images[:test], labels[:test]))
    return DataPair(None, dataset, *IMAGENET, hflip=True)


def _numbers(images):
    return images.images[:, 0, 0, 0].astype(int) + 256 * images.images[:, 0, 0, 1]


@pytest.mark.parametrize(("counts", "fraction", "wanted"), [
    ([100, 50, 10], 0.1, [10, 5, 1]), ([100, 50, 10], 0.25, [25, 13, 3]), ([3, 2, 1], 0.1, [1, 1, 0]),
    ([3, 2, 1], 0.9, [2, 1, 0]), ([200, 200], 0.001, [1, 1])])
def test_each_class_gives_its_share(counts, fraction, wanted):
    dataset = splitting.apart(_pair(counts), fraction, 0).finetune
    assert np.bincount(dataset.val.labels, minlength=len(counts)).tolist() == wanted
    numbers = np.concatenate([_numbers(dataset.train), _numbers(dataset.val)])
    assert sorted(numbers) == list(range(sum(counts)))
    assert (np.diff(_numbers(dataset.train)) > 0).all() and (np.diff(_numbers(dataset.val)) > 0).all()
    assert dataset.evaluation is dataset.val and dataset.evaluated_on == "validation"


def test_it_is_a_function_of_the_seed():
    first, again, other = (_numbers(splitting.apart(_pair([100, 50]), 0.2, seed).finetune.val) for seed in (3, 3, 4))
    assert (first == again).all() and len(set(first) & set(other)) < 15
    assert first[:8].tolist() == [1, 2, 23, 32, 35, 40, 46, 49]  # what a run was stopped with must not change


def test_a_class_that_grows_moves_no_other_class():
    few, more = (splitting.apart(_pair([40, count]), 0.5, 0).finetune for count in (10, 20))
    place = {count: np.flatnonzero(_pair([40, count]).finetune.train.labels == 0) for count in (10, 20)}
    found = [np.searchsorted(place[count], _numbers(one.val)[one.val.labels == 0])
             for count, one in ((10, few), (20, more))]
    assert (found[0] == found[1]).all()


def test_without_a_fraction_nothing_changes():
    pair = _pair([4, 4], test=2)
    assert splitting.apart(pair, 0.0, 0).finetune is pair.finetune
    assert pair.finetune.evaluation is pair.finetune.test and pair.finetune.evaluated_on == "test"


def test_both_sets_are_parted_and_the_test_images_stay(digits):
    found = splitting.apart(load("digits"), 0.1, 0)
    for name in ("pretrain", "finetune"):
        was, now = getattr(digits, name), getattr(found, name)
        assert len(now.train) + len(now.val) == len(was.train) and now.test is not now.val
        assert (now.test.images == was.test.images).all()
    assert len(found.pretrain.val) == 1000


def test_nothing_to_evaluate_on_is_refused(refused):
    with refused("some", "no images to evaluate on", "--val_fraction 0.1"):
        splitting.apart(_pair([4, 4]), 0.0, 0)
    with refused("val_fraction 0.5", "no class has two"):
        splitting.apart(_pair([1, 1]), 0.5, 0)


def test_a_class_of_one_image_is_said(capsys):
    splitting.apart(_pair([4, 1]), 0.5, 0)
    assert "val_fraction 0.5: no image of b" in capsys.readouterr().out
