"""A Vision Transformer in MindSpore, in FastEstimator: pretrain on 100 classes, copy the encoder, finetune on 10.

    python vit_ms.py --pretrain_epochs 100      FastEstimator's apphub job: CIFAR-100, then CIFAR-10
    python vit_ms.py --data digits --variant tiny --pretrain_epochs 5 --compare_scratch      minutes, offline

Legend: B batch, N tokens, D width, H heads, P patch side, G patches along a side, C channels, S image side.
"""
from vit.backends import require

require("mindspore", __name__)

import mindspore as ms
from mindspore import nn, ops

from vit import cli, flow
from vit.config import ViTConfig
from vit.errors import UserError
from vit.fe_compat import load_fastestimator
from vit.weights import Weights, check, shapes


class PatchEmbed(nn.Cell):
    """Pictures [B, C, S, S] to patch tokens [B, patches, D]: a linear layer on each flattened patch (eq. 1)."""

    def __init__(self, config: ViTConfig, dtype: ms.Type):
        super().__init__()
        self.channels, self.patch, self.grid = config.in_channels, config.patch_size, config.grid
        self.proj = nn.Dense(self.channels * self.patch**2, config.width, has_bias=config.patch_bias, dtype=dtype)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        C, P, G = self.channels, self.patch, self.grid
        x = x.reshape(-1, C, G, P, G, P)
        x = x.permute(0, 2, 4, 1, 3, 5)  # B, G, G, C, P, P
        return self.proj(x.reshape(-1, G * G, C * P * P))


class LayerNorm(nn.LayerNorm):
    """MindSpore's LayerNorm; on CPU its kernel keeps mean and variance in float32, so float64 takes plain ops."""

    def __init__(self, width: int, epsilon: float, dtype: ms.Type):
        super().__init__((width,), epsilon=epsilon, dtype=dtype)
        self.exact, self.eps = dtype == ms.float64, ms.Tensor(epsilon, dtype)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.exact:
            return self.layer_norm(x, self.gamma, self.beta)[0]
        x = x - x.mean(axis=-1, keep_dims=True)
        return x * ops.rsqrt(ops.square(x).mean(axis=-1, keep_dims=True) + self.eps) * self.gamma + self.beta


