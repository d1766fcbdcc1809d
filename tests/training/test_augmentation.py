"""Augmentation beyond the apphub's: functions of (seed, epoch, pass, sample), with soft labels that add up to 1."""
import functools

import numpy as np
import pytest
from PIL import Image

from vit.data import DataPair, Dataset, Images, image_operations, mixing, policies, resizing
from vit.training import pipeline
from vit.training.recipe import Recipe

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.4)
CLASSES = 30
PLAIN = {"crop_padding": 0, "hflip_prob": 0.0, "cutout_size": 0, "variant": "tiny"}
WHOLE = {"label_smoothing": 0.1, "mixup": 0.8, "cutmix": 1.0, "mixup_prob": 0.7, "augment": "randaugment",
         "random_erasing_prob": 0.5, "crop_padding": 0, "crop_scale_min": 0.3, "randaugment_std": 0.5, "cutout_size": 4,
         "variant": "tiny"}


def _images(count, seed):
    """Smooth random images whose label is their index: noise would look the same after most of the operations."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), np.uint8)
    images = np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in small])
    return Images(images, np.arange(count, dtype=np.int64) % CLASSES)


TRAIN, TEST = _images(24, 1), _images(6, 2)


def _batches(mode="train", epoch=1, steps=None, workers=0, first=False, dtype="float32", size=32, train=TRAIN,
             **recipe):
    """Every batch of an epoch as arrays."""
    sets = Dataset("set", ("a", ), train, TEST)
    recipe = Recipe(**{"batch_size": 5, "seed": 5, **recipe})
    line = pipeline.build(train, TEST, DataPair(sets, sets, MEAN, STD, True), recipe, first, workers, dtype,
                          recipe.model(CLASSES, size))
    with line(mode=mode, epoch=epoch, steps_per_epoch=steps) as loader:
        return [{key: value.numpy().copy() for key, value in batch.items()} for batch in loader]


def _bytes(batches):
    return [{key: (value.shape, value.dtype, value.tobytes()) for key, value in batch.items()} for batch in batches]


def _join(batches, key="x"):
    return np.concatenate([batch[key] for batch in batches])


def _normalized(images):
    return (images / 255 - MEAN) / STD


# The rule of the house: a function of (seed, epoch, pass, sample), whatever prepares it.

RECIPES = {
    "whole": WHOLE,
    "cifar policy": PLAIN | {"augment": "autoaugment_cifar", "crop_padding": 4, "hflip_prob": 0.5},
    "imagenet policy": PLAIN | {"augment": "autoaugment_imagenet", "label_smoothing": 0.2},
    "mixup": PLAIN | {"mixup": 0.2},
    "cutmix": PLAIN | {"cutmix": 1.0, "drop_path": 0.1},
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_workers_change_no_byte(name, workers):
    wanted = _bytes(_batches(epoch=2, steps=7, **RECIPES[name]))
    assert _bytes(_batches(epoch=2, steps=7, workers=workers, **RECIPES[name])) == wanted
    assert len({entry["x"] for entry in wanted}) == 7


@pytest.mark.parametrize("name", RECIPES)
def test_layouts_and_types_are_the_same_numbers(name):
    last, first = _batches(**RECIPES[name]), _batches(first=True, **RECIPES[name])
    assert _join(last).transpose(0, 3, 1, 2).tobytes() == _join(first).tobytes()
    wide = _batches(dtype="float64", **RECIPES[name])
    for key in ("x", "y"):
        assert _join(wide, key).astype(_join(last, key).dtype).tobytes() == _join(last, key).tobytes()
    assert _join(wide)[0].dtype == np.float64


def test_a_sample_depends_on_neither_its_batch_nor_what_others_draw():
    wanted = _join(_batches(**WHOLE))
    np.random.seed(9)
    assert _join(_batches(batch_size=7, **WHOLE)).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("change", [{"epoch": 2}, {"seed": 6}])
def test_another_epoch_or_seed_mixes_and_crops_otherwise(change):
    assert _join(_batches(**WHOLE)).tobytes() != _join(_batches(**WHOLE, **change)).tobytes()


def test_a_second_pass_is_another_one():
    batches = _batches(steps=10, **PLAIN, augment="randaugment", batch_size=24)
    order = [np.argsort(batch["y"]) for batch in batches[:2]]
    assert (batches[0]["x"][order[0]] != batches[1]["x"][order[1]]).any()


def test_evaluation_is_never_augmented():
    batches = _batches("eval", **WHOLE)
    np.testing.assert_allclose(_join(batches), _normalized(TEST.images), atol=1e-5)
    assert (_join(batches, "y").tolist(), batches[0]["y"].dtype, set(batches[0])) == (
        TEST.labels.tolist(), np.int64, {"x", "y"})


def test_source_images_stay_as_they_are():
    before = TRAIN.images.tobytes()
    _batches(**WHOLE)
    assert TRAIN.images.tobytes() == before


# Soft labels.

def test_hard_labels_stay_classes():
    [batch, *_] = _batches(**PLAIN)
    assert (batch["y"].dtype, batch["y"].shape) == (np.int64, (5, ))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_soft_labels_are_shares_of_every_class(dtype):
    for batch in _batches(dtype=dtype, **WHOLE):
        assert (batch["y"].dtype, batch["y"].shape[1:]) == (np.dtype(dtype), (CLASSES, ))
        assert set(batch) == {"x", "y"}


@pytest.mark.parametrize("name", ["whole", "mixup", "cutmix", "imagenet policy"])
def test_labels_add_up_to_exactly_one_in_any_order_and_are_float32(name):
    """Else TensorFlow's gradient of the cross entropy is another one, and FastEstimator's torch loss rounds them."""
    labels = _join(_batches(dtype="float64", steps=40, **RECIPES[name]), "y")
    assert (labels.astype(np.float32) == labels).all()
    assert (labels >= 0).all()
    for order in (labels, labels[:, ::-1], np.sort(labels)):
        assert (functools.reduce(np.add, order.astype(np.float32).T) == 1).all()


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1 / 3])
def test_smoothing_takes_from_the_class_and_gives_to_all(classes, smoothing):
    [label] = mixing.soft_labels(np.array([1]), classes, smoothing)
    wanted = np.full(classes, smoothing / classes)
    wanted[1] += 1 - smoothing
    np.testing.assert_allclose(label, wanted, rtol=0, atol=classes * 2**-24)
    assert (label.dtype, label.sum(dtype=np.float64)) == (np.float32, 1.0)


# Mixing.

def _mixed(count=400, **alphas):
    rng = np.random.RandomState(0)
    x, partners = np.zeros((count, 8, 8, 3), np.float32), np.ones((count, 8, 8, 3), np.float32)
    y, others = (mixing.soft_labels(np.full(count, label), 4, 0) for label in (0, 1))
    mixes = [mixing.draw_mix(8, alphas.get("mixup", 0), alphas.get("cutmix", 0), rng) for _ in range(count)]
    mixing.mix(x, y, list(range(count)), partners, others, mixes)
    return list(zip(x, y, strict=True))


def test_only_the_images_in_their_places_are_mixed():
    x, y = np.zeros((3, 8, 8, 3), np.float32), mixing.soft_labels(np.zeros(3, int), 4, 0)
    partner, other = np.ones((1, 8, 8, 3), np.float32), mixing.soft_labels(np.array([1]), 4, 0)
    mixing.mix(x, y, [1], partner, other, [mixing.Mix(0.25)])
    assert x.mean(axis=(1, 2, 3)).tolist() == [0, 0.75, 0]
    assert y[:, :2].tolist() == [[1, 0], [0.25, 0.75], [1, 0]]


def test_mixup_blends_images_and_labels_alike():
    shares = []
    for x, y in _mixed(mixup=0.4):
        assert np.ptp(x) < 1e-6 and x.dtype == np.float32
        assert x[0, 0, 0] == pytest.approx(y[1], abs=1e-6)
        shares.append(y[1])
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.02)  # of Beta(alpha, alpha)


def test_cutmix_pastes_a_box_and_counts_its_pixels():
    corners = set()
    for x, y in _mixed(cutmix=1.0):
        inside = x.all(axis=-1)
        assert (x.any(axis=-1) == inside).all() and set(np.unique(x)) <= {0.0, 1.0}
        assert y[1] == inside.mean()
        if inside.any():
            rows, columns = np.nonzero(inside.any(axis=1))[0], np.nonzero(inside.any(axis=0))[0]
            assert inside.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            corners.add((rows[0], columns[0]))
    assert len(corners) > 30


@pytest.mark.parametrize("alpha", [1e-320, 1e-9])
def test_a_tiny_alpha_takes_one_image_or_the_other(alpha):
    for field in ("mixup", "cutmix"):
        labels = [y for _, y in _mixed(**{field: alpha})]
        assert all(np.isfinite(y).all() for y in labels)
        assert {y[1] for y in labels} >= {0.0, 1.0}


def test_with_both_a_coin_decides():
    blended = sum(0 < x[0, 0, 0] < 1 for x, _ in _mixed(mixup=1.0, cutmix=1.0))
    assert 150 < blended < 250


def test_mixing_happens_at_its_rate_with_partners_from_the_whole_set():
    labels = _join(_batches(steps=80, batch_size=10, **PLAIN, mixup=1.0, mixup_prob=0.25), "y")
    mixed = (labels > 0).sum(axis=1) == 2
    assert 0.17 < mixed.mean() < 0.31  # one in 24 has itself as its partner
    pairs = {tuple(np.flatnonzero(label)) for label in labels[mixed]}
    assert len(pairs) > 100 and {index for pair in pairs for index in pair} == set(range(len(TRAIN)))


def test_the_pipeline_mixes_what_the_labels_say():
    """Without augmentation, each image is the labels' blend of two images of the set."""
    sources = _normalized(TRAIN.images)
    for batch in _batches(**PLAIN, mixup=1.0):
        wanted = np.einsum("bc,chwk->bhwk", batch["y"][:, :len(sources)], sources)
        np.testing.assert_allclose(batch["x"], wanted, atol=1e-5)


