"""A Vision Transformer in PyTorch, in FastEstimator: pretrain on 100 classes, copy the encoder, finetune on 10.

    python vit_torch.py --pretrain_epochs 100      FastEstimator's apphub job: CIFAR-100, then CIFAR-10
    python vit_torch.py --data digits --variant tiny --pretrain_epochs 5 --compare_scratch      minutes, offline

Legend: B batch, N tokens, D width, H heads, P patch side, G patches along a side, C channels, S image side.
"""
from vit.backend import require

require("torch", __name__)

import numpy as np
import torch
import torch.nn.functional as F
from fe_compat import load_fastestimator
from torch import nn

from vit import convert
from vit.checkpoints import Access
from vit.cli import train as cli
from vit.model.config import ViTConfig
from vit.model.dropout import sites
from vit.model.parameters import Weights, check, shapes
from vit.model.precision import FIRST_SCALE, Dtypes, dtype_names, scales_loss
from vit.training import run as flow
from vit.training.recipe import Recipe


class Linear(nn.Linear):
    """A linear layer with factors rounded to `dtypes.products`; its weights and its result are `dtypes.weights`."""

    def __init__(self, inputs: int, outputs: int, dtypes: Dtypes, bias: bool = True):
        super().__init__(inputs, outputs, bias=bias, dtype=dtypes.weights)
        self.factor = dtypes.products

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.factor == x.dtype:
            return super().forward(x)
        x = F.linear(x.to(self.factor), self.weight.to(self.factor)).to(self.weight.dtype)
        return x if self.bias is None else x + self.bias


