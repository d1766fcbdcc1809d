"""What TensorFlow is told so that it computes what PyTorch and MindSpore compute; nothing here knows the architecture.

Siblings: `vit/backend/torch.py` and `vit/backend/mindspore.py` define the same names.
"""
import functools
import math

import fe_compat
from fe_compat.tracing import trace_as_written

tf = fe_compat.legacy_tensorflow()
from tensorflow.keras import layers as nn

# What is imported and not used here is a part of what a backend has.
from vit.backend.device.tensorflow import (  # noqa: F401
    device_name,
    multiplies_bfloat16,
    on_accelerator,
    profiler,
    supports_dtype,
    use_device,
)
from vit.backend.muon import tensorflow as muon
from vit.backend.normalize.tensorflow import Normalize  # noqa: F401
from vit.backend.predictor.tensorflow import Predictor  # noqa: F401
from vit.backend.tensorflow_recompute import recomputed
from vit.backend.workers import tensorflow as workers
from vit.model.precision import FIRST_SCALE, scales_loss

Tensor = tf.Tensor
NAME = "tf"
CHANNELS_FIRST = False
DEVICE_TARGETS = ()
# What Keras calls the last parts of canonical names, by the class of the layer, where it has other words.
LEAVES = {"Linear": {"weight": "kernel"}, "LayerNorm": {"weight": "gamma", "bias": "beta"}}


class Linear(nn.Dense):
    """A linear layer that multiplies in `dtypes.products`; its weights and its result are `dtypes.weights`."""

    def __init__(self, inputs, outputs, dtypes, bias=True):
        super().__init__(outputs, use_bias=bias, dtype=dtypes.weights, autocast=False)
        self.products = dtypes.products

    def call(self, x):
        if self.products == x.dtype:
            return super().call(x)
        x = tf.cast(tf.tensordot(tf.cast(x, self.products), tf.cast(self.kernel, self.products), 1), self.kernel.dtype)
        return x + self.bias if self.use_bias else x


class LayerNorm(nn.Layer):
    """LayerNorm over the last axis, with the biased variance (Ba et al. 2016)."""

    def __init__(self, width, epsilon, dtypes):
        super().__init__(dtype=dtypes.weights)
        self.epsilon = epsilon
        self.gamma = self.add_weight("gamma", (width,), initializer="ones")
        self.beta = self.add_weight("beta", (width,), initializer="zeros")

    def call(self, x):
        # With a gradient of its own: three or more gradients of one tensor are added in an order that depends on
        # which of their buffers is free first, so that runs differ in their bits. Here x has one.
        @tf.custom_gradient
        def norm(x, gamma, beta):
            centered = x - tf.reduce_mean(x, axis=-1, keepdims=True)
            inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True) + self.epsilon)
            normal = centered * inverse

            def gradient(g):
                rest = list(range(len(g.shape) - 1))
                h = g * gamma
                mean, along = (tf.reduce_mean(t, axis=-1, keepdims=True) for t in (h, h * normal))
                return ((h - mean - normal * along) * inverse, tf.reduce_sum(g * normal, axis=rest),
                        tf.reduce_sum(g, axis=rest))

            return normal * gamma + beta, gradient

        return norm(x, self.gamma, self.beta)


def matmul(a, b, dtype, transpose_b=False):
    """Multiply matrices in a dtype; the result has the dtype of `a`."""
    return tf.cast(tf.matmul(tf.cast(a, dtype), tf.cast(b, dtype), transpose_b=transpose_b), a.dtype)


def is_floating(x):
    """Whether a tensor holds floating-point numbers."""
    return x.dtype.is_floating


def gelu(x):
    """The exact GELU (Hendrycks & Gimpel 2016)."""
    # Written out, as the next: TensorFlow's own round their constants to float32, in float64 too.
    return 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5))


def gelu_tanh(x):
    """The GELU's approximation with tanh (the same paper, section 2)."""
    return 0.5 * x * (1 + tf.tanh((2 / math.pi)**0.5 * (x + 0.044715 * x * x * x)))


def relu(x):
    """The rectifier."""
    return tf.nn.relu(x)


def clip(gradients, clip_norm):
    """Scale gradients to a global norm of at most `clip_norm` (None: leave them); return them and the norm they had."""
    norm = tf.sqrt(sum(tf.reduce_sum(tf.square(g)) for g in gradients))
    if clip_norm is None:
        return gradients, norm
    scale = clip_norm / tf.maximum(norm, clip_norm)
    return [g * scale for g in gradients], norm


def centralize(g):
    """Take the mean over the inputs off a linear layer's gradient (Yong et al. 2020)."""
    return g - tf.reduce_mean(g, axis=0, keepdims=True)


