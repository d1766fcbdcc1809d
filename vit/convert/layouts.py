"""How each project names and shapes a ViT's weights: one table for each, read in both directions.

Sources: timm `models/vision_transformer.py`; transformers `models/vit/modeling_vit.py` and `modeling_tf_vit.py`;
torchvision `models/vision_transformer.py`; google-research/vision_transformer `vit_jax/models_vit.py` and big_vision
`models/vit.py` (flax's `gelu` is the tanh approximation and its LayerNorm adds 1e-6); MindCV `models/vit.py`
(MindSpore's `nn.GELU()` is the tanh approximation and its LayerNorm adds 1e-7); FastEstimator
`apphub/image_classification/vit` (torch's nn.TransformerEncoderLayer adds 1e-5 and is post-norm).
"""
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vit.model.config import ViTConfig
from vit.model.parameters import shapes

_NORMS = ("norm", "norm1", "norm2", "fc_norm")
# Training programs and wrappers put these before every name.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")


@dataclass(frozen=True)
class Layout:
    """How one project stores a ViT.

    Args:
        title: The project's name in reports and messages.
        modules: Canonical module, or parameter without a module, to the project's name for it; three names where q, k
            and v are apart. `{i}` stands for the block and `{leaf}` for the last part of the name; without `{leaf}`,
            `separator` and the last part are appended.
        spec: The fields of the model's spec that its files do not say because its code fixes them.
        kernels: Whether a linear layer is stored [in, out] (flax, Keras) and not [out, in] (torch).
        head_axes: Whether heads are an axis of their own in the kernels of the attention.
        linear: Last parts of the names of a linear layer's, or a convolution's, weight and bias.
        norm: Last parts of the names of a LayerNorm's weight and bias.
        separator: What stands before the last part of a name.
        roots: Prefixes that may stand before some of the names.
        rename: Turns a name in a file into the one that `modules` expects.
    """
    title: str
    modules: dict[str, str | tuple[str, str, str]]
    spec: dict = field(default_factory=dict)
    kernels: bool = False
    head_axes: bool = False
    linear: tuple[str, str] = ("weight", "bias")
    norm: tuple[str, str] = ("weight", "bias")
    separator: str = "."
    roots: tuple[str, ...] = ()
    rename: Callable[[str], str] = str

    def without_prefix(self, name: str) -> str:
        """Return a name without the prefixes that wrappers and models put before it."""
        name = self.rename(name)
        for root in _WRAPPERS + self.roots:
            name = name.removeprefix(root)
        return name

    def theirs(self, canonical: str) -> tuple[str, ...]:
        """Return the project's name, or three names, for a canonical one."""
        if canonical in self.modules:  # a parameter without a last part
            return (self.modules[canonical], )
        module, leaf = canonical.rsplit(".", 1)
        parts = module.split(".")
        block = parts[1] if parts[0] == "blocks" else ""
        theirs = self.modules[f"blocks.{{i}}.{'.'.join(parts[2:])}" if block else module]
        leaf = (self.norm if parts[-1] in _NORMS else self.linear)[leaf == "bias"]
        return tuple((one if "{leaf}" in one else f"{one}{self.separator}{{leaf}}").format(i=block, leaf=leaf)
                     for one in ([theirs] if isinstance(theirs, str) else theirs))

    def block_index(self, name: str) -> int | None:
        """Return the block that a name without prefix belongs to, or None."""
        begin, end = self.modules["blocks.{i}.norm1"].split("{i}")
        if name.startswith(begin):
            digits, found, _ = name[len(begin):].partition(end[:1])
            if found and digits.isascii() and digits.isdigit() and len(digits) < 4:
                return int(digits)
        return None

    def split(self, canonical: str, value: np.ndarray, config: ViTConfig) -> dict[str, np.ndarray]:
        """Put one canonical tensor into the project's layout.

        Args:
            canonical: Its canonical name.
            value: Its values, in the canonical shape.
            config: The model.

        Returns:
            One array, or three, by the project's names; views where that is possible.
        """
        names, D, H = self.theirs(canonical), config.width, config.heads
        parts = np.split(value, 3) if len(names) == 3 else [value]
        if self.kernels and canonical.endswith("weight") and parts[0].ndim > 1:
            parts = [part.transpose(2, 3, 1, 0) if part.ndim == 4 else part.T for part in parts]
        if self.head_axes and ".attn.qkv." in canonical:
            parts = [part.reshape(*part.shape[:-1], H, D // H) for part in parts]
        if self.head_axes and canonical.endswith("attn.proj.weight"):
            parts = [part.reshape(H, D // H, D) for part in parts]
        return dict(zip(names, parts, strict=True))

    def join(self, canonical: str, parts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Put a tensor, or three, of the project's layout into the canonical one; undoes `split`.

        Args:
            canonical: The canonical name.
            parts: The arrays in the order of `theirs`.
            shape: The canonical shape.
        """
        if self.head_axes and ".attn.qkv." in canonical:
            parts = [part.reshape(*part.shape[:-2], -1) for part in parts]
        if self.head_axes and canonical.endswith("attn.proj.weight"):
            parts = [part.reshape(-1, part.shape[-1]) for part in parts]
        if self.kernels and canonical.endswith("weight") and parts[0].ndim > 1:
            parts = [part.transpose(3, 2, 0, 1) if part.ndim == 4 else part.T for part in parts]
        return (np.concatenate(parts) if len(parts) > 1 else parts[0]).reshape(shape)

    def their_shapes(self, config: ViTConfig) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor of a model in the project's layout, by the project's names."""
        nothing = np.zeros((), np.float32)
        return {name: part.shape for canonical, shape in shapes(config).items()
                for name, part in self.split(canonical, np.broadcast_to(nothing, shape), config).items()}


def _blocks(theirs: str, **modules) -> dict:
    """The six modules of a block, each with the project's prefix before its name."""
    names = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    return {f"blocks.{{i}}.{names.get(name, name)}":
            theirs + module if isinstance(module, str) else tuple(theirs + one for one in module)
            for name, module in modules.items()}


def _keras_vit_name(name: str) -> str:
    """Cut `vit/tf_vi_t_model/vit/encoder/...:0` (of HDF5) or `vit/encoder/...:0` (of safetensors) to `encoder/...`."""
    for anchor in ("embeddings/", "encoder/layer_._", "layernorm/", "pooler/"):
        if anchor in name:
            return anchor + name.split(anchor, 1)[1].removesuffix(":0")
    return "classifier/" + name.rsplit("classifier/", 1)[1].removesuffix(":0") if "classifier/" in name else name


_PRE = {"norm_order": "pre", "pool": "cls"}
_EPS_6 = {"block_norm_eps": 1e-6, "final_norm_eps": 1e-6}
_TIMM = {
    "cls_token": "cls_token", "pos_embed": "pos_embed", "patch_embed.proj": "patch_embed.proj",
    **_blocks("blocks.{i}.", norm1="norm1", qkv="attn.qkv", proj="attn.proj", norm2="norm2", fc1="mlp.fc1",
              fc2="mlp.fc2"),
    "norm": "norm", "fc_norm": "fc_norm", "head": "head",
}
_HF_EPS = {"block_norm_eps": 1e-12, "final_norm_eps": 1e-12}
_FLAX = {**_PRE, **_EPS_6, "activation": "gelu_tanh"}

TIMM = Layout("timm (DeiT, MAE)", _TIMM, {**_PRE, **_EPS_6, "activation": "gelu"})
MINDCV = Layout("MindCV", _TIMM,
                {**_PRE, "block_norm_eps": 1e-7, "final_norm_eps": 1e-7, "activation": "gelu_tanh"},
                norm=("gamma", "beta"))
HF = Layout("Hugging Face", {
    "cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    **_blocks("encoder.layer.{i}.", norm1="layernorm_before",
              qkv=tuple(f"attention.attention.{one}" for one in ("query", "key", "value")),
              proj="attention.output.dense", norm2="layernorm_after", fc1="intermediate.dense", fc2="output.dense"),
    "norm": "layernorm", "head": "classifier",
}, {**_PRE, **_HF_EPS, "activation": "gelu"}, roots=("vit.", "deit."))
HF_KERAS = Layout("Hugging Face (TensorFlow)", {
    "cls_token": "embeddings/cls_token", "pos_embed": "embeddings/position_embeddings",
    "patch_embed.proj": "embeddings/patch_embeddings/projection",
    **_blocks("encoder/layer_._{i}/", norm1="layernorm_before",
              qkv=tuple(f"attention/attention/{one}" for one in ("query", "key", "value")),
              proj="attention/output/dense", norm2="layernorm_after", fc1="intermediate/dense", fc2="output/dense"),
    "norm": "layernorm", "head": "classifier",
}, HF.spec, kernels=True, linear=("kernel", "bias"), norm=("gamma", "beta"), separator="/", rename=_keras_vit_name)
TORCHVISION = Layout("torchvision", {
    "cls_token": "class_token", "pos_embed": "encoder.pos_embedding", "patch_embed.proj": "conv_proj",
    **_blocks("encoder.layers.encoder_layer_{i}.", norm1="ln_1", qkv="self_attention.in_proj_{leaf}",
              proj="self_attention.out_proj", norm2="ln_2", fc1="mlp.0", fc2="mlp.3"),
    "norm": "encoder.ln", "head": "heads.head",
}, {**_PRE, **_EPS_6, "activation": "gelu"},
    rename=lambda name: name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3."))
_ATTENTION = "MultiHeadDotProductAttention"
GOOGLE = Layout("Google's vision_transformer", {
    "cls_token": "cls", "pos_embed": "Transformer/posembed_input/pos_embedding", "patch_embed.proj": "embedding",
    **_blocks("Transformer/encoderblock_{i}/", norm1="LayerNorm_0",
              qkv=tuple(f"{_ATTENTION}_1/{one}" for one in ("query", "key", "value")), proj=f"{_ATTENTION}_1/out",
              norm2="LayerNorm_2", fc1="MlpBlock_3/Dense_0", fc2="MlpBlock_3/Dense_1"),
    "norm": "Transformer/encoder_norm", "head": "head",
}, _FLAX, kernels=True, head_axes=True, linear=("kernel", "bias"), norm=("scale", "bias"), separator="/",
    roots=("params/", "opt/target/"))
BIG_VISION = Layout("Google's big_vision", {
    **GOOGLE.modules, "pos_embed": "pos_embedding",
    **_blocks("Transformer/encoderblock_{i}/", norm1="LayerNorm_0",
              qkv=tuple(f"{_ATTENTION}_0/{one}" for one in ("query", "key", "value")), proj=f"{_ATTENTION}_0/out",
              norm2="LayerNorm_1", fc1="MlpBlock_0/Dense_0", fc2="MlpBlock_0/Dense_1"),
}, _FLAX, kernels=True, head_axes=True, linear=("kernel", "bias"), norm=("scale", "bias"),
    separator="/", roots=("params/", "opt/target/"))
_POST = {"norm_order": "post", "pool": "cls", "final_norm_eps": 1e-6}
APPHUB = Layout("FastEstimator's apphub (torch)", {
    "cls_token": "embedding.cls_token", "pos_embed": "embedding.position_embedding",
    "patch_embed.proj": "embedding.patch_embedding",
    **_blocks("encoder.layers.{i}.", norm1="norm1", qkv="self_attn.in_proj_{leaf}", proj="self_attn.out_proj",
              norm2="norm2", fc1="linear1", fc2="linear2"),
    "norm": "layernorm", "head": "linear_classifier",
}, {**_POST, "block_norm_eps": 1e-5, "activation": "gelu"}, roots=("vit_encoder.", ))
APPHUB_KERAS = Layout("FastEstimator's apphub (TensorFlow)", {
    "cls_token": "cls_token", "pos_embed": "position_embedding", "patch_embed.proj": "conv2d",
    **_blocks("encoder_layer_{i}/", norm1="layernorm1", qkv=("mha/wq", "mha/wk", "mha/wv"), proj="mha/dense",
              norm2="layernorm2", fc1="ffn/0", fc2="ffn/1"),
    "norm": "layernorm", "head": "head",
}, {**_POST, "block_norm_eps": 1e-6, "activation": "relu"}, kernels=True, linear=("kernel", "bias"),
    norm=("gamma", "beta"), separator="/")

LAYOUTS = (TIMM, MINDCV, HF, HF_KERAS, TORCHVISION, GOOGLE, BIG_VISION, APPHUB, APPHUB_KERAS)

# Parts of names that stand for what this project's model cannot express, looked for in the order of this table.
UNSUPPORTED = {
    "pre_logits": "a layer before the head (pre_logits)",
    "dist_token": "DeiT's distillation token (dist_token)",
    "distillation_token": "DeiT's distillation token",
    "distillation_classifier": "DeiT's distillation head",
    "head_dist": "DeiT's distillation head (head_dist)",
    "reg_token": "register tokens (reg_token)",
    "register_tokens": "register tokens",
    "q_norm": "norms of the queries (q_norm)",
    "k_norm": "norms of the keys (k_norm)",
    "norm_pre": "a norm before the blocks (norm_pre)",
    ".ls1": "layer scale (ls1)",
    ".ls2": "layer scale (ls2)",
    "gamma_1": "layer scale (gamma_1)",
    "gamma_2": "layer scale (gamma_2)",
    "layer_scale": "layer scale",
    "lambda1": "layer scale (lambda1)",
    "relative_position": "relative positions",
    "rel_pos": "relative positions",
    "q_bias": "separate biases of q and v (q_bias)",
    "attn_pool": "attention pooling (attn_pool)",
    "MAPHead": "attention pooling (MAPHead)",
    "probe": "attention pooling (probe)",
    "conv_root": "a ResNet before the blocks (conv_root)",
    "gn_root": "a ResNet before the blocks (gn_root)",
    "patch_embed.backbone": "a convolutional network before the blocks (patch_embed.backbone)",
    "patch_embed.norm": "a norm in the patch embedding (patch_embed.norm)",
    "conv_proj.": "a convolutional stem",
    "swiglu": "a gated MLP",
    "w12": "a gated MLP (w12)",
}
# First parts of names that a forward pass to the logits does not read. They are left out, and the report says so.
DROPPED = {
    "pooler": "Hugging Face's pooler, which its classifier does not read",
    "decoder": "MAE's decoder",
    "mask_token": "for masked images in training",
    "position_ids": "a constant",
    "global_step": "of the training",
    "epoch_num": "of the training",
    "learning_rate": "of the training",
    "lr": "of the training",
    "moments": "of the optimizer",
    "moment1": "of the optimizer",
    "moment2": "of the optimizer",
    "beta1_power": "of the optimizer",
    "beta2_power": "of the optimizer",
    "step": "of the training",
}
