"""This package needs FastEstimator, its frameworks and fe_compat, and nothing of the project that it grew up in."""
WALK = """
import importlib, pkgutil, sys
import fe_mindspore
for module in pkgutil.walk_packages(fe_mindspore.__path__, "fe_mindspore."):
    importlib.import_module(module.name)
print(sorted(name for name in sys.modules if name.startswith("vit")))
print(len([name for name in sys.modules if name.startswith("fe_mindspore.")]))
"""


def test_no_module_of_vit_is_imported(run_python):
    done = run_python("-c", WALK)
    assert done.returncode == 0, done.stderr[-2000:]
    imported, modules = done.stdout.splitlines()[-2:]
    assert imported == "[]"
    assert int(modules) > 10
