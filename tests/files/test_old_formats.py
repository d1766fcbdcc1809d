"""Weights files of older formats are read as they were written."""
from tests.fixtures import COMMIT_7D1C055
from vit import convert
from vit.files import canonical
from vit.model import parameters
from vit.model.config import ViTConfig

WRITTEN = ViTConfig(image_size=32, patch_size=8, width=16, depth=2, heads=2, mlp_dim=24, num_classes=10, dropout=0.1)


def test_weights_of_7d1c055_are_read():
    weights, config = canonical.load(COMMIT_7D1C055 / "small.safetensors")
    assert config == WRITTEN
    assert parameters.sha256(weights) == parameters.sha256(parameters.perturbed(WRITTEN, 3))


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
