"""A Vision Transformer in TensorFlow, in FastEstimator: pretrain on 100 classes, copy the encoder, finetune on 10.

    python vit_tf.py --pretrain_epochs 100      FastEstimator's apphub job: CIFAR-100, then CIFAR-10
    python vit_tf.py --data digits --variant tiny --pretrain_epochs 5 --compare_scratch      minutes, offline

Legend: B batch, N tokens, D width, H heads, P patch side, G patches along a side, C channels, S image side.
"""
from vit.backends import require

require("tensorflow", __name__)

from vit.fe_compat import legacy_tensorflow, load_fastestimator

tf = legacy_tensorflow()
from tensorflow.keras import layers as nn

from vit import cli, flow
from vit.config import ViTConfig
from vit.weights import Weights, check, shapes


class PatchEmbed(nn.Layer):
    """Pictures [B, S, S, C] to patch tokens [B, patches, D]: a linear layer on each flattened patch (eq. 1)."""

    def __init__(self, config: ViTConfig, dtype: str):
        super().__init__(dtype=dtype)
        self.channels, self.patch, self.grid = config.in_channels, config.patch_size, config.grid
        self.proj = nn.Dense(config.width, use_bias=config.patch_bias, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        C, P, G = self.channels, self.patch, self.grid
        x = tf.reshape(x, (-1, G, P, G, P, C))
        x = tf.transpose(x, (0, 1, 3, 5, 2, 4))  # B, G, G, C, P, P
        return self.proj(tf.reshape(x, (-1, G * G, C * P * P)))


class Attention(nn.Layer):
    """Multi-head self-attention [B, N, D] to [B, N, D], with q, k and v from one linear layer (appendix A)."""

    def __init__(self, config: ViTConfig, dtype: str):
        super().__init__(dtype=dtype)
        self.heads, self.tokens, self.width = config.heads, config.tokens, config.width
        self.qkv = nn.Dense(3 * config.width, use_bias=config.qkv_bias, dtype=dtype)
        self.drop_weights = nn.Dropout(config.attention_dropout, dtype=dtype)
        self.proj = nn.Dense(config.width, dtype=dtype)
        self.drop = nn.Dropout(config.dropout, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        N, D, H = self.tokens, self.width, self.heads
        x = tf.reshape(self.qkv(x), (-1, N, 3, H, D // H))
        q, k, v = tf.unstack(tf.transpose(x, (2, 0, 3, 1, 4)))  # each B, H, N, D/H
        x = tf.nn.softmax(tf.matmul(q * (D // H)**-0.5, k, transpose_b=True))  # B, H, N, N
        x = tf.matmul(self.drop_weights(x), v)
        x = tf.reshape(tf.transpose(x, (0, 2, 1, 3)), (-1, N, D))
        return self.drop(self.proj(x))


def gelu(x: tf.Tensor) -> tf.Tensor:
    """The exact GELU; TensorFlow's own rounds the square root of 2 to float32, in float64 too."""
    return 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5))


class Mlp(nn.Layer):
    """Two linear layers with an exact GELU between, [B, N, D] to [B, N, D]."""

    def __init__(self, config: ViTConfig, dtype: str):
        super().__init__(dtype=dtype)
        self.fc1 = nn.Dense(config.mlp_dim, dtype=dtype)
        self.fc2 = nn.Dense(config.width, dtype=dtype)
        self.drop = nn.Dropout(config.dropout, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = self.drop(gelu(self.fc1(x)))  # B, N, mlp_dim
        return self.drop(self.fc2(x))


class DropPath(nn.Layer):
    """Stochastic depth: the whole branch of a sample is dropped, and kept ones are scaled up (Huang et al. 2016)."""

    def __init__(self, rate: float, dtype: str):
        super().__init__(dtype=dtype)
        self.rate = rate
        self.drop = nn.Dropout(rate, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if self.rate == 0:
            return x
        return x * self.drop(tf.ones_like(x[:, :1, :1]))  # B, 1, 1


class Block(nn.Layer):
    """Attention and MLP, each in a residual branch, normalized before (pre) or after (post): [B, N, D] to itself."""

    def __init__(self, config: ViTConfig, drop_path: float, dtype: str):
        super().__init__(dtype=dtype)
        self.pre = config.norm_order == "pre"
        self.norm1 = nn.LayerNormalization(epsilon=config.block_norm_eps, dtype=dtype)
        self.attn = Attention(config, dtype)
        self.norm2 = nn.LayerNormalization(epsilon=config.block_norm_eps, dtype=dtype)
        self.mlp = Mlp(config, dtype)
        self.drop_path = DropPath(drop_path, dtype)

    def call(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Both halves' outputs; the second is the block's."""
        if self.pre:
            half = x + self.drop_path(self.attn(self.norm1(x)))
            return half, half + self.drop_path(self.mlp(self.norm2(half)))
        half = self.norm1(x + self.drop_path(self.attn(x)))
        return half, self.norm2(half + self.drop_path(self.mlp(half)))


class ViT(tf.keras.Model):
    """The whole model: pictures [B, S, S, C] to logits [B, classes] (Dosovitskiy et al. 2021, section 3.1)."""

    def __init__(self, config: ViTConfig, dtype: str = "float32"):
        super().__init__(dtype=dtype)
        self.config = config
        self.has_class_token, self.pooled = config.class_token, config.pooled
        self.patch_embed = PatchEmbed(config, dtype)
        if self.has_class_token:
            self.cls_token = tf.Variable(tf.zeros((1, 1, config.width), dtype), name="cls_token")
        self.pos_embed = tf.Variable(tf.zeros((1, config.tokens, config.width), dtype), name="pos_embed")
        self.drop = nn.Dropout(config.dropout, dtype=dtype)
        self.blocks = [Block(config, config.drop_path_rate(i), dtype) for i in range(config.depth)]
        self.norm = nn.LayerNormalization(epsilon=config.final_norm_eps, dtype=dtype)
        self.head = nn.Dense(config.num_classes, dtype=dtype)
        self(tf.zeros((1, config.image_size, config.image_size, config.in_channels), dtype))  # makes the weights

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.stages(x, keep=False)[-1]

    def stages(self, x: tf.Tensor, keep: bool = True) -> tuple[tf.Tensor, ...]:
        """Every stage of the forward pass, named by `vit.config.stage_names`; only the logits if not to `keep`."""
        x = self.patch_embed(x)  # B, patches, D
        if self.has_class_token:
            x = tf.concat([tf.repeat(self.cls_token, tf.shape(x)[0], axis=0), x], axis=1)  # B, N, D
        x = self.drop(x + self.pos_embed)
        stages = (x,) if keep else ()
        for block in self.blocks:
            half, x = block(x)
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


def to_numpy(model: ViT) -> Weights:
    """The model's weights under canonical names, as copies."""
    values = {name: parameter.numpy() for name, parameter in table(model).items()}
    values = {name: value.T if value.ndim == 2 else value for name, value in values.items()}
    return {name: values[name].reshape(shape).copy() for name, shape in shapes(model.config).items()}


def from_numpy(model: ViT, weights: Weights) -> ViT:
    """Set the model's weights from canonical ones; a missing, extra or misshaped name raises."""
    check(weights, model.config)
    for name, parameter in table(model).items():
        value = weights[name]
        parameter.assign(value.reshape(len(value), -1).T if len(parameter.shape) == 2 else value)
    return model


class SGD(tf.keras.optimizers.Optimizer):
    """SGD as `vit.recipe` means it: Keras' own decays weights apart from the momentum, and keeps the rate in it."""

    def __init__(self, learning_rate: float, momentum: float, weight_decay: float):
        super().__init__(name="SGD", jit_compile=False)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.momentum, self.l2 = momentum, weight_decay

    def build(self, var_list: list[tf.Variable]) -> None:
        super().build(var_list)
        if not hasattr(self, "velocity"):  # Keras builds again at each step
            self.velocity = [self.add_variable_from_reference(variable, "velocity") for variable in var_list]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        velocity = self.velocity[self._index_dict[self._var_key(variable)]]
        velocity.assign(self.momentum * velocity + (gradient + self.l2 * variable))
        variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * velocity)


def train(stage: flow.Stage, weights: Weights) -> Weights:
    """Train a model that starts from `weights` in FastEstimator's op graph; returns the weights it ends with."""
    fe = load_fastestimator()
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp

    tf.random.set_seed(stage.recipe.seed)
    model = fe.build(
        model_fn=lambda: from_numpy(ViT(stage.config), weights),
        optimizer_fn=lambda: SGD(learning_rate=stage.recipe.learning_rate,
                                 momentum=stage.recipe.momentum,
                                 weight_decay=stage.recipe.weight_decay),
        model_name=stage.name)
    network = fe.Network(ops=[
        ModelOp(model=model, inputs="x", outputs="y_pred"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
        UpdateOp(model=model, loss_name="ce"),
    ])
    estimator = fe.Estimator(pipeline=stage.pipeline(channels_first=False),
                             network=network,
                             epochs=stage.epochs,
                             traces=stage.traces(model),
                             train_steps_per_epoch=stage.recipe.train_steps_per_epoch,
                             eval_steps_per_epoch=stage.recipe.eval_steps_per_epoch,
                             log_steps=stage.log_steps)
    estimator.fit(warmup=False)
    return to_numpy(model)


def pretrain(job: flow.Job) -> Weights:
    """Train on the many-class set from the seed's initial weights."""
    return flow.pretrain(job, train)


def finetune(job: flow.Job, pretrained: Weights | None) -> Weights:
    """Train on the few-class set from a pretrained encoder, or from scratch if there is none."""
    return flow.finetune(job, train, pretrained)


def fastestimator_run(**options) -> dict:
    """Pretrain, copy the encoder, finetune. Options are the script's flags; returns what `results.json` holds."""
    return flow.run("tf", pretrain, finetune, **options)


if __name__ == "__main__":
    cli.main(__doc__, fastestimator_run)