class PatchEmbed(nn.Module):
    """Images [B, C, S, S] to patch tokens [B, patches, D]: a linear layer on each flattened patch (eq. 1)."""

    def __init__(self, config: ViTConfig, dtypes: Dtypes):
        super().__init__()
        self.channels, self.patch, self.grid = config.in_channels, config.patch_size, config.grid
        self.proj = Linear(self.channels * self.patch**2, config.width, dtypes, bias=config.patch_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        C, P, G = self.channels, self.patch, self.grid
        x = x.reshape(-1, C, G, P, G, P)
        x = x.permute(0, 2, 4, 1, 3, 5)  # B, G, G, C, P, P
        return self.proj(x.reshape(-1, G * G, C * P * P))


class Dropout(nn.Module):
    """One dropout site: a sample's flags say which values are kept, and scaled up; without them, all are kept."""

    def __init__(self, config: ViTConfig, name: str):
        super().__init__()
        self.site = sites(config).get(name)

    def forward(self, x: torch.Tensor, masks: torch.Tensor | None) -> torch.Tensor:
        if masks is None or self.site is None:
            return x
        start, stop, shape, kept = self.site
        mask = masks[:, start:stop].reshape(-1, *shape)
        return x * (mask.to(x.dtype) / kept)


class Attention(nn.Module):
    """Multi-head self-attention [B, N, D] to [B, N, D], with q, k and v from one linear layer (appendix A)."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.heads, self.tokens, self.width = config.heads, config.tokens, config.width
        self.factor = dtypes.products
        self.qkv = Linear(config.width, 3 * config.width, dtypes, bias=config.qkv_bias)
        self.drop_weights = Dropout(config, f"{name}.weights")
        self.proj = Linear(config.width, config.width, dtypes)
        self.drop = Dropout(config, f"{name}.proj")

    def forward(self, x: torch.Tensor, masks: torch.Tensor | None) -> torch.Tensor:
        N, D, H = self.tokens, self.width, self.heads
        x = self.qkv(x).reshape(-1, N, 3, H, D // H)
        q, k, v = x.permute(2, 0, 3, 1, 4)  # each B, H, N, D/H
        if masks is None or self.drop_weights.site is None:
            x = F.scaled_dot_product_attention(q.to(self.factor), k.to(self.factor), v.to(self.factor)).to(x.dtype)
        else:
            x = torch.softmax(self.matmul(q * (D // H)**-0.5, k, transpose_b=True), dim=-1)  # B, H, N, N
            x = self.matmul(self.drop_weights(x, masks), v)
        x = x.permute(0, 2, 1, 3).reshape(-1, N, D)
        return self.drop(self.proj(x), masks)

    def matmul(self, a: torch.Tensor, b: torch.Tensor, transpose_b: bool = False) -> torch.Tensor:
        """A product with rounded factors."""
        return (a.to(self.factor) @ (b.mT if transpose_b else b).to(self.factor)).to(a.dtype)


def gelu(x: torch.Tensor) -> torch.Tensor:
    """The exact GELU."""
    return F.gelu(x, approximate="none")


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """The GELU's approximation with tanh."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": F.relu}


class Mlp(nn.Module):
    """Two linear layers with an activation between, [B, N, D] to [B, N, D]."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.fc1 = Linear(config.width, config.mlp_dim, dtypes)
        self.fc2 = Linear(config.mlp_dim, config.width, dtypes)
        self.drop1 = Dropout(config, f"{name}.fc1")
        self.drop2 = Dropout(config, f"{name}.fc2")

    def forward(self, x: torch.Tensor, masks: torch.Tensor | None) -> torch.Tensor:
        x = self.drop1(self.activation(self.fc1(x)), masks)  # B, N, mlp_dim
        return self.drop2(self.fc2(x), masks)


class Block(nn.Module):
    """Attention and MLP, each in a residual branch, normalized before (pre) or after (post): [B, N, D] to itself."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.pre = config.norm_order == "pre"
        self.norm1 = nn.LayerNorm(config.width, eps=config.block_norm_eps, dtype=dtypes.weights)
        self.attn = Attention(config, f"{name}.attn", dtypes)
        self.norm2 = nn.LayerNorm(config.width, eps=config.block_norm_eps, dtype=dtypes.weights)
        self.mlp = Mlp(config, f"{name}.mlp", dtypes)
        self.drop_path1 = Dropout(config, f"{name}.attn.path")
        self.drop_path2 = Dropout(config, f"{name}.mlp.path")

    def forward(self, x: torch.Tensor, masks: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Both halves' outputs; the second is the block's."""
        if self.pre:
            half = x + self.drop_path1(self.attn(self.norm1(x), masks), masks)
            return half, half + self.drop_path2(self.mlp(self.norm2(half), masks), masks)
        half = self.norm1(x + self.drop_path1(self.attn(x, masks), masks))
        return half, self.norm2(half + self.drop_path2(self.mlp(half, masks), masks))


class ViT(nn.Module):
    """The whole model: images [B, C, S, S] to logits [B, classes] (Dosovitskiy et al. 2021, section 3.1)."""

    def __init__(self, config: ViTConfig, dtype: str = "float32", precision: str = "fp32"):
        super().__init__()
        self.config = config
        self.image = (config.in_channels, config.image_size, config.image_size)
        self.has_class_token, self.pooled = config.class_token, config.pooled
        dtypes = Dtypes(*(getattr(torch, name) for name in dtype_names(dtype, precision)))
        self.patch_embed = PatchEmbed(config, dtypes)
        if self.has_class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width, dtype=dtypes.weights))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.width, dtype=dtypes.weights))
        self.drop, self.drops = Dropout(config, "tokens"), bool(sites(config))
        self.blocks = nn.ModuleList([Block(config, f"blocks.{i}", dtypes) for i in range(config.depth)])
        self.norm = nn.LayerNorm(config.width, eps=config.final_norm_eps, dtype=dtypes.weights)
        self.head = Linear(config.width, config.num_classes, dtypes)

    def forward(self, x: torch.Tensor, masks: torch.Tensor | None = None) -> torch.Tensor:
        """Masks [B, flags] are rows of `vit.model.dropout.draw`; in training, a model with dropout does not go without."""
        if self.training and self.drops and masks is None:
            raise ValueError("this model has dropout: training needs masks, one row of vit.model.dropout.draw per image")
        return self.stages(x, masks, keep=False)[-1]

    def stages(self, x: torch.Tensor, masks: torch.Tensor | None = None,
               keep: bool = True) -> tuple[torch.Tensor, ...]:
        """Every stage of the forward pass, named by `vit.model.config.stage_names`; only the logits if not to `keep`."""
        if tuple(x.shape[1:]) != self.image:
            raise ValueError(f"images must be [B, {', '.join(map(str, self.image))}], not {list(x.shape)}")
        x = self.patch_embed(x)  # B, patches, D
        if self.has_class_token:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # B, N, D
        x = self.drop(x + self.pos_embed, masks)
        stages = (x,) if keep else ()
        for block in self.blocks:
            half, x = block(x, masks)
            stages += (half, x) if keep else ()
        x = self.norm(x[:, self.pooled]).mean(dim=1)  # B, D
        logits = self.head(x)
        return stages + (x, logits) if keep else (logits,)


def table(model: ViT) -> dict[str, nn.Parameter]:
    """Canonical name to parameter. PyTorch's layouts are the canonical ones, but for the flattened patch."""
    names = {"cls_token": model.cls_token} if model.config.class_token else {}
    names["pos_embed"] = model.pos_embed
    layers = {"patch_embed.proj": model.patch_embed.proj, "norm": model.norm, "head": model.head}
    for i, block in enumerate(model.blocks):
        layers |= {f"blocks.{i}.norm1": block.norm1, f"blocks.{i}.norm2": block.norm2,
                   f"blocks.{i}.attn.qkv": block.attn.qkv, f"blocks.{i}.attn.proj": block.attn.proj,
                   f"blocks.{i}.mlp.fc1": block.mlp.fc1, f"blocks.{i}.mlp.fc2": block.mlp.fc2}
    for name, layer in layers.items():
        names[f"{name}.weight"] = layer.weight
        if layer.bias is not None:
            names[f"{name}.bias"] = layer.bias
    return names


def to_numpy(model: ViT, tensors: dict[str, torch.Tensor] | None = None) -> Weights:
    """The model's weights, or tensors in their layouts (gradients, moments), under canonical names, as copies."""
    values = {name: value.detach().cpu().numpy() for name, value in (tensors or table(model)).items()}
    return {name: values[name].reshape(shape).copy() for name, shape in shapes(model.config).items()}


def from_numpy(model: ViT, weights: Weights, tensors: dict[str, torch.Tensor] | None = None) -> ViT:
    """Set the model's weights, or the `tensors`, from canonical ones; a missing, extra or misshaped name raises."""
    weights = check(weights, model.config)
    for name, value in (tensors or table(model)).items():
        value.data.copy_(torch.tensor(weights[name]).reshape(value.shape))
    return model


def load_pretrained(path: str, image_size: int | None = None, num_classes: int | None = None,
                    dtype: str = "float32") -> ViT:
    """A model with the weights of a file of any format that `vit.convert.read` knows; a new head for new classes."""
    weights, config, report = convert.read(path, image_size, num_classes)
    print(report.summary())
    return from_numpy(ViT(config, dtype), weights)


def run_stages(model: ViT, images: np.ndarray, masks: np.ndarray | None = None) -> list[np.ndarray]:
    """Every stage for images [B, S, S, C] and masks, if any; `vit.model.config.stage_names` names them."""
    images, masks = torch.tensor(images).permute(0, 3, 1, 2), None if masks is None else torch.tensor(masks)
    with torch.no_grad():
        return [stage.numpy() for stage in model.eval().stages(images, masks)]


def loss_gradients(model: ViT, images: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
    """Mean cross entropy of labelled images [B, S, S, C], dropout off, and its gradients under canonical names."""
    names = table(model)
    loss = F.cross_entropy(model.eval()(torch.tensor(images).permute(0, 3, 1, 2)), torch.tensor(labels))
    gradients = torch.autograd.grad(loss, list(names.values()))
    return loss.item(), to_numpy(model, dict(zip(names, gradients, strict=True)))


def clip(gradients: list[torch.Tensor], limit: float | None) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Gradients scaled to a global norm of at most `limit` (None: left alone), and the norm that they had."""
    norm = torch.sqrt(sum(torch.sum(torch.square(g)) for g in gradients))
    if limit is None:
        return gradients, norm
    scale = limit / torch.clamp(norm, min=limit)
    return [g * scale for g in gradients], norm


class Optimizer(torch.optim.Optimizer):
    """SGD, Adam or AdamW over a model's weights, exactly as `vit.training.recipe.Recipe` defines them."""

    def __init__(self, model: ViT, recipe: Recipe):
        names = table(model)
        super().__init__(list(names.values()), {"lr": recipe.learning_rate, "steps": 0})
        self.rule, self.nesterov = recipe.optimizer, recipe.nesterov
        self.limit = recipe.clip_norm or None
        self.momentum, self.beta1, self.beta2 = recipe.momentum, recipe.beta1, recipe.beta2
        self.epsilon = recipe.epsilon
        self.decays = [recipe.decay_of(name) for name in names]
        self.scales = [recipe.layer_scale(name, model.config.depth) for name in names]
        for w in names.values():
            self.state[w] = {"moment1": torch.zeros_like(w), "moment2": torch.zeros_like(w)}
        self.norm = torch.zeros(())  # the gradients' norm in the last step
        scale = torch.tensor(FIRST_SCALE)
        self.loss_factor = scale if scales_loss(recipe.precision) else None

    @torch.no_grad()
    def step(self) -> None:
        group = self.param_groups[0]
        trained = [parts for parts in zip(group["params"], self.decays, self.scales, strict=True)
                   if parts[0].grad is not None]
        gradients = [w.grad if self.loss_factor is None else w.grad / self.loss_factor for w, _, _ in trained]
        gradients, self.norm = clip(gradients, self.limit)
        if self.loss_factor is not None and not torch.isfinite(self.norm):
            return  # too large for float16: this step is skipped
        group["steps"] += 1
        for (w, decay, scale), g in zip(trained, gradients, strict=True):
            w.sub_(group["lr"] * scale * self.change(w, g, decay, **self.state[w], t=group["steps"]))

    def change(self, w, g, decay, moment1, moment2, t):
        """What a weight w loses in step t, over the learning rate; updates its moments."""
        if self.rule != "adamw":
            g, decay = g + decay * w, 0
        if self.rule == "sgd":
            v = self.momentum * moment1 + g
            moment1.copy_(v)
            return g + self.momentum * v if self.nesterov else v
        m = self.beta1 * moment1 + (1 - self.beta1) * g
        v = self.beta2 * moment2 + (1 - self.beta2) * torch.square(g)
        moment1.copy_(m)
        moment2.copy_(v)
        m, v = m / (1 - self.beta1**t), v / (1 - self.beta2**t)
        return decay * w + m / (torch.sqrt(v) + self.epsilon)


def moments(model: ViT, optimizer: Optimizer) -> list[dict[str, torch.Tensor]]:
    """The optimizer's two moments (the first is SGD's velocity) under canonical names."""
    return [{name: optimizer.state[w][key] for name, w in table(model).items()} for key in ("moment1", "moment2")]


def optimizer_steps(optimizer: Optimizer, new: int | None = None) -> int:
    """How many updates the optimizer has made, after setting it to a new number if there is one."""
    group = optimizer.param_groups[0]
    group["steps"] = group["steps"] if new is None else new
    return group["steps"]


def set_loss_scale(optimizer: Optimizer, scale: float) -> None:
    """Set what losses are multiplied by from now on, to be differentiated in float16."""
    optimizer.loss_factor.fill_(scale)


def freeze_encoder(model: ViT) -> ViT:
    """Leave everything but the head untrained from now on."""
    for name, w in table(model).items():
        w.requires_grad_(name.startswith("head."))
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
                     optimizer_fn=lambda parameters: Optimizer(model, stage.recipe),
                     model_name=stage.name)
    loss_scale = model.current_optimizer.loss_factor

    def scaled(loss: torch.Tensor) -> torch.Tensor:
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
    """What traces its block into a folder, for PyTorch's viewer."""
    return torch.profiler.profile(on_trace_ready=torch.profiler.tensorboard_trace_handler(folder))


def multiply(dtype: str) -> None:
    """Multiply two matrices where the training would, which raises if there is no product of that type."""
    factor = torch.ones(2, 2, dtype=getattr(torch, dtype), device="cuda" if torch.cuda.is_available() else "cpu")
    (factor @ factor).cpu()


def pretrain(job: flow.Job) -> Weights:
    """Train on the many-class set from the seed's initial weights."""
    return flow.pretrain(job, train)


def finetune(job: flow.Job, pretrained: Weights | None) -> Weights:
    """Train on the few-class set from a pretrained encoder, or from scratch if there is none."""
    return flow.finetune(job, train, pretrained)


def fastestimator_run(**options) -> dict:
    """Pretrain, copy the encoder, finetune. Options are the script's flags; returns what `results.json` holds."""
    return flow.run("torch", pretrain, finetune, multiply, **options)


if __name__ == "__main__":
    cli.main(__doc__, fastestimator_run)
