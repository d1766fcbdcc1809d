"""Every byte of a batch is what FastEstimator's own ops, one image at a time, make of the same sample."""
import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.training import fe_pipeline
from vit.data import DataPair, Dataset, Images
from vit.data.image_folder import FolderImages
from vit.training import pipeline
from vit.training.recipe import Recipe

CLASSES = 30
PLAIN = {"crop_padding": 0, "hflip_prob": 0.0, "cutout_size": 0}
POLICY = {"augment": "autoaugment_cifar", "cutout_size": 0}
SCALED = {"crop_padding": 0, "crop_scale_min": 0.08}
MIXED = {"label_smoothing": 0.1, "mixup": 1.0, "cutmix": 1.0, "mixup_prob": 0.5}

RECIPES = {
    "apphub": {},
    "nothing": PLAIN,
    "wide border": PLAIN | {"crop_padding": 50},
    "flips": PLAIN | {"hflip_prob": 0.3},
    "every image flipped": {"hflip_prob": 1.0},
    "cutout": PLAIN | {"cutout_size": 8},
    "cutout of all": PLAIN | {"cutout_size": 32},
    "cutout of one pixel, erasing": {"cutout_size": 1, "random_erasing_prob": 1.0},
    "crops and erasing": {"random_erasing_prob": 0.4, "hflip_prob": 0.0},
    "scaled crops": SCALED,
    "small scaled crops": SCALED | {"crop_scale_min": 0.01, "crop_scale_max": 0.02, "cutout_size": 3},
    "scaled crops and a policy": SCALED | {"augment": "autoaugment_imagenet"} | MIXED,
    "randaugment": {"augment": "randaugment", "randaugment_std": 0.5},
    "much randaugment": PLAIN | {"augment": "randaugment", "randaugment_number": 6, "randaugment_magnitude": 4.2},
    "autoaugment": POLICY,
    "autoaugment of imagenet": {"augment": "autoaugment_imagenet", "normalize": "imagenet"},
    "small_data": POLICY | MIXED | {"random_erasing_prob": 0.25},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 0.6, "normalize": "half"},
    "cutmix of all that is done": MIXED | {"random_erasing_prob": 1.0, "mixup": 0.0, "mixup_prob": 1.0},
    "smoothing": {"label_smoothing": 0.1},
}


def _images(count, seed, size=32):
    small = np.random.default_rng(seed).integers(0, 256, (count, 7, 7, 3), np.uint8)
    images = np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC))
                       for one in small])
    return Images(images, np.arange(count, dtype=np.int64) % CLASSES)


TRAIN, TEST = _images(40, 1), _images(11, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of several sizes in files."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    paths = []
    for i, shape in enumerate([(40, 60), (31, 32), (32, 32), (90, 20), (20, 90), (1, 1), (64, 64), (33, 50)] * 3):
        paths.append(root / f"{i}.png")
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        small.resize(shape[::-1], Image.Resampling.BICUBIC).save(paths[-1])
    return FolderImages(tuple(paths), np.arange(len(paths)) % CLASSES)


def _batches(module, mode="train", epoch=2, steps=None, train=TRAIN, size=32, first=True, dtype="float32", skip=0,
             workers=0, **recipe):
    """Every batch of an epoch, as arrays."""
    recipe = Recipe(**{"batch_size": 16, "seed": 5, "variant": "tiny"} | recipe)
    sets = Dataset("set", ("a", ), train, TEST)
    config = dataclasses.replace(recipe.model(CLASSES, size), dropout=0.0, attention_dropout=0.0, drop_path=0.0)
    line = module.build(train, TEST, DataPair(sets, sets, (0.1, 0.2, 0.3), (0.5, 0.25, 0.4), True), recipe, first,
                        workers, dtype, config)
    line.skip(epoch, skip)
    with line(mode=mode, epoch=epoch, steps_per_epoch=steps) as loader:
        return [{key: value.numpy() for key, value in batch.items()} for batch in loader]


def _hold(**options):
    wanted, found = _batches(fe_pipeline, **options), _batches(pipeline, **options)
    assert len(found) == len(wanted) > 0
    for left, right in zip(found, wanted, strict=True):
        assert set(left) == set(right) == {"x", "y"}
        for key in left:
            assert (left[key].shape, left[key].dtype) == (right[key].shape, right[key].dtype)
            assert left[key].tobytes() == right[key].tobytes(), key


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("first", [True, False])
def test_training(name, first):
    _hold(first=first, steps=6, **RECIPES[name])  # 96 samples, so some passes over the set


@pytest.mark.parametrize("name", ["apphub", "small_data", "scaled crops and a policy", "cutmix of all that is done"])
def test_other_seeds_epochs_and_types(name):
    for seed, epoch in ((0, 1), (2**32 - 1, 3), (7, 1000)):
        _hold(seed=seed, epoch=epoch, dtype="float64", batch_size=7, **RECIPES[name])


@pytest.mark.parametrize("options", [{}, {"first": False}, {"size": 16}, {"size": 48}, {"dtype": "float64"},
                                     {"steps": 1}, {"normalize": "half"}])
def test_evaluation(options):
    _hold(mode="eval", batch_size=4, **options)


@pytest.mark.parametrize("name", ["apphub", "small_data", "nothing", "scaled crops"])
@pytest.mark.parametrize("size", [16, 48])
def test_images_of_another_size_than_the_models(name, size):
    _hold(size=size, **RECIPES[name])


@pytest.mark.parametrize("name", RECIPES)
def test_images_in_files_of_several_sizes(folder, name):
    for size in (16, 40):
        _hold(train=folder, size=size, **RECIPES[name] | {"cutout_size": min(RECIPES[name].get("cutout_size", 8), 16)})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [{"steps": 9, "skip": 4}, {"skip": 2}, {"steps": 2},
                                     {"steps": 3, "batch_size": 100}])
def test_parts_of_epochs(options, workers):
    _hold(workers=workers, **options, **RECIPES["small_data"])


@pytest.mark.parametrize(("size", "mean", "std"), [(31, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
                                                   (33, (0.0, 1.0, 0.333), (1e-3, 3.0, 0.1))])
def test_normalization_of_every_byte(size, mean, std):
    images = np.arange(6 * size * size * 3, dtype=np.int64).reshape(6, size, size, 3)
    part = Images((images * 7919 >> 3).astype(np.uint8), np.arange(6))
    sets = Dataset("set", ("a", ), part, part)
    for first in (True, False):
        found = []
        for module in (fe_pipeline, pipeline):
            line = module.build(part, part, DataPair(sets, sets, mean, std, True), Recipe(batch_size=6), first)
            with line(mode="eval", epoch=1) as loader:
                found.append(next(iter(loader))["x"].numpy())
        assert found[0].tobytes() == found[1].tobytes()
