"""A Vision Transformer in MindSpore, in FastEstimator: pretrain on 100 classes, copy the encoder, finetune on 10.

    python vit_ms.py --pretrain_epochs 100      FastEstimator's apphub job: CIFAR-100, then CIFAR-10
    python vit_ms.py --data digits --variant tiny --pretrain_epochs 5 --compare_scratch      minutes, offline

Legend: B batch, N tokens, D width, H heads, P patch side, G patches along a side, C channels, S image side.
"""
import functools
import math
import os

import numpy as np

from vit.backend import require

require("mindspore", __name__)

import mindspore as ms
from fe_compat import load_fastestimator, quiet_stderr
from mindspore import nn, ops

from vit import convert
from vit.checkpoints import Access
from vit.cli import train as cli
from vit.errors import UserError
from vit.model.config import ViTConfig
from vit.model.dropout import sites
from vit.model.parameters import Weights, check, shapes
from vit.model.precision import FIRST_SCALE, Dtypes, dtype_names, scales_loss
from vit.training import run as flow
from vit.training.recipe import Recipe

# By default another thread runs a step while the caller spins until it is done, which on a CPU takes a core away.
if ms.get_context("device_target") == "CPU":
    os.environ.setdefault("MS_DEV_HOST_BLOCKING_RUN", "1")


class Linear(nn.Dense):
    """A linear layer with factors rounded to `dtypes.products`; its weights and its result are `dtypes.weights`."""

    def __init__(self, inputs: int, outputs: int, dtypes: Dtypes, bias: bool = True):
        super().__init__(inputs, outputs, has_bias=bias, dtype=dtypes.weights)
        self.narrow, self.factor, self.result = dtypes.products != dtypes.weights, dtypes.products, dtypes.weights

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.narrow:
            return super().construct(x)
        shape = x.shape[:-1] + (self.out_channels,)
        x = ops.cast(x.reshape(-1, self.in_channels), self.factor)
        x = ops.cast(self.matmul(x, ops.cast(self.weight, self.factor)), self.result).reshape(shape)
        return x + self.bias if self.has_bias else x


class PatchEmbed(nn.Cell):
    """Images [B, C, S, S] to patch tokens [B, patches, D]: a linear layer on each flattened patch (eq. 1)."""

    def __init__(self, config: ViTConfig, dtypes: Dtypes):
        super().__init__()
        self.channels, self.patch, self.grid = config.in_channels, config.patch_size, config.grid
        self.proj = Linear(self.channels * self.patch**2, config.width, dtypes, bias=config.patch_bias)

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


class Dropout(nn.Cell):
    """One dropout site: a sample's flags say which values are kept, and scaled up; without them, all are kept."""

    def __init__(self, config: ViTConfig, name: str):
        super().__init__()
        self.site = sites(config).get(name)

    def construct(self, x: ms.Tensor, masks: ms.Tensor | None) -> ms.Tensor:
        if masks is None or self.site is None:
            return x
        start, stop, shape, kept = self.site
        mask = masks[:, start:stop].reshape(-1, *shape)
        return x * (ops.cast(mask, x.dtype) / kept)


