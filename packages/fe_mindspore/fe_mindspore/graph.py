
"""One training or evaluation step as one Cell, made from a plan, so that `ms.jit` can compile it whole.

A step is a register machine: every part takes the tuple of all values so far and returns it with its own appended.
`construct` methods are compiled by MindSpore from their source: plain loops over constants, which it unrolls.
"""
import contextlib

import mindspore as ms
from fastestimator.op.tensorop.tensorop import TensorOp
from mindspore import nn, ops

from fe_mindspore.graph_cache import compiling
from fe_mindspore.merge import MergeState
from fe_mindspore.ops import UserOp, make_cell
from fe_mindspore.plan import Forward, Gradients, Merge, Plan, Run, Update


class Step:
    """A whole step: one graph, or two where an op reads weights that an UpdateOp before it has changed.

    Args:
        plan: What to do.
        mode: "train", "eval", "test" or "infer".
        merges: The sums of the UpdateOps with `merge_grad`.
        compiled: Whether to compile it.
    """

    def __init__(self, plan: Plan, mode: str, merges: dict[TensorOp, MergeState], compiled: bool) -> None:
        parts = plan.parts
        outs = [None] * (len(parts) - 1) + [tuple(plan.outputs.values())]
        cells = [_Part([_block(block, mode, merges) for block in blocks], out)
                 for blocks, out in zip(parts, outs, strict=True)]
        self.cells, self.parts = cells, [ms.jit(cell) for cell in cells] if compiled else cells
        self.descriptions = [f"{mode} {_describe(blocks)} {out}" for blocks, out in zip(parts, outs, strict=True)]

    def __call__(self, *values):
        """Run it: the epoch and one value per `plan.inputs` in, one value per `plan.outputs` out."""
        for cell, part, description in zip(self.cells, self.parts, self.descriptions, strict=True):
            with contextlib.nullcontext() if part is cell else compiling(cell, description, values):
                # MindSpore takes tensors inside of containers for constants unless told otherwise.
                values = part(*[value if isinstance(value, ms.Tensor) else ms.mutable(value) for value in values])
        return values


class _Part(nn.Cell):
    """Consecutive blocks. Outputs the values at `outs`, or all of them if that is None."""

    def __init__(self, blocks: list[nn.Cell], outs: tuple[int, ...] | None) -> None:
        super().__init__(auto_prefix=False)
        self.blocks = _cells(blocks)
        self.outs = outs

    def construct(self, *values):
        for block in self.blocks:
            values = block(values)
        if self.outs is None:
            return values
        outputs = ()
        for index in self.outs:
            outputs = outputs + (values[index],)
        return outputs


def _describe(blocks: list) -> list:
    """What a part does, in plain words and numbers: the same ones in each process."""
    def plain(value):
        if isinstance(value, Run):
            return [type(value.op).__name__, value.ins, value.outs]
        if isinstance(value, tuple):
            return [plain(one) for one in value]
        return value if value is None or isinstance(value, int) else type(value).__name__

    return [[type(block).__name__, *(plain(value) for value in vars(block).values())] for block in blocks]


def _block(block: Forward | Gradients | Merge | Update, mode: str, merges: dict[TensorOp, MergeState]) -> nn.Cell:
    if isinstance(block, Forward):
        return _Forward(block, mode)
    if isinstance(block, Gradients):
        return _Gradients(block, mode)
    if isinstance(block, Merge):
        return _Merge(block, merges[block.op])
    return _Update(block)


def _cells(cells) -> nn.CellList:
    # auto_prefix would rename the parameters of the models inside.
    return nn.CellList(list(cells), auto_prefix=False)


class _Stage(nn.Cell):
    """One op."""

    def __init__(self, run: Run, mode: str) -> None:
        super().__init__(auto_prefix=False)
        op = run.op
        self.fn = make_cell(op, mode)
        self.ins = ((0,) if isinstance(self.fn, UserOp) else ()) + run.ins
        self.count = len(run.outs)
        self.out_list = op.out_list
        self.problem = (f"{type(op).__name__} names {self.count} outputs ({', '.join(op.outputs)}), but returned fewer "
                        "values, or a tensor where a tuple or list was due")

    def construct(self, values):
        args = ()
        for index in self.ins:
            args = args + (values[index],)
        out = self.fn(*args)
        if self.count == 0:
            return values
        if not self.out_list:
            return values + (out,)
        if not isinstance(out, (tuple, list)) or len(out) < self.count:
            raise ValueError(self.problem)
        for index in range(self.count):
            values = values + (out[index],)
        return values


class _Forward(nn.Cell):
    def __init__(self, block: Forward, mode: str) -> None:
        super().__init__(auto_prefix=False)
        self.stages = _cells(_Stage(run, mode) for run in block.runs)

    def construct(self, values):
        for stage in self.stages:
            values = stage(values)
        return values


class _Gradients(nn.Cell):
    """Ops as a function of weights, and its gradients; each model's go, as a tuple, to one value."""

    def __init__(self, block: Gradients, mode: str) -> None:
        super().__init__(auto_prefix=False)
        self.stages = _cells(_Stage(run, mode) for run in block.runs)
        self.losses = block.losses
        wanted = [model.current_optimizer.parameters for model in block.models]
        self.weights = ms.ParameterTuple({id(weight): weight for weights in wanted for weight in weights}.values())
        place = {id(weight): index for index, weight in enumerate(self.weights)}
        self.places = tuple(tuple(place[id(weight)] for weight in weights) for weights in wanted)

    def loss(self, values):
        for stage in self.stages:
            values = stage(values)
        total = ops.mean(values[self.losses[0]])
        for index in self.losses[1:]:
            total = total + ops.mean(values[index])
        return total, values

    def construct(self, values):
        (_, values), gradients = ms.value_and_grad(self.loss, None, self.weights, has_aux=True)(values)
        for places in self.places:
            chosen = ()
            for index in places:
                chosen = chosen + (gradients[index],)
            values = values + (chosen,)
        return values


class _Merge(nn.Cell):
    def __init__(self, block: Merge, state: MergeState) -> None:
        super().__init__(auto_prefix=False)
        self.sums = state.sums
        self.grad = block.grad
        self.complete = block.out is not None
        self.steps = block.op.merge_grad

    def construct(self, values):
        means = ()
        for index in range(len(self.sums)):
            total = self.sums[index] + values[self.grad][index]
            means = means + (total / self.steps,)
            ops.assign(self.sums[index], ops.zeros_like(total) if self.complete else total)
        return values + (means,) if self.complete else values


class _Update(nn.Cell):
    def __init__(self, block: Update) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer = block.model.current_optimizer
        self.grads = block.grads

    def construct(self, values):
        gradients = values[self.grads[0]]
        for index in self.grads[1:]:
            total = ()
            for position in range(len(gradients)):
                total = total + (gradients[position] + values[index][position],)
            gradients = total
        self.optimizer(gradients)
        return values
