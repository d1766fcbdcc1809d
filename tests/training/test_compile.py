"""`--compile`: the same training, compiled; and what is said where it cannot be."""
import numpy as np
import pytest

from vit.backend import load_script
from vit.data import load
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training.job import Job
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.train import fit

CONFIG = VARIANTS["tiny"].replace(depth=1, dropout=0.1, attention_dropout=0.1, num_classes=10)


def losses(backend, folder, compiled):
    """The losses of a few steps, the last of an epoch with fewer images."""
    script, pair = load_script(backend), load("digits")
    recipe = Recipe(data="digits", variant="tiny", batch_size=1000, learning_rate=0.1)
    job = Job(script, recipe, pair, folder, RunOptions(log_steps=0, compile=compiled), base=CONFIG)
    stage = job.stage("finetune", pair.finetune, 2)
    fit(stage, parameters.initial(stage.config, 1))
    sizes = stage.history.step_sizes
    assert sizes[-1] < sizes[0] and len(sizes) > 2
    return np.array(stage.history.step_losses)


@pytest.mark.full
@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.backend(name)) for name in ("torch", "tf")])
def test_it_trains_as_the_uncompiled_model(backend, tmp_path, monkeypatch):
    script, seen = load_script(backend), []
    compile_model = script.backend.compile_model
    monkeypatch.setattr(script.backend, "compile_model", lambda model: seen.append(model) or compile_model(model))
    compiled, plain = losses(backend, tmp_path / "a", True), losses(backend, tmp_path / "b", False)
    assert len(seen) == 1 and plain.std() > 1e-3
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.backend(name)) for name in ("torch", "tf")])
def test_a_model_is_compiled(backend):
    """Not by its numbers: those of a model that is left alone are right as well."""
    script = load_script(backend)
    model = script.ViT(CONFIG)
    script.backend.compile_model(model)
    if backend == "torch":
        assert model._compiled_call_impl is not None  # what nn.Module.compile sets, and __call__ calls
    else:
        assert model.call._jit_compile is True


@pytest.mark.backend("torch")
def test_without_a_compiler_it_goes_on_with_one_line(capsys, monkeypatch, tmp_path):
    import torch
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = torch.nn.Linear(1, 1)
    load_script("torch").backend.compile_model(model)
    assert capsys.readouterr().err == ("note: --compile needs a C++ compiler (apt-get install g++): training goes on "
                                       "uncompiled\n")
    model(torch.ones(1, 1))