class Attention(nn.Cell):
    """Multi-head self-attention [B, N, D] to [B, N, D], with q, k and v from one linear layer (appendix A)."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.heads, self.tokens, self.width = config.heads, config.tokens, config.width
        self.factor = dtypes.products
        self.qkv = Linear(config.width, 3 * config.width, dtypes, bias=config.qkv_bias)
        self.scale = ms.Tensor((config.width // config.heads)**-0.5, dtypes.weights)  # a bare number would be a float32
        self.dot = ops.BatchMatMul(transpose_b=True)
        self.drop_weights = Dropout(config, f"{name}.weights")
        self.proj = Linear(config.width, config.width, dtypes)
        self.drop = Dropout(config, f"{name}.proj")

    def construct(self, x: ms.Tensor, masks: ms.Tensor | None) -> ms.Tensor:
        N, D, H = self.tokens, self.width, self.heads
        x = self.qkv(x).reshape(-1, N, 3, H, D // H)
        q, k, v = ops.unstack(x.permute(2, 0, 3, 1, 4))  # each B, H, N, D/H
        x = ops.softmax(self.matmul(q * self.scale, k, transpose_b=True))  # B, H, N, N
        x = self.matmul(self.drop_weights(x, masks), v)
        x = x.permute(0, 2, 1, 3).reshape(-1, N, D)
        return self.drop(self.proj(x), masks)

    def matmul(self, a: ms.Tensor, b: ms.Tensor, transpose_b: bool = False) -> ms.Tensor:
        """A product with rounded factors."""
        product = self.dot if transpose_b else ops.matmul
        return ops.cast(product(ops.cast(a, self.factor), ops.cast(b, self.factor)), a.dtype)


def gelu(x: ms.Tensor) -> ms.Tensor:
    """The exact GELU."""
    return ops.gelu(x, approximate="none")


def gelu_tanh(x: ms.Tensor) -> ms.Tensor:
    """The GELU's approximation with tanh."""
    # Written out: MindSpore's own has a gradient of float32 in float64 too, as a bare fraction would be one.
    return 0.5 * x * (1 + ops.tanh((x + x * x * x * 44715 / 10**6) * 7978845608028654 / 10**16))


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": ops.relu}


class Mlp(nn.Cell):
    """Two linear layers with an activation between, [B, N, D] to [B, N, D]."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.fc1 = Linear(config.width, config.mlp_dim, dtypes)
        self.fc2 = Linear(config.mlp_dim, config.width, dtypes)
        self.drop1 = Dropout(config, f"{name}.fc1")
        self.drop2 = Dropout(config, f"{name}.fc2")

    def construct(self, x: ms.Tensor, masks: ms.Tensor | None) -> ms.Tensor:
        x = self.drop1(self.activation(self.fc1(x)), masks)  # B, N, mlp_dim
        return self.drop2(self.fc2(x), masks)


class Block(nn.Cell):
    """Attention and MLP, each in a residual branch, normalized before (pre) or after (post): [B, N, D] to itself."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.pre = config.norm_order == "pre"
        self.norm1 = LayerNorm(config.width, epsilon=config.block_norm_eps, dtype=dtypes.weights)
        self.attn = Attention(config, f"{name}.attn", dtypes)
        self.norm2 = LayerNorm(config.width, epsilon=config.block_norm_eps, dtype=dtypes.weights)
        self.mlp = Mlp(config, f"{name}.mlp", dtypes)
        self.drop_path1 = Dropout(config, f"{name}.attn.path")
        self.drop_path2 = Dropout(config, f"{name}.mlp.path")

    def construct(self, x: ms.Tensor, masks: ms.Tensor | None) -> tuple[ms.Tensor, ms.Tensor]:
        """Both halves' outputs; the second is the block's."""
        if self.pre:
            half = x + self.drop_path1(self.attn(self.norm1(x), masks), masks)
            return half, half + self.drop_path2(self.mlp(self.norm2(half), masks), masks)
        half = self.norm1(x + self.drop_path1(self.attn(x, masks), masks))
        return half, self.norm2(half + self.drop_path2(self.mlp(half, masks), masks))