def test_partners_are_augmented_as_well():
    """With every image flipped, so are both of a blend."""
    sources = _normalized(TRAIN.images)[:, :, ::-1]
    for batch in _batches(**PLAIN | {"hflip_prob": 1.0}, mixup=1.0):
        wanted = np.einsum("bc,chwk->bhwk", batch["y"][:, :len(sources)], sources)
        np.testing.assert_allclose(batch["x"], wanted, atol=1e-5)


# Erasing.

def test_erasing_fills_one_rectangle_of_the_published_size_with_noise():
    areas, aspects, values = [], [], []
    rng = np.random.RandomState(1)
    for _ in range(500):
        kept, x = images = np.full((2, 40, 60, 3), 7, np.float32)
        mixing.erase(images, {1: mixing.draw_erasure(40, 60, 3, rng)})
        assert (kept == 7).all()
        changed = (x != 7).any(axis=-1)
        rows, columns = np.ptp(np.nonzero(changed.any(axis=1))[0]) + 1, np.ptp(np.nonzero(changed.any(axis=0))[0]) + 1
        assert changed.sum() == rows * columns and x.dtype == np.float32
        areas.append(changed.mean())
        aspects.append(rows / columns)
        values.append(x[changed])
    assert 0.015 < min(areas) < 0.03 and 0.3 < max(areas) < 0.35
    assert 0.25 < min(aspects) < 0.4 and 2.5 < max(aspects) < 4
    values = np.concatenate(values)
    assert (abs(values.mean()), values.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))


