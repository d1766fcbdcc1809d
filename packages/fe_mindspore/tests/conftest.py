"""Each test runs in its own folder, since MindSpore writes its working files where it stands."""
import gc
import os
import subprocess
import sys
from pathlib import Path

import fe_compat
from fe_compat import load_fastestimator

fe = load_fastestimator()  # before anything else imports it

import fe_mindspore
import mindspore as ms
import pytest
from fems_helpers import count_compilations

fe.fe_history_path = False  # no database of past runs in the home folder
# FastEstimator collects garbage after each epoch: half a second if it has to look through three frameworks.
gc.freeze()


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ms.set_seed(0)


@pytest.fixture
def compilations(monkeypatch):
    """The list of graphs compiled during the test."""
    return count_compilations(monkeypatch)


@pytest.fixture
def run_python(tmp_path):
    """A function that runs this Python in the test's folder, with these packages on its path."""

    def run(*arguments, **environment):
        # As this process has set them by now.
        variables = {name: value for name, value in os.environ.items()
                     if name not in ("TF_USE_LEGACY_KERAS", "MS_DEV_HOST_BLOCKING_RUN", "MS_COMPILER_CACHE_ENABLE")}
        variables["PYTHONPATH"] = os.pathsep.join(str(Path(package.__file__).parents[1])
                                                  for package in (fe_mindspore, fe_compat))
        return subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                              env={**variables, **environment})

    return run
