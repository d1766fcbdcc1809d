"""Write canonical weights as files of other projects, whose models then compute the same logits."""
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vit.convert import huggingface, protobuf, timm_hub
from vit.convert.layouts import GOOGLE, HF, MINDCV, TIMM, Layout
from vit.convert.reporting import Report
from vit.errors import UserError
from vit.files import canonical
from vit.files.atomic import whole_file, write_whole
from vit.files.safetensors import write_tensors
from vit.model import parameters
from vit.model.config import ViTConfig
from vit.model.parameters import Weights

_HF_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu"}
# The arguments with which the other project builds a model that departs from its defaults.
_HOW = {
    "timm": {"block_norm_eps": "norm_layer=functools.partial(torch.nn.LayerNorm, eps={value:g})",
             "activation": "act_layer={value!r}",
             "pool": "class_token={class_token}, global_pool='avg', fc_norm={fc_norm}"},
    "timm_hub": {"block_norm_eps": "norm_layer=functools.partial(torch.nn.LayerNorm, eps={value:g})"},
    "mindspore": {"block_norm_eps": "norm_layer=functools.partial(mindspore.nn.LayerNorm, epsilon={value:g})",
                  "activation": "act_layer={layer}",
                  "pool": "class_token={class_token}, global_pool='avg', fc_norm={fc_norm}"},
    "npz": {"block_norm_eps": "nn.LayerNorm(epsilon={value:g})", "activation": "nn.{flax}", "pool": "classifier='gap'"},
}
_MINDSPORE_LAYERS = {"gelu": "functools.partial(mindspore.nn.GELU, approximate=False)", "relu": "mindspore.nn.ReLU"}
_FLAX_CALLS = {"gelu": "gelu(x, approximate=False)", "relu": "relu(x)"}


def write(path: str | os.PathLike, weights: Weights, config: ViTConfig, to: str = "canonical",
          report: Report | None = None) -> None:
    """Write weights for another project, whole or not at all.

    Args:
        path: The file to write; a folder for "hf" and "timm_hub".
        weights: Canonical weights.
        config: Their spec.
        to: One of `FORMATS`: "canonical" (this project's safetensors), "hf" (a folder for
            `ViTForImageClassification.from_pretrained`), "timm" (safetensors, or a torch file if the name ends in .pt,
            .pth or .bin), "timm_hub" (a folder for `timm.create_model("local-dir:FOLDER", pretrained=True)`),
            "mindspore" (a checkpoint with MindCV's names), "npz" (Google's vision_transformer).
        report: Gets a note with the arguments that the other project must build its model with, if any.

    Raises:
        UserError: The other project cannot express the model, or the file cannot be written.
    """
    if to not in FORMATS:
        raise UserError(f"unknown format {to!r}: choose one of {', '.join(FORMATS)}")
    parameters.check(weights, config)
    report = report or Report()
    path = Path(path)
    if path.is_dir() and to not in ("hf", "timm_hub"):
        raise UserError(f"{path}: is a folder; name a file to write")
    usage = report.usage
    if to in ("timm", "mindspore", "npz") and (usage.classes or usage.preprocessing):
        report.notes.append(f"{to} has no place for the names of the classes and for what becomes of an image before "
                            "the model, which are left out; canonical, hf and timm_hub keep them")
    try:
        FORMATS[to](path, weights, config, report)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _canonical(path: Path, weights: Weights, config: ViTConfig, report: Report) -> None:
    canonical.save(path, weights, config, report.usage)


def _hf(path: Path, weights: Weights, config: ViTConfig, report: Report) -> None:
    _only_pre(config, "Hugging Face's ViT")
    if config.pool != "cls":
        raise UserError(f"Hugging Face's ViT reads the class token, and this model has pool {config.pool!r}")
    if config.block_norm_eps != config.final_norm_eps:
        raise UserError("Hugging Face's ViT has one LayerNorm epsilon, and this model has two: "
                        f"{config.block_norm_eps:g} (block_norm_eps) and {config.final_norm_eps:g} (final_norm_eps)")
    weights, config = _with_patch_bias(weights, config, report)
    labels = report.usage.classes or [f"LABEL_{i}" for i in range(config.num_classes)]
    settings = {
        "architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": config.width,
        "num_hidden_layers": config.depth, "num_attention_heads": config.heads, "intermediate_size": config.mlp_dim,
        "hidden_act": _HF_ACTIVATIONS[config.activation], "layer_norm_eps": config.block_norm_eps,
        "image_size": config.image_size, "patch_size": config.patch_size, "num_channels": config.in_channels,
        "qkv_bias": config.qkv_bias, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "torch_dtype": str(weights["pos_embed"].dtype),
    }
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name if name.startswith("classifier") else f"vit.{name}": value
               for name, value in _theirs(HF, weights, config).items()}
    with (whole_file(path / "config.json") as settings_file,
          whole_file(path / "model.safetensors") as file):
        write_tensors(file, tensors, {"format": "pt"})
        settings_file.write(json.dumps(settings, indent=2).encode() + b"\n")
    if preprocessing := report.usage.preprocessing:
        if preprocessing.crop_pct is not None:
            report.notes.append("Hugging Face's processor stretches an image that is no square, where this model was "
                                "used to the middle of it")
        write_whole(path / huggingface.PREPROCESSOR,
                    json.dumps(huggingface.preprocessor(preprocessing, config.image_size), indent=2).encode() + b"\n")


