"""Which op runs when and how: modes, epochs, merge_grad, gradients as values, options of ModelOp, users' own ops."""
import fastestimator as fe
import mindspore as ms
import numpy as np
import pytest
import torch
from fastestimator.op.numpyop import LambdaOp as NumpyLambda
from fastestimator.op.tensorop import Average, Permute, Reshape, TensorOp
from fastestimator.op.tensorop.argmax import Argmax
from fastestimator.op.tensorop.augmentation import MixUpBatch
from fastestimator.op.tensorop.gradient import FGSM, Watch
from fastestimator.op.tensorop.loss import CrossEntropy, FocalLoss, L2Regularizaton
from fastestimator.op.tensorop.meta import Fuse, Sometimes
from fastestimator.op.tensorop.model import ModelOp, UpdateOp
from fastestimator.op.tensorop.tensorop import Delete, LambdaOp
from fastestimator.schedule import EpochScheduler, RepeatScheduler
from fastestimator.slicer import AxisSlicer
from fastestimator.trace.metric import Accuracy
from fe_mindspore import UnsupportedError
from fe_mindspore.gradient import GradientOp
from fems_helpers import (
    FEATURES,
    MLP,
    assert_same_weights,
    batch,
    build,
    classifier,
    fit,
    moved,
    pipeline,
    sgd,
    steps,
    twins,
    weights,
)
from mindspore import nn, ops


def double(x):
    return x * 2


def test_ops_run_in_their_modes():
    model = build()
    network = fe.Network(ops=[
        LambdaOp(fn=double, inputs="x", outputs="x", mode="train"),
        ModelOp(model=model, inputs="x", outputs="y_pred", mode="!infer"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True, mode=("train", "eval")),
        UpdateOp(model=model, loss_name="ce"),
        ModelOp(model=model, inputs="x", outputs="prediction", mode="infer"),
    ])
    before = weights(model)
    keys = {mode: set(network.transform(batch(), mode=mode)) for mode in ("eval", "test", "infer")}
    assert keys == {"eval": {"x", "y", "y_pred", "ce"}, "test": {"x", "y", "y_pred"}, "infer": {"x", "y", "prediction"}}
    assert not moved(before, model)  # the UpdateOp is for training
    result = network.transform(batch(), mode="train")
    np.testing.assert_allclose(result["x"].numpy(), 2 * batch()["x"].numpy())
    assert moved(before, model)


def test_ops_change_by_epoch():
    model = build()
    network = fe.Network(ops=[
        EpochScheduler({1: LambdaOp(fn=double, inputs="x", outputs="z"), 2: None}),
        ModelOp(model=model, inputs="x", outputs="y_pred"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
        EpochScheduler({1: None, 3: UpdateOp(model=model, loss_name="ce")}),
    ])
    seen = []
    for epoch in (1, 2, 3):
        before = weights(model)
        seen.append(("z" in steps(network, [batch()], epoch=epoch)[0], moved(before, model)))
    assert seen == [(True, False), (False, False), (False, True)]


def test_optimizers_change_by_epoch():
    model = build(optimizer_fn=EpochScheduler({1: sgd(lr=0.0), 2: sgd(lr=0.5), 3: None}))
    network = classifier(model)
    before = weights(model)
    steps(network, [batch()], epoch=1)
    assert fe.backend.get_lr(model) == 0 and not moved(before, model)
    steps(network, [batch()], epoch=2)
    assert fe.backend.get_lr(model) == 0.5 and moved(before, model)
    with pytest.raises(ValueError, match="'model' is to be updated in epoch 3, but has no optimizer"):
        steps(network, [batch()], epoch=3)


def test_optimizers_take_turns():
    model = build(optimizer_fn=RepeatScheduler([sgd(lr=0.5), "adam"]))
    network = classifier(model)
    rates = []
    for epoch in (1, 2, 3):
        steps(network, [batch()], epoch=epoch)
        rates.append(round(fe.backend.get_lr(model), 6))
    assert rates == [0.5, 0.001, 0.5]


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
def test_merge_grad_updates_every_third_step_as_in_torch(eager):
    pair = twins(dtype=np.float64)
    batches = [batch(dtype=np.float64, seed=seed) for seed in range(7)]
    for model in pair:
        network = fe.Network(ops=[
            ModelOp(model=model, inputs="x", outputs="y_pred"),
            CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
            UpdateOp(model=model, loss_name="ce", merge_grad=3),
        ])
        before, when = weights(model), []
        for one in batches:
            steps(network, [one], eager=eager)
            when.append(moved(before, model))
            before = weights(model)
        assert when == [False, False, True, False, False, True, False]
    assert_same_weights(*pair, 1e-12)


class Clip(TensorOp):
    """Gradients by their norm."""

    def forward(self, data, state):
        clipped = ()
        for gradient in data:
            clipped = clipped + (gradient / 2,)
        return clipped


def test_gradients_as_a_value_of_the_graph():
    """Half of each gradient is what half the learning rate would do."""
    pair = twins(lr=0.1, dtype=np.float64)[0], twins(name="half", lr=0.05, dtype=np.float64)[1]
    network = fe.Network(ops=[
        ModelOp(model=pair[0], inputs="x", outputs="y_pred"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
        GradientOp(finals="ce", outputs="gradients", model=pair[0]),
        Clip(inputs="gradients", outputs="clipped", mode="train"),
        UpdateOp(model=pair[0], loss_name="ce", gradients="clipped"),
    ])
    batches = [batch(dtype=np.float64, seed=seed) for seed in range(3)]
    results = steps(network, batches)
    steps(classifier(pair[1]), batches)
    assert_same_weights(*pair, 1e-12)
    assert [tuple(g.shape) for g in results[0]["gradients"]] == [p.shape for p in pair[0].trainable_params()]
    assert moved(weights(twins(dtype=np.float64)[0]), pair[0])


def add_three(x):
    return x + 3


class Scaled(TensorOp):
    """A user's op: its own layer, the mode and the epoch."""

    def __init__(self, inputs, outputs, mode=None):
        super().__init__(inputs=inputs, outputs=outputs, mode=mode)
        self.layer = nn.L1Loss()
        self.built = None

    def build(self, framework, device=None):
        self.built = framework

    def forward(self, data, state):
        a, b = data
        value = self.layer(a, b) * state["epoch"]
        if state["mode"] == "train":
            value = -value
        return value


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
def test_a_users_op(eager):
    op = Scaled(inputs=("x", "z"), outputs="value")
    model = build()
    network = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y_pred"),
                              LambdaOp(fn=add_three, inputs="x", outputs="z"), op])
    assert op.built == "mindspore"
    values = [float(steps(network, [batch()], mode=mode, epoch=epoch, eager=eager)[0]["value"])
              for mode, epoch in (("train", 1), ("train", 2), ("eval", 2))]
    np.testing.assert_allclose(values, [-3, -6, 6], rtol=1e-6)


