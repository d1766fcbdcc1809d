"""What is served of a real model: the probabilities of `vit predict`, the map of `vit explain`."""
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.serve.conftest import serving
from vit.cli.commands import main
from vit.data import image_folder
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model.config import VARIANTS
from vit.serve.served import Served
from vit.use.explain import Explained

CONFIG = VARIANTS["tiny"].replace(num_classes=10, depth=2, patch_size=16, width=32)


@pytest.fixture(scope="module")
def file(tmp_path_factory, random_weights, digits):
    path = tmp_path_factory.mktemp("served") / "weights.safetensors"
    weights = {name: value.astype(np.float32) for name, value in random_weights(CONFIG).items()}
    canonical.save(path, weights, CONFIG, Usage(digits.finetune.classes, Preprocessing(digits.mean, digits.std, 0.9)))
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory, digits):
    """Files of several sizes and kinds, one of them turned by its EXIF."""
    folder = tmp_path_factory.mktemp("photos")
    first, second, third = (Image.fromarray(image) for image in digits.finetune.test.images[:3])
    first.save(folder / "0.png")
    second.resize((90, 60)).convert("RGBA").save(folder / "1.webp", lossless=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    third.resize((120, 50)).save(folder / "2.jpg", exif=turned)
    return sorted(folder.iterdir())


def _predicted(capsys, *arguments):
    assert main(["predict", *map(str, arguments), "--json", "--top_k", "10"]) == 0
    return [json.loads(line)["predictions"] for line in capsys.readouterr().out.splitlines()]


def _compare(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert [one["class"] for one in ours["predictions"]] == [one["class"] for one in theirs]
        np.testing.assert_allclose([one["probability"] for one in ours["predictions"]],
                                   [one["probability"] for one in theirs], rtol=0, atol=1e-6)


@pytest.mark.full_in("tf", "ms")
def test_predictions_are_those_of_the_command(backend, file, photos, capsys, at_once):
    model = Served(file, backend, 2)
    with serving(model) as client:
        def ask(path):
            status, found = client.predict(path.read_bytes(), "?top_k=10", Content_Type="application/octet-stream")
            assert status == 200
            return found

        found = at_once(ask, photos)
        explained = [client.predict(path.read_bytes(), "?top_k=10&attention=1")[1] for path in photos]
    expected = _predicted(capsys, file, *photos, "--backend", backend)
    _compare(found, expected)
    _compare(explained, expected)
    reference = Explained(file, backend)
    for path, one in zip(photos, explained, strict=True):
        seen = reference.pixels(image_folder.read(path))
        np.testing.assert_allclose(one["attention"], reference.explain(seen, "rollout")[0], rtol=0, atol=1e-6)
        png = Image.open(io.BytesIO(base64.b64decode(one["image"].partition(",")[2])))
        assert (np.asarray(png) == seen).all()


@pytest.mark.backend("torch")
@pytest.mark.parametrize("options", [(), ("--batch", "4", "--preprocess")])
@pytest.mark.full
def test_an_exported_model_is_served_without_a_map(file, photos, tmp_path, options, capsys, at_once):
    assert main(["export", str(file), str(tmp_path / "m.onnx"), "--to", "onnx", *options]) == 0
    capsys.readouterr()
    model = Served(tmp_path / "m.onnx", None, 8)
    with serving(model) as client:
        assert '"title":"ONNX","attention":false' in client.get("/health")
        found = at_once(lambda path: client.predict(path.read_bytes(), "?top_k=10")[1], photos)
    _compare(found, _predicted(capsys, tmp_path / "m.onnx", *photos))


@pytest.mark.full
@pytest.mark.backend("tf")
def test_tensorflow_traces_one_size_and_any(file):
    model = Served(file, "tf", 16)
    for count in model.sizes:
        model.probabilities(np.zeros((count, 32, 32, 3), np.uint8))
    assert len(model.sizes) == 5 and model.model._predictor.model.experimental_get_tracing_count() == 2
