"""A Vision Transformer in PyTorch, in FastEstimator: pretrain on 100 classes, copy the encoder, finetune on 10.

    python vit_torch.py --pretrain_epochs 100      FastEstimator's apphub job: CIFAR-100, then CIFAR-10
    python vit_torch.py --data digits --variant tiny --pretrain_epochs 5 --compare_scratch      minutes, offline

Legend: B batch, N tokens, D width, H heads, P patch size, G patches along an edge, C channels, S image size.
"""
import sys

from vit.backend import require

require("torch", __name__)

import torch
from torch import nn

from vit.backend import torch as backend
from vit.backend.autoencoder.torch import pixel_errors
from vit.backend.dropout.torch import Dropout, PatchDropout, draw_keys
from vit.backend.torch import LayerNorm, Linear, Tensor, matmul
from vit.cli.train import main
from vit.model.config import ViTConfig, named
from vit.model.dropout import sites
from vit.model.parameters import Weights, check, follow, initial, shapes
from vit.model.precision import Dtypes, dtype_names
from vit.training.options import documented
from vit.training.run import run


class PatchEmbed(nn.Module):
    """Images [B, C, S, S] to patch tokens [B, patches, D]: a linear layer on each flattened patch (eq. 1)."""

    def __init__(self, config: ViTConfig, dtypes: Dtypes):
        super().__init__()
        self.channels, self.patch, self.grid = config.in_channels, config.patch_size, config.grid
        self.proj = Linear(self.channels * self.patch**2, config.width, dtypes, bias=config.patch_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.pixels(x))

    def pixels(self, x: Tensor) -> Tensor:
        """The images' patches, each in a row [B, patches, C * P * P]."""
        C, P, G = self.channels, self.patch, self.grid
        x = x.reshape(-1, C, G, P, G, P)
        x = x.permute(0, 2, 4, 1, 3, 5)  # B, G, G, C, P, P
        return x.reshape(-1, G * G, C * P * P)


class Attention(nn.Module):
    """Multi-head self-attention [B, N, D] to [B, N, D], with q, k and v from one linear layer (appendix A)."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.heads, self.width = config.heads, config.width
        self.products = dtypes.products
        self.qkv = Linear(config.width, 3 * config.width, dtypes, bias=config.qkv_bias)
        self.scale = (config.width // config.heads)**-0.5
        self.drop_weights = Dropout(config, f"{name}.weights", dtypes)
        self.proj = Linear(config.width, config.width, dtypes)
        self.drop = Dropout(config, f"{name}.proj", dtypes)

    def forward(self, x: Tensor, key: Tensor | None) -> Tensor:
        N, D, H = x.shape[1], self.width, self.heads
        x = self.qkv(x).reshape(-1, N, 3, H, D // H)
        q, k, v = x.permute(2, 0, 3, 1, 4)  # each B, H, N, D/H
        if key is None or self.drop_weights.site is None:
            x = backend.attention(q, k, v, self.products)
        else:
            x = torch.softmax(matmul(q * self.scale, k, self.products, transpose_b=True), dim=-1)  # B, H, N, N
            x = matmul(self.drop_weights(x, key), v, self.products)
        x = x.permute(0, 2, 1, 3).reshape(-1, N, D)
        return self.drop(self.proj(x), key)


class Mlp(nn.Module):
    """Two linear layers with an activation between, [B, N, D] to [B, N, D]."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.activation = getattr(backend, config.activation)
        self.fc1 = Linear(config.width, config.mlp_dim, dtypes)
        self.fc2 = Linear(config.mlp_dim, config.width, dtypes)
        self.drop1 = Dropout(config, f"{name}.fc1", dtypes)
        self.drop2 = Dropout(config, f"{name}.fc2", dtypes)

    def forward(self, x: Tensor, key: Tensor | None) -> Tensor:
        x = self.drop1(self.activation(self.fc1(x)), key)  # B, N, mlp_dim
        return self.drop2(self.fc2(x), key)


class Block(nn.Module):
    """Attention and MLP, each in a residual branch, normalized before (pre) or after (post): [B, N, D] to itself."""

    def __init__(self, config: ViTConfig, name: str, dtypes: Dtypes):
        super().__init__()
        self.pre = config.norm_order == "pre"
        self.norm1 = LayerNorm(config.width, config.block_norm_eps, dtypes)
        self.attn = Attention(config, f"{name}.attn", dtypes)
        self.norm2 = LayerNorm(config.width, config.block_norm_eps, dtypes)
        self.mlp = Mlp(config, f"{name}.mlp", dtypes)
        self.drop_path1 = Dropout(config, f"{name}.attn.path", dtypes)
        self.drop_path2 = Dropout(config, f"{name}.mlp.path", dtypes)

    def forward(self, x: Tensor, key: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return both halves' outputs; the second is the block's."""
        if self.pre:
            half = x + self.drop_path1(self.attn(self.norm1(x), key), key)
            return half, half + self.drop_path2(self.mlp(self.norm2(half), key), key)
        half = self.norm1(x + self.drop_path1(self.attn(x, key), key))
        return half, self.norm2(half + self.drop_path2(self.mlp(half, key), key))


class Decoder(nn.Module):
    """Tokens of an image's seen patches [B, seen N, D] to the loss of its hidden ones [B] (He et al. 2022)."""

    def __init__(self, config: ViTConfig, dtypes: Dtypes):
        super().__init__()
        self.first, own = int(config.class_token), config.decoder
        self.embed = Linear(config.width, own.width, dtypes)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, own.width, dtype=dtypes.weights))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, own.width, dtype=dtypes.weights))
        self.blocks = nn.ModuleList([Block(own, f"decoder.blocks.{i}", dtypes) for i in range(own.depth)])
        self.norm = LayerNorm(own.width, config.final_norm_eps, dtypes)
        self.pred = Linear(own.width, config.in_channels * config.patch_size**2, dtypes)

    def forward(self, x: Tensor, places: Tensor, pixels: Tensor) -> Tensor:
        """Hold what is made of hidden patches to `pixels` [B, patches, C * P * P]; `places` say which were seen."""
        x = self.embed(x)  # B, seen N, decoder's width
        seen = matmul(places, x[:, self.first:], x.dtype)  # B, patches, decoder's width
        hidden = 1 - torch.sum(places, dim=2)  # B, patches
        x = torch.cat([x[:, :self.first], seen + hidden.unsqueeze(2) * self.mask_token], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x, None)[1]
        errors = pixel_errors(self.pred(self.norm(x[:, self.first:])), pixels)
        return torch.sum(errors * hidden, dim=1) / torch.sum(hidden, dim=1)


