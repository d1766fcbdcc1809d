"""A run's folder, read for a report: of a whole run, of one that was stopped, of one that an older version made.

The files may come from anywhere: what is not of the kind that a run writes is left out, with a note where it matters.
"""
import csv
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from vit.checkpoints import list_checkpoints, newest
from vit.checkpoints.naming import FOLDER
from vit.errors import UserError, printable
from vit.files.kinds import check_file, other_kind
from vit.files.untrusted import reading
from vit.model import summary
from vit.model.config import ViTConfig
from vit.training import op_graph, recipe_file
from vit.training.recipe import Recipe
from vit.training.report.log import FILE as LOG

_TRACES = ("results.json", "recipe.yaml", "history.csv")  # of a run, beside checkpoints
_MOST_BYTES, _MOST_EPOCHS = 32 << 20, 20_000
_PNG = b"\x89PNG\r\n\x1a\n"
# The recipe's field; that of the other stages is finetune_epochs.
_EPOCHS = {"mae": "mae_epochs", "pretrain": "pretrain_epochs"}


@dataclass
class PastStage:
    """One stage of a run that is over, or was stopped.

    Args:
        name: "mae", "pretrain", "finetune", "scratch", or a name of the user's.
        data: Its set, if that is known.
        epochs: Of each epoch, numbers by name, as `vit.training.history.History` has them; what was not finite is None.
        planned: Epochs that it was to have, if that is known.
        evaluated_on: "test" or "validation".
        stopped_early: Whether it ended by `early_stopping_patience`.
        tested: Accuracy on the test images where epochs were evaluated on others, else None.
        tested_best: Whether that is of the best epoch's weights, and not of the last's.
        sha256: Of its weights, or "".
    """
    name: str
    data: str = ""
    epochs: list[dict] = field(default_factory=list)
    planned: int | None = None
    evaluated_on: str = "test"
    stopped_early: bool = False
    tested: float | None = None
    tested_best: bool = False
    sha256: str = ""


@dataclass
class PastRun:
    """What a run's folder says.

    Args:
        folder: As it was named.
        name: What the run is called: its folder.
        whole: Whether the run has come to its end.
        facts: Texts and numbers by name: backend, seconds, command, git_commit, pretrained_from, device.
        recipe: Every field, by today's names where that can be.
        spec: The model's fields, or {}.
        versions: Releases by package, or {}.
        workers: How many trained it last, or None.
        hosts: Where it was trained.
        stages: In their order.
        graph: What `graph.json` has: by stage, rows of pipeline, network and traces; or {}.
        predictions: The PNG's bytes, or None.
        notes: Lines on what is missing.
    """
    folder: str
    name: str
    whole: bool = False
    facts: dict = field(default_factory=dict)
    recipe: dict = field(default_factory=dict)
    spec: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    workers: int | None = None
    hosts: list[str] = field(default_factory=list)
    stages: list[PastStage] = field(default_factory=list)
    graph: dict = field(default_factory=dict)
    predictions: bytes | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int | None:
        """How many values the model has, if its spec is known."""
        try:
            return summary.parameters(ViTConfig.from_dict(self.spec))
        except (TypeError, ValueError, OverflowError):  # no spec, or one that makes no sense
            return None


def read(folder: str | Path) -> PastRun:
    """Read a run's folder.

    Raises:
        UserError: It is no folder of a run, or one of its files is damaged.
    """
    place = Path(folder)
    kind = other_kind(place)
    if kind != "a folder":
        raise UserError(f"{folder}: no such folder" if kind is None and not place.exists() else
                        f"{folder}: is no folder; name that of a run, its --model_dir")
    paths = list_checkpoints(place / FOLDER)
    if not paths and not any((place / name).exists() for name in _TRACES):
        raise UserError(f"{folder}: no run lies there: it has neither {', '.join(_TRACES)} nor {FOLDER}/")
    run = PastRun(str(folder), printable(place.resolve().name) or "/")
    results = _json(place / "results.json")
    if results:
        _whole(run, results)
    else:
        _stopped(run, place, bool(paths))
    run.facts["device"] = _device(place / LOG)
    run.graph = _graph(_json(place / op_graph.FILE))
    run.predictions = _png(place / "predictions.png")
    return run


def _whole(run: PastRun, results: dict) -> None:
    """Take what `results.json` says."""
    run.whole = True
    _recipe(run, _dict(results.get("recipe")))
    run.spec, run.versions = _dict(results.get("spec")), _dict(results.get("versions"))
    run.facts = {name: _plain(results.get(name)) for name in (
        "backend", "seconds", "command", "git_commit", "pretrained_from")}
    _stretches(run, results.get("stretches"))
    for name, stage in _dict(results.get("stages")).items():
        stage = _dict(stage)
        test = _dict(stage.get("test"))
        run.stages.append(PastStage(
            _text(name), _text(stage.get("data")), _epochs(stage.get("epochs")), _planned(run, name),
            "validation" if stage.get("epochs_evaluated_on") == "validation" else "test",
            stage.get("stopped_early") is True, _number(test.get("accuracy")),
            _text(test.get("weights")).startswith("best/"), _text(stage.get("weights_sha256"))))


