"""The three scripts are one program: same curve, same files, importable side by side."""
import contextlib
import functools
import io
import os
import subprocess
import sys
import tempfile
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vit.backend import SCRIPTS, load_script
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training import run
from vit.training.options import split
from vit.training.workers import ALONE

ROOT = Path(__file__).parent.parent
SMALL = VARIANTS["tiny"].replace(depth=2)
_FOLDERS = []


@functools.cache
def first_steps(backend):
    """A framework's job after 20 steps on digits100 from the same seed; two blocks of `tiny`, which has no dropout."""
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)  # lives as long as the tests
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setitem(VARIANTS, "tiny", SMALL)
        job = run.prepare(load_script(backend), *split({
            "data": "digits", "variant": "tiny", "batch_size": 16, "pretrain_epochs": 1, "train_steps_per_epoch": 20,
            "eval_steps_per_epoch": 2, "seed": 3, "model_dir": folder.name, "log_steps": 0, "profile": True}))
        run.pretrain(job)
    return job


def test_losses_follow_each_other_for_20_steps(pair):
    ours, theirs = (np.array(first_steps(backend).stages[0].history.step_losses) for backend in pair)
    assert len(ours) == len(theirs) == 20
    assert ours.std() > 0.01, "the curve must move, or agreeing on it says nothing"
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_trained_weights_follow_each_other(pair):
    ours, theirs = (first_steps(backend).stages[0] for backend in pair)
    start = parameters.initial(ours.config, seed=3)
    for name, value in ours.weights.items():
        moved = np.abs(value - start[name]).max()
        assert np.abs(theirs.weights[name] - value).max() < 0.01 * moved + 1e-6, name


PROFILES = {
    "torch": ("*.pt.trace.json", [b'"traceEvents"', b"aten::layer_norm", b"autograd::engine"]),
    "tf": ("plugins/profile/*/*.xplane.pb", [b"Erf", b"MatMul"]),
    "ms": ("*/ASCEND_PROFILER_OUTPUT/trace_view.json", [b'"ph"', b"MatMul"]),
}


def test_a_profile_is_a_trace_for_the_frameworks_viewer(backend):
    file, words = PROFILES[backend]
    [path] = (first_steps(backend).model_dir / "profile").glob(file)
    content = path.read_bytes()
    assert [word for word in words if word not in content] == []


def test_a_profile_is_of_a_few_steps(tmp_path):
    from vit.training.traces import Profile
    seen = []

    @contextlib.contextmanager
    def profiler(folder):
        seen.append(f"into {folder}")
        yield
        seen.append("end")

    script = SimpleNamespace(backend=SimpleNamespace(profiler=profiler))
    for steps, expected in ((20, "..." + ">....."), (2, ".>."), (1, ">.")):
        seen.clear()
        job = SimpleNamespace(script=script, model_dir=tmp_path, world=ALONE)
        trace = Profile(SimpleNamespace(job=job, steps_per_epoch=steps))
        trace.on_begin(None)
        for _ in range(steps):
            trace.on_batch_begin(None)
            seen.append(".")
            trace.on_batch_end(None)
        trace.on_epoch_end(None)
        text = "".join(seen).replace(f"into {tmp_path / 'profile'}", ">")
        assert text.startswith(expected + "end") and text.count(".") == steps and text.count("end") == 1


@pytest.mark.parametrize("swapped", [False, True])
def test_a_file_of_one_starts_the_finetune_of_another(pair, swapped):
    writer, reader = reversed(pair) if swapped else pair
    [written] = first_steps(writer).stages
    read, spec = canonical.load(first_steps(writer).model_dir / "pretrained.safetensors", expected=SMALL)
    assert spec == written.config
    script = load_script(reader)
    back = script.to_numpy(script.from_numpy(script.ViT(spec), read))
    assert parameters.sha256(back) == parameters.sha256(written.weights)


