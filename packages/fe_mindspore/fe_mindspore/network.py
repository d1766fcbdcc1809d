"""`fe.Network` for MindSpore models."""
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import mindspore as ms
import numpy as np
from fastestimator.network import BaseNetwork, _collect_models
from fastestimator.op.tensorop.model import ModelOp, UpdateOp
from fastestimator.op.tensorop.tensorop import LambdaOp, TensorOp
from fastestimator.schedule.schedule import Scheduler, get_current_items
from fastestimator.util.base_util import filter_nones, to_list
from fastestimator.util.traceability_util import traceable
from mindspore import mint, nn

from fe_mindspore.build import attach
from fe_mindspore.convert import assign, to_mindspore, to_numpy, to_torch
from fe_mindspore.errors import UnsupportedError
from fe_mindspore.gradient import GradientOp
from fe_mindspore.graph import Step
from fe_mindspore.merge import MergeState
from fe_mindspore.ops import build_op, check_op
from fe_mindspore.plan import Plan, flatten, make_plan

# What makes a second forward pass within one step differ from the first, or leave another trace.
_NOT_TWICE = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
              nn.SyncBatchNorm, mint.nn.Dropout, mint.nn.BatchNorm1d, mint.nn.BatchNorm2d, mint.nn.BatchNorm3d)


