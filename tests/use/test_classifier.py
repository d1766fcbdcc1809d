"""A file's model, ready to use: the same logits in every framework, and what becomes of an image before it."""
import numpy as np
import pytest
from PIL import Image

from tests.convert.conftest import BACKENDS
from vit.data.augmentation import normalized
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model import oracle, parameters
from vit.model.config import VARIANTS
from vit.use.classifier import Classifier, probabilities

CONFIG = VARIANTS["tiny"].replace(num_classes=10)
HOW = Preprocessing((0.2, 0.3, 0.4), (0.3, 0.3, 0.3))


@pytest.fixture(scope="module")
def file(tmp_path_factory, random_weights):
    path = tmp_path_factory.mktemp("use") / "weights.safetensors"
    weights = {name: value.astype(np.float32) for name, value in random_weights(CONFIG).items()}
    canonical.save(path, weights, CONFIG, Usage(tuple("abcdefghij"), HOW, {"data": "digits10"}))
    return path


@pytest.mark.parametrize("name", BACKENDS)
def test_every_framework_computes_the_oracles_logits(name, file, digits):
    model = Classifier(file, name, batch_size=4)
    pixels = digits.finetune.test.images[:10]  # two batches, and half of one
    found = model.logits(pixels)
    weights, _ = canonical.load(file)
    expected = oracle.forward(CONFIG, weights, normalized(pixels, HOW.mean, HOW.std, False))["logits"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert model.logits(pixels[:0]).shape == (0, 10)


@pytest.mark.backend("torch")
def test_the_file_says_how_it_is_used(file):
    model = Classifier(file)
    assert (model.classes, model.preprocessing, model.notes) == (tuple("abcdefghij"), HOW, [])
    assert model.provenance == {"data": "digits10"}


@pytest.mark.backend("torch")
def test_what_a_file_does_not_say_is_noted(tmp_path):
    canonical.save(tmp_path / "w", parameters.initial(CONFIG, 0), CONFIG)
    model = Classifier(tmp_path / "w")
    assert model.classes == tuple("0123456789") and model.numbered
    assert ["normalized" in note for note in model.notes] == [True, False]


@pytest.mark.backend("torch")
@pytest.mark.parametrize(("crop_pct", "interpolation", "box"), [
    (1.0, "bicubic", (10, 0, 50, 40)), (0.5, "bilinear", (20, 10, 40, 30)), (None, "bilinear", (0, 0, 60, 40))])
def test_an_image_of_any_size_becomes_what_the_model_sees(file, monkeypatch, crop_pct, interpolation, box):
    model = Classifier(file)
    monkeypatch.setattr(model, "preprocessing", Preprocessing(HOW.mean, HOW.std, crop_pct, interpolation))
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    expected = Image.fromarray(image).resize((32, 32), Image.Resampling[interpolation.upper()], box)
    assert (model.pixels(image) == np.asarray(expected)).all()
    fitting = image[:32, :32]
    assert (model.pixels(fitting) == fitting).all() == (crop_pct in (None, 1.0))


@pytest.mark.backend("torch")
def test_a_file_without_a_head_names_no_class(tmp_path, refused):
    import torch
    weights = {name: torch.from_numpy(value) for name, value in parameters.initial(CONFIG, 0).items()
               if not name.startswith("head.")}
    torch.save(weights, tmp_path / "w.pt")
    with refused("w.pt", "no head", "finetune it first"):
        Classifier(tmp_path / "w.pt")


def test_an_unknown_framework_is_refused(file, refused):
    with refused("jax", "torch, tf, ms"):
        Classifier(file, "jax")


def test_probabilities_of_large_logits_are_finite():
    found = probabilities(np.array([[1000.0, 1000.0, -1000.0]], np.float32))
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.0]])