@pytest.mark.parametrize(("writer", "reader"), [
    pytest.param(*two, marks=pytest.mark.backend(*two)) for two in (("tf", "torch"), ("ms", "tf"), ("torch", "ms"))])
def test_a_run_from_a_pretrained_file_writes_every_result(writer, reader, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", SMALL)
    results = load_script(reader).fastestimator_run(
        data="digits", variant="tiny", batch_size=16, train_steps_per_epoch=2, eval_steps_per_epoch=1, log_steps=0,
        model_dir=str(tmp_path / "run"), pretrained=str(first_steps(writer).model_dir / "pretrained.safetensors"))
    assert results["backend"] == reader
    assert list(results["stages"]) == ["finetune"]
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"results.json", "history.csv", "times.csv", "curves.png", "finetuned.safetensors", "best",
                     "checkpoints", "classes.json", "graph.json", "predictions.png", "recipe.yaml", "train.log"}


@pytest.mark.parametrize(("script", "foreign"), [
    pytest.param("vit_torch", ("tensorflow", "mindspore", "fastestimator"), marks=pytest.mark.backend("torch")),
    pytest.param("vit_tf", ("torch", "mindspore", "fastestimator"), marks=pytest.mark.backend("tf")),
    pytest.param("vit_ms", ("torch", "tensorflow", "fastestimator"), marks=pytest.mark.backend("ms")),
])
def test_importing_a_script_imports_only_its_own_framework(script, foreign):
    code = f"import sys, {script}; print([m for m in {foreign!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


NOT_NEEDED = {"torch": {"tensorflow", "keras", "tf_keras", "mindspore", "pandas", "sklearn", "scipy"},
              "tf": {"keras", "mindspore", "sklearn"},
              "ms": {"tensorflow", "keras", "tf_keras", "pandas"}}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A function from a framework to the modules that its script has imported when its run ends; each runs once."""

    @functools.cache
    def run(backend):
        folder = tmp_path_factory.mktemp(backend)
        (folder / "sitecustomize.py").write_text("import atexit, sys\natexit.register(lambda: print(*sys.modules))")
        config = VARIANTS["tiny"].replace(depth=1, width=16, heads=2, mlp_dim=16)
        canonical.save(folder / "start.safetensors", parameters.initial(config, 0), config)
        flags = {"--data": "digits", "--pretrained": folder / "start.safetensors", "--model_dir": folder / "run",
                 "--batch_size": 8, "--finetune_epochs": 1, "--train_steps_per_epoch": 1, "--eval_steps_per_epoch": 1}
        path = os.pathsep.join(map(str, (folder, ROOT, ROOT / "packages/fe_compat", ROOT / "packages/fe_mindspore")))
        variables = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
        done = subprocess.run([sys.executable, ROOT / f"{SCRIPTS[backend]}.py",
                               *(str(part) for flag in flags.items() for part in flag)],
                              cwd=folder, capture_output=True, text=True, env=variables | {"PYTHONPATH": path})
        assert (folder / "run" / "results.json").is_file(), done.stderr[-2000:]
        return set(done.stdout.splitlines()[-1].split())

    return run


@pytest.mark.full_in("tf", "ms")
def test_a_script_that_runs_is_not_imported_a_second_time(backend, imported):
    assert "vit.training.traces.progress" in imported(backend), "all the way to the training"
    assert imported(backend).isdisjoint(SCRIPTS.values())


@pytest.mark.full_in("tf", "ms")
def test_a_run_imports_what_it_uses(backend, imported):
    assert "fastestimator.estimator" in imported(backend)
    assert imported(backend) & NOT_NEEDED[backend] == set()


# The first and the last put each framework before and behind each other one.
ORDERS = list(permutations(SCRIPTS.values()))
ORDERS[1:-1] = [pytest.param(order, marks=pytest.mark.full) for order in ORDERS[1:-1]]


@pytest.mark.backend(*SCRIPTS)
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
