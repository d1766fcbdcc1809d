"""Nothing under `vit` imports a framework, but for what trains with one; proved in a process of its own."""
import json
from pathlib import Path

import pytest

import vit

FRAMEWORKS = ("torch", "tensorflow", "keras", "tf_keras", "mindspore", "fastestimator")
# Imported when a script or a training starts.
EXEMPT = ("vit.backend.torch", "vit.backend.tensorflow", "vit.backend.mindspore",
          "vit.backend.mindspore_gradients", "vit.backend.tensorflow_recompute", "vit.backend.dropout",
          "vit.backend.normalize", "vit.backend.predictor", "vit.backend.device", "vit.backend.workers",
          "vit.backend.explainer", "vit.backend.exporter", "vit.backend.runtime", "vit.backend.served",
          "vit.backend.muon", "vit.training.pipeline", "vit.training.traces")

IMPORT = """
import importlib, sys
for name in {names}:
    importlib.import_module(name)
print([name for name in {frameworks} if name in sys.modules])
"""


def _is_exempt(name):
    return any(name == exempt or name.startswith(f"{exempt}.") for exempt in EXEMPT)


def _modules():
    """Every module under `vit`."""
    root = Path(vit.__file__).parent
    parts = (path.relative_to(root.parent).with_suffix("").parts for path in sorted(root.rglob("*.py")))
    return [".".join(names[:-1] if names[-1] == "__init__" else names) for names in parts]


def _imported_frameworks(run_python, *names):
    done = run_python("-c", IMPORT.format(names=names, frameworks=FRAMEWORKS))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1].replace("'", '"'))


def test_importing_every_module_imports_no_framework(run_python):
    names = [name for name in _modules() if not _is_exempt(name)]
    assert {"vit.model.config", "vit.model.parameters", "vit.backend", "vit.training.run", "vit.training.train",
            "vit.training.job", "vit.training.history", "vit.parity.pairs", "vit.data.cifar", "vit.data.digits",
            "vit.data.download", "vit.data.unpickle", "vit.cli.train", "vit.__main__"} <= set(names)
    assert _imported_frameworks(run_python, *names, "fe_compat") == []


@pytest.mark.parametrize("room", ["checkpoints", "convert", "data", "files", "model", "remote"])
def test_what_a_training_asks_does_not_ask_it(run_python, room):
    """The arrows of docs/architecture.md point one way."""
    names = [name for name in _modules() if name.startswith(f"vit.{room}")]
    done = run_python("-c", f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
                            "print([name for name in sys.modules if name.startswith('vit.training')])")
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("name", ["torch", "vit.training.traces.history"])
def test_the_check_notices_a_framework(run_python, name):
    assert "torch" in _imported_frameworks(run_python, name)


def test_what_is_exempt_is_there():
    assert set(EXEMPT) <= set(_modules())
