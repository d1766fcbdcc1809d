"""The three scripts are one program: same curve, same files, siblings line by line, importable side by side."""
import ast
import contextlib
import difflib
import importlib
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training import run as flow
from vit.training.traces.profile import profiling

ROOT = Path(__file__).parent.parent
SCRIPTS = {"torch": "vit_torch", "tf": "vit_tf", "ms": "vit_ms"}


@pytest.fixture(scope="module")
def first_steps(tmp_path_factory):
    """Each framework's job after 20 steps on digits100 from the same seed; `tiny` has no dropout."""
    jobs = {}
    for backend, script in SCRIPTS.items():
        folder = tmp_path_factory.mktemp(backend)
        job = flow.prepare(backend, data="digits", variant="tiny", batch_size=16, pretrain_epochs=1,
                           train_steps_per_epoch=20, eval_steps_per_epoch=2, seed=3, model_dir=str(folder), log_steps=0,
                           profile=True)
        importlib.import_module(script).pretrain(job)
        jobs[backend] = job
    return jobs


@pytest.mark.parametrize("backend", ["tf", "ms"])
def test_losses_follow_torch_for_20_steps(first_steps, backend):
    reference = np.array(first_steps["torch"].stages[0].history.step_losses)
    losses = np.array(first_steps[backend].stages[0].history.step_losses)
    assert len(reference) == len(losses) == 20
    assert reference.std() > 0.01, "the curve must move, or agreeing on it says nothing"
    np.testing.assert_allclose(losses, reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", ["tf", "ms"])
def test_trained_weights_follow_torch(first_steps, backend):
    reference, trained = first_steps["torch"].stages[0].weights, first_steps[backend].stages[0].weights
    start = parameters.initial(first_steps["torch"].stages[0].config, seed=3)
    for name, value in reference.items():
        moved = np.abs(value - start[name]).max()
        assert np.abs(trained[name] - value).max() < 0.01 * moved + 1e-6, name


@pytest.mark.parametrize(("backend", "file", "words"), [
    ("torch", "*.pt.trace.json", [b'"traceEvents"', b"aten::layer_norm", b"autograd::engine"]),
    ("tf", "plugins/profile/*/*.xplane.pb", [b"Erf", b"MatMul"]),
    ("ms", "*/ASCEND_PROFILER_OUTPUT/trace_view.json", [b'"ph"', b"MatMul"]),
])
def test_a_profile_is_a_trace_for_the_frameworks_viewer(first_steps, backend, file, words):
    [path] = (first_steps[backend].model_dir / "profile").glob(file)
    content = path.read_bytes()
    assert [word for word in words if word not in content] == []


def test_a_profile_is_of_a_few_steps(tmp_path):
    seen = []

    @contextlib.contextmanager
    def profiler(folder):
        seen.append(f"into {folder}")
        yield
        seen.append("end")

    for steps, wanted in ((20, "..." + ">....."), (2, ".>."), (1, ">.")):
        seen.clear()
        trace = profiling(profiler, tmp_path, steps)
        trace.on_begin(None)
        for _ in range(steps):
            trace.on_batch_begin(None)
            seen.append(".")
            trace.on_batch_end(None)
        trace.on_epoch_end(None)
        text = "".join(seen).replace(f"into {tmp_path}", ">")
        assert text.startswith(wanted + "end") and text.count(".") == steps and text.count("end") == 1


@pytest.mark.parametrize(("writer", "reader"), permutations(SCRIPTS, 2))
def test_a_file_of_one_starts_the_finetune_of_another(first_steps, writer, reader, tmp_path):
    path = first_steps[writer].model_dir / "pretrained.safetensors"
    config = first_steps[writer].stages[0].config
    read, spec = canonical.load(path, expected=VARIANTS["tiny"])
    assert spec == config
    script = importlib.import_module(SCRIPTS[reader])
    back = script.to_numpy(script.from_numpy(script.ViT(spec), read))
    assert parameters.sha256(back) == parameters.sha256(first_steps[writer].stages[0].weights)


@pytest.mark.parametrize("backend", SCRIPTS)
def test_a_run_from_a_pretrained_file_writes_every_result(first_steps, backend, tmp_path):
    other = {"torch": "tf", "tf": "ms", "ms": "torch"}[backend]
    results = importlib.import_module(SCRIPTS[backend]).fastestimator_run(
        data="digits", variant="tiny", batch_size=16, train_steps_per_epoch=2, eval_steps_per_epoch=1, log_steps=0,
        model_dir=str(tmp_path / "run"), pretrained=str(first_steps[other].model_dir / "pretrained.safetensors"))
    assert results["backend"] == backend
    assert list(results["stages"]) == ["finetune"]
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"results.json", "history.csv", "times.csv", "curves.png", "finetuned.safetensors", "best",
                     "checkpoints", "classes.json", "predictions.png", "recipe.yaml"}


