"""What MindSpore is told so that it computes what PyTorch and TensorFlow compute; nothing here knows the architecture.

Siblings: `vit/backend/torch.py` and `vit/backend/tensorflow.py` define the same names.
"""
import functools
import importlib.util
import math
import os

import fe_compat
import mindspore as ms
from mindspore import nn, ops

# What is imported and not used here is a part of what a backend has.
from vit.backend.device.mindspore import (  # noqa: F401
    device_name,
    multiplies_bfloat16,
    on_accelerator,
    profiler,
    supports_dtype,
    use_device,
)
from vit.backend.mindspore_gradients import AddBias, Gelu, Product, Scale, Softmax, Standardize
from vit.backend.muon import mindspore as muon
from vit.backend.normalize.mindspore import Normalize  # noqa: F401
from vit.backend.predictor.mindspore import Predictor  # noqa: F401
from vit.backend.workers import mindspore as workers
from vit.errors import UserError
from vit.model.precision import FIRST_SCALE, scales_loss

Tensor = ms.Tensor
NAME = "ms"
CHANNELS_FIRST = True
DEVICE_TARGETS = ("CPU", "GPU", "Ascend")
FLOATING = (ms.float16, ms.bfloat16, ms.float32, ms.float64)
# What MindSpore calls the last parts of canonical names, by the class of the layer, where it has other words.
LEAVES = {"LayerNorm": {"weight": "gamma", "bias": "beta"}}

# By default another thread runs a step while the caller spins until it is done, which on a CPU takes a core away from
# the computation: a training step of `tiny` took four times as long on two cores, and twice on one. It counts from the
# first operation on.
if ms.get_context("device_target") == "CPU":
    os.environ.setdefault("MS_DEV_HOST_BLOCKING_RUN", "1")


class Linear(nn.Dense):
    """A linear layer that multiplies in `dtypes.products`; its weights and its result are `dtypes.weights`."""

    def __init__(self, inputs, outputs, dtypes, bias=True):
        super().__init__(inputs, outputs, has_bias=bias, dtype=dtypes.weights)
        self.product, self.add_bias = Product(dtypes), AddBias()

    def construct(self, x):
        shape = x.shape[:-1] + (self.out_channels,)
        x = self.product(x.reshape(-1, self.in_channels), self.weight)
        return (self.add_bias(x, self.bias) if self.has_bias else x).reshape(shape)


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis, with the biased variance (Ba et al. 2016)."""

    def __init__(self, width, epsilon, dtypes):
        super().__init__((width,), epsilon=epsilon, dtype=dtypes.weights)
        # An accelerator has a kernel that is fast; a CPU's is slow, and keeps mean and variance in float32.
        self.own = dtypes.weights == ms.float64 or ms.get_context("device_target") == "CPU"
        self.eps = ms.Tensor(epsilon, dtypes.weights)
        self.standardize, self.scale, self.add_bias = Standardize(), Scale(), AddBias()

    def construct(self, x):
        if not self.own:
            return self.layer_norm(x, self.gamma, self.beta)[0]
        shape = x.shape
        x = self.standardize(x.reshape(-1, shape[-1]), self.eps)[0]
        return self.add_bias(self.scale(x, self.gamma), self.beta).reshape(shape)


softmax, _GELU = Softmax(), Gelu()


def is_floating(x):
    """Whether a tensor holds floating-point numbers."""
    return x.dtype in FLOATING


def gelu(x):
    """The exact GELU (Hendrycks & Gimpel 2016)."""
    return _GELU(x)[0]


def gelu_tanh(x):
    """The GELU's approximation with tanh (the same paper, section 2)."""
    # Written out: MindSpore's own has a gradient of float32 in float64 too, as a bare fraction would be one. With
    # (1 + tanh(y)) / 2 = sigmoid(2y), for on a CPU its tanh is 1 from 5 on, and so 1e-4 off.
    return x * ops.sigmoid((x + x * x * x * 44715 / 10**6) * 2 * 7978845608028654 / 10**16)


