"""Which patches a training step sees: in each framework what numpy says, and none is missing in an evaluation."""
import importlib

import numpy as np
import pytest

from vit.backend import load_script
from vit.model import dropout, oracle, parameters
from vit.model.config import ViTConfig
from vit.model.precision import Dtypes

CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=1, heads=2, mlp_dim=32, num_classes=10,
                   patch_dropout=0.4)
KEYS = dropout.keys(3, 1, 0, np.arange(6))
MODULES = {"torch": "torch", "tf": "tensorflow", "ms": "mindspore"}


def _run(backend, config, x, way):
    load_script(backend)
    module = importlib.import_module(f"vit.backend.dropout.{MODULES[backend]}")
    framework = getattr(module, {"torch": "torch", "tf": "tf", "ms": "ms"}[backend])
    layer = module.PatchDropout(config, Dtypes(*[getattr(framework, x.dtype.name)] * 2))
    if backend == "torch":
        return layer(module.torch.tensor(x), module.torch.tensor(KEYS)).numpy()
    if backend == "tf":
        run = layer if way == "eager" else module.tf.function(lambda *given: layer(*given), jit_compile=way == "XLA")
        return run(module.tf.constant(x), module.tf.constant(KEYS)).numpy()
    run = module.ms.jit(lambda *given: layer(*given)) if way == "graph" else layer
    return run(module.ms.Tensor(x), module.ms.Tensor(KEYS)).asnumpy()


WAYS = {"torch": ("eager", ), "tf": ("eager", "function", "XLA"), "ms": ("PyNative", )}


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize(("backend", "way"), [pytest.param(backend, way, marks=pytest.mark.backend(backend))
                                              for backend, ways in WAYS.items() for way in ways])
def test_what_is_kept_is_numpys(backend, way, class_token):
    config = CONFIG.replace(pool="mean", class_token=class_token)
    x = np.random.default_rng(0).normal(size=(6, config.tokens, 16))  # float64
    first = int(class_token)
    kept = np.take_along_axis(x[:, first:], dropout.kept_patches(KEYS, config)[:, :, None], axis=1)
    found = _run(backend, config, x, way)
    assert found.shape == (6, first + 10, 16)
    np.testing.assert_array_equal(found, np.concatenate([x[:, :first], kept], axis=1))


def test_an_evaluation_sees_all_patches(backend):
    script, weights = load_script(backend), parameters.initial(CONFIG, 1)
    model, whole = script.ViT(CONFIG, weights=weights), CONFIG.replace(patch_dropout=0.0)
    images = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)
    for keys, config in ((None, whole), (KEYS, CONFIG)):
        found = script.backend.run_stages(model, images, keys)
        wanted = oracle.forward(config, weights, images, key=keys)
        assert found[0].shape == (6, config.trained_tokens, 16)
        np.testing.assert_allclose(found[-1], wanted["logits"], rtol=1e-4, atol=1e-5)
