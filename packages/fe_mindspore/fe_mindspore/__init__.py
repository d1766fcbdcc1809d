"""MindSpore as FastEstimator's third backend.

Importing this package teaches FastEstimator 1.7 about MindSpore, once. From then on a model that is a MindSpore
`nn.Cell` goes through FastEstimator's own `fe.build`, ops, `fe.Network`, `fe.Estimator` and traces, spelled as for
torch and TensorFlow:

    import fastestimator as fe
    import fe_mindspore
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp

    model = fe.build(model_fn=LeNet, optimizer_fn=lambda params: ms.nn.SGD(params, learning_rate=0.01, momentum=0.9))
    network = fe.Network(ops=[
        ModelOp(model=model, inputs="x", outputs="y_pred"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
        UpdateOp(model=model, loss_name="ce"),
    ])

Why FastEstimator itself is taught rather than given namesakes: its ops and traces are mostly framework-neutral, and
the few functions that are not end in "unrecognized model"; those few get a MindSpore branch, in one place
(`fe_mindspore.enable`). What torch and TensorFlow models go through is untouched.

An op graph becomes a plan (`plan`), the plan becomes one Cell (`graph`), and that Cell is compiled with `ms.jit`:
forward, loss, gradient and update are one graph. Outside it everything is what FastEstimator's pipeline yields:
torch tensors on the CPU.
"""
import os

from fe_compat import load_fastestimator

load_fastestimator()

import mindspore as ms
from fastestimator.estimator import Estimator

from fe_mindspore.enable import enable

# By default another thread runs a step while the caller spins until it is done, which on a CPU takes a core away from
# the computation: a training step of a small model took four times as long on two cores, and twice on one.
if ms.get_context("device_target") == "CPU":
    os.environ.setdefault("MS_DEV_HOST_BLOCKING_RUN", "1")
enable()

from fastestimator.network import Network, build

from fe_mindspore.errors import UnsupportedError
from fe_mindspore.gradient import GradientOp
from fe_mindspore.network import MSNetwork

__all__ = ["Estimator", "GradientOp", "MSNetwork", "Network", "UnsupportedError", "build", "enable"]
