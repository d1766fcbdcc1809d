"""`--precision auto`, and the note where a precision is emulated."""
import pytest

from vit.backend import load_script
from vit.training import resume, run
from vit.training.options import RunOptions, split

GIVEN = {"data": "digits", "variant": "tiny"}
torch = pytest.mark.backend("torch")


def _precision(monkeypatch, real, supported=True, **given):
    script = load_script("torch")
    monkeypatch.setattr(script.backend, "multiplies_bfloat16", lambda: real)
    monkeypatch.setattr(script.backend, "supports_dtype", lambda name: supported)
    return run.prepare(script, *split({**GIVEN, **given})).recipe.precision


@torch
@pytest.mark.parametrize(("real", "supported", "chosen"), [(True, True, "bf16"), (False, True, "fp32"),
                                                           (True, False, "fp32")])
def test_auto_is_bf16_where_it_is_real(monkeypatch, capsys, real, supported, chosen):
    assert _precision(monkeypatch, real, supported, precision="auto") == chosen
    said = capsys.readouterr()
    assert said.out.startswith(f"precision: {chosen}, as this device ") and said.err == ""


@torch
@pytest.mark.parametrize(("real", "precision", "told"), [(True, "bf16", False), (False, "bf16", True),
                                                         (False, "fp16", False), (False, "fp32", False)])
def test_emulated_products_are_warned_of(monkeypatch, capsys, real, precision, told):
    assert _precision(monkeypatch, real, precision=precision) == precision
    assert ("emulated, and slower" in capsys.readouterr().err) is told


def test_a_resumed_run_keeps_what_was_chosen(tmp_path):
    from tests.checkpoints.test_serialization import make
    from vit import checkpoints
    from vit.training.recipe import Recipe
    (tmp_path / "checkpoints").mkdir()
    checkpoints.save(tmp_path / "checkpoints" / "pretrain-00000007.safetensors",
                     make(recipe=Recipe(**GIVEN, precision="bf16").to_dict()))
    found = resume.find(RunOptions(resume="auto", model_dir=str(tmp_path)), {"precision": "auto"})
    assert found.recipe["precision"] == "bf16"


def test_each_framework_knows_its_device(backend):
    assert load_script(backend).backend.multiplies_bfloat16() in (True, False)
