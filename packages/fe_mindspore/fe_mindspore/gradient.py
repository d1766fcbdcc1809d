"""Gradients as a value of the op graph, for ops that change them before `UpdateOp(gradients=...)`."""
from collections.abc import Iterable

from fastestimator.op.tensorop.tensorop import TensorOp
from fastestimator.util.traceability_util import traceable
from mindspore import nn


@traceable()
class GradientOp(TensorOp):
    """Gradients of one loss by the weights of a MindSpore model; FastEstimator's own GradientOp refuses such models.

    Args:
        finals: The key of the loss.
        outputs: The key under which to store the gradients, a tuple in the order of the optimizer's parameters.
        model: A MindSpore model made by fe.build, with an optimizer.
        mode: What mode(s) to execute this op in.
        ds_id: What dataset id(s) to execute this op in.
    """

    def __init__(self, finals: str, outputs: str, model: nn.Cell, mode: str | Iterable[str] | None = "train",
                 ds_id: str | Iterable[str] | None = None) -> None:
        for argument, value in (("finals", finals), ("outputs", outputs)):
            if not isinstance(value, str):
                raise ValueError(f"GradientOp takes one key as {argument}, not {value!r}")
        super().__init__(inputs=finals, outputs=outputs, mode=mode, ds_id=ds_id)
        self.model = model

    def get_fe_models(self) -> set[nn.Cell]:
        return {self.model}
