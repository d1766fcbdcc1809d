"""`vit export`: what every runtime computes of an exported file, what is refused, and what is left behind."""
import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import zipfile
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

from vit.cli.commands import main
from vit.errors import UserError
from vit.files import canonical
from vit.files.untrusted import MAX_HEADER_BYTES
from vit.files.usage import Preprocessing, Usage
from vit.model.config import VARIANTS
from vit.use import formats
from vit.use.classifier import Classifier, probabilities
from vit.use.exported import Exported, open_model
from vit.use.formats import FORMATS
from vit.use.seal import seal

CONFIG = VARIANTS["tiny"].replace(num_classes=10, depth=2)
KINDS = {
    "post": CONFIG.replace(norm_order="post", patch_bias=False, dropout=0.1, attention_dropout=0.1, drop_path=0.1),
    "mean": CONFIG.replace(pool="mean", activation="gelu_tanh", qkv_bias=False),
    "fc_norm": CONFIG.replace(pool="mean", fc_norm=True, class_token=False, activation="relu"),
}
HOW = Preprocessing((0.2, 0.3, 0.4), (0.3, 0.35, 0.3))
QUICK = (("onnx",), ("torch_export", "post"))


def _parameter(kind, *values):
    """A test of a form: it needs the form's framework, and some take too long for `make test`."""
    marks = [pytest.mark.backend(FORMATS[kind].backend), *([] if (kind, *values) in QUICK else [pytest.mark.full])]
    return pytest.param(kind, *values, marks=marks, id="-".join((kind, *values)))


def _ends(capsys, *arguments):
    status = main([*map(str, arguments)])
    return status, *capsys.readouterr()


@pytest.fixture(scope="session")
def file(tmp_path_factory, random_weights):
    """A function from a name to a file of weights."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name):
        path, config = folder / f"{name}.safetensors", KINDS.get(name, CONFIG)
        if not path.exists():
            weights = {key: value.astype(np.float32) for key, value in random_weights(config).items()}
            canonical.save(path, weights, config, Usage(tuple("0123456789"), HOW, {"data": "digits10"}))
        return path

    return make


@pytest.fixture(scope="session")
def exported(tmp_path_factory, file):
    """A function from a form to a file of it, and the line that was printed."""
    made = {}

    def make(kind):
        if kind not in made:
            path, out = tmp_path_factory.mktemp("exported") / f"model{FORMATS[kind].suffix}", io.StringIO()
            with contextlib.redirect_stdout(out):
                assert main(["export", str(file("plain")), str(path), "--to", kind]) == 0
            made[kind] = path, out.getvalue()
        return made[kind]

    return make


@pytest.fixture
def onnx(exported):
    """An ONNX file that was exported."""
    return exported("onnx")[0]


@pytest.mark.parametrize("kind", [_parameter(kind) for kind in FORMATS])
def test_every_runtime_finds_the_classes_that_the_weights_find(kind, file, exported, digits):
    """To the last of 360 images, with logits that are the oracle's; and the file says how it is used."""
    path, out = exported(kind)
    assert out.count("\n") == 1 and "on 8 images" in out and "(bar 1e-05)" in out
    assert os.listdir(path.parent) == [path.name]
    pixels, found = digits.finetune.test.images, Exported(path, kind)
    if kind == "torch_export":
        with pytest.raises(UserError, match="not opened here"):
            open_model(path)
    else:
        assert type(open_model(path)) is Exported
    assert (found.classes, found.preprocessing, found.notes) == (tuple("0123456789"), HOW, [])
    expected = Classifier(file("plain"), FORMATS[kind].backend).logits(pixels)
    logits = found.logits(pixels)
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).all() and len(logits) == 360
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("kind", "name"), [_parameter(kind, name) for kind, name in zip(
    FORMATS, ("mean", "fc_norm", "mean", "post", "fc_norm", "post"), strict=True)])
def test_models_of_all_kinds_take_pixels(kind, name, file, digits, tmp_path):
    path = tmp_path / f"model{FORMATS[kind].suffix}"
    assert main(["export", str(file(name)), str(path), "--to", kind, "--preprocess", "--batch", "3"]) == 0
    pixels, found = digits.finetune.test.images[:4], Exported(path, kind)
    scores, expected = found.scores(pixels), probabilities(Classifier(file(name), FORMATS[kind].backend).logits(pixels))
    assert found.batch_size == 3 and found.manifest.preprocess
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(probabilities(found.logits(pixels)), expected, rtol=0, atol=2e-5)


