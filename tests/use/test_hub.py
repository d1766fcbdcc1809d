"""One-line interfaces: the same classes, probabilities and features in every framework, from whatever is an image."""
import numpy as np
import pytest
from PIL import Image

from tests.convert.conftest import BACKENDS
from vit import hub
from vit.backend import load_script
from vit.data.augmentation import normalized
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model import oracle, parameters
from vit.model.config import VARIANTS, stage_names
from vit.use.classifier import probabilities

CONFIG = VARIANTS["tiny"].replace(num_classes=10, depth=2)
HOW = Preprocessing((0.2, 0.3, 0.4), (0.3, 0.3, 0.3))
CLASSES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def file(tmp_path_factory, random_weights):
    path = tmp_path_factory.mktemp("hub") / "weights.safetensors"
    weights = {name: value.astype(np.float32) for name, value in random_weights(CONFIG).items()}
    canonical.save(path, weights, CONFIG, Usage(CLASSES, HOW, {}))
    return path


@pytest.fixture(scope="module")
def stages(file, digits):
    """The oracle's stages of five images, by name."""
    weights, _ = canonical.load(file)
    return oracle.forward(CONFIG, weights, normalized(digits.finetune.test.images[:5], HOW.mean, HOW.std, False))


@pytest.mark.parametrize("backend", BACKENDS)
def test_classes_and_features_are_the_oracles(backend, file, digits, stages):
    images = digits.finetune.test.images[:5]
    classify = hub.pipeline("image_classification", file, backend, batch_size=4)
    expected = probabilities(stages["logits"])
    found = classify(images, top_k=10)
    for predictions, row in zip(found, expected, strict=True):
        assert [one["score"] for one in predictions] == sorted((one["score"] for one in predictions), reverse=True)
        values = {one["label"]: one["score"] for one in predictions}
        np.testing.assert_allclose([values[name] for name in CLASSES], row, rtol=0, atol=1e-4)
    pooled = stages[stage_names(CONFIG)[-2]]
    features = classify.features(images)
    assert (features.shape, features.dtype) == ((5, CONFIG.width), np.float32)
    np.testing.assert_allclose(features, pooled, rtol=0, atol=1e-4 * np.abs(pooled).max())


@pytest.fixture(scope="module")
def classify(file):
    return hub.pipeline("image-classification", file)


@pytest.mark.backend("torch")
def test_an_image_may_come_in_many_ways(classify, digits, tmp_path):
    array = digits.finetune.test.images[0]
    image = Image.fromarray(array)
    image.save(tmp_path / "a.png")
    one = classify(array, top_k=3)
    assert len(one) == 3 and set(one[0]) == {"label", "score"}
    for same in (image, tmp_path / "a.png", str(tmp_path / "a.png")):
        assert classify(same, top_k=3) == one
    many = classify([array, image, tmp_path / "a.png"], top_k=3)
    assert [[_rounded(each) for each in named] for named in many] == [[_rounded(each) for each in one]] * 3
    assert classify(np.stack([array] * 3), top_k=3) == many
    assert classify([]) == []
    assert classify.features(array).shape == (CONFIG.width, )
    assert classify.features([]).shape == (0, CONFIG.width)
    assert len(classify(array, top_k=99)) == 10


def _rounded(one):
    return one["label"], pytest.approx(one["score"], abs=1e-6)  # a batch of another size adds in another order


@pytest.mark.backend("torch")
def test_grey_images_are_taken_as_a_trainer_takes_them(classify, digits):
    grey = digits.finetune.test.images[:3, :, :, 0]
    colour = classify(np.repeat(grey[..., None], 3, axis=3))
    assert classify(grey) == classify(grey[..., None]) == classify(list(grey)) == colour
    assert classify(grey[0]) == classify(grey[0, ..., None]) == classify(np.repeat(grey[0, ..., None], 3, axis=2))


@pytest.mark.backend("torch")
def test_one_image_is_not_computed_as_a_whole_batch(file, digits, monkeypatch):
    classify = hub.pipeline("image_classification", file)
    sizes, run = [], classify.model._run
    monkeypatch.setattr(classify.model, "_run", lambda pixels: sizes.append(len(pixels)) or run(pixels))
    for count in (1, 3, 65):
        classify(digits.finetune.test.images[:count])
    assert sizes == [1, 3, 64, 1]


