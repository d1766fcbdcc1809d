"""Tell the spec of a model from a file of it: from its shapes, its settings, its manifest and the project's code."""
from vit.convert import positions, timm_hub
from vit.convert.layouts import Layout
from vit.convert.positions import PositionGrid
from vit.convert.reporting import Report
from vit.convert.source_file import Source
from vit.errors import UserError
from vit.files.canonical import parse_spec
from vit.files.untrusted import listed
from vit.model.config import VARIANTS, ViTConfig

# Heads of the published widths: Zhai et al., "Scaling Vision Transformers", 2022, table 2.
_PUBLISHED_HEADS = {192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16, 1792: 16}
_ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
                "gelu_fast": "gelu_tanh", "relu": "relu"}
_NEW_HEAD_CLASSES = 1000


def find_spec(source: Source, layout: Layout, names: dict[str, str], depth: int, heads: int | None,
              grid: tuple[int, int] | None, report: Report) -> tuple[ViTConfig, PositionGrid]:
    """Tell a file's spec.

    Args:
        source: The file.
        layout: Its layout.
        names: `{name without prefix: name in the file}`.
        depth: Its number of blocks.
        heads: Attention heads, where the caller knows them.
        grid: Rows and columns of its position embeddings, where the caller knows them.
        report: Gets a note on each value that the file does not say.

    Returns:
        The spec, and the grid of the file's positions. The spec's image size is that of a square image with as many
        rows of patches.

    Raises:
        UserError: The file lacks a tensor that the spec needs, contradicts itself, or needs `heads` or `grid`.
    """
    def shape(canonical: str, rank: int) -> tuple[int, ...]:
        name = layout.theirs(canonical)[0]
        if name not in names:
            raise UserError(f"{source.path}: recognised as {layout.title}, but {name} is missing")
        found = source.tensors[names[name]].shape
        if 0 in found:
            raise UserError(f"{source.path}: {listed([names[name]])} is {list(found)}: it holds no values")
        if len(found) != rank:
            raise UserError(f"{source.path}: {listed([names[name]])} is {list(found)}, not of {rank} axes")
        return found

    def has(canonical: str) -> bool:
        return layout.theirs(canonical)[0] in names

    count, width = shape("pos_embed", 3)[1:]
    mlp_dim, = shape("blocks.0.mlp.fc1.bias", 1)
    kernel = shape("patch_embed.proj.weight", 4)
    patch, channels = (kernel[:2], kernel[2]) if layout.kernels else (kernel[2:], kernel[1])
    if patch[0] != patch[1]:
        raise UserError(f"{source.path}: patches of {patch[0]} x {patch[1]} pixels; only square ones can be expressed")
    class_token = has("cls_token")
    manifest = None if source.spec is None else parse_spec(source.path, source.spec)
    settings = _settings(source, report)
    try:
        cells = positions.grid_of(count, class_token, _known_grid(settings, patch[0], grid))
    except UserError as error:
        raise UserError(f"{source.path}: {error}") from None
    if class_token and not cells.class_position:
        report.notes.append("the class token has no position of its own: it gets one of zeros")
    fields = dict(layout.spec)
    fc_norm = "fc_norm" in layout.modules and has("fc_norm.weight")
    if manifest is None and fc_norm:
        fields["pool"] = "mean"
        report.notes.append("a norm after pooling (fc_norm): the mean of the patches goes through it to the head")
    elif manifest is None and not class_token:
        fields["pool"] = "mean"
        report.notes.append("no class token: the mean of the patches goes to the head")
    fields |= settings.pop("fields", {})
    fields |= {"width": width, "mlp_dim": mlp_dim, "patch_size": patch[0], "in_channels": channels, "depth": depth,
               "class_token": class_token, "fc_norm": fc_norm, "image_size": cells.rows * patch[0],
               "patch_bias": has("patch_embed.proj.bias"), "qkv_bias": has("blocks.0.attn.qkv.bias"),
               "num_classes": shape("head.bias", 1)[0] if has("head.bias") else _NEW_HEAD_CLASSES}
    if manifest is None:
        fields["heads"] = _heads(source, layout, names, fields, settings.get("heads"), heads, report)
        if not settings:
            report.notes.append(f"the file does not say: LayerNorm epsilon {fields['block_norm_eps']:g} (blocks), "
                                f"{fields['final_norm_eps']:g} (last), activation {fields['activation']}, pool "
                                f"{fields['pool']}; these are what the code that writes such files uses")
    try:
        config = ViTConfig(**fields) if manifest is None else manifest
    except ValueError as error:
        raise UserError(f"{source.path}: {error}") from None
    different = [f"{name} {getattr(config, name)!r}, but its tensors say {value!r}" for name, value in fields.items()
                 if manifest is not None and name not in layout.spec and getattr(config, name) != value]
    if different:
        raise UserError(f"{source.path}: its manifest says {', '.join(different)}")
    if heads is not None and config.heads != heads:
        raise UserError(f"{source.path}: says that it has {config.heads} heads, not {heads}")
    return config, cells


