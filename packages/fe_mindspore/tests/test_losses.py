"""Each loss is FastEstimator's own, computed by MindSpore: value and gradient against torch's, in both precisions."""
import mindspore as ms
import numpy as np
import pytest
import torch
from fastestimator.op.tensorop.loss import CrossEntropy, Hinge, L1_Loss, MeanSquaredError
from fe_mindspore.ops import make_cell

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)) * 3
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
LABELS = np.array([0, 1, 2, 3, 1, 1])
ONE_HOT = np.eye(4)[LABELS]
PER_PIXEL = RNG.normal(size=(2, 4, 3)), np.array([[0, 1, 2], [3, 1, 0]])
BINARY = np.array([[1], [0], [1], [1], [0], [0]])
WEIGHTS = {1: 0.3, 3: 2.5}

CASES = {
    "sparse": (CrossEntropy, {"from_logits": True}, LOGITS, LABELS),
    "sparse probabilities": (CrossEntropy, {}, PROBABILITIES, LABELS),
    "sparse unaveraged": (CrossEntropy, {"from_logits": True, "average_loss": False}, LOGITS, LABELS),
    "sparse weighted": (CrossEntropy, {"from_logits": True, "class_weights": WEIGHTS}, LOGITS, LABELS),
    "sparse by pixel": (CrossEntropy, {"from_logits": True, "form": "sparse"}, *PER_PIXEL),
    "sparse huge": (CrossEntropy, {"from_logits": True}, LOGITS * 1000, LABELS),
    "categorical": (CrossEntropy, {"from_logits": True}, LOGITS, ONE_HOT),
    "categorical probabilities": (CrossEntropy, {}, PROBABILITIES, ONE_HOT),
    "categorical weighted": (CrossEntropy, {"from_logits": True, "class_weights": WEIGHTS}, LOGITS, ONE_HOT),
    "binary": (CrossEntropy, {"from_logits": True}, LOGITS[:, :1], BINARY),
    "binary probabilities": (CrossEntropy, {}, PROBABILITIES[:, :1], BINARY),
    "binary weighted": (CrossEntropy, {"from_logits": True, "class_weights": WEIGHTS}, LOGITS[:, :1], BINARY),
    "binary form": (CrossEntropy, {"from_logits": True, "form": "binary"}, LOGITS, ONE_HOT),
    "squared": (MeanSquaredError, {}, LOGITS, ONE_HOT),
    "squared unaveraged": (MeanSquaredError, {"average_loss": False}, LOGITS, ONE_HOT),
    "L1": (L1_Loss, {}, LOGITS, ONE_HOT),
    "smooth": (L1_Loss, {"loss_type": "Smooth", "beta": 0.7}, LOGITS, ONE_HOT),
    "huber": (L1_Loss, {"loss_type": "Huber", "beta": 0.7}, LOGITS, ONE_HOT),
    "hinge": (Hinge, {}, LOGITS, ONE_HOT * 2 - 1),
}


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 3e-5), (np.float64, 1e-12)], ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name, dtype, tolerance):
    make, options, y_pred, y_true = CASES[name]
    y_pred = y_pred.astype(dtype)
    if y_true.dtype == np.float64:
        y_true = y_true.astype(dtype)
    op = make(inputs=("y_pred", "y"), outputs="loss", **options)
    op.build("torch")
    theirs_in = torch.tensor(y_pred, requires_grad=True)
    # FastEstimator casts one-hot targets to float32, and its torch weights are float32: exact for what they hold.
    theirs = op.forward([theirs_in, torch.tensor(y_true)], {})
    theirs.mean().backward()
    cell = make_cell(op, "train")
    ours = cell(ms.Tensor(y_pred), ms.Tensor(y_true))
    gradient = ms.grad(lambda x: ms.ops.mean(cell(x, ms.Tensor(y_true))))(ms.Tensor(y_pred)).asnumpy()
    if "weighted" in name:
        tolerance = max(tolerance, 1e-7)  # FastEstimator holds the weights in float32
    assert ours.asnumpy().dtype == dtype and gradient.dtype == dtype
    scale = max(1, abs(theirs.detach().numpy()).max())
    np.testing.assert_allclose(ours.asnumpy(), theirs.detach().numpy(), rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(gradient, theirs_in.grad.numpy(), rtol=0, atol=tolerance)
    assert abs(gradient).max() > 0 or name == "sparse huge"


def test_labels_may_be_a_column():
    cell = make_cell(CrossEntropy(inputs=("y_pred", "y"), outputs="loss", from_logits=True), "train")
    row, column = (cell(ms.Tensor(LOGITS), ms.Tensor(y)).asnumpy() for y in (LABELS, LABELS[:, None]))
    assert row == column


@pytest.mark.parametrize("options, named", [({"loss_type": "L2"}, "loss_type 'L2'"), ({"beta": 0}, "beta 0")])
def test_wrong_options_of_l1(options, named):
    with pytest.raises(ValueError, match=named):
        make_cell(L1_Loss(inputs=("y_pred", "y"), outputs="loss", **options), "train")
