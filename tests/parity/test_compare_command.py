"""`python -m vit compare`: its table, its status, its errors."""
import json

import numpy as np
import pytest

from vit import convert
from vit.cli.commands import main
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.parity import differences, levels

CONFIG = VARIANTS["tiny"].replace(num_classes=10)


@pytest.mark.backend("torch")
def test_two_equal_backends_are_the_same(capsys, tmp_path):
    path = tmp_path / "rows.json"
    assert main(["compare", "torch", "numpy", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "the same: worst relative difference" in out
    assert "blocks.3.mlp" in out
    content = json.loads(path.read_text())
    assert content["backends"] == ["torch", "numpy"]
    assert [row["name"] for row in content["rows"]][:2] == ["tokens", "blocks.0.attn"]
    assert not any(row["over"] for row in content["rows"])


@pytest.mark.backend("torch")
def test_the_first_difference_is_marked_named_and_status_1(capsys, monkeypatch):
    whole = levels.oracle.layer_norm
    calls = []

    def defective(x, scale, shift, eps):
        calls.append(1)
        return whole(x, scale, shift, eps if len(calls) < 4 else 1e-3)  # from the second half of the second block on

    monkeypatch.setattr(levels.oracle, "layer_norm", defective)
    assert main(["compare", "torch", "numpy"]) == 1
    out = capsys.readouterr().out
    assert "> blocks.1.mlp" in out
    assert "DIFFERENT: first at block 1, MLP half" in out


def test_a_parameter_is_named_in_words():
    assert differences.Row("blocks.2.attn.qkv.bias", 1, 1, 1).location == "block 2, attention half, attn.qkv.bias"
    assert differences.Row("blocks.0.norm2.weight", 1, 1, 1).location == "block 0, MLP half, norm2.weight"
    assert differences.Row("pos_embed", 1, 1, 1).location == "pos_embed"


@pytest.mark.backend("torch", "tf")
def test_gradients_of_a_weights_file(capsys, tmp_path):
    canonical.save(tmp_path / "w.safetensors", parameters.perturbed(CONFIG, 5), CONFIG)
    assert main(["compare", "torch", "tf", "--stage", "gradient", "--weights", str(tmp_path / "w.safetensors")]) == 0
    assert "blocks.3.mlp.fc2.weight" in capsys.readouterr().out


@pytest.mark.backend("torch")
@pytest.mark.parametrize("layout", ["timm", "npz"])
def test_weights_may_be_another_projects(capsys, tmp_path, layout):
    weights = parameters.perturbed(CONFIG, 5)
    convert.write(tmp_path / "w", weights, CONFIG, layout)
    assert main(["compare", "torch", "numpy", "--weights", str(tmp_path / "w")]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'w'}: " in out and " read" in out and "the same: worst" in out


def test_weights_of_another_model_than_the_variant_are_refused(capsys, tmp_path):
    canonical.save(tmp_path / "w", parameters.perturbed(CONFIG, 5), CONFIG)
    assert main(["compare", "torch", "numpy", "--variant", "apphub", "--weights", str(tmp_path / "w")]) == 2
    assert "holds another model: patch_size 8 (expected 4)" in capsys.readouterr().err


@pytest.mark.backend("torch", "tf")
def test_training_is_compared_step_by_step(capsys):
    assert main(["compare", "torch", "tf", "--stage", "train", "--steps", "2"]) == 0
    out = capsys.readouterr().out
    assert "gradient norm of step 2" in out
    assert "loss of step 3" not in out
    assert "head.weight" in out


@pytest.mark.parametrize(("arguments", "fragment"), [
    (["torch", "jax"], "unknown backend 'jax'"),
    (["torch", "numpy", "--stage", "gradient"], "numpy is the oracle of the forward stage only"),
    (["torch", "tf", "--variant", "huge"], "unknown variant 'huge'"),
    (["torch", "tf", "--steps", "0"], "steps must be at least 1"),
    (["torch", "tf", "--weights", "/nowhere.safetensors"], "/nowhere.safetensors: no such file"),
    (["torch", "numpy", "--json", "/nowhere/rows.json"], "cannot be written"),
])
def test_bad_input_is_one_line_and_status_2(arguments, fragment, capsys):
    assert main(["compare", *arguments]) == 2
    err = capsys.readouterr().err
    assert fragment in err
    assert err.count("\n") == 1


def test_a_missing_framework_is_one_line_and_status_2(capsys, monkeypatch):
    from vit.backend import MissingBackend, importlib

    whole = importlib.import_module

    def missing(name):
        if name == "vit_ms":
            raise MissingBackend("mindspore is not installed: pip install it")
        return whole(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert main(["compare", "ms", "numpy"]) == 2
    assert "mindspore is not installed" in capsys.readouterr().err


def test_a_wrong_flag_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", "torch", "tf", "--dtype", "float8"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_images_are_real_digits_at_the_models_size():
    images, labels = levels.sample_images(CONFIG.replace(image_size=48, patch_size=8, num_classes=3), 6, "float64")
    assert images.shape == (6, 48, 48, 3)
    assert images.dtype == np.float64
    assert labels.max() < 3
    assert images.std() > 0.3
