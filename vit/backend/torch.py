"""What PyTorch is told so that it computes what TensorFlow and MindSpore compute; nothing here knows the architecture.

Siblings: `vit/backend/tensorflow.py` and `vit/backend/mindspore.py` define the same names.
"""
import functools
import importlib.util
import os
import shutil
import sys

import fe_compat
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

# What is imported and not used here is a part of what a backend has.
from vit.backend.device.torch import (  # noqa: F401
    device_name,
    multiplies_bfloat16,
    on_accelerator,
    profiler,
    supports_dtype,
    use_device,
)
from vit.backend.muon import torch as muon
from vit.backend.normalize.torch import Normalize  # noqa: F401
from vit.backend.predictor.torch import Predictor  # noqa: F401
from vit.backend.workers import torch as workers
from vit.model.precision import FIRST_SCALE, scales_loss

Tensor = torch.Tensor
NAME = "torch"
CHANNELS_FIRST = True
DEVICE_TARGETS = ()
# What PyTorch calls the last parts of canonical names, by the class of the layer, where it has other words.
LEAVES = {}


class Linear(nn.Linear):
    """A linear layer that multiplies in `dtypes.products`; its weights and its result are `dtypes.weights`."""

    def __init__(self, inputs, outputs, dtypes, bias=True):
        super().__init__(inputs, outputs, bias=bias, dtype=dtypes.weights)
        self.products = dtypes.products

    def forward(self, x):
        if self.products == x.dtype:
            return super().forward(x)
        x = F.linear(x.to(self.products), self.weight.to(self.products)).to(self.weight.dtype)
        return x if self.bias is None else x + self.bias


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis, with the biased variance (Ba et al. 2016)."""

    def __init__(self, width, epsilon, dtypes):
        super().__init__(width, eps=epsilon, dtype=dtypes.weights)


def matmul(a, b, dtype, transpose_b=False):
    """Multiply matrices in a dtype; the result has the dtype of `a`."""
    return (a.to(dtype) @ (b.mT if transpose_b else b).to(dtype)).to(a.dtype)


def attention(q, k, v, dtype):
    """Fused attention [B, H, N, D] of factors that are rounded to a dtype; the result has the dtype of `q`.

    A CPU computes it in the dtype of `q`: the gradient of its kernel for bfloat16 takes four times as long.
    """
    rounded = (t.to(dtype) if t.is_cuda else t.to(dtype).to(t.dtype) for t in (q, k, v))
    return F.scaled_dot_product_attention(*rounded).to(q.dtype)


def is_floating(x):
    """Whether a tensor holds floating-point numbers."""
    return x.is_floating_point()


def gelu(x):
    """The exact GELU (Hendrycks & Gimpel 2016)."""
    return F.gelu(x, approximate="none")


def gelu_tanh(x):
    """The GELU's approximation with tanh (the same paper, section 2)."""
    return F.gelu(x, approximate="tanh")


def relu(x):
    """The rectifier."""
    return F.relu(x)


def clip(gradients, clip_norm):
    """Scale gradients to a global norm of at most `clip_norm` (None: leave them); return them and the norm they had."""
    norm = torch.sqrt(sum(torch.sum(torch.square(g)) for g in gradients))
    if clip_norm is None:
        return gradients, norm
    scale = clip_norm / torch.clamp(norm, min=clip_norm)
    return [g * scale for g in gradients], norm


def centralize(g):
    """Take the mean over the inputs off a linear layer's gradient (Yong et al. 2020)."""
    return g - g.mean(dim=1, keepdim=True)