class Optimizer(tf.keras.optimizers.Optimizer):
    """SGD, Adam, AdamW or Muon, exactly as `vit.training.recipe.Recipe` defines them.

    Args:
        parameters: What to train: canonical name to tensor.
        recipe: The `Recipe`.
        depth: Blocks of the model, for layer-wise learning rates.
        reduce: How gradients are added over several workers, as `workers.add` says; None for one alone.
    """

    def __init__(self, parameters, recipe, depth, reduce=None):
        super().__init__(name="Optimizer", jit_compile=False)
        dtype = next(iter(parameters.values())).dtype
        self._learning_rate = tf.Variable(recipe.learning_rate, dtype=dtype, trainable=False)
        self.parameters, self.reduce = parameters, reduce
        self.algorithm, self.nesterov = recipe.optimizer, recipe.looks_ahead
        self.clip_norm = recipe.clip_norm or None
        self.momentum, self.beta1, self.beta2 = recipe.momentum, recipe.beta1, recipe.beta2
        self.epsilon = recipe.epsilon
        self.decays = {self._var_key(w): recipe.decay_of(name) for name, w in parameters.items()}
        self.lr_scales = {self._var_key(w): recipe.layer_scale(name, depth) for name, w in parameters.items()}
        self.centralized = {self._var_key(w): recipe.centralizes(name) for name, w in parameters.items()}
        self.matrices = {self._var_key(w): recipe.orthogonalizes(name) for name, w in parameters.items()}
        self.moment1 = {self._var_key(w): tf.Variable(tf.zeros_like(w), trainable=False) for w in parameters.values()}
        self.moment2 = {self._var_key(w): tf.Variable(tf.zeros_like(w), trainable=False) for w in parameters.values()}
        self.norm = tf.Variable(0, dtype=dtype, trainable=False)  # the gradients' norm in the last step
        scale = tf.Variable(recipe.loss_scale or FIRST_SCALE, dtype=dtype, trainable=False)
        self.loss_scale = scale if scales_loss(recipe.precision) else None

    def apply_gradients(self, grads_and_vars, name=None):
        gradients, weights = zip(*self.aggregate_gradients(list(grads_and_vars)), strict=True)
        gradients = [g if self.loss_scale is None else g / self.loss_scale for g in gradients]
        if self.reduce is not None:
            # By their weights' shapes: some gradients have none of their own.
            gradients = [tf.ensure_shape(g, w.shape) for g, w in zip(gradients, weights, strict=True)]
            gradients = workers.add(gradients, self.reduce)
        gradients, norm = clip(gradients, self.clip_norm)
        self.norm.assign(norm)
        if self.loss_scale is None or tf.math.is_finite(norm):  # else too large for float16: this step is skipped
            super().apply_gradients(zip(gradients, weights, strict=True), name, skip_gradients_aggregation=True)

    def update_step(self, g, w):
        key, t = self._var_key(w), tf.cast(self.iterations + 1, w.dtype)
        change = self.change(w, g, self.decays[key], self.centralized[key], self.matrices[key], self.moment1[key],
                             self.moment2[key], t)
        w.assign_sub(self._learning_rate * self.lr_scales[key] * change)

    def change(self, w, g, decay, centralized, matrices, moment1, moment2, t):
        """Return what a weight w loses in update t, over the learning rate; update its moments."""
        if self.algorithm in ("sgd", "adam"):
            g, decay = g + decay * w, 0
        g = centralize(g) if centralized else g
        if self.algorithm == "sgd" or matrices:
            v = self.momentum * moment1 + g
            moment1.assign(v)
            v = g + self.momentum * v if self.nesterov else v
            return decay * w + muon.direction(v, matrices) if matrices else v
        m = self.beta1 * moment1 + (1 - self.beta1) * g
        v = self.beta2 * moment2 + (1 - self.beta2) * tf.square(g)
        moment1.assign(m)
        moment2.assign(v)
        m, v = m / -tf.math.expm1(t * math.log(self.beta1)), v / -tf.math.expm1(t * math.log(self.beta2))
        return decay * w + m / (tf.sqrt(v) + self.epsilon)

    def moments(self):
        """The two moments (the first is SGD's velocity), each as canonical name to tensor."""
        keys = {name: self._var_key(w) for name, w in self.parameters.items()}
        return [{name: slot[key] for name, key in keys.items()} for slot in (self.moment1, self.moment2)]

    def updates(self):
        """How many updates were made; a step that accumulates or is skipped makes none."""
        return int(self.iterations)

    def set_updates(self, count):
        """Go on as if so many updates had been made."""
        self.iterations.assign(count)

    def set_loss_scale(self, scale):
        """Set what float16's losses are multiplied by before they are differentiated."""
        self.loss_scale.assign(scale)


def freeze_encoder(model, parameters):
    """Train nothing but the head from now on."""
    for layer in model.layers:
        layer.trainable = layer is model.head
    model._non_trainable_weights.extend(model._trainable_weights)  # class token and positions
    model._trainable_weights.clear()


def hold(value):
    """Keep a tensor's value as it is now, on its device."""
    return tf.identity(value)


def recompute(layers):
    """Keep of layers' forward passes no more than their inputs; the backward pass computes the rest again.

    Memory for time: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """
    for layer in layers:
        layer.call = functools.partial(recomputed, layer.call)


def compile_model(model):
    """Compile a model's forward and backward pass with XLA."""
    model.call = tf.function(model.call, jit_compile=True)


def keep_graphs(folder, key):
    """Keep nothing: TensorFlow traces a graph in a second or two, and has no cache for it."""


def run_stages(model, images, key=None):
    """Run every stage on numpy images [B, S, S, C] and dropout keys; `vit.model.config.stage_names` names them."""
    images, key = tf.constant(images), None if key is None else tf.constant(key)
    return [stage.numpy() for stage in model.stages(images, key)]


def loss_gradients(model, parameters, images, labels):
    """Give the mean cross entropy of numpy images [B, S, S, C], dropout off, and its gradients by canonical name."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(tf.constant(images))))
    gradients = tape.gradient(loss, list(parameters.values()))
    return float(loss), dict(zip(parameters, gradients, strict=True))


def load_fastestimator():
    """Import FastEstimator for TensorFlow models."""
    trace_as_written()
    return fe_compat.load_fastestimator()
