"""FastEstimator's traces with a MindSpore network: each test would fail if its trace did nothing."""
import csv
import glob
import os

import fastestimator as fe
import mindspore as ms
import numpy as np
import pytest
from fastestimator.trace import Trace
from fastestimator.trace.adapt import EarlyStopping, LRScheduler, ReduceLROnPlateau, TerminateOnNaN
from fastestimator.trace.io import BestModelSaver, CSVLogger, ModelSaver, RestoreWizard
from fastestimator.trace.metric import Accuracy, ConfusionMatrix, Precision, Recall
from fe_mindspore import UnsupportedError
from fems_helpers import (
    PlainSGD,
    Recorder,
    batch,
    build,
    classifier,
    data,
    fit,
    moved,
    pipeline,
    sgd,
    steps,
    weights,
)
from safetensors.numpy import load_file


def test_metrics_are_those_of_the_predictions():
    model = build(optimizer_fn=sgd(lr=0.0))
    keys = {"true_key": "y", "pred_key": "y_pred"}
    history = fit(classifier(model), [Accuracy(**keys), Precision(**keys), Recall(**keys),
                                      ConfusionMatrix(num_classes=3, **keys)], epochs=1)["eval"]
    examples = data(48, seed=1)
    predicted = steps(classifier(model), [batch(48, seed=1)], mode="eval")[0]["y_pred"].numpy().argmax(1)
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (examples["y"], predicted), 1)
    (shown,) = history["confusion_matrix"].values()
    np.testing.assert_array_equal(shown, matrix)
    (accuracy,) = history["accuracy"].values()
    assert accuracy == pytest.approx(np.trace(matrix) / 48)
    for name, axis in (("precision", 0), ("recall", 1)):
        (values,) = history[name].values()
        np.testing.assert_allclose(values, np.diag(matrix) / np.maximum(matrix.sum(axis), 1))


class Sabotage(Trace):
    """Overwrites the weights after the first epoch, so that the best model is the first one."""

    def __init__(self, model):
        super().__init__(mode="train")
        self.victim, self.best = model, None

    def on_epoch_end(self, _):
        if self.system.epoch_idx == 1:
            self.best = weights(self.victim)
        else:
            for parameter in self.victim.get_parameters():
                ms.ops.assign(parameter, parameter * 0 + 1)


def test_best_model_saver_brings_back_the_best(tmp_path):
    model = build()
    sabotage = Sabotage(model)
    fit(classifier(model), [BestModelSaver(model=model, save_dir=str(tmp_path), load_best_final=True), sabotage])
    np.testing.assert_equal(weights(model), sabotage.best)
    np.testing.assert_equal(load_file(tmp_path / "model_best_ce.safetensors"), sabotage.best)
    # and the compiled graphs go on with it
    expected = steps(classifier(model), [batch()], mode="eval", eager=True)[0]["y_pred"].numpy()
    np.testing.assert_allclose(steps(classifier(model), [batch()], mode="eval")[0]["y_pred"], expected, atol=1e-6)


def test_model_saver(tmp_path):
    model = build()
    ends = []

    class End(Trace):
        def on_epoch_end(self, _):
            ends.append(weights(model))

    fit(classifier(model), [End(mode="train"), ModelSaver(model=model, save_dir=str(tmp_path), frequency=2)], epochs=4)
    assert sorted(os.listdir(tmp_path)) == ["model_epoch_2.safetensors", "model_epoch_4.safetensors"]
    np.testing.assert_equal(load_file(tmp_path / "model_epoch_2.safetensors"), ends[1])
    fresh = build(weights_path=str(tmp_path / "model_epoch_4.safetensors"), name="fresh")
    np.testing.assert_equal(weights(fresh), ends[3])


def test_lr_scheduler_by_step(compilations):
    """Each step moves the weights by the rate of that step, and nothing is compiled for it."""
    model = build(optimizer_fn=sgd(lr=9.0))
    snapshots = []

    class Before(Trace):
        def on_batch_begin(self, _):
            snapshots.append((weights(model), fe.backend.get_lr(model)))

    rates = {1: 0.0, 2: 0.5, 3: 0.0, 4: 0.25, 5: 0.125, 6: 0.0}
    history = fit(classifier(model), [LRScheduler(model=model, lr_fn=lambda step: rates[step]), Before(mode="train")],
                  pipe=pipeline(evaluate=0))
    assert [rate for _, rate in snapshots] == list(rates.values())
    assert list(history["train"]["model_lr"].values())[:6] == list(rates.values())
    snapshots.append((weights(model), None))
    for step, rate in rates.items():
        assert moved(snapshots[step - 1][0], model) or step == 6
        differs = any((snapshots[step - 1][0][n] != snapshots[step][0][n]).any() for n in snapshots[0][0])
        assert differs == (rate > 0), step
    assert len(compilations) == 1


def test_lr_scheduler_by_epoch():
    model = build()
    recorder = Recorder(lambda _: fe.backend.get_lr(model))
    fit(classifier(model), [LRScheduler(model=model, lr_fn=lambda epoch: 0.5 / epoch), recorder], epochs=2)
    assert recorder.seen == [0.5] * 3 + [0.25] * 3


def test_the_learning_rate_keeps_the_optimizers_precision():
    model = build(optimizer_fn=lambda params: PlainSGD(params, 0.1))
    model.current_optimizer.learning_rate.set_dtype(ms.float64)
    fe.backend.set_lr(model, 1 / 3)
    assert fe.backend.get_lr(model) == 1 / 3


