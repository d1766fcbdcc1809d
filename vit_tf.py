"""A Vision Transformer in TensorFlow, in FastEstimator: pretrain on 100 classes, copy the encoder, finetune on 10.

    python vit_tf.py --pretrain_epochs 100      FastEstimator's apphub job: CIFAR-100, then CIFAR-10
    python vit_tf.py --data digits --variant tiny --pretrain_epochs 5 --compare_scratch      minutes, offline

Legend: B batch, N tokens, D width, H heads, P patch side, G patches along a side, C channels, S image side.
"""
import math

import numpy as np

from vit.backend import require

require("tensorflow", __name__)

from fe_compat import legacy_tensorflow, load_fastestimator

tf = legacy_tensorflow()
from tensorflow.keras import layers as nn

from vit import convert
from vit.checkpoints import Access
from vit.cli import train as cli
from vit.model.config import ViTConfig
from vit.model.dropout import sites
from vit.model.parameters import Weights, check, shapes
from vit.model.precision import FIRST_SCALE, Dtypes, dtype_names, scales_loss
from vit.training import run as flow
from vit.training.recipe import Recipe


class Linear(nn.Dense):
    """A linear layer with factors rounded to `dtypes.products`; its weights and its result are `dtypes.weights`."""

    def __init__(self, outputs: int, dtypes: Dtypes, bias: bool = True):
        super().__init__(outputs, use_bias=bias, dtype=dtypes.weights, autocast=False)
        self.factor = dtypes.products

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if self.factor == x.dtype:
            return super().call(x)
        x = tf.cast(tf.tensordot(tf.cast(x, self.factor), tf.cast(self.kernel, self.factor), 1), self.kernel.dtype)
        return x + self.bias if self.use_bias else x


class PatchEmbed(nn.Layer):
    """Images [B, S, S, C] to patch tokens [B, patches, D]: a linear layer on each flattened patch (eq. 1)."""

    def __init__(self, config: ViTConfig, dtypes: Dtypes):
        super().__init__(dtype=dtypes.weights)
        self.channels, self.patch, self.grid = config.in_channels, config.patch_size, config.grid
        self.proj = Linear(config.width, dtypes, bias=config.patch_bias)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        C, P, G = self.channels, self.patch, self.grid
        x = tf.reshape(x, (-1, G, P, G, P, C))
        x = tf.transpose(x, (0, 1, 3, 5, 2, 4))  # B, G, G, C, P, P
        return self.proj(tf.reshape(x, (-1, G * G, C * P * P)))