class ViT(nn.Cell):
    """The whole model: images [B, C, S, S] to logits [B, classes] (Dosovitskiy et al. 2021, section 3.1)."""

    def __init__(self, config: ViTConfig, dtype: str = "float32", precision: str = "fp32"):
        super().__init__()
        self.config = config
        self.image = (config.in_channels, config.image_size, config.image_size)
        self.has_class_token, self.pooled = config.class_token, config.pooled
        dtypes = Dtypes(*(getattr(ms, name) for name in dtype_names(dtype, precision)))
        self.patch_embed = PatchEmbed(config, dtypes)
        if self.has_class_token:
            self.cls_token = ms.Parameter(ops.zeros((1, 1, config.width), dtypes.weights), name="cls_token")
        self.pos_embed = ms.Parameter(ops.zeros((1, config.tokens, config.width), dtypes.weights), name="pos_embed")
        self.drop, self.drops = Dropout(config, "tokens"), bool(sites(config))
        self.blocks = nn.CellList([Block(config, f"blocks.{i}", dtypes) for i in range(config.depth)])
        self.norm = LayerNorm(config.width, epsilon=config.final_norm_eps, dtype=dtypes.weights)
        self.head = Linear(config.width, config.num_classes, dtypes)

    def construct(self, x: ms.Tensor, masks: ms.Tensor | None = None) -> ms.Tensor:
        """Masks [B, flags] are rows of `vit.model.dropout.draw`; in training, a model with dropout does not go without."""
        if self.training and self.drops and masks is None:
            raise ValueError("this model has dropout: training needs masks, one row of vit.model.dropout.draw per image")
        return self.stages(x, masks, keep=False)[-1]

    def stages(self, x: ms.Tensor, masks: ms.Tensor | None = None,
               keep: bool = True) -> tuple[ms.Tensor, ...]:
        """Every stage of the forward pass, named by `vit.model.config.stage_names`; only the logits if not to `keep`."""
        if tuple(x.shape[1:]) != self.image:
            raise ValueError(f"images must be [B, {', '.join(map(str, self.image))}], not {list(x.shape)}")
        x = self.patch_embed(x)  # B, patches, D
        if self.has_class_token:
            x = ops.cat([ops.repeat_elements(self.cls_token, x.shape[0], axis=0), x], axis=1)  # B, N, D
        x = self.drop(x + self.pos_embed, masks)
        stages = (x,) if keep else ()
        for block in self.blocks:
            half, x = block(x, masks)
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


def to_numpy(model: ViT, tensors: dict[str, ms.Tensor] | None = None) -> Weights:
    """The model's weights, or tensors in their layouts (gradients, moments), under canonical names, as copies."""
    values = {name: value.asnumpy() for name, value in (tensors or table(model)).items()}
    return {name: values[name].reshape(shape).copy() for name, shape in shapes(model.config).items()}


def from_numpy(model: ViT, weights: Weights, tensors: dict[str, ms.Parameter] | None = None) -> ViT:
    """Set the model's weights, or the `tensors`, from canonical ones; a missing, extra or misshaped name raises."""
    weights = check(weights, model.config)
    for name, value in (tensors or table(model)).items():
        ops.assign(value, ms.Tensor(weights[name].reshape(value.shape), value.dtype))
    return model


def load_pretrained(path: str, image_size: int | None = None, num_classes: int | None = None,
                    dtype: str = "float32") -> ViT:
    """A model with the weights of a file of any format that `vit.convert.read` knows; a new head for new classes."""
    weights, config, report = convert.read(path, image_size, num_classes)
    print(report.summary())
    return from_numpy(ViT(config, dtype), weights)


def run_stages(model: ViT, images: np.ndarray, masks: np.ndarray | None = None) -> list[np.ndarray]:
    """Every stage for images [B, S, S, C] and masks, if any; `vit.model.config.stage_names` names them."""
    images, masks = ms.Tensor(images).permute(0, 3, 1, 2), None if masks is None else ms.Tensor(masks)
    return [stage.asnumpy() for stage in model.set_train(False).stages(images, masks)]