def _timm(path: Path, weights: Weights, config: ViTConfig, report: Report) -> None:
    weights, config = _prepare("timm", TIMM, weights, config, report)
    tensors = _theirs(TIMM, weights, config)
    if path.suffix in (".pt", ".pth", ".bin"):
        if report.built:
            raise UserError(f"{path}: a torch file has no room for a spec, and this model is not timm's default "
                            f"({report.built}); name a file that ends in .safetensors")
        from vit.backend import require
        require("torch", __name__)
        import torch
        with whole_file(path) as file:
            torch.save({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}, file)
    else:
        with whole_file(path) as file:
            write_tensors(file, tensors, {"format": "pt", "spec": json.dumps(config.to_dict())})


def _timm_hub(path: Path, weights: Weights, config: ViTConfig, report: Report) -> None:
    weights, config = _prepare("timm_hub", TIMM, weights, config, report)
    path.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(timm_hub.settings(config, report.usage), indent=2, ensure_ascii=False)
    with whole_file(path / timm_hub.FILE) as settings_file, whole_file(path / "model.safetensors") as file:
        write_tensors(file, _theirs(TIMM, weights, config), {"format": "pt", "spec": json.dumps(config.to_dict())})
        settings_file.write(f"{settings}\n".encode())


def _mindspore(path: Path, weights: Weights, config: ViTConfig, report: Report) -> None:
    weights, config = _prepare("mindspore", MINDCV, weights, config, report)
    with whole_file(path) as file:
        protobuf.write(file, _theirs(MINDCV, weights, config), {protobuf.SPEC: json.dumps(config.to_dict())})


def _npz(path: Path, weights: Weights, config: ViTConfig, report: Report) -> None:
    weights, config = _prepare("npz", GOOGLE, weights, config, report)
    if not config.qkv_bias:  # flax's attention always has them
        weights = weights | {f"blocks.{i}.attn.qkv.bias": np.zeros(3 * config.width, weights["pos_embed"].dtype)
                             for i in range(config.depth)}
        config = config.replace(qkv_bias=True)
        report.notes.append("the biases of q, k and v are written as zeros, which this model does without")
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, value in _theirs(GOOGLE, weights, config).items():
            begin = io.BytesIO()
            value = np.ascontiguousarray(value)
            np.lib.format.write_array_header_1_0(begin, np.lib.format.header_data_from_array_1_0(value))
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(begin.getvalue())
                member.write(value.reshape(-1).view(np.uint8))
        archive.comment = json.dumps(config.to_dict()).encode()  # where NumPy does not look


FORMATS: dict[str, Callable[[Path, Weights, ViTConfig, Report], None]] = {
    "canonical": _canonical, "hf": _hf, "timm": _timm, "timm_hub": _timm_hub, "mindspore": _mindspore, "npz": _npz}


def _only_pre(config: ViTConfig, project: str) -> None:
    if config.norm_order != "pre":
        raise UserError(f"{project} normalizes before each half of a block, and this model has norm_order "
                        f"{config.norm_order!r}; write it as canonical")


def _with_patch_bias(weights: Weights, config: ViTConfig, report: Report) -> tuple[Weights, ViTConfig]:
    """The same model with a patch bias of zeros, for projects whose patch embedding always has one."""
    if config.patch_bias:
        return weights, config
    report.notes.append("the patch embedding's bias is written as zeros, which this model does without")
    config = config.replace(patch_bias=True)
    zeros = np.zeros(config.width, weights["pos_embed"].dtype)
    return {name: weights.get(name, zeros) for name in parameters.shapes(config)}, config


def _prepare(to: str, layout: Layout, weights: Weights, config: ViTConfig,
             report: Report) -> tuple[Weights, ViTConfig]:
    """Refuse what the project cannot express; note the arguments that its code needs to build the same model."""
    _only_pre(config, layout.title)
    weights, config = _with_patch_bias(weights, config, report)
    if config.block_norm_eps != config.final_norm_eps:
        raise UserError(f"{layout.title} has one LayerNorm epsilon, and this model has two: "
                        f"{config.block_norm_eps:g} (block_norm_eps) and {config.final_norm_eps:g} (final_norm_eps)")
    if to == "npz" and config.fc_norm:
        raise UserError(f"{layout.title} normalizes the tokens before their mean, and this model after it (fc_norm)")
    if to == "npz" and config.class_token and config.pool == "mean":
        raise UserError(f"{layout.title} takes the mean of all tokens where there is no class token, and this model "
                        "has both a class token and pool 'mean'")
    how = []
    for name, text in _HOW[to].items():
        value = getattr(config, name)
        if value != layout.spec[name]:
            how.append(text.format(value=value, class_token=config.class_token, fc_norm=config.fc_norm,
                                   layer=_MINDSPORE_LAYERS.get(value), flax=_FLAX_CALLS.get(value)))
    if not config.qkv_bias and to not in ("npz", "timm_hub"):
        how.append("qkv_bias=False")
    if how:
        report.built = ", ".join(how)
        report.notes.append(f"to get the same logits, build it with {report.built}; {layout.title} has other defaults")
    return weights, config


def _theirs(layout: Layout, weights: Weights, config: ViTConfig) -> Weights:
    """The tensors in another layout, as views where that is possible."""
    return {theirs: part for name in parameters.shapes(config)
            for theirs, part in layout.split(name, weights[name], config).items()}