def relu(x):
    """The rectifier."""
    return ops.relu(x)


def clip(gradients, clip_norm):
    """Scale gradients to a global norm of at most `clip_norm` (None: leave them); return them and the norm they had."""
    norm = ops.sqrt(sum([ops.square(g).sum() for g in gradients]))
    if clip_norm is None:
        return gradients, norm
    scale = clip_norm / ops.maximum(norm, clip_norm)
    return [g * scale for g in gradients], norm


def centralize(g):
    """Take the mean over the inputs off a linear layer's gradient (Yong et al. 2020)."""
    return g - g.mean(axis=1, keep_dims=True)


class Optimizer(nn.Optimizer):
    """SGD, Adam, AdamW or Muon, exactly as `vit.training.recipe.Recipe` defines them.

    Args:
        parameters: What to train: canonical name to tensor.
        recipe: The `Recipe`.
        depth: Blocks of the model, for layer-wise learning rates.
        reduce: How gradients are added over several workers, as `workers.add` says; None for one alone.
    """

    def __init__(self, parameters, recipe, depth, reduce=None):
        super().__init__(recipe.learning_rate, [w for w in parameters.values() if w.requires_grad])
        dtype = next(iter(parameters.values())).dtype
        number = functools.partial(ms.Tensor, dtype=dtype)  # a bare number would be a float32
        self.learning_rate = ms.Parameter(number(recipe.learning_rate), name="learning_rate", requires_grad=False)
        self.names, self.reduce = tuple(parameters), reduce
        self.algorithm, self.nesterov = recipe.optimizer, recipe.looks_ahead
        self.clip_norm = number(recipe.clip_norm) if recipe.clip_norm else None
        self.momentum, self.beta1, self.beta2 = number(recipe.momentum), number(recipe.beta1), number(recipe.beta2)
        self.log_beta1, self.log_beta2 = number(math.log(recipe.beta1)), number(math.log(recipe.beta2))
        self.epsilon = number(recipe.epsilon)
        self.decays = [number(recipe.decay_of(name)) for name in parameters]
        self.lr_scales = [number(recipe.layer_scale(name, depth)) for name in parameters]
        self.centralized = tuple(recipe.centralizes(name) for name in parameters)
        self.matrices = tuple(recipe.orthogonalizes(name) for name in parameters)
        self.trained = tuple(i for i, w in enumerate(parameters.values()) if w.requires_grad)  # one for each gradient
        self.weights = ms.ParameterTuple(parameters.values())
        self.moment1 = self.weights.clone(prefix="moment1", init="zeros")
        self.moment2 = self.weights.clone(prefix="moment2", init="zeros")
        self.norm = ms.Parameter(number(0), name="norm", requires_grad=False)  # the gradients' norm in the last step
        scale = ms.Parameter(number(recipe.loss_scale or FIRST_SCALE), name="loss_scale", requires_grad=False)
        self.loss_scale = scale if scales_loss(recipe.precision) else None

    def construct(self, gradients):
        if self.loss_scale is not None:
            gradients = [g / self.loss_scale for g in gradients]
        if self.reduce is not None:
            gradients = workers.add(gradients, self.reduce)
        gradients, norm = clip(gradients, self.clip_norm)
        ops.assign(self.norm, norm)
        if self.loss_scale is None or ops.isfinite(norm):  # else too large for float16: this step is skipped
            self.update(gradients, ops.cast(self.global_step + 1, norm.dtype))

    def update(self, gradients, t):
        # Once, not for each weight: a graph of fewer operations is compiled sooner.
        unbiased = None if self.algorithm == "sgd" else (-ops.expm1(t * self.log_beta1), -ops.expm1(t * self.log_beta2))
        for k in range(len(gradients)):
            i, g = self.trained[k], gradients[k]
            w, rate = self.weights[i], self.learning_rate * self.lr_scales[i]
            moments = self.moment1[i], self.moment2[i]
            change = self.change(w, g, self.decays[i], self.centralized[i], self.matrices[i], *moments, unbiased)
            ops.assign(w, w - rate * change)
        ops.assign(self.global_step, self.global_step + 1)

    def change(self, w, g, decay, centralized, matrices, moment1, moment2, unbiased):
        """Return what a weight w loses, over the learning rate; update its moments, of Adam divided by `unbiased`."""
        if self.algorithm in ("sgd", "adam"):
            g, decay = g + decay * w, 0
        g = centralize(g) if centralized else g
        if self.algorithm == "sgd" or matrices:
            v = self.momentum * moment1 + g
            ops.assign(moment1, v)
            v = g + self.momentum * v if self.nesterov else v
            return decay * w + muon.direction(v, matrices) if matrices else v
        m = self.beta1 * moment1 + (1 - self.beta1) * g
        v = self.beta2 * moment2 + (1 - self.beta2) * ops.square(g)
        ops.assign(moment1, m)
        ops.assign(moment2, v)
        m, v = m / unbiased[0], v / unbiased[1]
        return decay * w + m / (ops.sqrt(v) + self.epsilon)

    def moments(self):
        """The two moments (the first is SGD's velocity), each as canonical name to tensor."""
        return [dict(zip(self.names, slot, strict=True)) for slot in (self.moment1, self.moment2)]

    def updates(self):
        """How many updates were made; a step that accumulates or is skipped makes none."""
        return int(self.global_step)

    def set_updates(self, count):
        """Go on as if so many updates had been made."""
        ops.assign(self.global_step, ms.Tensor([count], ms.int32))

    def set_loss_scale(self, scale):
        """Set what float16's losses are multiplied by before they are differentiated."""
        ops.assign(self.loss_scale, ms.Tensor(scale, self.loss_scale.dtype))