class Attention(nn.Cell):
    """Multi-head self-attention [B, N, D] to [B, N, D], with q, k and v from one linear layer (appendix A)."""

    def __init__(self, config: ViTConfig, dtype: ms.Type):
        super().__init__()
        self.heads, self.tokens, self.width = config.heads, config.tokens, config.width
        self.qkv = nn.Dense(config.width, 3 * config.width, has_bias=config.qkv_bias, dtype=dtype)
        self.scale = ms.Tensor((config.width // config.heads)**-0.5, dtype)  # a bare number would be a float32
        self.q_dot_k = ops.BatchMatMul(transpose_b=True)
        self.drop_weights = nn.Dropout(p=config.attention_dropout)
        self.proj = nn.Dense(config.width, config.width, dtype=dtype)
        self.drop = nn.Dropout(p=config.dropout)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        N, D, H = self.tokens, self.width, self.heads
        x = self.qkv(x).reshape(-1, N, 3, H, D // H)
        q, k, v = ops.unstack(x.permute(2, 0, 3, 1, 4))  # each B, H, N, D/H
        x = ops.softmax(self.q_dot_k(q * self.scale, k))  # B, H, N, N
        x = ops.matmul(self.drop_weights(x), v)
        x = x.permute(0, 2, 1, 3).reshape(-1, N, D)
        return self.drop(self.proj(x))


class Mlp(nn.Cell):
    """Two linear layers with an exact GELU between, [B, N, D] to [B, N, D]."""

    def __init__(self, config: ViTConfig, dtype: ms.Type):
        super().__init__()
        self.fc1 = nn.Dense(config.width, config.mlp_dim, dtype=dtype)
        self.fc2 = nn.Dense(config.mlp_dim, config.width, dtype=dtype)
        self.drop = nn.Dropout(p=config.dropout)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.drop(ops.gelu(self.fc1(x), approximate="none"))  # B, N, mlp_dim
        return self.drop(self.fc2(x))


class DropPath(nn.Cell):
    """Stochastic depth: the whole branch of a sample is dropped, and kept ones are scaled up (Huang et al. 2016)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.drop = nn.Dropout(p=rate)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.rate == 0:
            return x
        return x * self.drop(ops.ones_like(x[:, :1, :1]))  # B, 1, 1


class Block(nn.Cell):
    """Attention and MLP, each in a residual branch, normalized before (pre) or after (post): [B, N, D] to itself."""

    def __init__(self, config: ViTConfig, drop_path: float, dtype: ms.Type):
        super().__init__()
        self.pre = config.norm_order == "pre"
        self.norm1 = LayerNorm(config.width, epsilon=config.block_norm_eps, dtype=dtype)
        self.attn = Attention(config, dtype)
        self.norm2 = LayerNorm(config.width, epsilon=config.block_norm_eps, dtype=dtype)
        self.mlp = Mlp(config, dtype)
        self.drop_path = DropPath(drop_path)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """Both halves' outputs; the second is the block's."""
        if self.pre:
            half = x + self.drop_path(self.attn(self.norm1(x)))
            return half, half + self.drop_path(self.mlp(self.norm2(half)))
        half = self.norm1(x + self.drop_path(self.attn(x)))
        return half, self.norm2(half + self.drop_path(self.mlp(half)))


class ViT(nn.Cell):
    """The whole model: pictures [B, C, S, S] to logits [B, classes] (Dosovitskiy et al. 2021, section 3.1)."""

    def __init__(self, config: ViTConfig, dtype: str = "float32"):
        super().__init__()
        self.config = config
        self.has_class_token, self.pooled = config.class_token, config.pooled
        dtype = getattr(ms, dtype)
        self.patch_embed = PatchEmbed(config, dtype)
        if self.has_class_token:
            self.cls_token = ms.Parameter(ops.zeros((1, 1, config.width), dtype), name="cls_token")
        self.pos_embed = ms.Parameter(ops.zeros((1, config.tokens, config.width), dtype), name="pos_embed")
        self.drop = nn.Dropout(p=config.dropout)
        self.blocks = nn.CellList([Block(config, config.drop_path_rate(i), dtype) for i in range(config.depth)])
        self.norm = LayerNorm(config.width, epsilon=config.final_norm_eps, dtype=dtype)
        self.head = nn.Dense(config.width, config.num_classes, dtype=dtype)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.stages(x, keep=False)[-1]

    def stages(self, x: ms.Tensor, keep: bool = True) -> tuple[ms.Tensor, ...]:
        """Every stage of the forward pass, named by `vit.config.stage_names`; only the logits if not to `keep`."""
        x = self.patch_embed(x)  # B, patches, D
        if self.has_class_token:
            x = ops.cat([ops.repeat_elements(self.cls_token, x.shape[0], axis=0), x], axis=1)  # B, N, D
        x = self.drop(x + self.pos_embed)
        stages = (x,) if keep else ()
        for block in self.blocks:
            half, x = block(x)
            stages += (half, x) if keep else ()
        x = self.norm(x[:, self.pooled]).mean(axis=1)  # B, D
        logits = self.head(x)
        return stages + (x, logits) if keep else (logits,)


def table(model: ViT) -> dict[str, ms.Parameter]:
    """Canonical name to parameter. MindSpore's layouts are the canonical ones, but for the flattened patch."""
    names = {"cls_token": model.cls_token} if model.config.class_token else {}
    names["pos_embed"] = model.pos_embed
    layers = {"patch_embed.proj": model.patch_embed.proj, "norm": model.norm, "head": model.head}
    for i, block in enumerate(model.blocks):
        layers |= {f"blocks.{i}.norm1": block.norm1, f"blocks.{i}.norm2": block.norm2,
                   f"blocks.{i}.attn.qkv": block.attn.qkv, f"blocks.{i}.attn.proj": block.attn.proj,
                   f"blocks.{i}.mlp.fc1": block.mlp.fc1, f"blocks.{i}.mlp.fc2": block.mlp.fc2}
    for name, layer in layers.items():
        is_norm = isinstance(layer, LayerNorm)
        names[f"{name}.weight"] = layer.gamma if is_norm else layer.weight
        if is_norm or layer.has_bias:
            names[f"{name}.bias"] = layer.beta if is_norm else layer.bias
    return names


def to_numpy(model: ViT) -> Weights:
    """The model's weights under canonical names, as copies."""
    names, wanted = table(model), shapes(model.config)
    return {name: names[name].asnumpy().reshape(shape).copy() for name, shape in wanted.items()}


def from_numpy(model: ViT, weights: Weights) -> ViT:
    """Set the model's weights from canonical ones; a missing, extra or misshaped name raises."""
    check(weights, model.config)
    for name, parameter in table(model).items():
        parameter.set_data(ms.Tensor(weights[name].reshape(parameter.shape)))
    return model


def train(stage: flow.Stage, weights: Weights) -> Weights:
    """Train a model that starts from `weights` in FastEstimator's op graph; returns the weights it ends with."""
    fe = load_fastestimator()
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp

    import fe_mindspore  # noqa: F401  (teaches FastEstimator about MindSpore models)

    ms.set_seed(stage.recipe.seed)
    model = fe.build(
        model_fn=lambda: from_numpy(ViT(stage.config), weights),
        optimizer_fn=lambda parameters: nn.SGD(parameters,
                                               learning_rate=stage.recipe.learning_rate,
                                               momentum=stage.recipe.momentum,
                                               weight_decay=stage.recipe.weight_decay),
        model_name=stage.name)
    network = fe.Network(ops=[
        ModelOp(model=model, inputs="x", outputs="y_pred"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
        UpdateOp(model=model, loss_name="ce"),
    ])
    estimator = fe.Estimator(pipeline=stage.pipeline(channels_first=True),
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


def fastestimator_run(device_target: str | None = None, **options) -> dict:
    """Pretrain, copy the encoder, finetune. Options are the script's flags; returns what `results.json` holds."""
    try:
        ms.set_device(device_target) if device_target else None
    except (RuntimeError, ValueError):
        raise UserError(f"device_target {device_target}: this MindSpore finds no such device") from None
    return flow.run("ms", pretrain, finetune, **options)


if __name__ == "__main__":
    cli.main(__doc__, fastestimator_run, device_targets=("CPU", "GPU", "Ascend"))
