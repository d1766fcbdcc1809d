"""From a list of ops to the order in which one step does forward passes, gradients and updates.

Every value of a step has a number (its register): 0 is the epoch, then come the inputs, and each op appends its
outputs. The plan is a list of blocks over those registers:

* `Forward`: run ops;
* `Gradients`: run ops as a function of some models' weights, and take the gradients of losses by those weights;
* `Merge`: add gradients to an UpdateOp's sum (`merge_grad`);
* `Update`: hand gradients to a model's optimizer.

Where losses and models are independent, or share one loss, one backward pass serves them all. Where they are not (the
generator's loss goes through the discriminator, whose own loss is another one) each has its own, and the ops on the
way from the model to the loss are run again inside it, since MindSpore cannot take two gradients of one forward pass.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastestimator.op.tensorop.loss import L2Regularizaton
from fastestimator.op.tensorop.meta.fuse import Fuse
from fastestimator.op.tensorop.model import ModelOp, UpdateOp
from fastestimator.op.tensorop.tensorop import Delete, TensorOp

from fe_mindspore.errors import UnsupportedError
from fe_mindspore.gradient import GradientOp


@dataclass(frozen=True)
class Run:
    """One op's forward pass: it reads registers `ins` and appends one register per output."""
    op: TensorOp
    ins: tuple[int, ...]
    outs: tuple[int, ...]


@dataclass(frozen=True)
class Forward:
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Gradients:
    """`runs` as a function of the weights of `models`; gradient i (a tuple of tensors) goes to register `outs[i]`."""
    runs: tuple[Run, ...]
    losses: tuple[int, ...]
    models: tuple[Any, ...]
    outs: tuple[int, ...]


@dataclass(frozen=True)
class Merge:
    """Add gradient `grad` to the sum of `op`; if the sum is complete, its mean goes to register `out`."""
    op: UpdateOp
    grad: int
    out: int | None


@dataclass(frozen=True)
class Update:
    """Apply the sum of the gradients `grads` to `model`."""
    model: Any
    grads: tuple[int, ...]


@dataclass
class Plan:
    """What a step does: its input keys (registers 1, 2, ...), its blocks, and where each output key ends up."""
    inputs: list[str]
    blocks: list[Any] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)

    @property
    def parts(self) -> list[list[Any]]:
        """The blocks, cut where a model that was updated is read again: one part, unless an op follows an UpdateOp.

        (MindSpore, to keep both values of a weight in one graph, would copy it, and rounds float64 to float32 there.)
        """
        parts: list[list[Any]] = [[]]
        updated: set[Any] = set()
        for block in self.blocks:
            if any(updated & models_of(run.op) for run in getattr(block, "runs", ())):
                parts.append([])
                updated = set()
            parts[-1].append(block)
            if isinstance(block, Update):
                updated.add(block.model)
        return parts


def models_of(op: TensorOp) -> set[Any]:
    """Return the models whose weights an op reads."""
    return {op.model} if isinstance(op, L2Regularizaton) else op.get_fe_models()  # the former names none


def flatten(ops: Sequence[TensorOp]) -> list[TensorOp]:
    """Replace each Fuse by the ops that it holds."""
    return [inner for op in ops for inner in (flatten(op.ops) if isinstance(op, Fuse) else [op])]


def make_plan(ops: Sequence[TensorOp], completes_merge: Callable[[UpdateOp], bool],
              why_not_rerun: Callable[[Any], str | None]) -> Plan:
    """Plan one step over `ops`, which are already those of the current mode and epoch.

    Args:
        ops: The ops, in the user's order.
        completes_merge: Whether this step completes an UpdateOp's `merge_grad` sum.
        why_not_rerun: What forbids running a model's forward pass twice in a step (dropout, say), or None.

    Raises:
        UnsupportedError: The graph needs what MindSpore cannot do.
        RuntimeError: A gradient needs weights that an earlier UpdateOp of the step has changed.
    """
    return _Planner(flatten(ops), completes_merge, why_not_rerun).plan()


@dataclass(frozen=True)
class _Request:
    """The gradient of register `loss` by the weights of `model`, wanted in register `out`."""
    loss: int
    model: Any
    out: int