def freeze_encoder(model, parameters):
    """Train nothing but the head from now on."""
    for name, w in parameters.items():
        w.requires_grad = name.startswith("head.")


def hold(value):
    """Keep a tensor's value as it is now, on its device."""
    return value + 0


def recompute(layers):
    """Leave layers as they are: MindSpore's Cell.recompute costs the time, and on a CPU frees no memory."""


def compile_model(model):
    """Leave a model as it is: MindSpore compiles all training steps."""


def keep_graphs(folder, key):
    """Keep the graphs of training steps in a folder, by a key that says what they depend on beside their shapes."""
    from fe_mindspore import graph_cache
    graph_cache.keep(folder, key)


def run_stages(model, images, key=None):
    """Run every stage on numpy images [B, S, S, C] and dropout keys; `vit.model.config.stage_names` names them."""
    images, key = ms.Tensor(images).permute(0, 3, 1, 2), None if key is None else ms.Tensor(key)
    return [stage.asnumpy() for stage in model.set_train(False).stages(images, key)]


def loss_gradients(model, parameters, images, labels):
    """Give the mean cross entropy of numpy images [B, S, S, C], dropout off, and its gradients by canonical name."""
    model.set_train(False)

    def mean_loss(x, y):
        return ops.cross_entropy(model(x), y)

    differentiate = ms.value_and_grad(mean_loss, None, ms.ParameterTuple(parameters.values()))
    loss, gradients = differentiate(ms.Tensor(images).permute(0, 3, 1, 2), ms.Tensor(labels, ms.int32))
    return loss.item(), dict(zip(parameters, gradients, strict=True))


def load_fastestimator():
    """Import FastEstimator, taught to train MindSpore models."""
    if importlib.util.find_spec("fe_mindspore") is None:
        raise UserError("fe_mindspore is not installed: run `make .venv`, or pip install packages/fe_mindspore")
    import fe_mindspore  # noqa: F401
    return fe_compat.load_fastestimator()