def test_an_image_too_small_to_erase_in_stays():
    assert mixing.draw_erasure(1, 1, 3, np.random.RandomState(0)) is None


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.25, 0.18, 0.33), (1.0, 1, 1)])
def test_erasing_happens_at_its_rate(rate, low, high):
    batches = _batches(steps=40, batch_size=12, **PLAIN, random_erasing_prob=rate)
    same = [np.allclose(x, _normalized(TRAIN.images[y]), atol=1e-4)
            for batch in batches for x, y in zip(batch["x"], batch["y"], strict=True)]
    assert low <= 1 - np.mean(same) <= high


# Policies.

PALE = (TRAIN.images // 2 + 60).astype(np.uint8)  # so that there is contrast to gain
SOURCE = Image.fromarray(PALE[0])
NAMES = sorted({name for table in policies.AUTOAUGMENT.values() for row in table for name, *_ in row}
               | set(policies.RANDAUGMENT))


def _apply(image, name, strength):
    return Image.fromarray(image_operations.apply(np.asarray(image), [(name, strength)]))


@pytest.mark.parametrize("name", NAMES)
def test_operations_do_nothing_at_strength_0_and_more_at_others(name):
    def change(strength):
        return np.abs(np.asarray(_apply(SOURCE, name, strength), float) - np.asarray(SOURCE)).mean()

    if name in ("AutoContrast", "Equalize", "Invert"):
        assert change(0) == change(1) > 1
    elif name == "Identity":
        assert change(1) == 0
    else:
        assert 0 == change(0) < change(0.5) != change(1) > 0.3
        if name in image_operations.SIGNED:
            minus, plus = (np.asarray(_apply(SOURCE, name, strength)) for strength in (-1, 1))
            assert (minus != plus).any()


@pytest.mark.parametrize(("name", "strength", "wanted"), [
    ("TranslateX", 1, (1, 0, 150 / 331 * 32, 0, 1, 0)), ("TranslateY", -0.5, (1, 0, 0, 0, 1, -75 / 331 * 32)),
    ("ShearX", 1, (1, 0.3, 0, 0, 1, 0)), ("ShearY", -1, (1, 0, 0, -0.3, 1, 0))])
def test_moves_are_the_published_matrices(name, strength, wanted):
    moved = SOURCE.transform((32, 32), Image.Transform.AFFINE, wanted, Image.Resampling.BILINEAR, fillcolor=(128, ) * 3)
    assert _apply(SOURCE, name, strength) == moved


def test_strong_ends_of_the_ranges():
    grey = Image.new("RGB", (4, 4), (100, 150, 200))
    assert _apply(grey, "Posterize", 1).getpixel((0, 0)) == (96, 144, 192)  # four bits
    assert _apply(grey, "Solarize", 1).getpixel((0, 0)) == (155, 105, 55)  # all of it
    assert _apply(grey, "Solarize", 0) == grey
    assert _apply(grey, "Brightness", -1).getpixel((0, 0)) == (10, 15, 20)
    assert _apply(grey, "Brightness", 0.5).getpixel((0, 0)) == (145, 217, 255)
    assert _apply(grey, "Invert", 0).getpixel((0, 0)) == (155, 105, 55)


def test_no_operation_of_that_name():
    with pytest.raises(ValueError, match="Blur"):
        _apply(SOURCE, "Blur", 1)


@pytest.mark.parametrize("policy", policies.AUTOAUGMENT)
def test_tables_are_whole(policy):
    table = policies.AUTOAUGMENT[policy]
    assert len(table) == 25
    for row in table:
        assert len(row) == 2
        for name, probability, level in row:
            assert 0 <= probability <= 1 and level in range(10)
            _apply(SOURCE, name, level / 9)


class _Draws:
    """A generator whose draws are given."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def randint(self, _):
        return self.draws.pop(0)

    random_sample = normal = lambda self, *_: self.draws.pop(0)


def test_autoaugment_follows_its_table():
    """Row 1 of CIFAR's: Rotate with 0.7 at level 2, TranslateX with 0.3 at level 9; signs by a coin each."""
    image = PALE[0]

    def seen(*draws):
        operations = policies.autoaugment("autoaugment_cifar", _Draws(1, *draws))
        return Image.fromarray(image_operations.apply(image, operations))

    assert seen(0.71, 0.31) == SOURCE
    assert seen(0.69, 0.5, 0.31) == _apply(SOURCE, "Rotate", 2 / 9)
    assert seen(0.69, 0.49, 0.31) == _apply(SOURCE, "Rotate", -2 / 9)
    assert seen(0.69, 0.5, 0.29, 0.4) == _apply(_apply(SOURCE, "Rotate", 2 / 9), "TranslateX", -1)


def test_randaugment_draws_each_operation_and_its_strength():
    image, order = PALE[0], policies.RANDAUGMENT.index

    def seen(*draws):
        return Image.fromarray(image_operations.apply(image, policies.randaugment(2, 9, 0.5, _Draws(*draws))))

    assert seen(order("Identity"), 9, order("Solarize"), 8.0) == _apply(SOURCE, "Solarize", 0.8)
    wanted = _apply(_apply(SOURCE, "Rotate", -1.0), "Posterize", 0.0)
    assert seen(order("Rotate"), 11.5, 0.1, order("Posterize"), -3.0) == wanted  # strengths end at the range's


# Sizes.

def test_random_crops_take_the_share_of_the_area_that_they_should():
    """In an image whose colour tells the position, a crop's extent can be read off."""
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    image = np.stack([np.broadcast_to(ramp[:, None], (32, 32)), np.broadcast_to(ramp, (32, 32)),
                      np.zeros((32, 32), np.uint8)], axis=-1)
    train = Images(np.stack([image] * 40), np.arange(40) % CLASSES)
    crops = _batches(train=train, steps=20, batch_size=20, **PLAIN, crop_scale_min=0.25, crop_scale_max=0.5)
    x = _join(crops) * STD + MEAN
    extent = [np.ptp(x[..., channel].mean(axis=axis), axis=1) * 32 / (1 - 1 / 32) for channel, axis in ((0, 2), (1, 1))]
    area, aspect = extent[0] * extent[1] / 32**2, extent[1] / extent[0]
    assert 0.18 < area.min() < 0.32 and 0.4 < area.max() < 0.56
    assert 0.6 < aspect.min() < 0.85 and 1.2 < aspect.max() < 1.6


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("size", [16, 48])
def test_images_are_resized_to_the_models_size(mode, size):
    sources = TRAIN if mode == "train" else TEST
    batches = _batches(mode, size=size, **PLAIN)
    assert _join(batches).shape[1:] == (size, size, 3)
    for image, label in zip(_join(batches), _join(batches, "y"), strict=True):
        source = Image.fromarray(sources.images[label]).resize((size, size), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(image, _normalized(np.asarray(source)), atol=1e-5)


def test_evaluation_of_imagenet_is_the_shorter_side_to_256_and_the_middle_224():
    image = np.asarray(Image.fromarray(TRAIN.images[0]).resize((600, 400), Image.Resampling.BICUBIC))
    wanted = Image.fromarray(image).resize((384, 256), Image.Resampling.BICUBIC).crop((80, 16, 304, 240))
    difference = np.abs(resizing.center_crop(image, 224, 0.875).astype(float) - np.asarray(wanted))
    assert difference.mean() < 0.6 and difference.max() < 12


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_the_smallest_images_have_a_middle(shape):
    image = np.full((*shape, 3), 9, np.uint8)
    assert (resizing.center_crop(image, 16, 0.875) == np.full((16, 16, 3), 9)).all()


@pytest.mark.parametrize(("normalize", "mean", "std"), [
    ("data", MEAN, STD), ("half", (0.5, ) * 3, (0.5, ) * 3),
    ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
def test_what_is_taken_off(normalize, mean, std):
    x = _join(_batches("eval", **PLAIN, normalize=normalize))
    np.testing.assert_allclose(x, (TEST.images / 255 - mean) / std, atol=1e-5)


# The loss.

@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.backend(name)) for name in ("torch", "tf")])
def test_fastestimators_loss_takes_soft_labels(backend):
    """The mean of -sum(y log softmax), and its gradient, in float64."""
    from fe_compat import load_fastestimator
    load_fastestimator()
    from fastestimator.op.tensorop.loss import CrossEntropy
    labels = _join(_batches(dtype="float64", **WHOLE), "y")
    logits = np.random.default_rng(0).normal(size=labels.shape)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True)
    if backend == "torch":
        import torch
        z = torch.tensor(logits, requires_grad=True)
        value = loss.forward([z, torch.tensor(labels)], {})
        value.backward()
        gradient = z.grad.numpy()
    else:
        import tensorflow as tf
        with tf.GradientTape() as tape:
            z = tf.constant(logits)
            tape.watch(z)
            value = loss.forward([z, tf.constant(labels)], {})
        gradient = tape.gradient(value, z).numpy()
    value = value.detach().numpy() if backend == "torch" else value.numpy()
    assert value == pytest.approx(-(labels * log_p).sum(axis=1).mean(), rel=1e-13)
    np.testing.assert_allclose(gradient, (np.exp(log_p) - labels) / len(labels), rtol=0, atol=1e-16)