def test_a_lambda_runs_eagerly_only():
    network = fe.Network(ops=[ModelOp(model=build(), inputs="x", outputs="y_pred"),
                              LambdaOp(fn=lambda x: x + 3, inputs="x", outputs="z")])
    np.testing.assert_array_equal(steps(network, [batch()], eager=True)[0]["z"].numpy(), batch()["x"].numpy() + 3)
    with pytest.raises(UnsupportedError, match=r"LambdaOp\(inputs=\['x'\], outputs=\['z'\]\) holds a lambda"):
        steps(network, [batch()])


def test_small_ops_of_fastestimator():
    model = build()
    network = fe.Network(ops=[
        Fuse([ModelOp(model=model, inputs="x", outputs="y_pred"), Argmax(inputs="y_pred", outputs="best", axis=1)]),
        Reshape(inputs="x", outputs="square", shape=(-1, 4, 2)),
        Permute(inputs="square", outputs="turned", permutation=(0, 2, 1)),
        Average(inputs=("x", "y_pred_like"), outputs="mean"),
        Delete(keys="square"),
    ])
    one = batch()
    one["y_pred_like"] = one["x"] * 3
    result = network.transform(one, mode="eval")
    assert "square" not in result
    np.testing.assert_array_equal(result["best"].numpy(), result["y_pred"].numpy().argmax(1))
    np.testing.assert_array_equal(result["turned"].numpy(), one["x"].numpy().reshape(-1, 4, 2).transpose(0, 2, 1))
    np.testing.assert_allclose(result["mean"].numpy(), one["x"].numpy() * 2, rtol=1e-6)


def test_l2_regularization_as_in_torch():
    pair = twins(dtype=np.float64)
    for model in pair:
        network = fe.Network(ops=[
            ModelOp(model=model, inputs="x", outputs="y_pred"),
            CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
            L2Regularizaton(inputs="ce", outputs="total", model=model, beta=0.3),
            UpdateOp(model=model, loss_name="total"),
        ])
        steps(network, [batch(dtype=np.float64, seed=seed) for seed in range(3)])
    assert_same_weights(*pair, 1e-12)


