"""Steps in TensorFlow that leave AutoGraph out until they need it: the same numbers."""
import inspect

import fe_compat
import numpy as np
import pytest
from fe_compat import tracing

tf = fe_compat.legacy_tensorflow()
fe = fe_compat.load_fastestimator()
from fastestimator.network import TFNetwork
from fastestimator.op.tensorop.loss import CrossEntropy
from fastestimator.op.tensorop.model import ModelOp, UpdateOp
from fastestimator.op.tensorop.tensorop import LambdaOp


def branch(x):
    if tf.reduce_sum(x) > 0:
        return 2 * x
    return x


def loop(x):
    total = tf.zeros_like(x)
    for row in x:
        total += row
    return total


def count(x):
    return x * float(tf.cast(len(x), tf.float32))


@pytest.fixture(autouse=True)
def step_as_it_was(monkeypatch):
    """Put FastEstimator's own step back."""
    step = TFNetwork._forward_step_static
    monkeypatch.setattr(TFNetwork, "_forward_step_static", getattr(step, "translated", step))


def train(fn=None, merge_grad=1):
    """Three steps: the losses, the weights, and the network."""
    tf.keras.utils.set_random_seed(0)
    model = fe.build(model_fn=lambda: tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3, ))]),
                     optimizer_fn=lambda: tf.keras.optimizers.SGD(0.1))
    network = fe.Network(ops=[*([LambdaOp(fn=fn, inputs="x", outputs="x")] if fn else []),
                              ModelOp(model=model, inputs="x", outputs="y_pred"),
                              CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
                              UpdateOp(model=model, loss_name="ce", merge_grad=merge_grad)])
    batch = {"x": np.eye(4, 3, dtype="float32"), "y": np.array([0, 1, 0, 1])}
    losses = []
    with network(mode="train", epoch=1, ds_id="", desired_output_keys={"ce"}):
        for _ in range(3):
            losses.append(float(network.run_step({key: tf.constant(value) for key, value in batch.items()})["ce"]))
    return losses, [weight.tolist() for weight in model.get_weights()], network


@pytest.mark.parametrize("options", [{}, {"fn": branch}, {"fn": loop}, {"fn": count}, {"merge_grad": 2}],
                         ids=["plain", "branch", "loop", "count", "merged"])
def test_steps_compute_what_they_did(options):
    losses, weights, _ = train(**options)
    tracing.trace_as_written()
    again, same, network = train(**options)
    assert (again, same) == (losses, weights)
    assert getattr(network, "needs_autograph", False) is bool(options)


def test_a_step_that_needs_it_not_is_not_translated():
    files = []

    def note(x):
        files.append(inspect.currentframe().f_code.co_filename)
        return x

    train(note)
    tracing.trace_as_written()
    step = TFNetwork._forward_step_static
    tracing.trace_as_written()
    assert TFNetwork._forward_step_static is step
    train(note)
    translated, as_written = files
    assert translated != __file__ == as_written


def test_what_is_wrong_is_said_as_before():
    def wrong(x):
        raise TypeError("wrong")

    with pytest.raises(TypeError, match="wrong"):
        train(wrong)
    tracing.trace_as_written()
    with pytest.raises(TypeError, match="wrong"):
        train(wrong)
