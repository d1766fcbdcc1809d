"""What the tests share. Importing it imports no framework."""
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import fe_compat
import pytest


@pytest.fixture
def run_python(tmp_path):
    """A function that runs this Python in an empty folder; on its path are the folder `before` and this fe_compat."""

    def run(*arguments, before="", **environment):
        variables = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(before), str(Path(fe_compat.__file__).parents[1])]))
        folder = tmp_path / "cwd"
        folder.mkdir(exist_ok=True)
        return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120,
                              env={**variables, **environment})

    return run


@pytest.fixture
def unusable():
    """A context whose body must end in an Unusable of one line that holds the given fragments."""

    @contextlib.contextmanager
    def check(*fragments):
        with pytest.raises(fe_compat.Unusable) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        assert [fragment for fragment in fragments if fragment not in message] == [], message

    return check
