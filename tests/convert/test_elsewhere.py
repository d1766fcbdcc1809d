"""Weights at an address: those of the file, with what lies beside it; and what is refused names the address."""
import json

import pytest

from vit import convert
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.remote import transfer
from vit.remote.address import parse


@pytest.fixture
def weights(tmp_path):
    """A file of weights, and a folder of Hugging Face's of the same."""
    config = VARIANTS["tiny"].replace(num_classes=3)
    values = parameters.perturbed(config, seed=1)
    canonical.save(tmp_path / "tiny.safetensors", values, config)
    convert.write(tmp_path / "hf", *convert.read(tmp_path / "tiny.safetensors")[:2], "hf")
    return tmp_path


def _same(one, other):
    return all((one[name] == other[name]).all() for name in one)


def test_a_file_on_the_web_is_read(weights, web):
    folder, address = web
    (weights / "tiny.safetensors").rename(folder / "tiny.safetensors")
    found, config, report = convert.read(f"{address}/tiny.safetensors")
    assert _same(convert.read(folder / "tiny.safetensors")[0], found)
    assert config.num_classes == 3
    assert "this project" in report.summary()


def test_settings_beside_a_file_are_read_as_well(weights, web):
    folder, address = web
    for path in (weights / "hf").iterdir():
        path.rename(folder / path.name)
    settings = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(settings | {"id2label": {"0": "a", "1": "b", "2": "c"}}))
    assert convert.read(f"{address}/model.safetensors")[2].usage.classes == ("a", "b", "c")


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_a_folder_in_s3_stands_for_the_file_in_it(weights, s3, name):
    for path in (weights / "hf").iterdir():
        transfer.put(path, parse("s3://bucket/hf") / path.name)
    assert _same(convert.read(weights / "hf")[0], convert.read(f"s3://bucket/hf/{name}")[0])


def test_a_run_in_s3_stands_for_its_weights(weights, s3):
    transfer.put(weights / "tiny.safetensors", parse("s3://bucket/runs/one/pretrained.safetensors"))
    transfer.put(weights / "tiny.safetensors", parse("s3://bucket/runs/one/checkpoints/pretrain-00000002.safetensors"))
    assert _same(convert.read(weights / "tiny.safetensors")[0], convert.read("s3://bucket/runs/one")[0])


def test_what_is_refused_names_the_address(weights, s3, refused):
    (weights / "cut").write_bytes((weights / "tiny.safetensors").read_bytes()[:1000])
    for name in ("cut.safetensors", "some/file"):
        transfer.put(weights / "cut", parse("s3://bucket") / name)
    with refused("s3://bucket/cut.safetensors: not a whole"):
        convert.read("s3://bucket/cut.safetensors")
    with refused("s3://bucket/none: there is no such file"):
        convert.read("s3://bucket/none")
    with refused("s3://bucket/some: is a folder without model.safetensors"):
        convert.read("s3://bucket/some")