def _stopped(run: PastRun, place: Path, saved: bool) -> None:
    """Take what the checkpoints say of a run without `results.json`; else what `history.csv` does."""
    if other_kind(place / "recipe.yaml") is None and (place / "recipe.yaml").exists():
        try:
            run.recipe = recipe_file.build(place / "recipe.yaml").to_dict()
        except UserError as error:
            run.notes.append(str(error))
    if saved:
        try:
            found = newest(place / FOLDER, run.notes.append)
        except UserError as error:
            run.notes.append(str(error))
            found = {}
        for name, checkpoint in found.items():
            if not run.recipe:
                _recipe(run, checkpoint.recipe)
            known = _dict((checkpoint.data or {}).get("pretrain" if name in _EPOCHS else "finetune"))
            on = "validation" if run.recipe.get("val_fraction") else "test"
            run.stages.append(PastStage(_text(name), _text(known.get("name")),
                                        _epochs(checkpoint.history.get("epochs")), _planned(run, name), on))
            run.spec, run.facts["backend"] = checkpoint.config.to_dict(), checkpoint.backend
            _stretches(run, checkpoint.stretches)
    if not run.stages and (place / "history.csv").exists():
        for row in _rows(place / "history.csv"):
            name = _text(row.get("stage")) or "stage"
            if not run.stages or run.stages[-1].name != name:
                run.stages.append(PastStage(name, planned=_planned(run, name)))
            run.stages[-1].epochs += _epochs([row])
    ends = _last_line(place / LOG)
    run.notes.insert(0, "the run has not come to its end" + (f"; its log ends with: {ends}" if ends else ""))


def _recipe(run: PastRun, fields: dict) -> None:
    """Put a recipe into today's words, where it makes sense in them."""
    try:
        run.recipe = Recipe.from_dict(fields).to_dict()
    except (TypeError, ValueError) as error:
        run.recipe = fields
        run.notes.append(f"its recipe is shown as it stands: {printable(error)}")


def _planned(run: PastRun, stage: str) -> int | None:
    """How many epochs a stage was to have."""
    return _number(run.recipe.get(_EPOCHS.get(stage, "finetune_epochs")))


def _stretches(run: PastRun, stretches: object) -> None:
    """Take who trained it: the last stretch's workers and versions, and all hosts."""
    rows = [_dict(stretch) for stretch in stretches] if isinstance(stretches, list) else []
    if rows:
        run.workers = _number(rows[-1].get("world_size"))
        run.versions = run.versions or _dict(rows[-1].get("versions"))
        run.facts.setdefault("git_commit", _plain(rows[-1].get("git_commit")))
        run.hosts = list(dict.fromkeys(filter(None, (_text(row.get("host")) for row in rows))))


def _graph(graph: dict) -> dict:
    """The stages' graphs, without what is none."""
    return {stage: {part: [_dict(op) for op in ops] for part, ops in _dict(parts).items() if isinstance(ops, list)}
            for stage, parts in graph.items()}


def _json(path: Path) -> dict:
    """A file's object; {} where there is no file."""
    if not path.exists():
        return {}
    with reading(path, "JSON file"):
        value = json.loads(_bytes(path))
    if not isinstance(value, dict):
        raise UserError(f"{path}: is no JSON object, so no run has written it")
    return value


def _rows(path: Path) -> list[dict]:
    """The rows of a table, with numbers where the columns have them."""
    with reading(path, "table"):
        rows = csv.DictReader(io.StringIO(_bytes(path).decode(), newline=""))
        return [{name: value if name == "stage" else _number(float(value)) for name, value in row.items() if value}
                for row in rows]


def _bytes(path: Path) -> bytes:
    check_file(path)
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path}: has more than {_MOST_BYTES >> 20} MiB, so no run has written it")
    return path.read_bytes()


def _png(path: Path) -> bytes | None:
    """A PNG's bytes; None where there is none, or something else."""
    if not path.exists() or other_kind(path) is not None or path.stat().st_size > _MOST_BYTES:
        return None
    content = path.read_bytes()
    return content if content.startswith(_PNG) else None


def _last_line(path: Path) -> str:
    """The last line of a log; "" where there is none."""
    if not path.exists() or other_kind(path) is not None:
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return next((printable(line) for line in reversed(lines) if line.strip()), "")


def _device(path: Path) -> str | None:
    """What the header of a run's last start says that it ran on."""
    if not path.exists() or other_kind(path) is not None:
        return None
    with open(path, errors="replace") as file:
        found = re.findall(r"^\S+ \S+  on {8}(.+)$", file.read(_MOST_BYTES), re.MULTILINE)
    return printable(found[-1]) if found else None


def _epochs(value: object) -> list[dict]:
    """The epochs of a history, each with its number from 1."""
    rows = value[:_MOST_EPOCHS] if isinstance(value, list) else []
    rows = [{str(name): _number(one) for name, one in _dict(row).items()} for row in rows]
    return [row for row in rows if 1 <= (row.get("epoch") or 0) < 1e9]


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return printable(value) if isinstance(value, str) else ""


def _number(value: object) -> float | int | None:
    """A number that can be drawn: finite, and not of hundreds of digits."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return value if known and abs(value) < 1e100 else None  # which is false for no number (NaN)


def _plain(value: object) -> str | float | int | None:
    return _text(value) or _number(value)
