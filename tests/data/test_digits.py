"""The bundled handwritten digits as two sets: what they show, and that no test digit was ever trained on."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from vit.data import digits
from vit.data.digits import load, pairs, split

TOP, BOTTOM = 4, 28  # rows that a digit fills


@pytest.fixture(scope="module")
def source():
    """scikit-learn's digits as they are drawn (16 wide, 24 high), and their labels."""
    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return [cv2.resize(digit, (16, 24), interpolation=cv2.INTER_LINEAR) for digit in grey], bunch.target


def _halves(dataset, images):
    """The drawn digits of images: one list of bytes for each position in an image."""
    columns = (8, ) if dataset.name == "digits10" else (0, 16)
    return [[image[TOP:BOTTOM, left:left + 16, 0].tobytes() for image in images] for left in columns]


def _drawn(pair, part):
    return {half for dataset in (pair.pretrain, pair.finetune)
            for column in _halves(dataset, getattr(dataset, part).images) for half in column}


def test_split_is_a_partition():
    train, test = split()
    assert len(test) == 360
    assert sorted([*train, *test]) == list(range(1797))


def test_indices_of_test_images_are_in_no_training_image():
    labels = load_digits().target
    train, test = split()
    trained = {*train, *pairs(train, labels, 100, 0).flat}
    tested = {*test, *pairs(test, labels, 20, 1).flat}
    assert len(tested) == 360
    assert trained & tested == set()


def test_pixels_of_test_images_are_in_no_training_image(digits):
    trained, tested = _drawn(digits, "train"), _drawn(digits, "test")
    assert len(tested) == 360
    assert len(trained) > 1400
    assert trained & tested == set()


def test_the_pixel_check_notices_a_shared_digit(digits, source):
    drawn, _ = source
    trained = _drawn(digits, "train")
    assert drawn[split()[0][0]].tobytes() in trained
    assert drawn[split()[1][0]].tobytes() not in trained


@pytest.mark.parametrize(("name", "part", "count", "classes"), [
    ("pretrain", "train", 10_000, 100), ("pretrain", "test", 2000, 100),
    ("finetune", "train", 1437, 10), ("finetune", "test", 360, 10)])
def test_shapes_and_types(digits, name, part, count, classes):
    dataset = getattr(digits, name)
    images = getattr(dataset, part)
    assert (images.images.shape, images.images.dtype) == ((count, 32, 32, 3), np.uint8)
    assert (images.labels.shape, images.labels.dtype) == ((count, ), np.int64)
    assert len(images) == count
    assert sorted(set(images.labels)) == list(range(classes))
    assert len(dataset.classes) == classes


@pytest.mark.parametrize(("part", "each"), [("train", 100), ("test", 20)])
def test_hundred_classes_are_balanced(digits, part, each):
    assert np.bincount(getattr(digits.pretrain, part).labels).tolist() == [each] * 100


def test_class_names_are_the_numbers(digits):
    assert digits.pretrain.classes == tuple(f"{number:02d}" for number in range(100))
    assert digits.finetune.classes == tuple("0123456789")


@pytest.mark.parametrize("part", ["train", "test"])
def test_labels_are_what_the_images_show(digits, source, part):
    drawn, target = source
    shown = {half.tobytes(): digit for half, digit in zip(drawn, target, strict=True)}
    ten, hundred = digits.finetune, digits.pretrain
    single = [shown[half] for half in _halves(ten, getattr(ten, part).images)[0]]
    assert single == getattr(ten, part).labels.tolist()
    left, right = _halves(hundred, getattr(hundred, part).images)
    read = [10 * shown[a] + shown[b] for a, b in zip(left, right, strict=True)]
    assert read == getattr(hundred, part).labels.tolist()


def test_no_two_digits_look_the_same(source):
    assert len({half.tobytes() for half in source[0]}) == 1797


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_rest_of_an_image_is_black_and_channels_are_equal(digits, part):
    for dataset in (digits.pretrain, digits.finetune):
        images = getattr(dataset, part).images
        assert not images[:, :TOP].any() and not images[:, BOTTOM:].any()
        assert (images == images[..., :1]).all()
    ten = getattr(digits.finetune, part).images
    assert not ten[:, :, :8].any() and not ten[:, :, 24:].any()


def test_mean_and_deviation_are_the_images(digits):
    values = digits.pretrain.train.images / 255
    assert digits.mean == pytest.approx(values.mean(axis=(0, 1, 2)), abs=5e-5)
    assert digits.std == pytest.approx(values.std(axis=(0, 1, 2)), abs=5e-5)


def test_a_mirrored_digit_is_another(digits):
    assert digits.hflip is False


def test_the_sets_are_facts_and_not_draws(digits):
    np.random.seed(99)
    again = load()
    for dataset, other in ((digits.pretrain, again.pretrain), (digits.finetune, again.finetune)):
        assert dataset.train.images.tobytes() == other.train.images.tobytes()
        assert dataset.test.labels.tobytes() == other.test.labels.tobytes()


@pytest.mark.parametrize("where", ["the file", "a release that has it elsewhere"])
def test_they_are_scikit_learns(where, monkeypatch):
    digits._digits.cache_clear()
    if where != "the file":
        monkeypatch.setattr(Path, "is_file", lambda path: False)
    images, labels = digits._digits()
    bunch = load_digits()
    assert np.array_equal(images, bunch.images) and np.array_equal(labels, bunch.target)


def test_scikit_learn_itself_is_not_imported(run_python):
    done = run_python("-c", "import sys\nfrom vit.data import digits\ndigits.load()\n"
                            "print({'sklearn', 'scipy'} & set(sys.modules))")
    assert done.stdout == "set()\n", done.stderr
