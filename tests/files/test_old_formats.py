"""Weights files of older formats are read as they were written."""
import numpy as np

from tests.fixtures import COMMIT_7D1C055
from vit import convert
from vit.files import canonical
from vit.model import oracle, parameters
from vit.model.config import ViTConfig

WRITTEN = ViTConfig(image_size=32, patch_size=8, width=16, depth=2, heads=2, mlp_dim=24, num_classes=10, dropout=0.1)


def test_weights_of_7d1c055_are_read():
    weights, config = canonical.load(COMMIT_7D1C055 / "small.safetensors")
    assert config == WRITTEN
    assert parameters.sha256(weights) == parameters.sha256(parameters.perturbed(WRITTEN, 3))


def test_the_model_of_7d1c055_computes_what_it_computed():
    """A field that the spec has got since then must change nothing; the numbers are of that commit's oracle."""
    weights, config = canonical.load(COMMIT_7D1C055 / "small.safetensors")
    images = np.random.default_rng(5).normal(size=(2, 32, 32, 3))
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    logits = oracle.forward(config, weights, images)["logits"]
    np.testing.assert_allclose(logits[:, :3], [[0.3017205, -0.42398988, -0.48445288],
                                               [0.58014411, -0.77852341, -0.36307536]], rtol=0, atol=1e-8)


def test_weights_of_7d1c055_are_converted():
    weights, config, report = convert.read(COMMIT_7D1C055 / "small.safetensors")
    assert config == WRITTEN and "with this project's manifest" in report.summary()
    assert parameters.sha256(weights) == parameters.sha256(parameters.perturbed(WRITTEN, 3))


def test_a_changed_bit_in_weights_of_7d1c055_is_noticed(tmp_path, refused):
    content = bytearray((COMMIT_7D1C055 / "small.safetensors").read_bytes())
    content[-1] ^= 1
    path = tmp_path / "small.safetensors"
    path.write_bytes(content)
    for read in (canonical.load, convert.read):
        with refused(path, "checksum"):
            read(path)
