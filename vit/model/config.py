"""The spec of a model: every value that frameworks default differently is a field here, never a framework's default.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.1 and table 1.
"""
import dataclasses
import reprlib
from dataclasses import dataclass

from vit.fields import check_types

SIZES = ("image_size", "patch_size", "in_channels", "width", "depth", "heads", "mlp_dim", "num_classes")
PIXEL_NORM_EPS = 1e-6  # under the deviation of a patch's pixels, by which a masked autoencoder's targets are divided
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")  # functions of these names are in each backend and in the oracle


@dataclass(frozen=True)
class ViTConfig:
    """One Vision Transformer, exactly.

    Args:
        image_size: Side of the square input image, pixels.
        patch_size: Side of a square patch, pixels (P).
        in_channels: Channels of an image (C).
        width: Width of a token (D).
        depth: Number of blocks (L).
        heads: Attention heads of a block (H).
        mlp_dim: Hidden width of a block's MLP.
        activation: Of the MLP: "gelu" (the exact one, with erf), "gelu_tanh" (its approximation) or "relu".
        num_classes: Rows of the head.
        norm_order: "pre" (`x + f(norm(x))`) or "post" (`norm(x + f(x))`, as in Vaswani et al. 2017).
        patch_bias: Whether the patch projection has a bias.
        qkv_bias: Whether the fused q, k, v projection has a bias.
        block_norm_eps: LayerNorm epsilon inside the blocks.
        final_norm_eps: LayerNorm epsilon before the head.
        dropout: Rate after the position embedding, after each output projection and inside and after each MLP.
        attention_dropout: Rate on the attention weights.
        drop_path: Rate of stochastic depth (per sample, whole branch) in the last block; it grows linearly from 0 in
            the first (Huang et al. 2016).
        patch_dropout: Share of the patch tokens that training leaves out of an image, before the first block: the same
            number of each image (Liu et al. 2022).
        pool: "cls" (the class token) or "mean" (of the patch tokens) goes to the head.
        class_token: Whether a learned token is put before the patches.
        fc_norm: Whether the last LayerNorm comes after the mean of the tokens and not before it, as in MAE's finetuned
            models (He et al. 2022); the name is timm's.
        decoder_depth: Blocks of the decoder that makes a masked autoencoder of the model (He et al. 2022), in the place
            of a head; 0 for none. What is hidden of an image is the share that `patch_dropout` says.
        decoder_width: Width of the decoder's tokens; its MLPs are four times as wide.
        decoder_heads: Attention heads of the decoder's blocks.

    Raises:
        ValueError: A field has an impossible value; the message names the field and the value.
    """
    image_size: int = 32
    patch_size: int = 4
    in_channels: int = 3
    width: int = 256
    depth: int = 6
    heads: int = 8
    mlp_dim: int = 512
    activation: str = "gelu"
    num_classes: int = 100
    norm_order: str = "pre"
    patch_bias: bool = True
    qkv_bias: bool = True
    block_norm_eps: float = 1e-6
    final_norm_eps: float = 1e-6
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    patch_dropout: float = 0.0
    pool: str = "cls"
    class_token: bool = True
    fc_norm: bool = False
    decoder_depth: int = 0
    decoder_width: int = 128
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        check_types(self)
        for name in SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f'activation must be "gelu", "gelu_tanh" or "relu", not {self.activation!r}')
        if self.norm_order not in ("pre", "post"):
            raise ValueError(f'norm_order must be "pre" or "post", not {self.norm_order!r}')
        if self.pool not in ("cls", "mean"):
            raise ValueError(f'pool must be "cls" or "mean", not {self.pool!r}')
        if self.pool == "cls" and not self.class_token:
            raise ValueError('pool "cls" needs class_token True, not False')
        if self.fc_norm and self.pool != "mean":
            raise ValueError(f'fc_norm needs pool "mean", not {self.pool!r}')
        if self.decoder_depth < 0 or self.decoder_width < 1 or self.decoder_heads < 1:
            raise ValueError("decoder_depth must be at least 0, decoder_width and decoder_heads at least 1, not "
                             f"{self.decoder_depth}, {self.decoder_width} and {self.decoder_heads}")
        if self.decoder_depth and self.decoder_width % self.decoder_heads:
            raise ValueError(f"decoder_width {self.decoder_width} is not a multiple of decoder_heads "
                             f"{self.decoder_heads}")
        if self.decoder_depth and self.fc_norm:
            raise ValueError("fc_norm is for a model with a head, and one with a decoder has none")
        if self.decoder_depth and self.trained_patches == self.patches:
            raise ValueError(f"patch_dropout {self.patch_dropout} hides none of {self.patches} patches from a decoder")
        for name in ("dropout", "attention_dropout", "drop_path", "patch_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        for name in ("block_norm_eps", "final_norm_eps"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), not {getattr(self, name)}")

    @property
    def grid(self) -> int:
        """Patches along an edge of an image."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return self.grid**2

    @property
    def tokens(self) -> int:
        """Number of tokens that the blocks see (N): the patches, and the class token if there is one."""
        return self.patches + int(self.class_token)

    @property
    def trained_patches(self) -> int:
        """Patches of an image that a training step sees."""
        return max(round(self.patches * (1 - self.patch_dropout)), 1)

    @property
    def trained_tokens(self) -> int:
        """Number of tokens that the blocks see in training."""
        return self.trained_patches + int(self.class_token)

    @property
    def pooled(self) -> slice:
        """Which tokens the final norm and the head see; their mean goes to the head."""
        return slice(0, 1) if self.pool == "cls" else slice(int(self.class_token), None)

    @property
    def token_norm(self) -> bool:
        """Whether the last LayerNorm is over each token, before they are pooled: `norm`, and not `fc_norm`."""
        return not self.fc_norm

    @property
    def has_head(self) -> bool:
        """Whether the model classifies; a masked autoencoder does not."""
        return not self.decoder_depth

    @property
    def decoder_bias(self) -> bool:
        """Whether there is a decoder whose q, k and v have biases."""
        return self.qkv_bias and bool(self.decoder_depth)

    @property
    def decoder(self) -> "ViTConfig":
        """The spec of a decoder's blocks."""
        return self.replace(width=self.decoder_width, depth=self.decoder_depth, heads=self.decoder_heads,
                            mlp_dim=4 * self.decoder_width, decoder_depth=0, dropout=0.0, attention_dropout=0.0,
                            drop_path=0.0, patch_dropout=0.0)

    def drop_path_rate(self, block: int) -> float:
        """Stochastic-depth rate of one block: linear from 0 in the first to `drop_path` in the last."""
        return self.drop_path * block / max(self.depth - 1, 1)

    def replace(self, **changes) -> "ViTConfig":
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict:
        """The fields as plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> "ViTConfig":
        """Build the config that `to_dict` described, also in an older version of this project.

        A field that came later than the file is absent in it and takes its default. So the default of a new field must
        be the value that changes nothing: the model computes what it computed before the field was there. The sizes
        have no such value; they must be given.

        Args:
            fields: Field names to plain values, as read from JSON.

        Raises:
            ValueError: A field is unknown, a size is absent, or a value is impossible; the message names it.
        """
        if not isinstance(fields, dict):
            raise ValueError(f"a model spec is an object of fields, not {reprlib.repr(fields)}")
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in fields if name not in known]
        if unknown:
            raise ValueError(f"unknown: {reprlib.repr(unknown)}; a model spec has the fields {', '.join(known)}")
        absent = [name for name in SIZES if name not in fields]
        if absent:
            raise ValueError(f"missing: {', '.join(absent)}")
        return cls(**fields)


def named(config: "ViTConfig | str") -> ViTConfig:
    """Give a config, or the one of a variant that is named.

    Raises:
        ValueError: There is no such variant, or it is something else.
    """
    if isinstance(config, ViTConfig):
        return config
    if not isinstance(config, str) or config not in VARIANTS:
        raise ValueError(f"a model is made from a ViTConfig or the name of a variant ({', '.join(VARIANTS)}), not "
                         f"{reprlib.repr(config)}")
    return VARIANTS[config]


def stage_names(config: ViTConfig) -> list[str]:
    """Names of the stages of a forward pass, in order, as the three models and the reference report them."""
    halves = [f"blocks.{i}.{half}" for i in range(config.depth) for half in ("attn", "mlp")]
    return ["tokens", *halves, "norm", "logits" if config.has_head else "losses"]


def _published(patch: int, image_size: int, width: int, depth: int, heads: int) -> ViTConfig:
    return ViTConfig(image_size=image_size, patch_size=patch, width=width, depth=depth, heads=heads, mlp_dim=4 * width,
                     num_classes=1000)


# Head sizes are those of the published checkpoints; a training run replaces them with its data's number of classes.
VARIANTS = {
    # For the demo and the tests: learns the handwritten digits in a minute or two on two cores.
    "tiny": ViTConfig(patch_size=8, width=64, depth=4, heads=4, mlp_dim=128),
    # The torch ViT of FastEstimator's apphub (nn.TransformerEncoderLayer's defaults, post-norm).
    "apphub": ViTConfig(norm_order="post", patch_bias=False, block_norm_eps=1e-5, dropout=0.1, attention_dropout=0.1),
    # 2.7 M parameters: the size of the best published small-data ViTs.
    "small_data": ViTConfig(width=192, depth=9, heads=12, mlp_dim=384),
    # The size of CVT-7/4, a Compact Transformer (Hassani et al. 2021), with the plain mean of the tokens.
    "compact": ViTConfig(depth=7, heads=4, mlp_dim=512, attention_dropout=0.1, drop_path=0.1, pool="mean",
                         class_token=False),
    "vit_ti_16_224": _published(16, 224, 192, 12, 3),
    "vit_s_16_224": _published(16, 224, 384, 12, 6),
    "vit_b_16_224": _published(16, 224, 768, 12, 12),
    "vit_b_16_384": _published(16, 384, 768, 12, 12),
    "vit_b_32_224": _published(32, 224, 768, 12, 12),
    "vit_b_32_384": _published(32, 384, 768, 12, 12),
    "vit_l_16_224": _published(16, 224, 1024, 24, 16),
    "vit_l_16_384": _published(16, 384, 1024, 24, 16),
    "vit_l_32_224": _published(32, 224, 1024, 24, 16),
}