@pytest.mark.backend("torch")
def test_an_export_that_computes_something_else_is_not_left(file, tmp_path, capsys, monkeypatch):
    from vit.backend.served.torch import Served
    monkeypatch.setattr(Served, "forward", lambda self, images: self.model(
        images.float().permute(0, 3, 1, 2) * self.scale[:, None, None]).softmax(dim=-1))  # the shift is forgotten
    path = tmp_path / "model.pt2"
    path.write_text("old")
    status, out, err = _ends(capsys, "export", file("plain"), path, "--to", "torch_export", "--preprocess")
    assert (status, out, err.count("\n")) == (2, "", 1) and "not written: in torch" in err and "1e-05" in err
    assert os.listdir(tmp_path) == ["model.pt2"] and path.read_text() == "old"


@pytest.mark.full
@pytest.mark.backend("torch")
def test_weights_of_8_bits_are_held_to_the_accuracy(file, tmp_path, capsys, monkeypatch):
    arguments = ("export", file("plain"), tmp_path / "m.onnx", "--to", "onnx", "--quantize", "int8", "--data", "digits")
    status, out, _ = _ends(capsys, *arguments)
    assert status == 0 and "; then int8, " in out and os.listdir(tmp_path) == ["m.onnx"]
    found = Exported(tmp_path / "m.onnx", "onnx")
    assert found.manifest.quantized == "int8" and found.classes == tuple("0123456789")
    top1 = json.loads(_ends(capsys, "evaluate", tmp_path / "m.onnx", "--data", "digits", "--json")[1])["top1"]
    assert f"top-1 {top1:.2%} on 360 images of digits10" in out
    assert (tmp_path / "m.onnx").stat().st_size < 0.5 * file("plain").stat().st_size
    from vit.use.metrics import Metrics
    results = iter((0.90, 0.88, 0.90, 0.88))
    monkeypatch.setattr(Metrics, "result", lambda self: {"top1": next(results)})
    status, out, err = _ends(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1) and "is 88.00% and not 90.00%, and --max_loss allows 1 " in err
    assert Exported(tmp_path / "m.onnx", "onnx").manifest.quantized  # the older one is there as it was
    assert _ends(capsys, *arguments, "--max_loss", 2.5)[0] == 0


@pytest.mark.backend("torch")
def test_a_disk_without_room_is_said(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=16_000_000))
    status, out, err = _ends(capsys, "export", file("plain"), tmp_path / "m.pt2", "--to", "torch_export")
    assert (status, out, err.count("\n")) == (2, "", 1) and "17 MB while it is made, and 16 MB are free there" in err
    assert os.listdir(tmp_path) == []


@pytest.mark.backend("torch")
def test_an_export_that_is_asked_to_end_leaves_nothing(file, tmp_path, monkeypatch):
    from vit.backend.exporter import torch as exporter

    def write(model, path, *_):
        path.write_bytes(b"a part")
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr(exporter, "write_torch_export", write)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(file("plain")), str(tmp_path / "m.pt2"), "--to", "torch_export"])
    assert ended.value.code == 128 + signal.SIGTERM and os.listdir(tmp_path) == []


@pytest.mark.backend("torch")
def test_it_is_tried_on_images_that_are_named(file, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)).save(tmp_path / "a.png")
    status, out, _ = _ends(capsys, "export", file("plain"), tmp_path / "m.pt2", "--to", "torch_export", "--images",
                           tmp_path / "a.png")
    assert status == 0 and "on 1 images" in out
    status, out, _ = _ends(capsys, "export", file("plain"), tmp_path / "n.pt2", "--to", "torch_export", "--images",
                           tmp_path, tmp_path / "*.png")
    assert status == 0 and "on 2 images" in out
    status, _, err = _ends(capsys, "export", file("plain"), tmp_path / "m.pt2", "--to", "torch_export", "--images",
                           file("plain"))
    assert status == 2 and "plain.safetensors" in err


@pytest.mark.backend("torch")
def test_an_exported_file_is_evaluated_and_predicts(onnx, file, tmp_path, capsys):
    figures = [json.loads(_ends(capsys, "evaluate", one, "--data", "digits", "--json")[1])
               for one in (onnx, file("plain"))]
    assert [one.pop("backend") for one in figures] == ["onnx", "torch"]
    assert figures[0]["top1"] == figures[1]["top1"] and figures[0]["loss"] == pytest.approx(figures[1]["loss"])
    image = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)).save(image)
    lines = [_ends(capsys, "predict", one, image)[1] for one in (onnx, file("plain"))]
    assert lines[0] == lines[1] and lines[0].startswith(f"{image}: ")