class Optimizer(torch.optim.Optimizer):
    """SGD, Adam, AdamW or Muon, exactly as `vit.training.recipe.Recipe` defines them.

    Args:
        parameters: What to train: canonical name to tensor.
        recipe: The `Recipe`.
        depth: Blocks of the model, for layer-wise learning rates.
        reduce: How gradients are added over several workers, as `workers.add` says; None for one alone.
    """

    def __init__(self, parameters, recipe, depth, reduce=None):
        super().__init__(list(parameters.values()), {"lr": recipe.learning_rate, "updates": 0})
        self.parameters, self.reduce = parameters, reduce
        self.algorithm, self.nesterov = recipe.optimizer, recipe.looks_ahead
        self.clip_norm = recipe.clip_norm or None
        self.momentum, self.beta1, self.beta2 = recipe.momentum, recipe.beta1, recipe.beta2
        self.epsilon = recipe.epsilon
        self.decays = [recipe.decay_of(name) for name in parameters]
        self.lr_scales = [recipe.layer_scale(name, depth) for name in parameters]
        self.centralized = [recipe.centralizes(name) for name in parameters]
        self.matrices = [recipe.orthogonalizes(name) for name in parameters]
        for w in parameters.values():
            self.state[w] = {"moment1": torch.zeros_like(w), "moment2": torch.zeros_like(w)}
        self.norm = torch.zeros(())  # the gradients' norm in the last step
        scale = torch.tensor(recipe.loss_scale or FIRST_SCALE)
        self.loss_scale = scale if scales_loss(recipe.precision) else None

    @torch.no_grad()
    def step(self):
        group = self.param_groups[0]
        trained = [parts for parts in zip(group["params"], self.decays, self.centralized, self.matrices, self.lr_scales,
                                          strict=True) if parts[0].grad is not None]
        gradients = [w.grad if self.loss_scale is None else w.grad / self.loss_scale for w, *_ in trained]
        if self.reduce is not None:
            gradients = workers.add(gradients, self.reduce)
        gradients, self.norm = clip(gradients, self.clip_norm)
        if self.loss_scale is not None and not torch.isfinite(self.norm):
            return  # too large for float16: this step is skipped
        group["updates"] += 1
        whole = [(*parts, g) for parts, g in zip(trained, gradients, strict=True)]
        kinds = [[one for one in whole if bool(one[3]) is muons] for muons in (True, False)]
        for part in filter(None, kinds) if self.norm.is_cuda else [[one] for one in whole]:
            w, decay, centralized, matrices, scale, g = zip(*part, strict=True)
            moments = ([self.state[one][key] for one in w] for key in ("moment1", "moment2"))
            change = self.change(w, g, decay, centralized, matrices, *moments, t=group["updates"])
            torch._foreach_sub_(w, torch._foreach_mul(change, [group["lr"] * one for one in scale]))

    def change(self, w, g, decay, centralized, matrices, moment1, moment2, t):
        """Return what the weights w lose in update t, over the learning rate; update their moments.

        All are lists: a GPU takes one of all weights (Muon's apart), as it would wait for the launch of each operation;
        a CPU one weight after the other, as that stays in its cache.
        """
        add, mul = torch._foreach_add, torch._foreach_mul
        if self.algorithm in ("sgd", "adam"):
            g = add(g, mul(w, decay))
        g = [centralize(one) if matrix else one for one, matrix in zip(g, centralized, strict=True)]
        if self.algorithm == "sgd" or matrices[0]:
            v = add(mul(moment1, self.momentum), g)
            torch._foreach_copy_(moment1, v)
            v = add(g, mul(v, self.momentum)) if self.nesterov else v
            return add(mul(w, decay), [*map(muon.direction, v, matrices)]) if matrices[0] else v
        m = add(mul(moment1, self.beta1), mul(g, 1 - self.beta1))
        v = add(mul(moment2, self.beta2), mul(mul(g, g), 1 - self.beta2))
        torch._foreach_copy_(moment1, m)
        torch._foreach_copy_(moment2, v)
        m, v = torch._foreach_div(m, 1 - self.beta1**t), torch._foreach_div(v, 1 - self.beta2**t)
        change = torch._foreach_div(m, add(torch._foreach_sqrt(v), self.epsilon))
        return change if self.algorithm == "adam" else add(mul(w, decay), change)

    def moments(self):
        """The two moments (the first is SGD's velocity), each as canonical name to tensor."""
        return [{name: self.state[w][key] for name, w in self.parameters.items()} for key in ("moment1", "moment2")]

    def updates(self):
        """How many updates were made; a step that accumulates or is skipped makes none."""
        return self.param_groups[0]["updates"]

    def set_updates(self, count):
        """Go on as if so many updates had been made."""
        self.param_groups[0]["updates"] = count

    def set_loss_scale(self, scale):
        """Set what float16's losses are multiplied by before they are differentiated."""
        self.loss_scale.fill_(scale)


def freeze_encoder(model, parameters):
    """Train nothing but the head from now on."""
    for name, w in parameters.items():
        w.requires_grad_(name.startswith("head."))


def hold(value):
    """Keep a tensor's value as it is now, on its device."""
    return value.detach()


def recompute(layers):
    """Keep of layers' forward passes no more than their inputs; the backward pass computes the rest again.

    Memory for time: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """
    for layer in layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def compile_model(model):
    """Compile a model's forward and backward pass with torch.compile; where that cannot be, say so and leave it."""
    compilers = ("g++", "clang++") if "CXX" not in os.environ else (os.environ["CXX"],)
    missing = []
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is None:
        missing = ["triton (pip install triton)"]
    elif not torch.cuda.is_available() and not any(map(shutil.which, compilers)):
        missing = ["a C++ compiler (apt-get install g++)"]
    if missing:
        print(f"note: --compile needs {missing[0]}: training goes on uncompiled", file=sys.stderr, flush=True)
        return
    model.compile(dynamic=False)  # else the last batch of an epoch, which is smaller, would slow all that follow


def keep_graphs(folder, key):
    """Keep nothing: torch.compile has a cache of its own."""


def run_stages(model, images, key=None):
    """Run every stage on numpy images [B, S, S, C] and dropout keys; `vit.model.config.stage_names` names them."""
    images, key = torch.tensor(images).permute(0, 3, 1, 2), None if key is None else torch.tensor(key)
    with torch.no_grad():
        return [stage.numpy() for stage in model.eval().stages(images, key)]


def loss_gradients(model, parameters, images, labels):
    """Give the mean cross entropy of numpy images [B, S, S, C], dropout off, and its gradients by canonical name."""
    loss = F.cross_entropy(model.eval()(torch.tensor(images).permute(0, 3, 1, 2)), torch.tensor(labels))
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return loss.item(), dict(zip(parameters, gradients, strict=True))


def load_fastestimator():
    """Import FastEstimator for PyTorch models."""
    return fe_compat.load_fastestimator()