def test_reduce_lr_on_plateau():
    model = build(optimizer_fn=sgd(lr=0.08))
    # A falling loss never gets "better" upwards, so the rate is halved after each epoch but the first.
    trace = ReduceLROnPlateau(model=model, metric="ce", patience=1, factor=0.5, best_mode="max")
    history = fit(classifier(model), [trace], epochs=4)
    assert fe.backend.get_lr(model) == pytest.approx(0.01)
    assert len(history["eval"]["model_lr"]) == 3


def test_early_stopping():
    model = build(optimizer_fn=sgd(lr=0.0))
    history = fit(classifier(model), [EarlyStopping(monitor="ce", patience=1)], epochs=6)
    assert len(history["eval"]["ce"]) == 2


def test_terminate_on_nan():
    model = build(optimizer_fn=sgd(lr=1e30))
    history = fit(classifier(model), [TerminateOnNaN()], epochs=6)
    losses = [float(value) for value in history["train"]["ce"].values()]
    assert 1 < len(losses) < 4 and all(np.isfinite(losses[:-1]))


def test_csv_logger(tmp_path):
    model = build()
    path = tmp_path / "log.csv"
    history = fit(classifier(model), [Accuracy(true_key="y", pred_key="y_pred"),
                                      CSVLogger(str(path), monitor_names=("ce", "accuracy"), mode="eval")])
    with open(path) as file:
        rows = [row for row in csv.DictReader(file) if row["mode"] == "eval"]
    assert len(rows) == 2
    for key in ("ce", "accuracy"):
        logged = [float(value) for value in history["eval"][key].values()]
        assert [float(row[key]) for row in rows] == pytest.approx(logged, abs=1e-4)


def test_tensorboard_scalars_and_histograms(tmp_path):
    from fastestimator.trace.io import TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    model = build()
    history = fit(classifier(model), [Accuracy(true_key="y", pred_key="y_pred"),
                                      TensorBoard(str(tmp_path), update_freq=1, write_graph=False,
                                                  weight_histogram_freq="epoch")])
    folder, = glob.glob(f"{tmp_path}/*")
    log = EventAccumulator(f"{folder}/train").Reload()
    written = [event.value for event in log.Scalars("ce")][:6]
    assert written[:6] == pytest.approx([float(value) for value in history["train"]["ce"].values()])
    assert {"model_fc1/weight", "model_fc2/bias"} <= set(log.Tags()["histograms"])
    assert "accuracy" in EventAccumulator(f"{folder}/eval").Reload().Tags()["scalars"]


@pytest.mark.parametrize("options, named", [({}, "write_graph=True"),
                                            ({"write_graph": False, "paint_weights": True,
                                              "weight_histogram_freq": "epoch"}, "paint_weights=True")])
def test_tensorboard_refuses_what_it_cannot_draw(tmp_path, options, named):
    from fastestimator.trace.io import TensorBoard
    with pytest.raises(UnsupportedError, match=named):
        fit(classifier(build()), [TensorBoard(str(tmp_path), **options)])


def test_traceability_is_refused(tmp_path):
    from fastestimator.trace.io import Traceability
    try:
        trace = Traceability(str(tmp_path))
    except OSError:  # it wants LaTeX and Graphviz programs
        trace = object.__new__(Traceability)
        Trace.__init__(trace)
    with pytest.raises(UnsupportedError, match="Traceability"):
        fit(classifier(build()), [trace])


class InOrder(fe.Pipeline):
    """The same batches in each epoch."""

    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **{**kwargs, "shuffle": False})


class EachStep(Trace):
    def __init__(self, function):
        super().__init__(mode="train")
        self.function = function

    def on_batch_end(self, data):
        if self.function:
            self.function(data, self.system)


def power_cut(data, system):
    """Dies in the middle of the second epoch."""
    if system.global_step == 5:
        raise KeyboardInterrupt


@pytest.mark.parametrize("merge_grad", [1, 2])
def test_restore_wizard_goes_on_exactly(tmp_path, merge_grad):
    """A run that dies and is started again ends like one that does not: weights, momentum, rate, half-made sums."""
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp

    def run(model, directory, each_step=None):
        network = fe.Network(ops=[
            ModelOp(model=model, inputs="x", outputs="y_pred"),
            CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
            UpdateOp(model=model, loss_name="ce", merge_grad=merge_grad),
        ])
        pipe = pipeline(evaluate=0)
        pipe = InOrder(train_data=pipe.data["train"][""], batch_size=32, num_process=0)
        return fit(network, [RestoreWizard(str(directory)),
                             LRScheduler(model=model, lr_fn=lambda step: 0.1 if step < 4 else 0.05),
                             EachStep(each_step)],
                   epochs=3, pipe=pipe)

    def model_with_momentum():
        model = build(optimizer_fn=sgd(momentum=0.9))
        for index, parameter in enumerate(model.get_parameters()):
            values = np.random.default_rng(index).normal(size=parameter.shape) * 0.3
            ms.ops.assign(parameter, ms.Tensor(values.astype(np.float32)))
        return model

    through, first, second = (model_with_momentum() for _ in range(3))
    run(through, tmp_path / "through")
    with pytest.raises(KeyboardInterrupt):
        run(first, tmp_path / "stopped", power_cut)
    history = run(second, tmp_path / "stopped")
    assert list(history["train"]["ce"]) == list(range(1, 10))  # the log went along
    np.testing.assert_equal(weights(second), weights(through))
    state, expected = (model.current_optimizer.fe_state for model in (second, through))
    assert expected["accum.fc1.weight"].asnumpy().any()
    for name in expected:
        np.testing.assert_array_equal(state[name].asnumpy(), expected[name].asnumpy(), err_msg=name)
    assert moved(weights(first), second)