def _settings(source: Source, report: Report) -> dict:
    """What a `config.json` says: the "fields" of a spec, the "heads" and, if it is Hugging Face's, the "image_size"."""
    found = source.settings
    if found is None:
        return {}
    if "pretrained_cfg" in found:
        return timm_hub.spec(source)
    path = source.path.with_name("config.json")
    kind = found.get("model_type", "vit")
    if kind != "vit":
        raise UserError(f"{path}: a model of type {listed([kind])}, not vit")
    fields = {}
    if "layer_norm_eps" in found:
        fields["block_norm_eps"] = fields["final_norm_eps"] = found["layer_norm_eps"]
    act = found.get("hidden_act", "gelu")
    if not isinstance(act, str) or act not in _ACTIVATIONS:
        raise UserError(f"{path}: the activation {listed([act])} cannot be expressed; known: {', '.join(_ACTIVATIONS)}")
    fields["activation"] = _ACTIVATIONS[act]
    rates = [f"{name} {found[name]}" for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
             if found.get(name)]
    if rates:
        report.notes.append(f"rates of dropout act in training alone and are not taken over: {', '.join(rates)}")
    return {"fields": fields, "heads": found.get("num_attention_heads"), "image_size": found.get("image_size")}


def _known_grid(settings: dict, patch: int, grid: tuple[int, int] | None) -> tuple[int, int] | None:
    size = settings.get("image_size")
    if grid is not None or size is None:
        return grid
    sizes = size if isinstance(size, list) else [size, size]
    if len(sizes) != 2 or not all(type(one) is int and one >= patch for one in sizes):
        raise UserError(f"its config.json has the image_size {listed([size])}")
    return sizes[0] // patch, sizes[1] // patch


def _heads(source: Source, layout: Layout, names: dict[str, str], fields: dict, said: object, given: int | None,
           report: Report) -> int:
    if layout.head_axes:
        name = layout.theirs("blocks.0.attn.qkv.weight")[0]
        shape = source.tensors[names[name]].shape if name in names else ()
        if len(shape) != 3:
            raise UserError(f"{source.path}: {name} is {list(shape) or 'missing'}, not [width, heads, width of a head]")
        return shape[1]
    if said is not None:
        return said
    if given is not None:
        return given
    same = ("width", "depth", "mlp_dim", "patch_size")
    for level in (same, same[:3]):
        known = {name: config.heads for name, config in VARIANTS.items()
                 if all(getattr(config, field) == fields[field] for field in level)}
        if len(set(known.values())) == 1:
            report.notes.append(f"heads {next(iter(known.values()))}: those of {', '.join(known)}; "
                                "the file does not say (--heads)")
            return next(iter(known.values()))
    if fields["width"] in _PUBLISHED_HEADS and fields["mlp_dim"] == 4 * fields["width"]:
        heads = _PUBLISHED_HEADS[fields["width"]]
        report.notes.append(f"heads {heads}: as in the published models of width {fields['width']}; "
                            "the file does not say (--heads)")
        return heads
    raise UserError(f"{source.path}: the file does not say how many attention heads it has, and no known model has "
                    f"width {fields['width']}, depth {fields['depth']} and MLP {fields['mlp_dim']}; give --heads")