class _Planner:

    def __init__(self, ops: list[TensorOp], completes_merge: Callable, why_not_rerun: Callable) -> None:
        self.ops = ops
        self.completes_merge = completes_merge
        self.why_not_rerun = why_not_rerun
        self.keys: dict[str, int] = {}             # batch key -> its current register
        self.size = 0                              # registers so far
        self.fresh: list[Run] = []                 # runs not yet in a block
        self.done: list[Run] = []                  # runs in a block
        self.reaches: dict[int, frozenset] = {}    # register -> the models whose weights it is differentiable by
        self.updated: dict[int, int] = {}          # id(model) -> how many runs were done when it was last updated
        self.waiting: dict[Any, list[int]] = {}    # model -> gradients of deferred updates

    def plan(self) -> Plan:
        inputs = self._inputs()
        plan = self.result = Plan(inputs=inputs)
        self._new()  # the epoch
        for key in inputs:
            self.keys[key] = self._new()
        first_trailing = len(self.ops)
        while first_trailing and isinstance(self.ops[first_trailing - 1], UpdateOp):
            first_trailing -= 1
        position = 0
        while position < len(self.ops):
            op = self.ops[position]
            if isinstance(op, (UpdateOp, GradientOp)):
                end = position
                while end < len(self.ops) and isinstance(self.ops[end], (UpdateOp, GradientOp)):
                    end += 1
                self._take_gradients(self.ops[position:end], defer_all=position >= first_trailing)
                position = end
                continue
            self._run(op)
            position += 1
        if self.fresh:
            plan.blocks.append(Forward(tuple(self.fresh)))
        for model in list(self.waiting):
            self._update(model)
        produced = {key for op in self.ops for key in op.outputs}
        plan.outputs = {key: register for key, register in self.keys.items() if key in produced}
        return _lay_out(plan)

    def _inputs(self) -> list[str]:
        produced, inputs = set(), set()
        for op in self.ops:
            inputs.update(key for key in op.inputs if key not in produced)
            produced.update(op.outputs)
            if isinstance(op, Delete):
                produced.difference_update(op.inputs)
        return sorted(inputs)

    def _new(self) -> int:
        self.size += 1
        return self.size - 1

    def _run(self, op: TensorOp) -> None:
        if isinstance(op, Delete):
            for key in op.inputs:
                self.keys.pop(key, None)
            return
        ins = tuple(self.keys[key] for key in op.inputs)
        reached = frozenset().union(*(self.reaches.get(register, frozenset()) for register in ins))
        stopped = isinstance(op, ModelOp) and not op.gradients
        reached = frozenset() if stopped else reached | models_of(op)
        outs = tuple(self._new() for _ in op.outputs)
        for key, register in zip(op.outputs, outs, strict=True):
            self.keys[key] = register
            self.reaches[register] = reached
        self.fresh.append(Run(op, ins, outs))

    def _take_gradients(self, ops: list[TensorOp], defer_all: bool) -> None:
        """Plan a contiguous stretch of UpdateOps (and GradientOps): all of its gradients, then its updates."""
        requests, gradients = [], {}
        for op in ops:
            if isinstance(op, UpdateOp) and op.gradients is None:
                requests.append(_Request(self.keys[op.loss_name], op.model, self._new()))
                gradients[op] = requests[-1].out
            elif isinstance(op, UpdateOp):
                gradients[op] = self.keys[op.gradients]
            else:
                requests.append(_Request(self.keys[op.inputs[0]], op.model, self._new()))
                self.keys[op.outputs[0]] = requests[-1].out
        for group in self._joint(requests):
            self._gradient_block(group)
        for op in ops:
            if not isinstance(op, UpdateOp):
                continue
            gradient = gradients[op]
            if op.merge_grad > 1:
                complete = self.completes_merge(op)
                out = self._new() if complete else None
                self.result.blocks.append(Merge(op, gradient, out))
                gradient = out
            if gradient is None:
                continue
            self.waiting.setdefault(op.model, []).append(gradient)
            if not (defer_all or op.defer):
                self._update(op.model)

    def _joint(self, requests: list[_Request]) -> list[list[_Request]]:
        """Group requests so that, in a group, the gradient of the sum of the losses is each one's own gradient."""
        groups: list[list[_Request]] = []
        for request in requests:
            if groups and all(self._independent(request, other) for other in groups[-1]):
                groups[-1].append(request)
            else:
                groups.append([request])
        return groups

    def _independent(self, one: _Request, other: _Request) -> bool:
        if one.model is other.model:
            return False
        return one.loss == other.loss or (one.model not in self.reaches.get(other.loss, ())
                                          and other.model not in self.reaches.get(one.loss, ()))

    def _gradient_block(self, group: list[_Request]) -> None:
        moved: dict[int, int] = {}  # register -> the register of the same value, computed again inside this block
        runs = []
        for run in self._to_rerun(group):
            outs = tuple(self._new() for _ in run.outs)
            runs.append(Run(run.op, tuple(moved.get(register, register) for register in run.ins), outs))
            moved.update(zip(run.outs, outs, strict=True))
        for run in self.fresh:
            runs.append(Run(run.op, tuple(moved.get(register, register) for register in run.ins), run.outs))
        losses = tuple(dict.fromkeys(moved.get(request.loss, request.loss) for request in group))
        self.result.blocks.append(Gradients(tuple(runs), losses, tuple(request.model for request in group),
                                            tuple(request.out for request in group)))
        self.done += self.fresh
        self.fresh = []

    def _to_rerun(self, group: list[_Request]) -> list[Run]:
        """Return the runs of earlier blocks that lie between a model's weights and the loss they are trained by."""
        wanted = set()
        for request in group:
            needed = {request.loss}
            for index in reversed(range(len(self.done) + len(self.fresh))):
                run = (self.done + self.fresh)[index]
                if needed.isdisjoint(run.outs):
                    continue
                needed.update(run.ins)
                if index < len(self.done) and any(request.model in self.reaches[out] for out in run.outs):
                    wanted.add(index)
        for index in wanted:
            self._check_rerun(index, group)
        return [self.done[index] for index in sorted(wanted)]

    def _check_rerun(self, index: int, group: list[_Request]) -> None:
        op = self.done[index].op
        if not isinstance(op, ModelOp):
            return
        names = ", ".join(f"'{request.model.model_name}'" for request in group)
        if self.updated.get(id(op.model), 0) > index:
            raise RuntimeError(f"the gradients of {names} need the weights that '{op.model.model_name}' had before an "
                               "earlier UpdateOp of the same step: set defer=True on that UpdateOp")
        if reason := self.why_not_rerun(op):
            raise UnsupportedError(
                f"two different losses are differentiated through one ModelOp (model='{op.model.model_name}', outputs="
                f"{op.outputs}); MindSpore would have to run it twice, but {reason}. Give each loss its own ModelOp of "
                "this model, with its own output key")

    def _update(self, model: Any) -> None:
        if self.fresh:  # what comes before an update reads the weights before it
            self.result.blocks.append(Forward(tuple(self.fresh)))
            self.done += self.fresh
            self.fresh = []
        self.result.blocks.append(Update(model, tuple(self.waiting.pop(model))))
        self.updated[id(model)] = len(self.done)


def _lay_out(plan: Plan) -> Plan:
    """Number registers by the order in which the step makes them, so that each is a position in one tuple."""
    place: dict[int, int] = {index: index for index in range(1 + len(plan.inputs))}

    def make(registers: Sequence[int]) -> tuple[int, ...]:
        for register in registers:
            place[register] = len(place)
        return tuple(place[register] for register in registers)

    def find(registers: Sequence[int]) -> tuple[int, ...]:
        return tuple(place[register] for register in registers)

    blocks = []
    for block in plan.blocks:
        if isinstance(block, (Forward, Gradients)):
            runs = tuple(Run(run.op, find(run.ins), make(run.outs)) for run in block.runs)
        if isinstance(block, Forward):
            blocks.append(Forward(runs))
        elif isinstance(block, Gradients):
            blocks.append(Gradients(runs, find(block.losses), block.models, make(block.outs)))
        elif isinstance(block, Merge):
            out = None if block.out is None else make([block.out])[0]
            blocks.append(Merge(block.op, find([block.grad])[0], out))
        else:
            blocks.append(Update(block.model, find(block.grads)))
    return Plan(plan.inputs, blocks, {key: place[register] for key, register in plan.outputs.items()})
