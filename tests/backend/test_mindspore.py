"""MindSpore as the scripts set it up."""
import pathlib

import numpy as np
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


@pytest.mark.backend("ms")
def test_layer_norm_is_the_same_by_an_accelerators_kernel():
    """A CPU has that kernel too, in float32; a large epsilon shows that it is not left out."""
    import mindspore as ms

    from vit.backend.mindspore import LayerNorm
    from vit.model.precision import Dtypes
    norm = LayerNorm(16, 0.5, Dtypes(ms.float32, ms.float32))
    x = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32))
    own = norm(x).asnumpy()
    norm.own = False
    np.testing.assert_allclose(norm(x).asnumpy(), own, rtol=0, atol=1e-6)


@pytest.mark.backend("ms")
def test_gelu_with_tanh_is_the_oracles_everywhere():
    """Also where the CPU's tanh is 1 in the place of 0.9999."""
    import mindspore as ms

    from vit.backend.mindspore import gelu_tanh
    from vit.model import oracle
    x = np.linspace(-12, 12, 1001, dtype=np.float32)
    expected = oracle.gelu_tanh(x.astype(np.float64))
    np.testing.assert_allclose(gelu_tanh(ms.Tensor(x)).asnumpy(), expected, rtol=0, atol=1e-6)
