"""MindSpore as the scripts set it up."""
import pathlib

import pytest


@pytest.mark.backend("ms")
@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="lists its threads as Linux does")
@pytest.mark.parametrize(("asked", "elsewhere"), [({}, False), ({"MS_DEV_HOST_BLOCKING_RUN": "0"}, True)],
                         ids=["by itself", "unless the user says otherwise"])
def test_a_step_runs_in_the_thread_that_asks_for_it(run_python, monkeypatch, asked, elsewhere):
    """MindSpore's own way is a thread for it, for which the caller waits by spinning: a core less to compute with."""
    monkeypatch.delenv("MS_DEV_HOST_BLOCKING_RUN", raising=False)  # as this process has set it by now
    done = run_python("-c", """
import glob
import mindspore as ms
import vit_ms
assert (ms.Tensor([1.0]) + 1).asnumpy() == 2
print([open(name).read() for name in glob.glob("/proc/self/task/*/comm")])
""", **asked)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ("frontend_queue" in done.stdout) == elsewhere, done.stdout