@pytest.mark.backend("torch")
def test_an_exported_file_holds_no_path_of_the_machine(onnx, repo):
    assert str(repo).encode() not in onnx.read_bytes()


@pytest.mark.backend("torch")
@pytest.mark.parametrize("gone", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named(gone, file, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None if name == gone else find(name))
    status, out, err = _ends(capsys, "export", file("plain"), tmp_path / "m.onnx", "--to", "onnx")
    assert (status, out, err) == (2, "", f"error: ONNX needs {gone}: pip install {gone}\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("arguments", "fragment"), [
    (("export", "{file}", "m.bin", "--to", "onnx"), "the names of ONNX files end in .onnx"),
    (("export", "{file}", "/proc/none/m.onnx", "--to", "onnx"), "/proc/none/m.onnx: cannot be written (No such file"),
    (("export", "none", "{empty}/m.onnx", "--to", "onnx"), "none: no such file"),
    (("export", "{file}", "{empty}/m", "--to", "savedmodel", "--quantize", "int8"), "is for --to onnx, not savedmodel"),
    (("export", "{file}", "{empty}/m.onnx", "--to", "onnx", "--quantize", "int8"), "--data go together"),
    (("export", "{file}", "{empty}/m.onnx", "--to", "onnx", "--data", "digits"), "--data go together"),
    (("export", "{file}", "{empty}/m.onnx", "--to", "onnx", "--max_loss", "-1"), "max_loss must be from 0 to 100"),
    (("export", "{file}", "{empty}", "--to", "savedmodel"), "is a folder that is there already"),
    (("evaluate", "{onnx}", "--data", "digits", "--backend", "torch"), "is exported (ONNX), and torch takes weights"),
    (("evaluate", "{onnx}", "--data", "digits", "--backend", "litert"), "is no LiteRT export"),
    (("evaluate", "{file}", "--data", "digits", "--backend", "onnx"), "is no ONNX export; write one with: vit export"),
    (("evaluate", "none.onnx", "--data", "digits"), "none.onnx: no such file"),
    (("evaluate", "{other}", "--data", "digits"), "does not say how it is used"),
    (("evaluate", "{damaged}", "--data", "digits"), "is no whole ONNX file of `vit export`: its sum is not at its")])
@pytest.mark.backend("torch", "tf")
def test_bad_input_is_one_line(arguments, fragment, file, onnx, tmp_path, capsys):
    """`{other}` is an ONNX file of something else."""
    import onnx as library
    proto = library.load(onnx)
    del proto.metadata_props[:]
    names = {name: tmp_path / f"{name}.onnx" for name in ("other", "damaged")}
    names["other"].write_bytes(proto.SerializeToString())
    seal(names["other"], "onnx")
    names["damaged"].write_bytes(onnx.read_bytes()[:5000])
    (tmp_path / "empty").mkdir()
    filled = [one.format(file=file("plain"), onnx=onnx, empty=tmp_path / "empty", **names) for one in arguments]
    status, out, err = _ends(capsys, *filled)
    assert (status, out, err.count("\n")) == (2, "", 1) and fragment in err and err.startswith("error: ")
    assert os.listdir(tmp_path / "empty") == []


@pytest.mark.parametrize("batch", ["0", "-1", "many"])
def test_a_batch_is_a_number_or_dynamic(batch, capsys):
    with pytest.raises(SystemExit):
        main(["export", "a", "b", "--to", "onnx", f"--batch={batch}"])
    assert "neither a number of images nor dynamic" in capsys.readouterr().err


@pytest.mark.parametrize("change", [
    {"format": "other"}, {"batch": 0}, {"batch": True}, {"preprocess": 1}, {"spec": {}}, {"usage": {}}, {"more": 1},
    {"quantized": "int4"}, {"quantized": []},
    {"usage": {"classes": ["a"], "preprocessing": None, "provenance": {}}}])
def test_a_manifest_that_says_something_else_is_refused(change, refused):
    text = formats.Manifest(CONFIG, Usage(), None, False).to_json()
    assert formats.parse("x", text).config == CONFIG
    with refused("x: "):
        formats.parse("x", json.dumps(json.loads(text) | change))


def test_a_manifest_that_claims_to_be_huge_is_not_read_whole(tmp_path, monkeypatch):
    from vit.backend.runtime import litert
    monkeypatch.setattr(litert, "Interpreter", MagicMock())
    with zipfile.ZipFile(tmp_path / "m.tflite", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vit.json", bytes(64 << 20))
    assert len(litert.Runtime(tmp_path / "m.tflite").manifest) == MAX_HEADER_BYTES
