"""One model through FastEstimator's Estimator: it learns, compiled and not, and does what a torch model does."""
import fastestimator as fe
import mindspore as ms
import numpy as np
import pytest
from fastestimator.dataset.numpy_dataset import NumpyDataset
from fastestimator.trace.metric import Accuracy
from fe_mindspore.convert import assign
from fems_helpers import (
    LeNet,
    PlainSGD,
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
from sklearn.datasets import load_digits


def test_lenet_learns_digits():
    digits = load_digits()
    x, y = (digits.images[:, None] / 16).astype(np.float32), digits.target
    pipe = fe.Pipeline(train_data=NumpyDataset({"x": x[:1400], "y": y[:1400]}),
                       eval_data=NumpyDataset({"x": x[1400:], "y": y[1400:]}), batch_size=50, num_process=0)
    model = build(LeNet, lambda params: ms.nn.Adam(params, learning_rate=0.01))
    history = fit(classifier(model), [Accuracy(true_key="y", pred_key="y_pred")], epochs=4, pipe=pipe, log_steps=28)
    accuracies = list(history["eval"]["accuracy"].values())
    assert accuracies[-1] > 0.85, accuracies
    losses = list(history["train"]["ce"].values())
    assert losses[-1] < 0.3 * losses[0], losses


def test_compiled_and_eager_agree():
    models = [build(optimizer_fn=sgd(momentum=0.9), name=name) for name in ("compiled", "eager")]
    for (_, p), (_, q) in zip(*(model.parameters_and_names() for model in models), strict=True):
        assign(q, p.asnumpy())
    before = weights(models[0])
    batches = [batch(seed=seed) for seed in range(4)]
    losses = [[float(r["ce"]) for r in steps(classifier(model), batches, eager=model.model_name == "eager")]
              for model in models]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for name, array in weights(models[0]).items():
        np.testing.assert_allclose(array, weights(models[1])[name], atol=1e-6)
    assert moved(before, models[0])


def test_fit_eagerly(compilations):
    model = build(optimizer_fn=lambda params: PlainSGD(params, 0.1))  # nn.SGD compiles itself
    before = weights(model)
    history = fit(classifier(model), epochs=1, eager=True)
    assert len(history["train"]["ce"]) == 3 and moved(before, model)
    assert not compilations


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)], ids=["fp32", "fp64"])
def test_same_curve_as_torch(dtype, tolerance, eager):
    """Twenty steps in the precision of the weights: no float32 hides in the batch, the loss or the learning rate."""
    pair = twins(dtype=dtype)
    batches = [batch(dtype=dtype, seed=seed) for seed in range(20)]
    results = [steps(classifier(model), batches, eager=eager) for model in pair]
    for ours, theirs in zip(*results, strict=True):
        for key in ("ce", "y_pred"):
            assert ours[key].dtype == theirs[key].dtype
            np.testing.assert_allclose(ours[key].numpy(), theirs[key].numpy(), rtol=0, atol=10 * tolerance)
    assert_same_weights(*pair, tolerance)


def test_estimator_follows_the_same_curve_as_with_torch():
    pair = twins()
    histories = []
    for model in pair:
        fe.enable_deterministic(3)
        try:
            histories.append(fit(classifier(model), pipe=pipeline(), epochs=3))
        finally:
            fe.fe_deterministic_seed = None
    curves = [np.array(list(history["train"]["ce"].values()), float) for history in histories]
    assert len(curves[0]) == 9 and curves[0][-1] < curves[0][0]
    np.testing.assert_allclose(*curves, atol=1e-5)
    np.testing.assert_allclose(*[np.array(list(h["eval"]["ce"].values()), float) for h in histories], atol=1e-5)
    assert_same_weights(*pair, 1e-5)