@traceable(blacklist=("ctx_lock", "graphs"))
class MSNetwork(BaseNetwork):
    """A Network whose steps are MindSpore graphs.

    What goes in and comes out are torch tensors on the CPU, as with a torch network, so that FastEstimator's traces,
    slicers and post-processing ops work on it unchanged.

    Each distinct step is compiled once and kept: distinct by mode, by the ops and optimizers that are active, and by
    whether `merge_grad` completes in it. MindSpore itself keeps one version per shape and dtype of the inputs, so a
    smaller last batch is compiled once. Learning rates are parameters of the graph: changing one compiles nothing.

    The warmup that `Estimator.fit` does first runs the very steps that training will run (so they are compiled by
    then), and puts all weights and optimizer states back afterwards.

    Args:
        ops: The ops of the network, as for fe.Network.
        postprocessing: NumpyOps to run on whole batches after the ops.
        slicers: Slicers which cut batches apart before the ops.

    Raises:
        UnsupportedError: An op or an option of one is not supported for MindSpore.
        ValueError: An UpdateOp's model has no optimizer.
    """

    def __init__(self, ops, postprocessing=None, slicers=None) -> None:
        # FastEstimator's ops can be built for torch and TensorFlow only, so the base class gets to see none.
        super().__init__(target_type="torch", device=None, ops=[], postprocessing=postprocessing, slicers=slicers)
        self.ops = filter_nones(to_list(ops))
        self.models = to_list(_collect_models(self.ops))
        self._verify_inputs()
        self.graphs: dict[tuple, tuple[Plan, Step]] = {}
        self.merges: dict[TensorOp, MergeState] = {}
        for op in flatten(get_current_items(self.ops)):
            check_op(op)
            build_op(op)
            if isinstance(op, (UpdateOp, GradientOp)):
                _check_optimizers(op)
        _make_names_unique(self.models)
        for op in flatten(get_current_items(self.ops)):
            if isinstance(op, UpdateOp) and op.merge_grad > 1:
                self.merges[op] = _merge_state(op)

    def __call__(self, mode: str, epoch: int, ds_id: str, desired_output_keys=None, warmup: bool = False,
                 eager: bool = False):
        # The base class would set `model.current_optimizer`, by which MindSpore would make it a part of the model.
        optimizers = {model: model.optimizer for model in self.models}
        for model in optimizers:
            attach(model, "optimizer", None)
        try:
            super().__call__(mode=mode, epoch=epoch, ds_id=ds_id, desired_output_keys=desired_output_keys,
                             warmup=warmup, eager=eager)
        finally:
            for model, optimizer in optimizers.items():
                attach(model, "optimizer", optimizer)
        for model in self.ctx_models:
            optimizer = model.optimizer
            if isinstance(optimizer, Scheduler):
                optimizer = optimizer.get_current_value(epoch)
            attach(model, "current_optimizer", optimizer)
        self.ctx_ops = flatten(self.ctx_ops)
        self._check_context(mode, epoch)
        return self

    def _check_context(self, mode: str, epoch: int) -> None:
        trainable: dict[Any, bool] = {}
        for op in self.ctx_ops:
            if not self.ctx_state["eager"] and isinstance(op, LambdaOp) and _is_lambda(op.fn):
                raise UnsupportedError(f"LambdaOp(inputs={op.inputs}, outputs={op.outputs}) holds a lambda, which "
                                       "MindSpore does not compile: define a function and pass that")
            if (mode == "train" and isinstance(op, ModelOp)
                    and op.trainable != trainable.setdefault(op.model, op.trainable)):
                raise UnsupportedError(f"one step has ModelOps of model '{op.model.model_name}' with trainable=True "
                                       "and with trainable=False: MindSpore compiles it as only one of them")
            if isinstance(op, (UpdateOp, GradientOp)):
                optimizer = op.model.current_optimizer
                if optimizer is None:
                    raise ValueError(f"model '{op.model.model_name}' is to be updated in epoch {epoch}, but has no "
                                     "optimizer then: give fe.build an optimizer_fn, or schedule the UpdateOp")
                if frozen := next((p.name for p in optimizer.parameters if not p.requires_grad), None):
                    raise ValueError(f"parameter '{frozen}' of model '{op.model.model_name}' was frozen after its "
                                     "optimizer was made: set requires_grad in model_fn")
        self.ctx_training = {model: mode == "train" and trainable.get(model, True) for model in self.ctx_models}

    def _run_step(self, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        plan, step = self._step()
        if missing := [key for key in plan.inputs if key not in batch]:
            raise KeyError(f"the network needs the keys {missing}, which the batch does not have: "
                           f"it has {sorted(batch)}")
        inputs = [ms.Tensor(np.array(self.ctx_state["epoch"], np.int32))]
        inputs += [to_mindspore(batch[key], key) for key in plan.inputs]
        with self._undone() if self.ctx_state["warmup"] else contextlib.nullcontext():
            with _pynative() if self.ctx_state["eager"] else contextlib.nullcontext():
                outputs = step(*inputs)
                prediction = {key: to_torch(value) for key, value in zip(plan.outputs, outputs, strict=True)
                              if key in self.ctx_outputs}
            for op in self.ctx_ops:
                if op in self.merges:
                    self.merges[op].count()
        return batch, prediction

    def _step(self) -> tuple[Plan, Step]:
        """Return the step for the current context, compiling it (at its first call) if it is new."""
        for model, training in self.ctx_training.items():
            if model.training != training:
                model.set_train(training)
        complete = tuple(self.merges[op].completes for op in self.ctx_ops if op in self.merges)
        optimizers = tuple(op.model.current_optimizer for op in self.ctx_ops if isinstance(op, (UpdateOp, GradientOp)))
        # Cells and ops hash by identity, and being in the key keeps them alive.
        key = (self.ctx_state["mode"], self.ctx_state["eager"], tuple(self.ctx_ops), optimizers, complete)
        if key not in self.graphs:
            plan = make_plan(self.ctx_ops, completes_merge=lambda op: self.merges[op].completes,
                             why_not_rerun=self._why_not_rerun)
            step = Step(plan, self.ctx_state["mode"], self.merges, compiled=not self.ctx_state["eager"])
            self.graphs[key] = plan, step
        return self.graphs[key]

    def _why_not_rerun(self, op: ModelOp) -> str | None:
        if not self.ctx_training[op.model]:
            return None
        layer = next((cell for _, cell in op.model.cells_and_names() if isinstance(cell, _NOT_TWICE)), None)
        return None if layer is None else f"it holds a {type(layer).__name__}, which would not do the same twice"

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """Put weights, optimizer states and merge_grad sums back to what they were."""
        parameters = [parameter for model in self.ctx_models for parameter in model.get_parameters()]
        for model in self.ctx_models:
            for optimizer in model.fe_optimizers:
                parameters += [] if optimizer is None else optimizer.fe_state.values()
        for merge in self.merges.values():
            parameters += merge.parameters().values()
        kept = [to_numpy(parameter) for parameter in parameters]
        try:
            yield
        finally:
            for parameter, array in zip(parameters, kept, strict=True):
                assign(parameter, array)


def _is_lambda(function: Any) -> bool:
    return getattr(function, "__name__", "") == "<lambda>"


@contextlib.contextmanager
def _pynative() -> Iterator[None]:
    """Run uncompiled even where the program has set MindSpore to graph mode."""
    mode = ms.get_context("mode")
    if mode == ms.PYNATIVE_MODE:
        yield
        return
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=mode)


def _check_optimizers(op: UpdateOp | GradientOp) -> None:
    if all(optimizer is None for optimizer in op.model.fe_optimizers):
        raise ValueError(f"model '{op.model.model_name}' has a {type(op).__name__} but no optimizer: "
                         "give fe.build an optimizer_fn")


def _merge_state(op: UpdateOp) -> MergeState:
    """Return the sums of an UpdateOp; kept with its model, since they are saved with its optimizer."""
    states = op.model.__dict__.setdefault("fe_merge_states", {})
    if op not in states:
        states[op] = MergeState(op, name=f"merge_grad{len(states)}")
    return states[op]


def _make_names_unique(models: list[nn.Cell]) -> None:
    """Where two models have a parameter name in common, prefix all their names by the models' names.

    MindSpore wants the names in a graph to be unique.
    """
    names = Counter(parameter.name for model in models for parameter in model.get_parameters())
    if len(names) == sum(names.values()):
        return
    for model in models:
        prefix = f"{model.model_name}."
        for parameter in model.get_parameters():
            if not parameter.name.startswith(prefix):
                parameter.name = prefix + parameter.name