class Dropout(nn.Layer):
    """One dropout site: a sample's flags say which values are kept, and scaled up; without them, all are kept."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__(dtype=dtypes.weights)
        self.site = sites(config).get(name)

    def call(self, x: tf.Tensor, masks: tf.Tensor | None) -> tf.Tensor:
        if masks is None or self.site is None:
            return x
        start, stop, shape, kept = self.site
        mask = tf.reshape(masks[:, start:stop], (-1, *shape))
        return x * (tf.cast(mask, x.dtype) / kept)


class Attention(nn.Layer):
    """Multi-head self-attention [B, N, D] to [B, N, D], with q, k and v from one linear layer (appendix A)."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__(dtype=dtypes.weights)
        self.heads, self.tokens, self.width = config.heads, config.tokens, config.width
        self.factor = dtypes.products
        self.qkv = Linear(3 * config.width, dtypes, bias=config.qkv_bias)
        self.drop_weights = Dropout(config, f"{name}.weights", dtypes)
        self.proj = Linear(config.width, dtypes)
        self.drop = Dropout(config, f"{name}.proj", dtypes)

    def call(self, x: tf.Tensor, masks: tf.Tensor | None) -> tf.Tensor:
        N, D, H = self.tokens, self.width, self.heads
        x = tf.reshape(self.qkv(x), (-1, N, 3, H, D // H))
        q, k, v = tf.unstack(tf.transpose(x, (2, 0, 3, 1, 4)))  # each B, H, N, D/H
        x = tf.nn.softmax(self.matmul(q * (D // H)**-0.5, k, transpose_b=True))  # B, H, N, N
        x = self.matmul(self.drop_weights(x, masks), v)
        x = tf.reshape(tf.transpose(x, (0, 2, 1, 3)), (-1, N, D))
        return self.drop(self.proj(x), masks)

    def matmul(self, a: tf.Tensor, b: tf.Tensor, transpose_b: bool = False) -> tf.Tensor:
        """A product with rounded factors."""
        return tf.cast(tf.matmul(tf.cast(a, self.factor), tf.cast(b, self.factor), transpose_b=transpose_b), a.dtype)


def gelu(x: tf.Tensor) -> tf.Tensor:
    """The exact GELU."""
    # Written out, as the next: TensorFlow's own round their constants to float32, in float64 too.
    return 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5))


def gelu_tanh(x: tf.Tensor) -> tf.Tensor:
    """The GELU's approximation with tanh."""
    return 0.5 * x * (1 + tf.tanh((2 / math.pi)**0.5 * (x + 0.044715 * x * x * x)))


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": tf.nn.relu}


class Mlp(nn.Layer):
    """Two linear layers with an activation between, [B, N, D] to [B, N, D]."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__(dtype=dtypes.weights)
        self.activation = ACTIVATIONS[config.activation]
        self.fc1 = Linear(config.mlp_dim, dtypes)
        self.fc2 = Linear(config.width, dtypes)
        self.drop1 = Dropout(config, f"{name}.fc1", dtypes)
        self.drop2 = Dropout(config, f"{name}.fc2", dtypes)

    def call(self, x: tf.Tensor, masks: tf.Tensor | None) -> tf.Tensor:
        x = self.drop1(self.activation(self.fc1(x)), masks)  # B, N, mlp_dim
        return self.drop2(self.fc2(x), masks)


class Block(nn.Layer):
    """Attention and MLP, each in a residual branch, normalized before (pre) or after (post): [B, N, D] to itself."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__(dtype=dtypes.weights)
        self.pre = config.norm_order == "pre"
        self.norm1 = nn.LayerNormalization(epsilon=config.block_norm_eps, dtype=dtypes.weights)
        self.attn = Attention(config, f"{name}.attn", dtypes)
        self.norm2 = nn.LayerNormalization(epsilon=config.block_norm_eps, dtype=dtypes.weights)
        self.mlp = Mlp(config, f"{name}.mlp", dtypes)
        self.drop_path1 = Dropout(config, f"{name}.attn.path", dtypes)
        self.drop_path2 = Dropout(config, f"{name}.mlp.path", dtypes)

    def call(self, x: tf.Tensor, masks: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Both halves' outputs; the second is the block's."""
        if self.pre:
            half = x + self.drop_path1(self.attn(self.norm1(x), masks), masks)
            return half, half + self.drop_path2(self.mlp(self.norm2(half), masks), masks)
        half = self.norm1(x + self.drop_path1(self.attn(x, masks), masks))
        return half, self.norm2(half + self.drop_path2(self.mlp(half, masks), masks))


class ViT(tf.keras.Model):
    """The whole model: images [B, S, S, C] to logits [B, classes] (Dosovitskiy et al. 2021, section 3.1)."""

    def __init__(self, config: ViTConfig, dtype: str = "float32", precision: str = "fp32"):
        dtypes = Dtypes(*(getattr(tf, name) for name in dtype_names(dtype, precision)))
        super().__init__(dtype=dtypes.weights)
        self.config = config
        self.image = (config.image_size, config.image_size, config.in_channels)
        self.has_class_token, self.pooled = config.class_token, config.pooled
        self.patch_embed = PatchEmbed(config, dtypes)
        if self.has_class_token:
            self.cls_token = tf.Variable(tf.zeros((1, 1, config.width), dtypes.weights), name="cls_token")
        self.pos_embed = tf.Variable(tf.zeros((1, config.tokens, config.width), dtypes.weights), name="pos_embed")
        self.drop, self.drops = Dropout(config, "tokens", dtypes), bool(sites(config))
        self.blocks = [Block(config, f"blocks.{i}", dtypes) for i in range(config.depth)]
        self.norm = nn.LayerNormalization(epsilon=config.final_norm_eps, dtype=dtypes.weights)
        self.head = Linear(config.num_classes, dtypes)
        self(tf.zeros((1, *self.image), dtypes.weights))  # makes the weights

    def call(self, x: tf.Tensor, masks: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        """Masks [B, flags] are rows of `vit.model.dropout.draw`; in training, a model with dropout does not go without."""
        if training and self.drops and masks is None:
            raise ValueError("this model has dropout: training needs masks, one row of vit.model.dropout.draw per image")
        return self.stages(x, masks, keep=False)[-1]

    def stages(self, x: tf.Tensor, masks: tf.Tensor | None = None,
               keep: bool = True) -> tuple[tf.Tensor, ...]:
        """Every stage of the forward pass, named by `vit.model.config.stage_names`; only the logits if not to `keep`."""
        if not x.shape[1:].is_compatible_with(self.image):
            raise ValueError(f"images must be [B, {', '.join(map(str, self.image))}], not {list(x.shape)}")
        x = self.patch_embed(x)  # B, patches, D
        if self.has_class_token:
            x = tf.concat([tf.repeat(self.cls_token, tf.shape(x)[0], axis=0), x], axis=1)  # B, N, D
        x = self.drop(x + self.pos_embed, masks)
        stages = (x,) if keep else ()
        for block in self.blocks:
            half, x = block(x, masks)
            stages += (half, x) if keep else ()
        x = tf.reduce_mean(self.norm(x[:, self.pooled]), axis=1)  # B, D
        logits = self.head(x)
        return stages + (x, logits) if keep else (logits,)


def table(model: ViT) -> dict[str, tf.Variable]:
    """Canonical name to parameter. Keras keeps a linear layer's weight as [in, out]: the canonical one, transposed."""
    names = {"cls_token": model.cls_token} if model.config.class_token else {}
    names["pos_embed"] = model.pos_embed
    layers = {"patch_embed.proj": model.patch_embed.proj, "norm": model.norm, "head": model.head}
    for i, block in enumerate(model.blocks):
        layers |= {f"blocks.{i}.norm1": block.norm1, f"blocks.{i}.norm2": block.norm2,
                   f"blocks.{i}.attn.qkv": block.attn.qkv, f"blocks.{i}.attn.proj": block.attn.proj,
                   f"blocks.{i}.mlp.fc1": block.mlp.fc1, f"blocks.{i}.mlp.fc2": block.mlp.fc2}
    for name, layer in layers.items():
        is_norm = isinstance(layer, nn.LayerNormalization)
        names[f"{name}.weight"] = layer.gamma if is_norm else layer.kernel
        if is_norm or layer.use_bias:
            names[f"{name}.bias"] = layer.beta if is_norm else layer.bias
    return names


def to_numpy(model: ViT, tensors: dict[str, tf.Tensor] | None = None) -> Weights:
    """The model's weights, or tensors in their layouts (gradients, moments), under canonical names, as copies."""
    values = {name: value.numpy() for name, value in (tensors or table(model)).items()}
    values = {name: value.T if value.ndim == 2 else value for name, value in values.items()}
    return {name: values[name].reshape(shape).copy() for name, shape in shapes(model.config).items()}


def from_numpy(model: ViT, weights: Weights, tensors: dict[str, tf.Variable] | None = None) -> ViT:
    """Set the model's weights, or the `tensors`, from canonical ones; a missing, extra or misshaped name raises."""
    weights = check(weights, model.config)
    for name, value in (tensors or table(model)).items():
        new = weights[name]
        value.assign(new.reshape(len(new), -1).T if len(value.shape) == 2 else new)
    return model


def load_pretrained(path: str, image_size: int | None = None, num_classes: int | None = None,
                    dtype: str = "float32") -> ViT:
    """A model with the weights of a file of any format that `vit.convert.read` knows; a new head for new classes."""
    weights, config, report = convert.read(path, image_size, num_classes)
    print(report.summary())
    return from_numpy(ViT(config, dtype), weights)


def run_stages(model: ViT, images: np.ndarray, masks: np.ndarray | None = None) -> list[np.ndarray]:
    """Every stage for images [B, S, S, C] and masks, if any; `vit.model.config.stage_names` names them."""
    images, masks = tf.constant(images), None if masks is None else tf.constant(masks)
    return [stage.numpy() for stage in model.stages(images, masks)]


def loss_gradients(model: ViT, images: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
    """Mean cross entropy of labelled images [B, S, S, C], dropout off, and its gradients under canonical names."""
    names = table(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(tf.constant(images))))
    gradients = tape.gradient(loss, list(names.values()))
    return float(loss), to_numpy(model, dict(zip(names, gradients, strict=True)))


def clip(gradients: list[tf.Tensor], limit: float | None) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Gradients scaled to a global norm of at most `limit` (None: left alone), and the norm that they had."""
    norm = tf.sqrt(sum(tf.reduce_sum(tf.square(g)) for g in gradients))
    if limit is None:
        return gradients, norm
    scale = limit / tf.maximum(norm, limit)
    return [g * scale for g in gradients], norm


class Optimizer(tf.keras.optimizers.Optimizer):
    """SGD, Adam or AdamW over a model's weights, exactly as `vit.training.recipe.Recipe` defines them."""

    def __init__(self, model: ViT, recipe: Recipe):
        names = table(model)
        super().__init__(name="Optimizer", jit_compile=False)
        dtype = names["pos_embed"].dtype
        self._learning_rate = tf.Variable(recipe.learning_rate, dtype=dtype, trainable=False)
        self.rule, self.nesterov = recipe.optimizer, recipe.nesterov
        self.limit = recipe.clip_norm or None
        self.momentum, self.beta1, self.beta2 = recipe.momentum, recipe.beta1, recipe.beta2
        self.epsilon = recipe.epsilon
        self.decays = {self._var_key(w): recipe.decay_of(name) for name, w in names.items()}
        self.scales = {self._var_key(w): recipe.layer_scale(name, model.config.depth) for name, w in names.items()}
        self.moment1 = {self._var_key(w): tf.Variable(tf.zeros_like(w), trainable=False) for w in names.values()}
        self.moment2 = {self._var_key(w): tf.Variable(tf.zeros_like(w), trainable=False) for w in names.values()}
        self.norm = tf.Variable(0, dtype=dtype, trainable=False)  # the gradients' norm in the last step
        scale = tf.Variable(FIRST_SCALE, dtype=dtype, trainable=False)
        self.loss_factor = scale if scales_loss(recipe.precision) else None

    def apply_gradients(self, grads_and_vars, name: str | None = None) -> None:
        gradients, weights = zip(*self.aggregate_gradients(list(grads_and_vars)), strict=True)
        gradients = [g if self.loss_factor is None else g / self.loss_factor for g in gradients]
        gradients, norm = clip(gradients, self.limit)
        self.norm.assign(norm)
        if self.loss_factor is None or tf.math.is_finite(norm):  # else too large for float16: this step is skipped
            super().apply_gradients(zip(gradients, weights, strict=True), name, skip_gradients_aggregation=True)

    def update_step(self, g: tf.Tensor, w: tf.Variable) -> None:
        key, t = self._var_key(w), tf.cast(self.iterations + 1, w.dtype)
        change = self.change(w, g, self.decays[key], self.moment1[key], self.moment2[key], t)
        w.assign_sub(self._learning_rate * self.scales[key] * change)

    def change(self, w, g, decay, moment1, moment2, t):
        """What a weight w loses in step t, over the learning rate; updates its moments."""
        if self.rule != "adamw":
            g, decay = g + decay * w, 0
        if self.rule == "sgd":
            v = self.momentum * moment1 + g
            moment1.assign(v)
            return g + self.momentum * v if self.nesterov else v
        m = self.beta1 * moment1 + (1 - self.beta1) * g
        v = self.beta2 * moment2 + (1 - self.beta2) * tf.square(g)
        moment1.assign(m)
        moment2.assign(v)
        m, v = m / -tf.math.expm1(t * math.log(self.beta1)), v / -tf.math.expm1(t * math.log(self.beta2))
        return decay * w + m / (tf.sqrt(v) + self.epsilon)


def moments(model: ViT, optimizer: Optimizer) -> list[dict[str, tf.Variable]]:
    """The optimizer's two moments (the first is SGD's velocity) under canonical names."""
    keys = {name: optimizer._var_key(w) for name, w in table(model).items()}
    return [{name: slot[key] for name, key in keys.items()} for slot in (optimizer.moment1, optimizer.moment2)]


def optimizer_steps(optimizer: Optimizer, new: int | None = None) -> int:
    """How many updates the optimizer has made, after setting it to a new number if there is one."""
    if new is not None:
        optimizer.iterations.assign(new)
    return int(optimizer.iterations)


def set_loss_scale(optimizer: Optimizer, scale: float) -> None:
    """Set what losses are multiplied by from now on, to be differentiated in float16."""
    optimizer.loss_factor.assign(scale)


def freeze_encoder(model: ViT) -> ViT:
    """Leave everything but the head untrained from now on."""
    for layer in model.layers:
        layer.trainable = layer is model.head
    model._non_trainable_weights.extend(model._trainable_weights)  # class token and positions
    model._trainable_weights.clear()
    return model


def train(stage: flow.Stage, weights: Weights) -> Weights:
    """Train a model that starts from `weights` in FastEstimator's op graph; returns the weights it ends with."""
    fe = load_fastestimator()
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp
    from fastestimator.op.tensorop.tensorop import LambdaOp

    model = from_numpy(ViT(stage.config, stage.dtype, stage.recipe.precision), weights)
    model = freeze_encoder(model) if stage.freeze_encoder else model
    model = fe.build(model_fn=lambda: model,
                     optimizer_fn=lambda: Optimizer(model, stage.recipe),
                     model_name=stage.name)
    loss_scale = model.current_optimizer.loss_factor

    def scaled(loss: tf.Tensor) -> tf.Tensor:
        return loss * loss_scale

    network = fe.Network(ops=[
        ModelOp(model=model, inputs=stage.train_inputs, outputs="y_pred", mode="train"),
        ModelOp(model=model, inputs="x", outputs="y_pred", mode="!train"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
        *([LambdaOp(fn=scaled, inputs="ce", outputs="scaled_ce", mode="train")] if loss_scale is not None else []),
        UpdateOp(model=model, loss_name="scaled_ce" if loss_scale is not None else "ce",
                 merge_grad=stage.recipe.accumulate_steps),
    ])
    access = Access(to_numpy, from_numpy, moments, optimizer_steps, set_loss_scale)
    estimator = fe.Estimator(pipeline=stage.pipeline(channels_first=False),
                             network=network,
                             epochs=stage.epochs,
                             traces=stage.traces(model, access, profiler),
                             train_steps_per_epoch=stage.recipe.train_steps_per_epoch,
                             eval_steps_per_epoch=stage.eval_steps,
                             log_steps=stage.log_steps,
                             monitor_names="ce")
    estimator.fit(warmup=False)
    return to_numpy(model)


def profiler(folder: str):
    """What traces its block into a folder, for TensorFlow's viewer."""
    return tf.profiler.experimental.Profile(folder)


def multiply(dtype: str) -> None:
    """Multiply two matrices where the training would, which raises if there is no product of that type."""
    factor = tf.ones((2, 2), dtype=dtype)
    tf.matmul(factor, factor).numpy()


def pretrain(job: flow.Job) -> Weights:
    """Train on the many-class set from the seed's initial weights."""
    return flow.pretrain(job, train)


def finetune(job: flow.Job, pretrained: Weights | None) -> Weights:
    """Train on the few-class set from a pretrained encoder, or from scratch if there is none."""
    return flow.finetune(job, train, pretrained)


def fastestimator_run(**options) -> dict:
    """Pretrain, copy the encoder, finetune. Options are the script's flags; returns what `results.json` holds."""
    return flow.run("tf", pretrain, finetune, multiply, **options)


if __name__ == "__main__":
    cli.main(__doc__, fastestimator_run)