def loss_gradients(model: ViT, images: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
    """Mean cross entropy of labelled images [B, S, S, C], dropout off, and its gradients under canonical names."""
    names = table(model.set_train(False))

    def mean_loss(x: ms.Tensor, y: ms.Tensor) -> ms.Tensor:
        return ops.cross_entropy(model(x), y)

    differentiate = ms.value_and_grad(mean_loss, None, ms.ParameterTuple(names.values()))
    loss, gradients = differentiate(ms.Tensor(images).permute(0, 3, 1, 2), ms.Tensor(labels, ms.int32))
    return loss.item(), to_numpy(model, dict(zip(names, gradients, strict=True)))


def clip(gradients: list[ms.Tensor], limit: ms.Tensor | None) -> tuple[list[ms.Tensor], ms.Tensor]:
    """Gradients scaled to a global norm of at most `limit` (None: left alone), and the norm that they had."""
    norm = ops.sqrt(sum([ops.square(g).sum() for g in gradients]))
    if limit is None:
        return gradients, norm
    scale = limit / ops.maximum(norm, limit)
    return [g * scale for g in gradients], norm


class Optimizer(nn.Optimizer):
    """SGD, Adam or AdamW over a model's weights, exactly as `vit.training.recipe.Recipe` defines them."""

    def __init__(self, model: ViT, recipe: Recipe):
        names = table(model)
        super().__init__(recipe.learning_rate, [w for w in names.values() if w.requires_grad])
        dtype = names["pos_embed"].dtype
        number = functools.partial(ms.Tensor, dtype=dtype)  # a bare number would be a float32
        self.learning_rate = ms.Parameter(number(recipe.learning_rate), name="learning_rate", requires_grad=False)
        self.rule, self.nesterov = recipe.optimizer, recipe.nesterov
        self.limit = number(recipe.clip_norm) if recipe.clip_norm else None
        self.momentum, self.beta1, self.beta2 = number(recipe.momentum), number(recipe.beta1), number(recipe.beta2)
        self.log_beta1, self.log_beta2 = number(math.log(recipe.beta1)), number(math.log(recipe.beta2))
        self.epsilon = number(recipe.epsilon)
        self.decays = [number(recipe.decay_of(name)) for name in names]
        self.scales = [number(recipe.layer_scale(name, model.config.depth)) for name in names]
        self.places = tuple(i for i, w in enumerate(names.values()) if w.requires_grad)  # of the gradients
        self.weights = ms.ParameterTuple(names.values())
        self.moment1 = self.weights.clone(prefix="moment1", init="zeros")
        self.moment2 = self.weights.clone(prefix="moment2", init="zeros")
        self.norm = ms.Parameter(number(0), name="norm", requires_grad=False)  # the gradients' norm in the last step
        scale = ms.Parameter(number(FIRST_SCALE), name="loss_factor", requires_grad=False)
        self.loss_factor = scale if scales_loss(recipe.precision) else None

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> None:
        if self.loss_factor is not None:
            gradients = [g / self.loss_factor for g in gradients]
        gradients, norm = clip(gradients, self.limit)
        ops.assign(self.norm, norm)
        if self.loss_factor is None or ops.isfinite(norm):  # else too large for float16: this step is skipped
            self.update(gradients, ops.cast(self.global_step + 1, norm.dtype))

    def update(self, gradients: tuple[ms.Tensor, ...], t: ms.Tensor) -> None:
        for k in range(len(gradients)):
            i, g = self.places[k], gradients[k]
            w, rate = self.weights[i], self.learning_rate * self.scales[i]
            lost = rate * self.change(w, g, self.decays[i], self.moment1[i], self.moment2[i], t)
            ops.assign(w, w - lost)
        ops.assign(self.global_step, self.global_step + 1)

    def change(self, w, g, decay, moment1, moment2, t):
        """What a weight w loses in step t, over the learning rate; updates its moments."""
        if self.rule != "adamw":
            g, decay = g + decay * w, 0
        if self.rule == "sgd":
            v = self.momentum * moment1 + g
            ops.assign(moment1, v)
            return g + self.momentum * v if self.nesterov else v
        m = self.beta1 * moment1 + (1 - self.beta1) * g
        v = self.beta2 * moment2 + (1 - self.beta2) * ops.square(g)
        ops.assign(moment1, m)
        ops.assign(moment2, v)
        m, v = m / -ops.expm1(t * self.log_beta1), v / -ops.expm1(t * self.log_beta2)
        return decay * w + m / (ops.sqrt(v) + self.epsilon)


def moments(model: ViT, optimizer: Optimizer) -> list[dict[str, ms.Parameter]]:
    """The optimizer's two moments (the first is SGD's velocity) under canonical names."""
    return [dict(zip(table(model), slot, strict=True)) for slot in (optimizer.moment1, optimizer.moment2)]


def optimizer_steps(optimizer: Optimizer, new: int | None = None) -> int:
    """How many updates the optimizer has made, after setting it to a new number if there is one."""
    if new is not None:
        ops.assign(optimizer.global_step, ms.Tensor([new], ms.int32))
    return int(optimizer.global_step)


def set_loss_scale(optimizer: Optimizer, scale: float) -> None:
    """Set what losses are multiplied by from now on, to be differentiated in float16."""
    ops.assign(optimizer.loss_factor, ms.Tensor(scale, optimizer.loss_factor.dtype))


def freeze_encoder(model: ViT) -> ViT:
    """Leave everything but the head untrained from now on."""
    for name, w in table(model).items():
        w.requires_grad = name.startswith("head.")
    return model


def train(stage: flow.Stage, weights: Weights) -> Weights:
    """Train a model that starts from `weights` in FastEstimator's op graph; returns the weights it ends with."""
    fe = load_fastestimator()
    import fe_mindspore  # noqa: F401  (teaches FastEstimator about MindSpore models)
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp
    from fastestimator.op.tensorop.tensorop import LambdaOp

    model = from_numpy(ViT(stage.config, stage.dtype, stage.recipe.precision), weights)
    model = freeze_encoder(model) if stage.freeze_encoder else model
    model = fe.build(model_fn=lambda: model,
                     optimizer_fn=lambda parameters: Optimizer(model, stage.recipe),
                     model_name=stage.name)
    loss_scale = model.current_optimizer.loss_factor

    def scaled(loss: ms.Tensor) -> ms.Tensor:
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
    estimator = fe.Estimator(pipeline=stage.pipeline(channels_first=True),
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
    """What traces its block into a folder, for MindSpore's viewer."""
    from mindspore import profiler as tools
    devices = {"Ascend": [tools.ProfilerActivity.NPU], "GPU": [tools.ProfilerActivity.GPU]}
    activities = [tools.ProfilerActivity.CPU, *devices.get(ms.get_context("device_target"), [])]
    return tools.profile(activities=activities, start_profile=False,
                         on_trace_ready=tools.tensorboard_trace_handler(folder))


def multiply(dtype: str) -> None:
    """Multiply two matrices where the training would, which raises if there is no product of that type."""
    factor = ops.ones((2, 2), getattr(ms, dtype))
    ops.matmul(factor, factor).asnumpy()


def pretrain(job: flow.Job) -> Weights:
    """Train on the many-class set from the seed's initial weights."""
    return flow.pretrain(job, train)


def finetune(job: flow.Job, pretrained: Weights | None) -> Weights:
    """Train on the few-class set from a pretrained encoder, or from scratch if there is none."""
    return flow.finetune(job, train, pretrained)


def fastestimator_run(device_target: str | None = None, **options) -> dict:
    """Pretrain, copy the encoder, finetune. Options are the script's flags; returns what `results.json` holds."""
    try:
        with quiet_stderr(show_on_failure=False):
            ms.set_device(device_target) if device_target else None
    except (RuntimeError, ValueError):
        raise UserError(f"device_target {device_target}: this MindSpore finds no such device") from None
    return flow.run("ms", pretrain, finetune, multiply, **options)


if __name__ == "__main__":
    cli.main(__doc__, fastestimator_run, device_targets=("CPU", "GPU", "Ascend"))
