"""From a file of any known kind to canonical weights, their spec, and a report of what was done."""
import json
import os

import numpy as np

from vit.convert import positions
from vit.convert.containers import open_source, settings_beside
from vit.convert.layouts import DROPPED, HF, HF_KERAS, LAYOUTS, REFUSED, TIMM, Layout
from vit.convert.report import Report
from vit.convert.source import FLOATS, Source, Tensor, reading, shown, twice
from vit.errors import UserError, one_line
from vit.model import parameters
from vit.model.config import VARIANTS, ViTConfig
from vit.model.parameters import Weights

# Heads of the published widths: Zhai et al., "Scaling Vision Transformers", 2022, table 2.
_PUBLISHED_HEADS = {192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16, 1792: 16}
_ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
                "gelu_fast": "gelu_tanh", "relu": "relu"}
_FRESH_CLASSES = 1000


def read(path: str | os.PathLike, image_size: int | None = None, num_classes: int | None = None,
         heads: int | None = None, grid: tuple[int, int] | None = None,
         seed: int = 0) -> tuple[Weights, ViTConfig, Report]:
    """Read the weights of a ViT from a file of any known kind, or from a Hugging Face folder.

    The source's own LayerNorm epsilon and activation become part of the spec, so that the logits are the source's.

    Args:
        path: A file, or a folder with `config.json` and one of Hugging Face's weights files.
        image_size: Side of the images to read it for, pixels; the position embeddings are resized. Default: the
            source's.
        num_classes: Classes of the head; where the source has another number, the head is new. Default: the source's.
        heads: Attention heads, where neither the file nor the table of known models says.
        grid: Rows and columns of the position embeddings, where they are no square.
        seed: Of a new head.

    Returns:
        Canonical weights (16-bit ones widened to float32, exactly), their spec, and the report.

    Raises:
        UserError: The file is missing, damaged, of no known kind, holds what the spec cannot express, lacks a tensor
            or has one too many, or a value in it is not finite.
    """
    for name, value in (("image_size", image_size), ("num_classes", num_classes), ("heads", heads)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    source = open_source(path)
    layout, names = _recognise(source)
    manifest = "" if source.spec is None else ", with this project's manifest"
    report = Report(f"recognised {layout.what}, in a {source.container}{manifest}", notes=list(source.notes))
    if layout in (HF, HF_KERAS):
        source.settings = settings_beside(source.path)
    depth = 1 + max(index for index in map(layout.block_index, names) if index is not None)
    if depth > len(names):
        raise UserError(f"{source.path}: names block {depth - 1}, but has {len(names)} tensors")
    config, cells = _spec(source, layout, names, depth, heads, grid, report)
    if cells[0] != cells[1] and image_size is None:
        raise UserError(f"{source.path}: its positions are a grid of {cells[0]} x {cells[1]}, and images are square "
                        "here; give the side to resize them for with --image_size")
    config = _with(source, config, image_size, num_classes)
    theirs = _check(source, layout, names, config, cells, report)
    weights = _load(source, layout, theirs, config, cells, report, seed)
    parameters.check(weights, config)
    return weights, config, report


def _recognise(source: Source) -> tuple[Layout, dict[str, str]]:
    """The layout that knows most of the names, and its short names with the file's own."""
    best, most, names = TIMM, 0, {}
    for layout in LAYOUTS:
        short = [layout.short(name) for name in source.tensors]
        depth = 1 + max((index for index in map(layout.block_index, short) if index is not None), default=-1)
        if not 0 < depth <= len(short):
            continue
        known = {name for canonical in _all_names(depth) for name in layout.theirs(canonical)}
        score = len(known.intersection(short))
        if score > most:
            best, most, names = layout, score, dict(zip(short, source.tensors, strict=True))
            doubled = twice(short)
    if most < 8:
        raise UserError(f"{source.path}: a {source.container}, but its names are of no known ViT: "
                        f"{shown(source.tensors) or 'there are none'}")
    if doubled:
        raise UserError(f"{source.path}: two tensors for each of {shown(doubled)}")
    return best, names


def _all_names(depth: int) -> list[str]:
    return list(parameters.shapes(ViTConfig(depth=depth)))


def _spec(source: Source, layout: Layout, names: dict[str, str], depth: int, heads: int | None,
          grid: tuple[int, int] | None, report: Report) -> tuple[ViTConfig, tuple[int, int, bool]]:
    """The source's spec (its side is that of its rows), and rows, columns and class position of its positions."""

    def shape(canonical: str, rank: int) -> tuple[int, ...]:
        name = layout.theirs(canonical)[0]
        if name not in names:
            raise UserError(f"{source.path}: recognised as {layout.what}, but {name} is missing")
        found = source.tensors[names[name]].shape
        if len(found) != rank or 0 in found:
            raise UserError(f"{source.path}: {shown([names[name]])} is {list(found)}, not of {rank} axes")
        return found

    def has(canonical: str) -> bool:
        return layout.theirs(canonical)[0] in names

    width, = shape("norm.weight", 1)
    mlp_dim, = shape("blocks.0.mlp.fc1.bias", 1)
    kernel = shape("patch_embed.proj.weight", 4)
    patch, channels = (kernel[:2], kernel[2]) if layout.kernels else (kernel[2:], kernel[1])
    if patch[0] != patch[1]:
        raise UserError(f"{source.path}: patches of {patch[0]} x {patch[1]} pixels; only square ones can be expressed")
    class_token = has("cls_token")
    own = _manifest(source)
    settings = _settings(source, report)
    count = shape("pos_embed", 3)[1]
    try:
        cells = positions.grid_of(count, class_token, _known_grid(settings, patch[0], grid))
    except UserError as error:
        raise UserError(f"{source.path}: {error}") from None
    if class_token and not cells[2]:
        report.notes.append("the class token has no position of its own: it gets one of zeros")
    fields = dict(layout.spec)
    if own is None and not class_token:
        fields["pool"] = "mean"
        report.notes.append("no class token: the mean of the patches goes to the head")
    fields |= settings.pop("fields", {})
    fields |= {"width": width, "mlp_dim": mlp_dim, "patch_size": patch[0], "in_channels": channels, "depth": depth,
               "class_token": class_token, "image_size": cells[0] * patch[0],
               "patch_bias": has("patch_embed.proj.bias"), "qkv_bias": has("blocks.0.attn.qkv.bias"),
               "num_classes": shape("head.bias", 1)[0] if has("head.bias") else _FRESH_CLASSES}
    if own is None:
        fields["heads"] = _heads(source, layout, names, fields, settings.get("heads"), heads, report)
        if not settings:
            report.notes.append(f"the file does not say: LayerNorm epsilon {fields['block_norm_eps']:g} (blocks), "
                                f"{fields['final_norm_eps']:g} (last), activation {fields['activation']}, pool "
                                f"{fields['pool']}; these are what the code that writes such files uses")
    try:
        config = ViTConfig(**fields) if own is None else own
    except ValueError as error:
        raise UserError(f"{source.path}: {error}") from None
    different = [f"{name} {getattr(config, name)!r}, but its tensors say {value!r}" for name, value in fields.items()
                 if own is not None and name not in layout.spec and getattr(config, name) != value]
    if different:
        raise UserError(f"{source.path}: its manifest says {', '.join(different)}")
    if heads is not None and config.heads != heads:
        raise UserError(f"{source.path}: says that it has {config.heads} heads, not {heads}")
    return config, cells


def _manifest(source: Source) -> ViTConfig | None:
    if source.spec is None:
        return None
    try:
        return ViTConfig.from_dict(json.loads(source.spec))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{source.path}: its manifest is not a model spec ({one_line(error)})") from None


def _settings(source: Source, report: Report) -> dict:
    """What a Hugging Face `config.json` says: {"fields": of the spec, "heads": ..., "image_size": ...}."""
    found = source.settings
    if found is None:
        return {}
    path = source.path.with_name("config.json")
    kind = found.get("model_type", "vit")
    if kind != "vit":
        raise UserError(f"{path}: a model of type {shown([kind])}, not vit")
    fields = {}
    if "layer_norm_eps" in found:
        fields["block_norm_eps"] = fields["final_norm_eps"] = found["layer_norm_eps"]
    act = found.get("hidden_act", "gelu")
    if not isinstance(act, str) or act not in _ACTIVATIONS:
        raise UserError(f"{path}: the activation {shown([act])} cannot be expressed; known: {', '.join(_ACTIVATIONS)}")
    fields["activation"] = _ACTIVATIONS[act]
    rates = [f"{name} {found[name]}" for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
             if found.get(name)]
    if rates:
        report.notes.append(f"rates of dropout act in training alone and are not taken over: {', '.join(rates)}")
    return {"fields": fields, "heads": found.get("num_attention_heads"), "image_size": found.get("image_size")}


def _known_grid(settings: dict, patch: int, grid: tuple[int, int] | None) -> tuple[int, int] | None:
    side = settings.get("image_size")
    if grid is not None or side is None:
        return grid
    sides = side if isinstance(side, list) else [side, side]
    if len(sides) != 2 or not all(type(one) is int and one >= patch for one in sides):
        raise UserError(f"its config.json has the image_size {shown([side])}")
    return sides[0] // patch, sides[1] // patch


def _heads(source: Source, layout: Layout, names: dict[str, str], fields: dict, said, wanted: int | None,
           report: Report) -> int:
    if layout.head_axes:
        name = layout.theirs("blocks.0.attn.qkv.weight")[0]
        shape = source.tensors[names[name]].shape if name in names else ()
        if len(shape) != 3:
            raise UserError(f"{source.path}: {name} is {list(shape) or 'missing'}, not [width, heads, width of a head]")
        return shape[1]
    if said is not None:
        return said
    if wanted is not None:
        return wanted
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


def _with(source: Source, config: ViTConfig, image_size: int | None, num_classes: int | None) -> ViTConfig:
    changes = {"image_size": image_size, "num_classes": num_classes}
    try:
        return config.replace(**{name: value for name, value in changes.items() if value is not None})
    except ValueError as error:
        raise UserError(f"{source.path}: {error}") from None


def _check(source: Source, layout: Layout, names: dict[str, str], config: ViTConfig, cells: tuple[int, int, bool],
           report: Report) -> dict[str, Tensor]:
    """The tensors that the model needs, under their short names, held to its shapes before one of them is loaded."""
    rows, columns, _ = cells
    wanted = layout.their_shapes(config)
    wanted[layout.theirs("pos_embed")[0]] = (1, rows * columns + cells[2], config.width)
    head = [name for canonical in ("head.weight", "head.bias") for name in layout.theirs(canonical)]
    present = [name in names for name in head]
    if any(present):  # its own number of classes; a wanted other one makes a new head
        own = source.tensors[names[head[1]]].shape if present[1] else ()
        if all(present) and len(own) == 1 and own[0] > 0:
            wanted |= layout.their_shapes(config.replace(num_classes=own[0])) | {
                layout.theirs("pos_embed")[0]: wanted[layout.theirs("pos_embed")[0]]}
    else:
        for name in head:
            del wanted[name]
    extra = [name for name in names if name not in wanted]
    dropped = {name: why for name in extra if (why := _why_dropped(name))}
    refused = [(name, what) for name in extra if name not in dropped for part, what in REFUSED.items() if part in name]
    if refused:
        raise UserError(f"{source.path}: recognised as {layout.what}, but it has {refused[0][1]}, which cannot be "
                        f"expressed here ({shown([names[name] for name in dict(refused)], 3)})")
    faults = [f"missing {name}" for name in wanted if name not in names]
    faults += [f"unexpected {shown([names[name]])}" for name in extra if name not in dropped]
    found = {name: source.tensors[names[name]] for name in wanted if name in names}
    faults += [f"{name} is {list(tensor.shape)}, not {list(wanted[name])}" for name, tensor in found.items()
               if tensor.shape != wanted[name]]
    faults += [f"{name} is of type {tensor.dtype}, not a floating-point one" for name, tensor in found.items()
               if tensor.dtype not in FLOATS]
    if faults:
        raise UserError(f"{source.path}: recognised as {layout.what}, but: {shown(faults)}")
    for name, why in dropped.items():
        report.add("dropped", names[name], source.tensors[names[name]].shape, why)
    return found


def _why_dropped(name: str) -> str | None:
    first = name.replace("/", ".").split(".")[0]
    return next((why for part, why in DROPPED.items() if first == part or first.startswith(f"{part}_")), None)


def _load(source: Source, layout: Layout, theirs: dict[str, Tensor], config: ViTConfig, cells: tuple[int, int, bool],
          report: Report, seed: int) -> Weights:
    """Load tensor by tensor, so that the file is never in memory beside the weights."""
    weights, widened = {}, []
    wanted = parameters.shapes(config)
    fresh = _fresh_head(layout, theirs, config, report)
    source.tensors.clear()  # so that each is freed once it was read
    for canonical, shape in wanted.items():
        names = layout.theirs(canonical)
        if canonical.startswith("head.") and fresh:
            weights[canonical] = parameters.initial_value(canonical, shape, seed)
            report.add("new", canonical, shape, fresh)
            continue
        parts = []
        for name in names:
            tensor = theirs.pop(name)
            with reading(source.path, source.container):
                part = tensor.load()
            if tuple(part.shape) != tensor.shape:
                raise UserError(f"{source.path}: {name} came out as {list(part.shape)}, not {list(tensor.shape)}")
            if tensor.dtype in ("float16", "bfloat16"):
                widened.append(canonical)
            parts.append(part.astype(np.float64 if tensor.dtype == "float64" else np.float32, copy=False))
        if not all(np.isfinite(part).all() for part in parts):
            raise UserError(f"{source.path}: {' or '.join(names)} holds values that are not finite")
        if canonical == "pos_embed":
            value = _positions(parts[0], config, cells, report, names[0])
        else:
            value = layout.join(canonical, parts, shape)
            report.add("read", canonical, shape, "" if names == (canonical, ) else " ".join(names))
        weights[canonical] = np.ascontiguousarray(value)
    if widened:
        report.notes.append(f"{len(widened)} tensors of 16 bits became float32, without loss")
    return weights


def _fresh_head(layout: Layout, theirs: dict[str, Tensor], config: ViTConfig, report: Report) -> str:
    """Why the head is new; nothing if it is not."""
    names = [layout.theirs(f"head.{leaf}")[0] for leaf in ("weight", "bias")]
    if names[0] not in theirs:
        return "the file has no head"
    classes = theirs[names[1]].shape[0]
    if classes == config.num_classes:
        return ""
    for name in names:
        report.add("dropped", name, theirs.pop(name).shape, f"a head of {classes} classes, not {config.num_classes}")
    return f"the file's head has {classes} classes"


def _positions(value: np.ndarray, config: ViTConfig, cells: tuple[int, int, bool], report: Report,
               name: str) -> np.ndarray:
    """The position embeddings of the wanted grid [1, N, D]."""
    rows, columns, own = cells
    token, grid = value[0, :int(own)], value[0, int(own):]
    if config.class_token and not own:
        token = np.zeros((1, config.width), value.dtype)
    why = "" if name == "pos_embed" else name
    if (rows, columns) == (config.grid, config.grid):
        report.add("read", "pos_embed", (1, config.tokens, config.width), why)
    else:
        grid = positions.resize(grid, (rows, columns), config.grid)
        report.add("resized", "pos_embed", (1, config.tokens, config.width),
                   f"{why} from {rows} x {columns} to {config.grid} x {config.grid}, bicubic".strip())
    return np.concatenate([token, grid])[None]


