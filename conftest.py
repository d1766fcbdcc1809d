"""`--backends`: the frameworks that the tests below, those of `tests/` and of `packages/`, are run with.

A test that takes `backend` runs once for each framework, and one that takes `pair` once for each two of them. Any other
test that needs a framework says so: `@pytest.mark.backend("ms")`. `@pytest.mark.full_in("ms")` leaves a test's run in
MindSpore to `make test-full`.
"""
import gc
import os
import sys
from itertools import combinations
from pathlib import Path

import pytest

from vit.backend import MissingBackend, require

# Else the commands that tests start would keep MindSpore's graphs in the user's home.
os.environ["MS_COMPILER_CACHE_ENABLE"] = "0"

FRAMEWORKS = {"torch": "torch", "tf": "tensorflow", "ms": "mindspore"}
# What imports a framework before a mark can be read; all that is in it needs the framework.
ROOT = Path(__file__).parent
PATHS = {ROOT / "packages" / "fe_mindspore": "ms", ROOT / "tests" / "convert" / "test_mindcv.py": "ms"}
LEFT_OUT = pytest.StashKey[int]()
MODULES = pytest.StashKey[int]()


def pytest_addoption(parser):
    parser.addoption("--backends", default=",".join(FRAMEWORKS), metavar="NAMES",
                     help="frameworks to test, separated by commas (default: %(default)s); each must be installed")


def pytest_configure(config):
    config.addinivalue_line("markers", "backend(*names): a test of these frameworks; it is left out where --backends "
                                       "does not name all of them")
    config.addinivalue_line("markers", "full_in(*names): `full` in these frameworks alone")
    for name in requested(config):
        if name not in FRAMEWORKS:
            raise pytest.UsageError(f"--backends: unknown backend {name!r}: choose from {', '.join(FRAMEWORKS)}")
        try:
            require(FRAMEWORKS[name], __name__)
        except MissingBackend as error:
            raise pytest.UsageError(f"--backends: {name}: {error}") from None


def pytest_generate_tests(metafunc):
    slow = [name for mark in metafunc.definition.iter_markers("full_in") for name in mark.args]
    frameworks = [pytest.param(name, marks=[pytest.mark.backend(name), *([pytest.mark.full] if name in slow else [])])
                  for name in FRAMEWORKS]
    pairs = [pytest.param(pair, marks=pytest.mark.backend(*pair), id="-".join(pair))
             for pair in combinations(FRAMEWORKS, 2)]
    for name, values in {"backend": frameworks, "pair": pairs}.items():
        if name in metafunc.fixturenames and not parametrizes(metafunc.definition, name):
            metafunc.parametrize(name, values)


def pytest_ignore_collect(collection_path, config):
    if any(collection_path.is_relative_to(path) and name not in requested(config) for path, name in PATHS.items()):
        return True
    return None


@pytest.hookimpl(trylast=True)  # of what -k and -m select
def pytest_collection_modifyitems(config, items):
    left_out = [item for item in items if not needed(item) <= requested(config)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    config.stash[LEFT_OUT] = len(left_out)
    if hasattr(config, "workeroutput"):  # one of pytest-xdist's processes
        config.workeroutput["left_out"] = len(left_out)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Let no collection of garbage look at what a framework has loaded: half a second with three, in each epoch."""
    if len(sys.modules) > item.config.stash.get(MODULES, 0) + 200:
        item.config.stash[MODULES] = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Take over the count of a process of pytest-xdist; each of them collects all tests."""
    if error is None:
        node.config.stash[LEFT_OUT] = node.workeroutput["left_out"]


def pytest_terminal_summary(terminalreporter, config):
    if missing := FRAMEWORKS.keys() - requested(config):
        paths = [str(path.relative_to(ROOT)) for path, name in PATHS.items() if name in missing]
        terminalreporter.write_line(
            f"--backends {config.getoption('--backends')}: left out {config.stash.get(LEFT_OUT, 0)} of the tests"
            + "".join(f", all of {path}" for path in paths))


def requested(config) -> set[str]:
    """Name the backends that `--backends` asks for."""
    return set(config.getoption("--backends").split(","))


def needed(item) -> set[str]:
    """Name the backends that a test needs."""
    return {name for mark in item.iter_markers("backend") for name in mark.args} | {
        name for path, name in PATHS.items() if item.path.is_relative_to(path)}


def parametrizes(function, name: str) -> bool:
    """Whether a test function chooses the values of an argument itself."""
    arguments = [mark.args[0] for mark in function.iter_markers("parametrize")]
    return any(name in (names.replace(" ", "").split(",") if isinstance(names, str) else names) for names in arguments)
