"""fe.build and what hangs on it: optimizers, names, weights on disk."""
import fastestimator as fe
import mindspore as ms
import numpy as np
import pytest
from fastestimator.op.tensorop.model import ModelOp
from fe_mindspore import UnsupportedError
from fems_helpers import MLP, batch, build, classifier, moved, sgd, steps, weights
from mindspore import nn
from mindspore.experimental import optim


@pytest.mark.parametrize("optimizer, rate", [("adadelta", 1.0), ("adagrad", 0.01), ("adam", 0.001), ("adamax", 0.002),
                                             ("rmsprop", 0.01), ("sgd", 0.01)])
def test_optimizers_by_name(optimizer, rate):
    model = build(optimizer_fn=optimizer)
    before = weights(model)
    assert fe.backend.get_lr(model) == pytest.approx(rate)
    steps(classifier(model), [batch()])
    assert moved(before, model)


@pytest.mark.parametrize("make", [
    lambda params: optim.Adam(params, lr=0.1),
    lambda params: nn.AdamWeightDecay(params, learning_rate=0.1, weight_decay=0.01),
    lambda params: nn.Momentum([{"params": params[:2], "lr": 0.1}, {"params": params[2:], "lr": 0.2}], 0.3, 0.9),
], ids=["experimental", "decoupled", "groups"])
def test_other_kinds_of_optimizers(make):
    model = build(optimizer_fn=make)
    network = classifier(model)
    steps(network, [batch()])
    assert fe.backend.get_lr(model) == pytest.approx(0.1)
    fe.backend.set_lr(model, 0.0)
    before = weights(model)
    steps(network, [batch()])
    assert not moved(before, model)
    fe.backend.set_lr(model, 0.3)
    assert fe.backend.get_lr(model) == pytest.approx(0.3)
    steps(network, [batch()])
    assert moved(before, model)


def test_a_schedule_inside_the_optimizer():
    model = build(optimizer_fn=lambda params: nn.SGD(params, nn.ExponentialDecayLR(0.1, 0.5, 1)))
    assert fe.backend.get_lr(model) == pytest.approx(0.1)
    steps(classifier(model), [batch(), batch()])
    assert fe.backend.get_lr(model) == pytest.approx(0.025)
    with pytest.raises(UnsupportedError, match="schedule it with FastEstimator's LRScheduler"):
        fe.backend.set_lr(model, 0.1)


@pytest.mark.parametrize("optimizer, message", [
    ("sdg", "'sdg' is not one of adadelta"),
    (lambda: None, "takes the list of trainable parameters"),
    (lambda params: params, "should make a MindSpore optimizer, but made a"),
    (lambda params: nn.SGD(MLP().trainable_params()), "'fc1.weight', which is no parameter of it"),
])
def test_a_wrong_optimizer_is_named(optimizer, message):
    with pytest.raises(ValueError, match=message):
        build(optimizer_fn=optimizer)


def test_a_model_without_an_optimizer():
    model = fe.build(MLP, None, model_name="still")
    with pytest.raises(ValueError, match="'still' has a UpdateOp but no optimizer"):
        classifier(model)
    with pytest.raises(ValueError, match="'still' has no optimizer"):
        fe.backend.get_lr(model)
    network = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="p")])
    assert network.transform(batch(), "infer")["p"].shape == (32, 3)


def test_mixed_precision_is_refused():
    with pytest.raises(UnsupportedError, match=r"mixed_precision=True.*auto_mixed_precision"):
        build(mixed_precision=True)
    import tensorflow as tf
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_an_optimizer_is_no_part_of_its_model():
    model = build(optimizer_fn="adam")
    names = [name for name, _ in model.parameters_and_names()]
    network = classifier(model)
    for epoch in (1, 2):
        steps(network, [batch()], epoch=epoch)
    assert [name for name, _ in model.parameters_and_names()] == names
    assert [parameter.name for parameter in model.get_parameters()] == names
    assert set(dict(model.cells_and_names())) == {"", "fc1", "drop", "fc2"}


def test_several_models_at_once_and_names():
    first, second = fe.build(lambda: [MLP(), MLP()], [sgd(), "adam"], model_name=["first", "second"])
    assert (first.model_name, second.model_name) == ("first", "second")
    assert isinstance(second.optimizer, nn.Adam)


def test_weights_and_optimizer_go_through_files(tmp_path):
    model = build(optimizer_fn=sgd(momentum=0.9))
    steps(classifier(model), [batch(seed=seed) for seed in range(3)])
    fe.backend.set_lr(model, 0.05)
    path = fe.backend.save_model(model, str(tmp_path), save_optimizer=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "model_opt.safetensors"]
    other = build(optimizer_fn=sgd(lr=0.7, momentum=0.9))
    network = classifier(other)
    steps(network, [batch()])  # graphs that have run go on with what is loaded
    fe.backend.load_model(other, path, load_optimizer=True)
    assert fe.backend.get_lr(other) == pytest.approx(0.05)
    for one in (model, other):
        steps(classifier(one) if one is model else network, [batch(seed=9)])
    np.testing.assert_equal(weights(other), weights(model))


def test_mindspore_checkpoints_load(tmp_path):
    model = build()
    ms.save_checkpoint(model, str(tmp_path / "plain.ckpt"))
    np.testing.assert_equal(weights(build(weights_path=str(tmp_path / "plain.ckpt"))), weights(model))


def test_files_that_do_not_fit(tmp_path):
    path = fe.backend.save_model(build(), str(tmp_path))
    with pytest.raises(ValueError, match=r"fc2.weight has shape \[3, 16\], not \[5, 16\]"):
        build(lambda: MLP(outputs=5), weights_path=path)
    with pytest.raises(ValueError, match=r"2 missing \(bias, weight\); 4 unexpected \(fc1.bias, fc1.weight, "):
        build(lambda: nn.Dense(2, 2), weights_path=path)
    with pytest.raises(ValueError, match="there is no file"):
        build(weights_path=str(tmp_path / "absent.safetensors"))
    with pytest.raises(UnsupportedError, match="save_architecture"):
        fe.backend.save_model(build(), str(tmp_path), save_architecture=True)


def test_models_that_were_not_built(tmp_path):
    with pytest.raises(ValueError, match=r"MLP was not made by fe\.build"):
        fe.backend.save_model(MLP(), str(tmp_path))
    with pytest.raises(AssertionError, match=r"must use fe\.build"):
        ModelOp(model=MLP(), inputs="x", outputs="p")
