"""The `config.json` of timm's hub folders, beside the weights: which model it is, and how it is used.

Source: timm `models/_hub.py` (what is written and read), `models/_pretrained.py` and `data/config.py` (the defaults),
`models/vision_transformer.py` (a model's arguments).
"""
from pathlib import Path

from vit.convert import huggingface
from vit.convert.reporting import Report
from vit.convert.source_file import Source
from vit.errors import UserError, one_line
from vit.files.untrusted import listed
from vit.files.usage import Preprocessing, Usage
from vit.model.config import ViTConfig

FILE = "config.json"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CROP_PCT = 0.875
_DATA = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
_POOLS = {"token": "cls", "avg": "mean"}
_ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
# Widths, heads and depths of timm's plain models, by the word in their names; their MLP is four times as wide.
_SIZES = {"tiny": (192, 3, 12), "small": (384, 6, 12), "base": (768, 12, 12), "large": (1024, 16, 24)}
_BASE = "vit_base_patch16_224"
_DEFAULTS = {"img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0,
             "qkv_bias": True, "class_token": True, "global_pool": "token", "fc_norm": False, "act_layer": "gelu"}


def read_settings(path: Path) -> dict | None:
    """Read the `config.json` beside a file of weights that is called as in a hub folder.

    Returns:
        Its fields, of the older form brought into the newer one; None where there is none, or it is not timm's.

    Raises:
        UserError: It is damaged.
    """
    found = huggingface.read_settings(path, FILE) if path.name in huggingface.FILES else None
    if found is None or "architecture" not in found:
        return None
    if "pretrained_cfg" not in found:  # the older form is one dict
        found = {"architecture": found["architecture"], "pretrained_cfg": found}
    if not all(isinstance(found.get(name), dict | None) for name in ("pretrained_cfg", "model_args")):
        raise UserError(f"{path.with_name(FILE)}: pretrained_cfg and model_args must be objects")
    return found


def spec(source: Source) -> dict:
    """Give what the settings say of a model, as `source_spec` takes it: "fields" of its spec, and "heads".

    Raises:
        UserError: They say what cannot be expressed.
    """
    path, found = source.path.with_name(FILE), source.settings
    given, fields = found.get("model_args") or {}, {}
    pool = given.get("global_pool", found.get("global_pool"))
    if pool is not None:
        if not isinstance(pool, str) or pool not in _POOLS:
            raise UserError(f"{path}: the global_pool {listed([pool])} cannot be expressed; known: {', '.join(_POOLS)}")
        fields["pool"] = _POOLS[pool]
    act = given.get("act_layer")
    if act is not None:
        if act not in _ACTIVATIONS:
            raise UserError(f"{path}: the act_layer {listed([act])} cannot be expressed; known: "
                            f"{', '.join(_ACTIVATIONS)}")
        fields["activation"] = act
    return {"fields": fields, "heads": given.get("num_heads")}


def read_usage(source: Source, report: Report) -> Usage:
    """Tell how a model is used, as timm would use it.

    Args:
        source: The file; its `settings` are of `read_settings`.
        report: Gets a note where they say something that cannot be expressed.

    Raises:
        UserError: The names of the classes are none.
    """
    path, found = source.path.with_name(FILE), source.settings
    told = found["pretrained_cfg"] or {}
    names = next((holder[name] for holder, name in (
        (found, "label_names"), (told, "label_names"), (told, "labels")) if holder.get(name) is not None), None)
    if isinstance(names, dict):  # by their numbers, of which some may be left out
        numbered = set(names) == set(map(str, range(len(names))))
        if not numbered:
            report.notes.append(f"label_names of {FILE} leave classes out: they are not taken over")
        names = [names[str(i)] for i in range(len(names))] if numbered else None
    preprocessing = None
    try:
        preprocessing = _preprocessing(told) if any(told.get(name) is not None for name in _DATA) else None
    except (ValueError, TypeError, OverflowError) as error:
        report.notes.append(f"what {FILE} says of images cannot be expressed here ({one_line(error)})")
    try:
        if not isinstance(names, list | None):
            raise ValueError("label_names must be a list, or names by number")
        return Usage(None if names is None else tuple(names), preprocessing)
    except ValueError as error:
        raise UserError(f"{path}: {one_line(error)}") from None


def _preprocessing(told: dict) -> Preprocessing:
    def value(name: str, default: object) -> object:
        return default if told.get(name) is None else told[name]

    crop_pct, mode = value("crop_pct", _CROP_PCT), value("crop_mode", "center")
    if mode == "squash" and crop_pct == 1:
        crop_pct = None
    elif mode != "center":
        raise ValueError(f"crop_mode {mode!r} with crop_pct {crop_pct!r}")
    mean, std = (tuple(value(name, default)) for name, default in zip(("mean", "std"), _IMAGENET, strict=True))
    return Preprocessing(mean, std, crop_pct, value("interpolation", "bicubic"))


def settings(config: ViTConfig, usage: Usage) -> dict:
    """Give the settings from which `timm.create_model("local-dir:FOLDER", pretrained=True)` builds a model.

    Args:
        config: Its spec. What timm's settings have no word for is left out: epsilons.
        usage: How it is used.
    """
    size = next((name for name, known in _SIZES.items() if known == (config.width, config.heads, config.depth)
                 and config.patch_size == 16), None)
    name, plain = _BASE, dict(_DEFAULTS)
    if size is not None:
        name = f"vit_{size}_patch16_224"
        plain |= dict(zip(("embed_dim", "num_heads", "depth"), _SIZES[size], strict=True))
    ratio = config.mlp_dim / config.width
    if int(config.width * ratio) != config.mlp_dim:  # as timm rounds
        ratio = (config.mlp_dim + 0.5) / config.width
    ours = {"img_size": config.image_size, "patch_size": config.patch_size, "embed_dim": config.width,
            "depth": config.depth, "num_heads": config.heads, "mlp_ratio": ratio, "qkv_bias": config.qkv_bias,
            "class_token": config.class_token, "global_pool": {ours: theirs for theirs, ours in _POOLS.items()}[
                config.pool], "fc_norm": config.fc_norm, "act_layer": config.activation}
    arguments = {key: value for key, value in ours.items() if value != plain[key]}
    if config.pool == "mean":  # else timm would add a norm behind it
        arguments["fc_norm"] = config.fc_norm
    told = {"input_size": [config.in_channels, config.image_size, config.image_size], "fixed_input_size": True,
            "num_classes": config.num_classes, "first_conv": "patch_embed.proj", "classifier": "head",
            **(_told(usage.preprocessing) if usage.preprocessing else {})}
    return {"architecture": name, "num_classes": config.num_classes, "num_features": config.width,
            "global_pool": ours["global_pool"],
            **({"label_names": list(usage.classes)} if usage.classes else {}),
            **({"model_args": arguments} if arguments else {}), "pretrained_cfg": told}


def _told(how: Preprocessing) -> dict:
    crop = {"crop_pct": 1.0, "crop_mode": "squash"} if how.crop_pct is None else {
        "crop_pct": how.crop_pct, "crop_mode": "center"}
    return {"interpolation": how.interpolation, **crop, "mean": list(how.mean), "std": list(how.std)}
