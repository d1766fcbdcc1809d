"""FastEstimator's apphub in TensorFlow: `save_weights` of the backbone or the whole model in, the same logits."""
import h5py
import numpy as np
import pytest

from tests.convert import apphub_keras
from tests.convert.conftest import BACKENDS, converted, difference, logits, random_images
from vit import convert


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apphub")
    apphub_keras.build()  # Keras counts layers: in a second model no name begins at 0
    backbone, model = apphub_keras.build()
    rng = np.random.default_rng(4)
    model.set_weights([value + rng.normal(size=value.shape) * 0.1 for value in model.get_weights()])
    backbone.save_weights(folder / "backbone.h5")
    model.save_weights(folder / "model.h5")
    return folder, model


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_theirs(original, tmp_path, backend, bars):
    folder, model = original
    values, config, _ = converted(folder / "model.h5", tmp_path, "--heads", "6")
    assert (config.norm_order, config.activation, config.block_norm_eps) == ("post", "relu", 1e-6)
    images = random_images(config)
    assert difference(logits(backend, config, values, images), model(images).numpy()) < bars["float32"]


@pytest.mark.parametrize("defect", [{"activation": "gelu"}, {"norm_order": "pre"}, {"heads": 3}])
def test_a_planted_defect_is_seen(original, defect, bars):
    folder, model = original
    values, config, _ = convert.read(folder / "model.h5", heads=6)
    images = random_images(config)
    wrong = logits("numpy", config.replace(**defect), values, images)
    assert difference(wrong, model(images).numpy()) > 10 * bars["float32"]


def test_the_backbone_gets_a_new_head(original):
    folder, _ = original
    whole, _, _ = convert.read(folder / "model.h5", heads=6)
    values, config, report = convert.read(folder / "backbone.h5", heads=6, num_classes=3)
    assert report.named("new") == ["head.weight", "head.bias"]
    assert config.num_classes == 3
    assert all(np.array_equal(values[name], value) for name, value in whole.items() if not name.startswith("head"))


def test_links_out_of_the_file_are_refused(original, tmp_path, refused):
    folder, _ = original
    (tmp_path / "m.h5").write_bytes((folder / "backbone.h5").read_bytes())
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        layer = next(layer for layer in file.attrs["layer_names"] if layer.startswith("cls_token"))
        name = file[layer].attrs["weight_names"][0]
        del file[layer][name]
        file[layer][name] = h5py.ExternalLink(folder / "backbone.h5", f"{layer}/{name}")
    with refused("not a tensor of this file"):
        convert.read(tmp_path / "m.h5", heads=6)
