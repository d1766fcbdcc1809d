"""Each test runs in its own folder, since MindSpore writes its working files where it stands."""
import gc

from fe_compat import load_fastestimator

fe = load_fastestimator()  # before anything else imports it

import fe_mindspore  # noqa: F401
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