class TwoOutputs(nn.Cell):
    """([B, 8], [B, 8]) -> ([B, 3], [B, 16])."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Dense(FEATURES, 16), nn.Dense(16, 3)

    def construct(self, x, z):
        hidden = ops.relu(self.fc1(x + z))
        return self.fc2(hidden), hidden


def test_several_inputs_and_outputs():
    model = build(TwoOutputs)
    network = fe.Network(ops=[ModelOp(model=model, inputs=("x", "x"), outputs=("y_pred", "hidden"))])
    result = network.transform(batch(), mode="infer")
    assert result["y_pred"].shape == (32, 3) and result["hidden"].shape == (32, 16)
    one_value = fe.Network(ops=[ModelOp(model=build(name="single"), inputs="x", outputs=("a", "b"))])
    for eager in (True, False):
        with pytest.raises(ValueError, match=r"ModelOp names 2 outputs \(a, b\), but returned fewer"):
            steps(one_value, [batch()], mode="infer", eager=eager)


def test_trainable_false_runs_the_model_in_evaluation_mode():
    model = build(lambda: MLP(dropout=0.9))
    noisy, quiet = (fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y_pred", trainable=trainable)])
                    for trainable in (True, False))
    reference = steps(noisy, [batch()], mode="eval")[0]["y_pred"].numpy()
    np.testing.assert_allclose(steps(quiet, [batch()])[0]["y_pred"].numpy(), reference, atol=1e-6)
    assert abs(steps(noisy, [batch()])[0]["y_pred"].numpy() - reference).max() > 0.01
    np.testing.assert_allclose(steps(noisy, [batch()], mode="eval")[0]["y_pred"].numpy(), reference, atol=1e-6)


def test_one_model_in_two_modes_is_refused():
    model = build()
    network = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="a"),
                              ModelOp(model=model, inputs="x", outputs="b", trainable=False)])
    with pytest.raises(UnsupportedError, match="trainable=True and with trainable=False"):
        network(mode="train", epoch=1, ds_id="")
    assert "b" in steps(network, [batch()], mode="eval")[0]


class OddUpdate(UpdateOp):
    def forward(self, data, state):
        return None


@pytest.mark.parametrize("name, op", [
    ("intermediate_layers", lambda model: ModelOp(model=model, inputs="x", outputs=("a", "b"), intermediate_layers=1)),
    ("FocalLoss", lambda model: FocalLoss(inputs=("y_pred", "y"), outputs="loss")),
    ("MixUpBatch", lambda model: MixUpBatch(inputs=("x", "y"), outputs=("x", "y_mix"))),
    ("FGSM", lambda model: FGSM(data="x", loss="ce", outputs="attacked")),
    ("Watch", lambda model: Watch(inputs="x")),
    ("Sometimes", lambda model: Sometimes(LambdaOp(fn=double, inputs="x", outputs="x"))),
    ("OddUpdate", lambda model: OddUpdate(model=model, loss_name="ce")),
])
def test_what_is_refused_is_named(name, op):
    model = build()
    with pytest.raises(UnsupportedError, match=name):
        fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y_pred"), op(model)])


def test_slicers_cut_batches():
    model = build()
    network = classifier(model)
    whole = steps(network, [batch(4)], mode="eval")[0]["y_pred"].numpy()
    sliced = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y_pred")],
                        slicers=AxisSlicer(slice="x", unslice=("x", "y_pred"), axis=0))
    seen = steps(sliced, [batch(4)], mode="eval")[0]["y_pred"]
    assert seen.shape == (4, 3)
    np.testing.assert_allclose(seen.numpy(), whole, atol=1e-6)


def test_post_processing_and_transform():
    model = build()
    network = classifier(model, pops=NumpyLambda(fn=lambda p: p.argmax(-1), inputs="y_pred", outputs="best"))
    pipe = pipeline(test=48)
    over_pipeline = network.transform(pipe, mode="test")
    assert [r["best"].shape for r in over_pipeline] == [(32,), (16,)]
    assert all(isinstance(r["best"], torch.Tensor) for r in over_pipeline)
    plain = network.transform({"x": np.ones((2, FEATURES), np.float32), "y": np.array([0, 1])}, mode="eval")
    np.testing.assert_array_equal(plain["best"].numpy(), plain["y_pred"].numpy().argmax(1))
    listed = network.transform([batch(), batch(seed=1)], mode="eval")
    assert len(listed) == 2


def test_a_missing_key_is_named():
    with pytest.raises(KeyError, match=r"needs the keys \['y'\]"):
        steps(classifier(build()), [{"x": batch()["x"]}])


def test_words_cannot_feed_a_network():
    with pytest.raises(TypeError, match="batch key 'x' feeds an op"):
        steps(classifier(build()), [{**batch(), "x": ["a", "b"]}])


def test_tensorflow_batches_feed_a_network():
    import tensorflow as tf
    model = build()
    one = batch()
    results = [steps(classifier(model), [{key: make(value.numpy()) for key, value in one.items()}], mode="eval")
               for make in (tf.convert_to_tensor, ms.Tensor, np.asarray)]
    for result in results[1:]:
        np.testing.assert_array_equal(result[0]["y_pred"].numpy(), results[0][0]["y_pred"].numpy())


def test_an_estimator_tests():
    model = build()
    estimator = fe.Estimator(pipeline=pipeline(test=32), network=classifier(model), epochs=1, log_steps=0,
                             traces=[Accuracy(true_key="y", pred_key="y_pred", mode="test")])
    estimator.fit()
    before = weights(model)
    (accuracy,), = (estimator.test("tested").history["test"]["accuracy"].values(),)
    expected = steps(classifier(model), [batch(32, seed=2)], mode="test")[0]
    assert accuracy == (expected["y_pred"].argmax(-1) == expected["y"]).numpy().mean()
    assert not moved(before, model)


def test_a_custom_epoch_in_fit():
    model = build()
    network = fe.Network(ops=[
        ModelOp(model=model, inputs="x", outputs="y_pred"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
        EpochScheduler({1: UpdateOp(model=model, loss_name="ce"), 2: None}),
    ])
    history = fit(network, epochs=3)
    evaluated = [float(v) for v in history["eval"]["ce"].values()]
    assert evaluated[0] == evaluated[1] == evaluated[2]
