"""Under which conditions the contenders of a step run. No framework is imported: stand-ins are in its place."""
import ast
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from benchmarks import step

# Who keeps freed memory by itself: ours when bare, and the main peers once more. `whole` does so in `ours_whole`.
KEEPS = {"torch": {"ours", "ours_compiled", "fe_kept", "huggingface_kept"},
         "tf": {"ours", "ours_xla", "fe_kept", "huggingface_kept"},
         "ms": {"ours", "mindcv_kept"}}


def _calls(repo, backend, name, environ):
    """What a contender calls, in order, of all that its module names."""
    tree = ast.parse((repo / f"benchmarks/contenders/{step.MODULES[backend]}.py").read_text())
    known = step.contenders(backend)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in known]
    called = Mock()
    called._huggingface.return_value = called.forward, called.variables
    names = {node.id: getattr(called, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {"os": SimpleNamespace(environ=environ)}
    exec(compile(ast.Module(functions, []), backend, "exec"), names)
    names[name]("tiny", None, 1, called.turns)
    return [call[0] for call in called.mock_calls]


@pytest.mark.parametrize("backend", KEEPS)
def test_who_keeps_freed_memory(repo, backend):
    calls = {name: _calls(repo, backend, name, {}) for name in step.contenders(backend) if name != "peak"}
    assert {name for name, called in calls.items() if "memory.keep_freed" in called} == KEEPS[backend]
    for name in KEEPS[backend]:
        assert calls[name][0] == "memory.keep_freed"  # before it takes any
        if name.endswith("_kept"):
            assert calls[name][1:] == calls[name.removesuffix("_kept")]


@pytest.mark.parametrize("backend", KEEPS)
def test_who_runs_under_our_conditions_is_called_that(backend):
    words = step.contenders(backend)
    for name in filter(lambda name: name.endswith("_kept"), KEEPS[backend]):
        assert words[name].startswith(f"{words[name.removesuffix('_kept')]}, keeping freed memory ")
        assert words[name].endswith(" as ours does")


def test_mindcv_under_our_conditions_does_not_spin(repo):
    for name, found in (("mindcv", {}), ("mindcv_kept", {"MS_DEV_HOST_BLOCKING_RUN": "1"})):
        environ = {}
        _calls(repo, "ms", name, environ)
        assert environ == found
    assert '"MS_DEV_HOST_BLOCKING_RUN", "1"' in (repo / "vit/backend/mindspore.py").read_text()  # as ours does
