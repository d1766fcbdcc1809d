"""This project's own runs as a source of weights: a checkpoint, a folder of checkpoints, or a run's whole folder.

What is taken of a folder, in this order; the report says which it was:

1. the weights of a stage that is over: `finetuned.safetensors`, else `scratch.safetensors`, else
   `pretrained.safetensors`;
2. else the newest checkpoint that is whole, in it or in its `checkpoints`: of the finetune, else of the training from
   scratch, else of the pretraining, else of a stage of the user's own.

Of a checkpoint it is the moving average of the weights (EMA), where there is one: it is what the run evaluates and ends
with. `best/` and what `--overwrite` has moved aside are files and folders as any other: name them.
"""
import contextlib
import json
from pathlib import Path

from vit.checkpoints import Checkpoint, list_checkpoints, load
from vit.checkpoints.inventory import stage_of
from vit.checkpoints.naming import FOLDER, parse_name
from vit.convert.source_file import Source
from vit.data.sets import NORMALIZATIONS, OF_DATA
from vit.errors import UserError, one_line, printable
from vit.files import safetensors, usage
from vit.files.lazy_tensor import LazyTensor

FINISHED = {"finetune": "finetuned.safetensors", "scratch": "scratch.safetensors",
            "pretrain": "pretrained.safetensors"}
_FORMAT = "vit-checkpoint-"  # what the format of every checkpoint begins with
_BEGIN = b'{"__metadata__":{"format":"' + _FORMAT.encode()


def begins(data: bytes) -> bool:
    """Tell whether a file begins as checkpoints do; its header may be longer than that of other files.

    Those of format 1 may begin otherwise: `is_checkpoint` knows them.
    """
    return data[8:].startswith(_BEGIN)


def is_checkpoint(metadata: dict[str, str]) -> bool:
    """Tell whether the metadata of a safetensors file are a checkpoint's."""
    return metadata.get("format", "").startswith(_FORMAT)


def open_checkpoint(path: Path) -> Source:
    """Open a checkpoint as the file of its weights, or of their moving average.

    Raises:
        UserError: It is damaged, or no checkpoint.
    """
    checkpoint = load(path)
    values, what = checkpoint.weights, "the weights"
    if checkpoint.ema is not None:
        values, what = checkpoint.ema, "the moving average of the weights (EMA)"
    tensors = {name: LazyTensor(value.dtype.name, value.shape, lambda value=value: value)
               for name, value in values.items()}
    note = f"{what} after step {checkpoint.step} of {checkpoint.stage} (epoch {checkpoint.epoch}, {checkpoint.phase})"
    return Source(path, "checkpoint of a run", tensors, json.dumps(checkpoint.config.to_dict()), notes=[note],
                  usage=_usage(path, checkpoint))


def _usage(path: Path, checkpoint: Checkpoint) -> usage.Usage:
    """How the model is used: a checkpoint holds the recipe and the classes."""
    recipe, data = checkpoint.recipe, str(checkpoint.recipe.get("data"))
    normalization = NORMALIZATIONS.get(str(recipe.get("normalize"))) or OF_DATA.get(data)
    known = (checkpoint.data or {}).get("pretrain" if checkpoint.stage == "pretrain" else "finetune")
    evaluated = checkpoint.phase in ("evaluated", "finished")  # else the metric is of weights before these
    try:
        preprocessing = normalization and usage.Preprocessing(
            *normalization, recipe.get("eval_crop_pct", 1.0) if data == "folder" else 1.0)
        return usage.Usage(tuple(known["classes"]) if known else None, preprocessing, {
            "stage": checkpoint.stage, "data": known["name"] if known else None, "variant": recipe.get("variant"),
            "seed": recipe.get("seed"), "epochs": checkpoint.epoch,
            "accuracy": usage.finite(checkpoint.metric) if evaluated else None})
    except ValueError as error:
        raise UserError(f"{path}: does not say how its model is used ({one_line(error)})") from None


def open_folder(folder: Path) -> Source | None:
    """Open the weights that a run's folder stands for, in the order that this module's docstring gives.

    Args:
        folder: A run's folder, or one of checkpoints.

    Returns:
        The file, with a note that names it; None where no run has left anything there.

    Raises:
        UserError: The file is damaged, or there are checkpoints and none of them is whole.
    """
    paths = list_checkpoints(folder / FOLDER if (folder / FOLDER).is_dir() else folder)
    for stage, name in FINISHED.items():
        path = folder / name
        if path.is_file():
            tensors, metadata = safetensors.open_tensors(path)
            notes = [f"{printable(folder)} is a folder: {name} was taken", *_begun(name, paths)]
            known = usage.parse(path, metadata["usage"]) if "usage" in metadata else _usage_beside(stage, paths)
            return Source(path, safetensors.KIND, tensors, metadata.get("spec"), notes=notes, usage=known)
    passed = []
    for path in sorted(paths, key=_rank):
        try:
            source = open_checkpoint(path)
        except UserError as error:
            passed.append(printable(f"passed over: {error}"))
            continue
        source.notes[:0] = [printable(f"{folder} is a folder: its checkpoint {path.name} was taken"), *passed]
        return source
    if paths:
        raise UserError(f"{folder}: none of its {len(paths)} checkpoints is whole")
    return None


def _usage_beside(stage: str, paths: list[Path]) -> usage.Usage | None:
    """How the model is used whose file, of an older version, does not say so: as a checkpoint of its stage does."""
    for path in sorted((path for path in paths if stage_of(path) == stage), key=_rank):
        with contextlib.suppress(UserError):  # damaged
            return open_checkpoint(path).usage
    return None


def _rank(path: Path) -> tuple[int, int]:
    """What checkpoints are sorted by: the stage, and within a stage the newest first."""
    stage, step = parse_name(path)
    stages = [*FINISHED, stage]
    return stages.index(stage), -step


def _begun(name: str, paths: list[Path]) -> list[str]:
    """A note on the checkpoints of a finetune that is not over, where the weights are those of the pretraining."""
    later = [path for path in paths if stage_of(path) in ("finetune", "scratch")]
    if name != FINISHED["pretrain"] or not later:
        return []
    return [printable(f"its {stage_of(later[-1])} is not over; the weights so far are in {later[-1]}")]