class ViT(nn.Module):
    """The whole model: images [B, C, S, S] to logits [B, classes] (Dosovitskiy et al. 2021, section 3.1)."""

    def __init__(self, config: ViTConfig | str, dtype: str = "float32", precision: str = "fp32",
                 weights: Weights | None = None):
        """Make a variant, or what a config says, with `weights` or else seed 0's initial ones."""
        super().__init__()
        self.config = config = named(config)
        self.image = (config.in_channels, config.image_size, config.image_size)
        self.has_class_token, self.pooled = config.class_token, config.pooled
        dtypes = Dtypes(*(getattr(torch, name) for name in dtype_names(dtype, precision)))
        self.patch_embed = PatchEmbed(config, dtypes)
        if self.has_class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width, dtype=dtypes.weights))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.width, dtype=dtypes.weights))
        self.drop_patches = PatchDropout(config, dtypes)
        self.drop, self.drops = Dropout(config, "tokens", dtypes), bool(sites(config))
        self.blocks = nn.ModuleList([Block(config, f"blocks.{i}", dtypes) for i in range(config.depth)])
        self.pool_first = config.fc_norm
        if self.pool_first:
            self.fc_norm = LayerNorm(config.width, config.final_norm_eps, dtypes)
        else:
            self.norm = LayerNorm(config.width, config.final_norm_eps, dtypes)
        self.decodes = not config.has_head
        if self.decodes:
            self.decoder = Decoder(config, dtypes)
        else:
            self.head = Linear(config.width, config.num_classes, dtypes)
        from_numpy(self, weights or initial(config, seed=0))

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """Keys [B, 2] of `vit.model.dropout.keys` choose what is dropped; training draws those that are not given."""
        if key is None and (self.decodes or (self.training and self.drops)):
            key = draw_keys(x)
        return self.stages(x, key, keep=False)[-1]

    def stages(self, x: Tensor, key: Tensor | None = None, keep: bool = True) -> tuple[Tensor, ...]:
        """Return every stage, as `vit.model.config.stage_names` names them; only the last if not to `keep`."""
        if tuple(x.shape[1:]) != self.image:
            raise ValueError(f"images [B, C, S, S] must be [B, {', '.join(map(str, self.image))}], not {list(x.shape)}")
        if not backend.is_floating(x):
            raise ValueError("images must be floating-point, normalized as in training, not whole numbers")
        pixels = self.patch_embed.pixels(x) if self.decodes else None  # B, patches, C * P * P
        x = self.patch_embed(x)  # B, patches, D
        if self.has_class_token:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # B, N, D
        x = self.drop(self.drop_patches(x + self.pos_embed, key), key)  # B, trained tokens, D, if there are keys
        stages = (x,) if keep else ()
        for block in self.blocks:
            half, x = block(x, key)
            stages += (half, x) if keep else ()
        if self.decodes:
            x = self.norm(x)
            losses = self.decoder(x, self.drop_patches.places(key, x.dtype), pixels)
            return stages + (x, losses) if keep else (losses,)
        x = x[:, self.pooled]  # B, pooled tokens, D
        x = self.fc_norm(x.mean(dim=1)) if self.pool_first else self.norm(x).mean(dim=1)  # B, D
        logits = self.head(x)
        return stages + (x, logits) if keep else (logits,)


def parameters(model: ViT) -> dict[str, nn.Parameter]:
    """Canonical name to parameter, in forward order."""
    return {name: follow(model, name, backend.LEAVES) for name in shapes(model.config)}


def to_numpy(model: ViT, tensors: dict[str, Tensor] | None = None) -> Weights:
    """Copy the model's weights, or tensors in their layouts (gradients, moments), under canonical names."""
    values = {name: value.detach().cpu().numpy() for name, value in (tensors or parameters(model)).items()}
    return {name: values[name].reshape(shape).copy() for name, shape in shapes(model.config).items()}


def from_numpy(model: ViT, weights: Weights, tensors: dict[str, Tensor] | None = None) -> ViT:
    """Set the model's weights, or the `tensors`, from canonical ones; a missing, extra or misshaped name raises."""
    weights = check(weights, model.config)
    for name, value in (tensors or parameters(model)).items():
        value.data.copy_(torch.tensor(weights[name]).reshape(value.shape))
    return model


@documented
def fastestimator_run(recipe=None, **options) -> dict:
    """Pretrain, copy the encoder, finetune; return what `results.json` holds."""
    return run(sys.modules[__name__], recipe=recipe, **options)


if __name__ == "__main__":
    main(sys.modules[__name__])
