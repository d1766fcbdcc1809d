"""What a model looks at: the same maps in every framework, which are the numpy oracle's."""
import numpy as np
import pytest

from tests.convert.conftest import BACKENDS
from vit.data.augmentation import normalized
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model import oracle
from vit.model.config import VARIANTS
from vit.use import explain
from vit.use.explain import Explained

CONFIG = VARIANTS["tiny"].replace(num_classes=10, depth=2, patch_size=16, width=32)
KINDS = {"cls": CONFIG,
         "mean, post": CONFIG.replace(pool="mean", norm_order="post", dropout=0.1, attention_dropout=0.1),
         "no class token": CONFIG.replace(pool="mean", class_token=False, fc_norm=True, activation="gelu_tanh")}
HOW = Preprocessing((0.2, 0.3, 0.4), (0.3, 0.3, 0.3))


@pytest.fixture(scope="module", params=["cls", "mean, post", pytest.param("no class token", marks=pytest.mark.full)])
def model(request, tmp_path_factory, random_weights):
    """A file, its spec and its weights."""
    config = KINDS[request.param]
    weights = {name: value.astype(np.float32) for name, value in random_weights(config).items()}
    path = tmp_path_factory.mktemp("explain") / "weights.safetensors"
    canonical.save(path, weights, config, Usage(None, HOW))
    return path, config, weights


@pytest.fixture(scope="module")
def expected(model, digits):
    """The oracle's maps of an image; its gradients by differences."""
    _, config, weights = model
    image, attention = digits.finetune.test.images[3], []
    x = normalized(image[None], HOW.mean, HOW.std, False).astype(np.float64)
    logits = oracle.forward(config, weights, x, attention)["logits"][0]
    weights_of_blocks = np.stack(attention, axis=1)
    pixels = np.arange(0, x.size, 37)  # some of them
    step = np.zeros((len(pixels), x.size))
    step[np.arange(len(pixels)), pixels] = 1e-4
    step = step.reshape(-1, *x.shape[1:])
    up, down = (oracle.forward(config, weights, x + sign * step)["logits"][:, logits.argmax()] for sign in (1, -1))
    return {"image": image, "attention": weights_of_blocks, "pixels": pixels, "gradient": (up - down) / 2e-4,
            "x": x.astype(np.float32), "class": logits.argmax(keepdims=True)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_framework_has_the_oracles_maps(backend, model, expected):
    path, config, _ = model
    found = Explained(path, backend)
    weights = found._explainer.attention(expected["x"])
    assert weights.shape == (1, 2, config.heads, config.tokens, config.tokens)
    np.testing.assert_allclose(weights, expected["attention"], rtol=0, atol=1e-5)
    maps = {"attention": explain.of_patches(expected["attention"], config)[0],
            "rollout": explain.of_patches(explain.rollout(expected["attention"]), config)[0]}
    for method, map_ in maps.items():
        shown, probabilities = found.explain(expected["image"], method)
        assert shown.shape == (*((2, config.heads) if method == "attention" else ()), 2, 2)
        np.testing.assert_allclose(shown, map_, rtol=0, atol=1e-5)
        assert probabilities.argmax() == expected["class"][0]
    gradient = found._explainer.gradient(expected["x"], expected["class"])
    bar = 1e-5 * np.abs(gradient).max()
    np.testing.assert_allclose(gradient.reshape(-1)[expected["pixels"]], expected["gradient"], rtol=0, atol=bar)
    shown, _ = found.explain(expected["image"], "gradient")
    np.testing.assert_allclose(shown, np.abs(gradient[0]).max(axis=-1), rtol=0, atol=bar)


def test_rollout_follows_attention_by_hand():
    """Two blocks of one head and two tokens; the second token looks at the first in the first block."""
    first, second = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    found = explain.rollout(np.stack([first, second])[None, :, None])[0]
    np.testing.assert_allclose(found, [[0.75, 0.25], [0.5, 0.5]])
    several = np.stack([np.stack([first, second]), np.stack([second, second])])[None]  # two heads in the first block
    np.testing.assert_allclose(explain.rollout(several)[0].sum(axis=-1), 1)


def test_patches_are_where_they_are_in_the_image():
    """The class token looks at patch 2 alone, which is the second row's first."""
    weights = np.zeros((5, 5))
    weights[0, 3] = 1
    assert (explain.of_patches(weights, KINDS["cls"]) == [[0, 0], [1, 0]]).all()
    assert (explain.of_patches(weights, KINDS["mean, post"]) == 0).all()
    weights[2, 4] = 1
    assert (explain.of_patches(weights, KINDS["mean, post"]) == [[0, 0], [0, 0.25]]).all()


@pytest.mark.backend("torch")
def test_what_is_exported_is_refused(tmp_path, refused):
    with refused("m.onnx", "is exported (ONNX)", "name the weights"):
        Explained(tmp_path / "m.onnx")
