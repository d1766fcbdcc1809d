"""Everything under `vit` imports no framework; proved in a process of its own."""
import json

import pytest

FRAMEWORKS = ("torch", "tensorflow", "keras", "tf_keras", "mindspore", "fastestimator")

WALK = """
import importlib, json, pkgutil, sys
import vit
names = [module.name for module in pkgutil.walk_packages(vit.__path__, "vit.")]
for name in names:
    importlib.import_module(name)
{extra}
print(json.dumps([names, [name for name in FRAMEWORKS if name in sys.modules]]))
"""


def _walk(run_python, extra=""):
    done = run_python("-c", f"FRAMEWORKS = {FRAMEWORKS!r}" + WALK.replace("{extra}", extra))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_every_module_imports_no_framework(run_python):
    names, frameworks = _walk(run_python)
    assert frameworks == []
    assert {"vit.model.config", "vit.weights", "vit.training.run", "vit.training.traces.history", "fe_compat", "vit.training.pipeline",
            "vit.data.cifar", "vit.data.digits", "vit.data.download", "vit.data.unpickle"} <= set(names)


@pytest.mark.parametrize("extra", ["import torch"])
def test_the_check_notices_a_framework(run_python, extra):
    assert _walk(run_python, extra)[1] == ["torch"]
