"""The sums behind `UpdateOp(merge_grad=n)`."""
import mindspore as ms
import numpy as np
from fastestimator.op.tensorop.model import UpdateOp
from mindspore import ops

from fe_mindspore.convert import assign


class MergeState:
    """The gradients that one UpdateOp has summed since its last update, and how many steps that took.

    Args:
        op: An UpdateOp with `merge_grad` above 1.
        name: A name that no other UpdateOp of its model has.
    """

    def __init__(self, op: UpdateOp, name: str) -> None:
        self.op = op
        self.name = name
        prefix = f"{op.model.model_name}.{name}"
        self.steps = ms.Parameter(ms.Tensor(np.array([0], np.int64)), name=f"{prefix}.steps", requires_grad=False)
        self.sums = ms.ParameterTuple(
            ms.Parameter(ops.zeros_like(weight), name=f"{prefix}.{weight.name}", requires_grad=False)
            for weight in op.model.fe_optimizers[0].parameters)

    @property
    def completes(self) -> bool:
        """Whether the coming step is the one that updates."""
        return (int(self.steps.asnumpy()[0]) + 1) % self.op.merge_grad == 0

    def count(self) -> None:
        """Note that a step is done."""
        assign(self.steps, (self.steps.asnumpy() + 1) % self.op.merge_grad)

    def parameters(self) -> dict[str, ms.Parameter]:
        """Return what has to be saved to go on from here."""
        prefix = f"{self.op.model.model_name}."
        return {parameter.name.removeprefix(prefix): parameter for parameter in (self.steps, *self.sums)}
