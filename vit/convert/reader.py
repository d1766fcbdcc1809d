"""Read a file of any known kind into canonical weights, their spec, and a report of what was done."""
import dataclasses
import os

import numpy as np

from vit import memory
from vit.convert import elsewhere, huggingface, positions, timm_hub
from vit.convert.containers import open_source
from vit.convert.layouts import DROPPED, HF, HF_KERAS, LAYOUTS, TIMM, UNSUPPORTED, Layout
from vit.convert.positions import PositionGrid
from vit.convert.reporting import Report
from vit.convert.source_file import Source
from vit.convert.source_spec import find_spec
from vit.errors import UserError
from vit.files.lazy_tensor import FLOAT_TYPES, LazyTensor
from vit.files.untrusted import duplicates, listed, reading
from vit.files.usage import Usage
from vit.model import parameters, summary
from vit.model.config import ViTConfig
from vit.model.parameters import Weights
from vit.remote.address import is_address


def read(path: str | os.PathLike, image_size: int | None = None, num_classes: int | None = None,
         heads: int | None = None, grid: tuple[int, int] | None = None,
         seed: int = 0) -> tuple[Weights, ViTConfig, Report]:
    """Read the weights of a ViT from a file of any known kind, from a Hugging Face folder, or from a run's.

    The LayerNorm epsilon and the activation of the code that wrote the file become part of the spec, so that the model
    computes the same logits here.

    Args:
        path: A file, such as one of weights or a checkpoint, or its address in S3 or on the web; a folder with
            `config.json` and one of Hugging Face's weights files; or the folder of a run or of its checkpoints, of
            which `vit.convert.runs` says what is taken.
        image_size: Size of the images that the model shall see, pixels; the position embeddings are resized for it.
            Default: the file's.
        num_classes: Classes of the head; where the file has another number, the head is new. Default: the file's.
        heads: Attention heads, where neither the file nor the table of known models says.
        grid: Rows and columns of the position embeddings, where they form no square.
        seed: Seed of a new head.

    Returns:
        Canonical weights (16-bit ones widened to float32, exactly), their spec, and the report.

    Raises:
        UserError: The file is missing, damaged, of no known kind, holds what the spec cannot express, lacks a tensor
            or has one too many, or a value in it is not finite.
    """
    for name, value in (("image_size", image_size), ("num_classes", num_classes), ("heads", heads)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    if is_address(path):
        copy = elsewhere.fetched(path)
        try:
            return read(copy, image_size, num_classes, heads, grid, seed)
        except UserError as error:
            raise UserError(str(error).replace(str(copy), path)) from None
    source = open_source(path)
    layout, names = _recognise(source)
    manifest = "" if source.spec is None else ", with this project's manifest"
    report = Report(f"recognised {layout.title}, in a {source.container}{manifest}", notes=list(source.notes))
    if layout in (HF, HF_KERAS):
        source.settings = huggingface.read_settings(source.path)
    elif layout is TIMM:
        source.settings = timm_hub.read_settings(source.path)
    depth = 1 + max(index for index in map(layout.block_index, names) if index is not None)
    if depth > len(names):
        raise UserError(f"{source.path}: names block {depth - 1}, but has {len(names)} tensors")
    _check_supported(source, layout, names, depth)
    config, cells = find_spec(source, layout, names, depth, heads, grid, report)
    if cells.rows != cells.columns and image_size is None:
        raise UserError(f"{source.path}: its positions are a grid of {cells.rows} x {cells.columns}, and images are "
                        "square here; give the size to resize them for with --image_size")
    config = _with(source, config, image_size, num_classes)
    memory.check_room(4 * summary.parameters(config), f"{source.path}: a model of {config.num_classes} classes for "
                      f"images of {config.image_size} x {config.image_size}",
                      "a smaller --image_size or --num_classes needs less")
    theirs = _check(source, layout, names, config, cells, report)
    weights = _load(source, layout, theirs, config, cells, report, seed)
    parameters.check(weights, config)
    report.usage = _usage(source, layout, config, report)
    return weights, config, report


def _usage(source: Source, layout: Layout, config: ViTConfig, report: Report) -> Usage:
    """How the model is used: of a new head nobody knows the classes."""
    usage = source.usage or Usage()
    if source.usage is None and layout in (HF, HF_KERAS):
        usage = huggingface.read_usage(source, report)
    elif source.usage is None and layout is TIMM and source.settings is not None:
        usage = timm_hub.read_usage(source, report)
    if "head.weight" in report.named("new"):
        return dataclasses.replace(usage, classes=None)
    if not usage.fits(config.num_classes):
        raise UserError(f"{source.path}: names {len(usage.classes)} classes, and its head has {config.num_classes}")
    return usage


def _recognise(source: Source) -> tuple[Layout, dict[str, str]]:
    """The layout that knows most of the names, and `{name without prefix: name in the file}`."""
    best, most, names = TIMM, 0, {}
    for layout in LAYOUTS:
        short = [layout.without_prefix(name) for name in source.tensors]
        depth = 1 + max((index for index in map(layout.block_index, short) if index is not None), default=-1)
        if not 0 < depth <= len(short):
            continue
        known = {name for canonical in _all_names(depth) for name in layout.theirs(canonical)}
        score = len(known.intersection(short))
        if score > most:
            best, most, names = layout, score, dict(zip(short, source.tensors, strict=True))
            doubled = duplicates(short)
    if most < 8:
        raise UserError(f"{source.path}: a {source.container}, but its names are of no known ViT: "
                        f"{listed(source.tensors) or 'there are none'}")
    if doubled:
        raise UserError(f"{source.path}: two tensors for each of {listed(doubled)}")
    return best, names


def _all_names(depth: int) -> list[str]:
    return list(parameters.shapes(ViTConfig(depth=depth)))


def _check_supported(source: Source, layout: Layout, names: dict[str, str], depth: int) -> None:
    """Refuse a model that cannot be expressed, before its shapes are looked at: they may be odd because of that."""
    known = {name for canonical in _all_names(depth) for name in layout.theirs(canonical)}
    unsupported = {name: what for name in names
                   if name not in known and not _why_dropped(name) and (what := _why_unsupported(name))}
    if unsupported:
        raise UserError(f"{source.path}: recognised as {layout.title}, but it has {next(iter(unsupported.values()))}, "
                        f"which cannot be expressed here ({listed([names[name] for name in unsupported], 3)})")


def _with(source: Source, config: ViTConfig, image_size: int | None, num_classes: int | None) -> ViTConfig:
    changes = {"image_size": image_size, "num_classes": num_classes}
    try:
        return config.replace(**{name: value for name, value in changes.items() if value is not None})
    except ValueError as error:
        raise UserError(f"{source.path}: {error}") from None


def _check(source: Source, layout: Layout, names: dict[str, str], config: ViTConfig, cells: PositionGrid,
           report: Report) -> dict[str, LazyTensor]:
    """The tensors that the model needs, by their names without prefix, held to its shapes before any is loaded."""
    needed = layout.their_shapes(config)
    pos_embed, = layout.theirs("pos_embed")
    needed[pos_embed] = (1, cells.rows * cells.columns + cells.class_position, config.width)
    head = [name for canonical in ("head.weight", "head.bias") for name in layout.theirs(canonical)]
    present = [name in names for name in head]
    if any(present):  # the file's own number of classes: where another one is asked for, the head will be new
        own = source.tensors[names[head[1]]].shape if present[1] else ()
        if all(present) and len(own) == 1 and own[0] > 0:
            needed |= layout.their_shapes(config.replace(num_classes=own[0])) | {pos_embed: needed[pos_embed]}
    else:
        for name in head:
            del needed[name]
    extra = [name for name in names if name not in needed]
    dropped = {name: why for name in extra if (why := _why_dropped(name))}
    faults = [f"missing {name}" for name in needed if name not in names]
    faults += [f"unexpected {listed([names[name]])}" for name in extra if name not in dropped]
    found = {name: source.tensors[names[name]] for name in needed if name in names}
    faults += [f"{name} is {list(tensor.shape)}, not {list(needed[name])}" for name, tensor in found.items()
               if tensor.shape != needed[name]]
    faults += [f"{name} is of type {tensor.dtype}, not a floating-point one" for name, tensor in found.items()
               if tensor.dtype not in FLOAT_TYPES]
    if faults:
        raise UserError(f"{source.path}: recognised as {layout.title}, but: {listed(faults)}")
    for name, why in dropped.items():
        report.add("dropped", names[name], source.tensors[names[name]].shape, why)
    return found


def _why_unsupported(name: str) -> str | None:
    return next((what for part, what in UNSUPPORTED.items() if part in name), None)


def _why_dropped(name: str) -> str | None:
    first = name.replace("/", ".").split(".")[0]
    return next((why for part, why in DROPPED.items() if first == part or first.startswith(f"{part}_")), None)


def _load(source: Source, layout: Layout, theirs: dict[str, LazyTensor], config: ViTConfig, cells: PositionGrid,
          report: Report, seed: int) -> Weights:
    """Load tensor by tensor, so that the file is never in memory beside the weights."""
    weights, widened = {}, []
    needed = parameters.shapes(config)
    new_head = _why_new_head(layout, theirs, config, report)
    source.tensors.clear()  # each shall be freed once it was read
    for canonical, shape in needed.items():
        names = layout.theirs(canonical)
        if canonical.startswith("head.") and new_head:
            weights[canonical] = parameters.initial_value(canonical, shape, seed)
            report.add("new", canonical, shape, new_head)
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


def _why_new_head(layout: Layout, theirs: dict[str, LazyTensor], config: ViTConfig, report: Report) -> str:
    """Why the head is new; an empty text if it is the file's."""
    names = [layout.theirs(f"head.{leaf}")[0] for leaf in ("weight", "bias")]
    if names[0] not in theirs:
        return "the file has no head"
    classes = theirs[names[1]].shape[0]
    if classes == config.num_classes:
        return ""
    for name in names:
        report.add("dropped", name, theirs.pop(name).shape, f"a head of {classes} classes, not {config.num_classes}")
    return f"the file's head has {classes} classes"


def _positions(value: np.ndarray, config: ViTConfig, cells: PositionGrid, report: Report,
               name: str) -> np.ndarray:
    """The position embeddings for the model's own grid [1, N, D]."""
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
