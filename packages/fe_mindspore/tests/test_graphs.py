"""What is compiled, how often; and that the warmup leaves nothing behind."""
import pathlib

import fastestimator as fe
import mindspore as ms
import numpy as np
import pytest
from fems_helpers import MLP, batch, build, classifier, fit, moved, pipeline, sgd, steps, weights


def test_one_graph_per_mode_and_shape(compilations):
    """Three epochs of 32, 32, 32 and 4 samples: training and evaluation, each with a whole and a last batch."""
    model = build()
    fit(classifier(model), pipe=pipeline(train=100, evaluate=36), epochs=3)
    assert len(compilations) == 4


def test_a_schedule_of_optimizers_compiles_each_once(compilations):
    from fastestimator.schedule import RepeatScheduler
    network = classifier(build(optimizer_fn=RepeatScheduler([sgd(), "adam"])))
    for epoch in (1, 2, 3, 4, 5):
        steps(network, [batch()], epoch=epoch)
    assert len(compilations) == 2


def add_up(pair, extra):
    return pair[0] + pair[1] * extra["factor"]


def test_containers_in_a_batch_are_no_constants(compilations):
    from fastestimator.op.tensorop.model import ModelOp
    from fastestimator.op.tensorop.tensorop import LambdaOp
    network = fe.Network(ops=[LambdaOp(fn=add_up, inputs=("pair", "extra"), outputs="x"),
                              ModelOp(model=build(), inputs="x", outputs="p")])
    for seed in range(3):
        x = batch(seed=seed)["x"]
        extra = {"factor": np.float32(seed)}
        result = steps(network, [{"pair": [x, x], "extra": extra}], mode="eval")[0]
        np.testing.assert_allclose(result["x"], x * (1 + seed), rtol=1e-6)
    assert len(compilations) == 1


def test_a_new_learning_rate_compiles_nothing(compilations):
    model = build()
    network = classifier(model)
    steps(network, [batch()])
    for rate in (0.0, 0.5):
        fe.backend.set_lr(model, rate)
        before = weights(model)
        steps(network, [batch()])
        assert moved(before, model) == (rate > 0)
    assert len(compilations) == 1


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
def test_warmup_leaves_no_trace(eager):
    model = build(lambda: ms.nn.SequentialCell(ms.nn.Dense(8, 4), ms.nn.BatchNorm1d(4), ms.nn.Dense(4, 3)),
                  optimizer_fn="adam")
    network = classifier(model)
    before = weights(model)
    state = {name: np.array(p.asnumpy()) for name, p in model.current_optimizer.fe_state.items()}
    steps(network, [batch()], warmup=True, eager=eager)
    assert not moved(before, model)
    for name, parameter in model.current_optimizer.fe_state.items():
        np.testing.assert_array_equal(parameter.asnumpy(), state[name], err_msg=name)
    steps(network, [batch()], eager=eager)
    changed = {name for name, array in weights(model).items() if (array != before[name]).any()}
    assert {"0.weight", "1.gamma", "1.moving_mean", "2.bias"} <= changed


def test_graph_mode_is_no_obstacle():
    """A program may have set MindSpore's global mode to graph; eager steps stay eager, and the mode is kept."""
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        model = build(lambda: MLP(dropout=0.1))
        network = classifier(model)
        for eager in (False, True):
            before = weights(model)
            steps(network, [batch()], eager=eager)
            steps(network, [batch()], mode="eval", eager=eager)
            assert moved(before, model)
        assert ms.get_context("mode") == ms.GRAPH_MODE
        assert fe.backend.get_lr(model) == pytest.approx(0.1)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


def test_training_and_evaluation_mode():
    """Dropout works in training only, whichever of the two was compiled first."""
    model = build(lambda: MLP(dropout=0.9))
    network = classifier(model)
    fe.backend.set_lr(model, 0.0)

    def loss(mode):
        return float(steps(network, [batch()], mode=mode)[0]["ce"])

    assert loss("train") != loss("train")
    assert loss("eval") == loss("eval")
    assert loss("train") != loss("eval")


def test_a_frozen_parameter_is_not_moved_in_silence():
    model = build(optimizer_fn=sgd(momentum=0.9, weight_decay=0.1))
    model.fc1.weight.requires_grad = False
    with pytest.raises(ValueError, match=r"'fc1.weight' of model 'model' was frozen"):
        steps(classifier(model), [batch()])


def test_torch_and_tensorflow_are_as_before(run_python):
    """In one process after `import fe_mindspore`: a model of each trains, saves, loads, and is refused as ever."""
    program = """
import fe_mindspore, os, tempfile
import fastestimator as fe, numpy as np, tensorflow as tf, torch
from fastestimator.network import TFNetwork, TorchNetwork
from fastestimator.op.tensorop.loss import CrossEntropy
from fastestimator.op.tensorop.model import ModelOp, UpdateOp
def net(model):
    return fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="p"),
        CrossEntropy(inputs=("p", "y"), outputs="ce", from_logits=True), UpdateOp(model=model, loss_name="ce")])
torch_model = fe.build(lambda: torch.nn.Linear(4, 3), "sgd", model_name="t")
tf_model = fe.build(lambda: tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(4,))]), "sgd", model_name="k")
for model, kind, ext in ((torch_model, TorchNetwork, "pt"), (tf_model, TFNetwork, "h5")):
    network = net(model)
    assert type(network) is kind
    losses = [float(network.transform({"x": np.eye(4, dtype="float32"), "y": np.array([0, 1, 2, 0])}, "train")["ce"])
              for _ in range(20)]
    assert losses[-1] < losses[0], losses
    fe.backend.set_lr(model, 0.25)
    assert abs(fe.backend.get_lr(model) - 0.25) < 1e-6
    path = fe.backend.save_model(model, tempfile.mkdtemp(), save_optimizer=True)
    assert path.endswith(ext)
    fe.backend.load_model(model, path, load_optimizer=True)
try:
    fe.build(lambda: "no model", "sgd")
    raise SystemExit("accepted")
except ValueError as err:
    assert "unrecognized model format" in str(err)
print("fine")
"""
    done = run_python("-c", program)
    assert done.stdout.strip().endswith("fine"), done.stderr[-2000:]


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="lists its threads as Linux does")
@pytest.mark.parametrize(("asked", "elsewhere"), [({}, False), ({"MS_DEV_HOST_BLOCKING_RUN": "0"}, True)],
                         ids=["by itself", "unless the user says otherwise"])
def test_a_step_runs_in_the_thread_that_asks_for_it(run_python, asked, elsewhere):
    """MindSpore's own way is a thread for it, for which the caller waits by spinning: a core less to compute with."""
    done = run_python("-c", """
import glob
import mindspore as ms
import fe_mindspore
assert (ms.Tensor([1.0]) + 1).asnumpy() == 2
print([open(name).read() for name in glob.glob("/proc/self/task/*/comm")])
""", **asked)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ("frontend_queue" in done.stdout) == elsewhere, done.stdout