@pytest.mark.full_in("tf", "ms")
def test_a_model_is_classified_with_as_its_file_is(backend, file, digits):
    model, image = hub.from_pretrained(file, backend), digits.finetune.test.images[0]
    found = hub.pipeline("image_classification", model)
    assert (found.model.backend, found.model.classes, found.model.preprocessing) == (backend, CLASSES, HOW)
    expected = hub.pipeline("image_classification", file, backend)(image)
    assert [_rounded(one) for one in found(image)] == [_rounded(one) for one in expected]


@pytest.mark.backend("torch")
def test_a_masked_autoencoder_names_no_class(refused):
    script = load_script("torch")
    model = script.ViT(CONFIG.replace(patch_dropout=0.5, decoder_depth=1, decoder_width=16))
    with refused("masked autoencoder", "finetune"):
        hub.pipeline("image_classification", model)


@pytest.mark.backend("torch")
def test_a_model_without_a_file_says_what_is_assumed(digits):
    found = hub.pipeline("image_classification", hub.from_pretrained("tiny"))
    assert found.model.notes[0].startswith("the given model does not say how images are normalized")
    assert found(digits.finetune.test.images[0], top_k=1)[0]["label"].isdecimal()


@pytest.mark.backend("torch")
@pytest.mark.parametrize(("image", "fragment"), [
(np.zeros((32, 32, 3), np.float32), "float32 [32, 32, 3]"),
    (np.zeros((32, 32, 4), np.uint8), "uint8 [32, 32, 4]"), ([np.zeros((3, 32, 32), np.uint8)], "uint8 [3, 32, 32]"),
    (np.zeros((32, 32), np.int64), "int64 [32, 32]"), ([None], "NoneType"),
    ("nothing.png", "nothing.png: No such file")])
def test_what_is_no_image_is_one_line(classify, refused, image, fragment):
    with refused(fragment):
        classify(image)


@pytest.mark.backend("torch")
def test_bad_arguments_are_one_line(file, classify, refused, digits):
    with refused("unknown task 'translation'", "image_classification"):
        hub.pipeline("translation", file)
    with refused("batch_size", "at least 1"):
        hub.pipeline("image_classification", file, batch_size=0)
    with refused("top_k", "at least 1"):
        classify(digits.finetune.test.images[0], top_k=0)
    with refused("jax", "torch, tf, ms"):
        hub.from_pretrained(file, "jax")
    with refused("jax", "torch, tf, ms, onnx"):
        hub.pipeline("image_classification", file, "jax")
    with refused("tiny is a variant", "name a file"):
        hub.pipeline("image_classification", "tiny")
    with refused("a ViT of one of the scripts", "int"):
        hub.pipeline("image_classification", 3)
    with refused("vit_huge"):
        hub.from_pretrained("vit_huge")


@pytest.mark.backend("torch")
def test_an_exported_model_gives_no_features(tmp_path, classify, refused, monkeypatch):
    monkeypatch.setattr(classify, "model", object())
    with refused("exported", "from its weights"):
        classify.features([])


def test_a_model_of_a_file_or_a_variant(backend, file):
    script = load_script(backend)
    weights, _ = canonical.load(file)
    found = script.to_numpy(hub.from_pretrained(file, backend))
    assert parameters.sha256(found) == parameters.sha256(weights)
    model = hub.from_pretrained("tiny", backend)
    assert model.config == VARIANTS["tiny"]
    assert parameters.sha256(script.to_numpy(model)) == parameters.sha256(parameters.initial(VARIANTS["tiny"], 0))


def test_every_variant_is_listed():
    assert hub.list_models() == list(VARIANTS)


@pytest.mark.backend("torch")
def test_torch_hub_makes_them(repo, file, run_python):
    done = run_python("-c", (
        f"import torch; repo, file = {str(repo)!r}, {str(file)!r}\n"
        "model = torch.hub.load(repo, 'vit', file, source='local')\n"
        "print(model.config.depth, torch.hub.load(repo, 'tiny', source='local').config.depth)"), PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(CONFIG.depth), str(VARIANTS["tiny"].depth)]


@pytest.mark.backend("ms")
def test_mindspore_hub_makes_them(repo, file):
    import importlib.util
    spec = importlib.util.spec_from_file_location("mindspore_hub_conf", repo / "mindspore_hub_conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.create_network(str(file)).config.depth == CONFIG.depth
