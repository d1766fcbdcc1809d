
"""Which Cell runs the forward pass of which op."""
import inspect
from typing import Any

from fastestimator.op.tensorop import Average, Permute, Reshape
from fastestimator.op.tensorop.argmax import Argmax
from fastestimator.op.tensorop.loss import CrossEntropy, Hinge, L1_Loss, L2Regularizaton, LossOp, MeanSquaredError
from fastestimator.op.tensorop.model import ModelOp, UpdateOp
from fastestimator.op.tensorop.tensorop import Delete, LambdaOp, TensorOp
from mindspore import nn, ops

from fe_mindspore import losses
from fe_mindspore.errors import UnsupportedError


class _Model(nn.Cell):
    """ModelOp. Whether the model is in training mode is the network's business."""

    def __init__(self, op: ModelOp) -> None:
        super().__init__(auto_prefix=False)
        self.model = op.model
        self.gradients = op.gradients
        # Several inputs go to a `construct` with one argument as a tuple, as in FastEstimator.
        self.as_tuple = len(op.inputs) > 1 and len(inspect.signature(op.model.construct).parameters) == 1

    def construct(self, *args):
        out = self.model(args) if self.as_tuple else self.model(*args)
        return out if self.gradients else ops.stop_gradient(out)


class _Lambda(nn.Cell):
    def __init__(self, op: LambdaOp) -> None:
        super().__init__(auto_prefix=False)
        self.fn = op.fn

    def construct(self, *args):
        return self.fn(*args)


class _PassThrough(nn.Cell):
    """A bare TensorOp or LossOp: its inputs are its outputs."""

    def __init__(self, op: TensorOp) -> None:
        super().__init__(auto_prefix=False)
        self.in_list = op.in_list

    def construct(self, *args):
        return args if self.in_list else args[0]


class _Average(nn.Cell):
    def __init__(self, op: Average) -> None:
        super().__init__(auto_prefix=False)

    def construct(self, *args):
        total = args[0]
        for value in args[1:]:
            total = total + value
        return total / len(args)


class _Argmax(nn.Cell):
    def __init__(self, op: Argmax) -> None:
        super().__init__(auto_prefix=False)
        self.axis = op.axis

    def construct(self, *args):
        out = ()
        for value in args:
            out = out + (ops.argmax(value, self.axis),)
        return out


class _Reshape(nn.Cell):
    def __init__(self, op: Reshape) -> None:
        super().__init__(auto_prefix=False)
        self.shape = tuple(op.shape)

    def construct(self, *args):
        out = ()
        for value in args:
            out = out + (value.reshape(self.shape),)
        return out


class _Permute(nn.Cell):
    def __init__(self, op: Permute) -> None:
        super().__init__(auto_prefix=False)
        self.permutation = tuple(op.permutation)

    def construct(self, value):
        return ops.transpose(value, self.permutation)


class UserOp(nn.Cell):
    """A TensorOp of the user's, whose `forward` is written in MindSpore ops; `state` holds "mode" and "epoch"."""

    def __init__(self, op: TensorOp, mode: str) -> None:
        super().__init__(auto_prefix=False)
        self.forward = op.forward
        self.in_list = op.in_list
        self.no_inputs = not op.inputs
        self.mode = mode

    def construct(self, epoch, *args):
        state = {"mode": self.mode, "epoch": epoch}
        if self.in_list:
            return self.forward(args, state)
        return self.forward(None if self.no_inputs else args[0], state)


_CELLS = {
    ModelOp: _Model,
    LambdaOp: _Lambda,
    TensorOp: _PassThrough,
    LossOp: _PassThrough,
    CrossEntropy: losses.CrossEntropy,
    MeanSquaredError: losses.MeanSquaredError,
    L1_Loss: losses.L1Loss,
    Hinge: losses.Hinge,
    L2Regularizaton: losses.L2Regularization,
    Average: _Average,
    Argmax: _Argmax,
    Reshape: _Reshape,
    Permute: _Permute,
}


def make_cell(op: TensorOp, mode: str) -> nn.Cell:
    """Make the Cell that runs an op's forward pass in one mode.

    Raises:
        UnsupportedError: The op is one of FastEstimator's that are written for torch and TensorFlow only.
    """
    owner = _owner(op, "forward")
    if owner in _CELLS:
        return _CELLS[owner](op)
    if _is_fastestimators(owner):
        raise UnsupportedError(f"{owner.__name__} is written for torch and TensorFlow, and is not supported for "
                               "MindSpore models: write it as a TensorOp or LambdaOp in MindSpore ops, or do it in the "
                               "pipeline or a post-processing op")
    return UserOp(op, mode)


def check_op(op: TensorOp) -> None:
    """Refuse what an op was asked for and this backend does not do.

    Raises:
        UnsupportedError: The op's class, or one of its options, is not supported.
    """
    if isinstance(op, ModelOp) and op.intermediate_outputs:
        raise UnsupportedError("ModelOp(intermediate_layers=...) is not supported for MindSpore models: let the "
                               "model's construct return the values too, and name them in the op's outputs")
    owner = _owner(op, "forward")
    for planned in (UpdateOp, Delete):  # these have no forward pass of their own here: the plan does what they say
        if isinstance(op, planned):
            if owner is not planned:
                raise UnsupportedError(f"{type(op).__name__} overrides the forward of {planned.__name__}, which is not "
                                       "supported for MindSpore: write a LambdaOp or TensorOp before it instead")
            return
    if owner not in _CELLS and _is_fastestimators(owner):
        make_cell(op, mode="train")  # raises


def build_op(op: TensorOp) -> None:
    """Call a user op's own `build`; those of FastEstimator's ops know torch and TensorFlow only."""
    if not _is_fastestimators(_owner(op, "build")):
        op.build(framework="mindspore", device=None)


def _owner(op: TensorOp, method: str) -> type:
    """Return the class that defines what `op.<method>` runs."""
    return next(cls for cls in type(op).__mro__ if method in vars(cls))


def _is_fastestimators(cls: Any) -> bool:
    return cls.__module__.split(".")[0] == "fastestimator"
