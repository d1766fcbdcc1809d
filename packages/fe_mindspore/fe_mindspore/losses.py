"""FastEstimator's loss ops as Cells. Each follows what the op does with torch tensors, in the dtype of `y_pred`.

Fractions are float64 tensors until they meet a value: MindSpore rounds a Python float to float32, next to float64 too.
"""
from mindspore import ParameterTuple, Tensor, float64, nn, ops


class CrossEntropy(nn.Cell):
    """Cross entropy, binary, categorical or sparse.

    Args:
        op: The FastEstimator op: `from_logits`, `average_loss`, `form` and `class_weights` are taken from it.

    Inputs: `y_pred` [B, C] ([B, ...] for the binary form); `y_true` [B] or [B, 1] of class indices, or like `y_pred`.

    Outputs: A scalar if `average_loss`, else one loss per sample.
    """

    def __init__(self, op) -> None:
        super().__init__(auto_prefix=False)
        self.from_logits = op.from_logits
        self.average_loss = op.average_loss
        self.form = op.form
        weights = op.class_weights or {}
        self.class_weights = tuple((index, Tensor(weight, float64)) for index, weight in weights.items())

    def construct(self, y_pred, y_true):
        form = self.form
        if form is None:
            form = "binary"
            if y_pred.ndim == 2 and y_pred.shape[-1] > 1:
                form = "categorical" if y_true.ndim == 2 and y_true.shape[-1] > 1 else "sparse"
        if form == "binary":
            loss = self.binary(y_pred, y_true)
        else:
            log_p = self.log_softmax(y_pred) if self.from_logits else ops.log(y_pred)
            if form == "sparse":
                # Indices have the shape of y_pred without its class axis.
                labels = y_true.reshape(y_pred.shape[:1] + y_pred.shape[2:]).astype("int32")
                loss = -ops.gather_elements(log_p, 1, labels.expand_dims(1)).squeeze(1)
            else:
                loss = -(y_true.astype(y_pred.dtype) * log_p).sum(1)
                labels = ops.argmax(y_true, 1)
            loss = self.weigh(loss, labels)
        return ops.mean(loss) if self.average_loss else loss

    def log_softmax(self, x):
        # MindSpore's own log_softmax is good to 5e-6 only on CPUs, in float64 too.
        shifted = x - ops.stop_gradient(ops.amax(x, 1, True))
        return shifted - ops.log(ops.exp(shifted).sum(1, keepdims=True))

    def binary(self, y_pred, y_true):
        y_true = y_true.reshape(y_pred.shape)
        target = y_true.astype(y_pred.dtype)
        if self.from_logits:
            # max(x, 0) - x y + log(1 + exp(-|x|)) does not overflow
            loss = ops.relu(y_pred) - y_pred * target + ops.log1p(ops.exp(-ops.abs(y_pred)))
        else:
            # torch clamps its logarithms at -100
            log_p = ops.maximum(ops.log(y_pred), ops.full_like(y_pred, -100.0))
            log_q = ops.maximum(ops.log(1 - y_pred), ops.full_like(y_pred, -100.0))
            loss = -(target * log_p + (1 - target) * log_q)
        return self.weigh(loss, y_true).reshape(y_pred.shape[0], -1).mean(1)

    def weigh(self, loss, labels):
        weights = ops.ones_like(loss)
        for index, weight in self.class_weights:
            weights = ops.where(labels == index, weight.astype(loss.dtype), weights)
        return loss * weights if self.class_weights else loss


class MeanSquaredError(nn.Cell):
    """Squared error, averaged over the last axis; over the batch too if the op says `average_loss`."""

    def __init__(self, op) -> None:
        super().__init__(auto_prefix=False)
        self.average_loss = op.average_loss

    def construct(self, y_pred, y_true):
        loss = ops.square(y_pred - y_true.reshape(y_pred.shape).astype(y_pred.dtype)).mean(-1)
        return ops.mean(loss) if self.average_loss else loss


class L1Loss(nn.Cell):
    """Absolute ("L1"), "Smooth" or "Huber" error, averaged over the last axis; over the batch too on request.

    Raises:
        ValueError: The op's `loss_type` or `beta` is none of FastEstimator's.
    """

    def __init__(self, op) -> None:
        super().__init__(auto_prefix=False)
        if op.loss_type not in ("L1", "Smooth", "Huber"):
            raise ValueError(f"L1_Loss has loss_type '{op.loss_type}', which is none of 'L1', 'Smooth' and 'Huber'")
        if op.beta <= 0:
            raise ValueError(f"L1_Loss has beta {op.beta}, which should be positive")
        self.average_loss = op.average_loss
        self.form = op.loss_type
        self.beta = Tensor(op.beta, float64)

    def construct(self, y_pred, y_true):
        beta = self.beta.astype(y_pred.dtype)
        error = ops.abs(y_pred - y_true.reshape(y_pred.shape).astype(y_pred.dtype))
        if self.form != "L1":
            inside, outside = 0.5 * ops.square(error), beta * (error - 0.5 * beta)
            error = ops.where(error < beta, inside, outside)
            error = error / beta if self.form == "Smooth" else error
        loss = error.mean(-1)
        return ops.mean(loss) if self.average_loss else loss


class Hinge(nn.Cell):
    """Hinge loss for labels -1 and 1, averaged over the last axis; over the batch too if the op says `average_loss`."""

    def __init__(self, op) -> None:
        super().__init__(auto_prefix=False)
        self.average_loss = op.average_loss

    def construct(self, y_pred, y_true):
        loss = ops.relu(1 - y_true.astype(y_pred.dtype) * y_pred).mean(-1)
        return ops.mean(loss) if self.average_loss else loss


class L2Regularization(nn.Cell):
    """The loss plus beta/2 times the sum of the squares of a model's trainable weights."""

    def __init__(self, op) -> None:
        super().__init__(auto_prefix=False)
        self.beta = Tensor(op.beta, float64)
        self.weights = ParameterTuple(op.model.trainable_params())

    def construct(self, loss):
        total = 0
        for weight in self.weights:
            total = total + ops.square(weight).sum() / 2
        return loss + self.beta.astype(loss.dtype) * total