# The words in which siblings may differ anywhere, docstrings included.
WORDS = {"PyTorch": "#", "TensorFlow": "#", "MindSpore": "#", "Keras": "#", "vit_torch": "#", "vit_tf": "#",
         "vit_ms": "#", "[B, C, S, S]": "[images]", "[B, S, S, C]": "[images]"}


def _outline(script):
    """Classes, functions and methods with their docstrings, and the attributes that the model's classes set."""
    names, docstrings, attributes = [], {}, {}
    for node in ast.parse((ROOT / f"{script}.py").read_text()).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        names.append(node.name)
        if node.name != "table":  # says which layouts the framework has
            docstrings[node.name] = _neutral(ast.get_docstring(node))
        if isinstance(node, ast.ClassDef) and node.name not in ("Optimizer", "LayerNorm"):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            attributes[node.name] = [{"call": "forward", "construct": "forward"}.get(m.name, m.name) for m in methods]
            attributes[node.name] += [target.attr for method in methods for part in ast.walk(method)
                                      for target in ast.walk(part) if isinstance(target, ast.Attribute)
                                      and isinstance(target.ctx, ast.Store) and isinstance(part, ast.Assign)]
    return names, docstrings, attributes


def _neutral(text):
    for word, neutral in WORDS.items():
        text = (text or "").replace(word, neutral)
    return text


@pytest.mark.parametrize(("other", "own"), [("vit_tf", set()), ("vit_ms", {"LayerNorm"})])
def test_siblings_name_the_same_things_in_the_same_order(other, own):
    names, docstrings, attributes = _outline("vit_torch")
    their_names, their_docstrings, their_attributes = _outline(other)
    assert [name for name in their_names if name not in own] == names
    assert {name: their_docstrings[name] for name in docstrings} == docstrings
    for name, ours in attributes.items():
        kept = iter(their_attributes[name])
        assert all(attribute in kept for attribute in ours), f"{name}: {ours} against {their_attributes[name]}"


@pytest.mark.parametrize(("other", "share"), [("vit_tf", 0.5), ("vit_ms", 0.6)])
def test_siblings_share_most_of_their_lines(other, share):
    ours, theirs = ((ROOT / f"{name}.py").read_text().splitlines() for name in ("vit_torch", other))
    blocks = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    assert sum(block.size for block in blocks) / len(ours) > share


@pytest.mark.parametrize(("script", "foreign"), [
    ("vit_torch", ("tensorflow", "mindspore", "fastestimator")),
    ("vit_tf", ("torch", "mindspore", "fastestimator")),
    ("vit_ms", ("torch", "tensorflow", "fastestimator")),
])
def test_importing_a_script_imports_only_its_own_framework(script, foreign):
    code = f"import sys, {script}; print([m for m in {foreign!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# The first and the last put each framework before and behind each other one.
ORDERS = list(permutations(SCRIPTS.values()))
ORDERS[1:-1] = [pytest.param(order, marks=pytest.mark.full) for order in ORDERS[1:-1]]


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_importing_the_three_works(order):
    code = "\n".join([*(f"import {script}" for script in order), "from vit.model.config import VARIANTS",
                      *(f"{script}.ViT(VARIANTS['tiny'])" for script in order), "print('ok')"])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("ok")


@pytest.mark.parametrize("missing", ["torch", "tensorflow", "mindspore"])
def test_a_missing_framework_is_one_line_that_says_how_to_install_it(missing, tmp_path):
    script = {"torch": "vit_torch", "tensorflow": "vit_tf", "mindspore": "vit_ms"}[missing]
    code = (f"import importlib.util, runpy, sys; find = importlib.util.find_spec\n"
            f"importlib.util.find_spec = lambda name, *a: None if name == {missing!r} else find(name, *a)\n"
            f"sys.argv = ['{script}.py']; runpy.run_path('{ROOT / script}.py', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"{missing} is not installed" in done.stderr
    assert "pip install" in done.stderr
