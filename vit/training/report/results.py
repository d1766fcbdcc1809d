"""What a run leaves behind: `results.json`, `history.csv`, `times.csv`, `curves.png`, and the table that it prints."""
import csv
import io
import json
import math
import shlex
import sys
from pathlib import Path

from vit import terminal
from vit.data import Dataset
from vit.files.atomic import write_whole
from vit.model import parameters
from vit.training import stretches
from vit.training.job import Job, Stage
from vit.training.report import figures, predictions
from vit.training.report.log import say

# Times are in a file of their own, so that the history of a run that was stopped and resumed is the same file.
_HISTORY = ("stage", "epoch", "learning_rate", "train_loss", "eval_loss", "accuracy", "top5", "loss_scale",
            "skipped_steps")
_TIMES = ("stage", "epoch", "train_seconds", "step_seconds", "eval_seconds", "images_per_second")


def write(job: Job, seconds: float) -> dict:
    """Write every file of a finished run, in the first worker of it, and print its table.

    Args:
        job: The run, with its trained stages.
        seconds: How long it took.

    Returns:
        What `results.json` holds.
    """
    by_name = {stage.name: stage for stage in job.stages}
    main = by_name.get("finetune", job.stages[-1])
    content = {
        "backend": job.backend,
        "versions": stretches.versions(),
        "git_commit": stretches.git_commit(),
        "command": shlex.join(sys.argv),
        "stretches": stretches.told(job),
        "spec": main.config.to_dict(),
        "recipe": job.recipe.to_dict(),
        "seed": job.recipe.seed,
        "pretrained_from": job.options.pretrained,
        "stages": {name: {"data": stage.dataset.name, "images": _images(stage.dataset),
                          "epochs_evaluated_on": stage.dataset.evaluated_on, "epochs": stage.history.epochs,
                          "stopped_early": stage.stops_early, "test": stage.tested,
                          "weights_sha256": parameters.sha256(stage.weights)} for name, stage in by_name.items()},
        "images_per_second": by_name.get("pretrain", main).history.epochs[-1]["images_per_second"],
        "seconds": round(seconds, 3),
        "weights_sha256": parameters.sha256(main.weights),
    }
    plain = _plain(content)
    if not job.world.first:
        return plain
    rows = [{"stage": stage.name, **epoch} for stage in job.stages for epoch in stage.history.epochs]
    for name, columns in (("history.csv", _HISTORY), ("times.csv", _TIMES)):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(job.model_dir / name, text.getvalue().encode())
    plot(job.stages, job.model_dir / "curves.png")
    predictions.draw(main, job.model_dir / "predictions.png")
    # Last, so that a results.json means a whole run.
    write_whole(job.model_dir / "results.json", f"{json.dumps(plain, indent=2, allow_nan=False)}\n".encode())
    folder = job.shown(job.model_dir)
    say(table(content, folder), table(content, folder, terminal.width()))
    return plain


def _images(dataset: Dataset) -> dict[str, int]:
    """How many images each part of a set has."""
    return {"train": len(dataset.train), "validation": 0 if dataset.val is None else len(dataset.val),
            "test": len(dataset.test)}


def _plain(value):
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(content: dict, folder: Path | str, columns: int | None = None) -> str:
    """The few lines that sum a run up.

    Args:
        content: What `results.json` holds.
        folder: Where the files are.
        columns: The window's width, into which they are fit; None for whole lines.
    """
    stages, labels = content["stages"], {"mae": "masked autoencoder", "finetune": "finetune, pretrained",
                                         "scratch": "finetune, from scratch"}
    heads, spare = ["stage", "data", "epochs", "after epoch 1", "at the end"], ["data", "epochs", "after epoch 1"]
    rows = []
    for name, stage in stages.items():
        first, last = stage["epochs"][0], stage["epochs"][-1]
        begin, end = (f"{one['accuracy']:.1%}" if "accuracy" in one else "-" for one in (first, last))
        label = name if columns is not None and columns < 90 else labels.get(name, name)
        rows.append([label, stage["data"], f"{len(stage['epochs'])}", begin, end])
    if tested := [stage["test"] for stage in stages.values() if stage["test"]]:
        heads.append("best, on test" if all(one["weights"].startswith("best/") for one in tested) else "on test")
        rows = [[*row, f"{stage['test']['accuracy']:.1%}" if stage["test"] else "-"]
                for row, stage in zip(rows, stages.values(), strict=True)]
    head, *lines = terminal.table(heads, rows, columns and columns - 2, left=("stage", "data"), spare=spare)
    evaluated_on = next(iter(stages.values()))["epochs_evaluated_on"]
    rate = content["images_per_second"]
    speed = f"{rate:.0f} images/s in training, " if rate else ""
    title = f"Top-1 accuracy on the {evaluated_on} images ({content['backend']})"
    if columns is not None:
        title, head = terminal.styled(title, "bold"), terminal.styled(head, "dim")
    ends = [f"  {speed}{content['seconds']:.0f} s in all",
            f"  files: {folder}/ (results.json, *.csv, *.png, *.safetensors)"]
    return "\n".join(["", title, *(f"  {line}" for line in (head, *lines)), "",
                      *(terminal.wrapped(line, columns, indent=" " * 4) for line in ends)])


def plot(stages: list[Stage], path: Path) -> None:
    """Draw the loss and the accuracy of each stage that classifies over its epochs."""
    from matplotlib.figure import Figure
    # Okabe and Ito's colours, which remain different whatever colours one sees; and a marker for each stage.
    styles = {"pretrain": ("#0072B2", "o"), "finetune": ("#009E73", "o"), "scratch": ("#D55E00", "^")}
    labels = {"pretrain": "pretraining", "finetune": "pretrained encoder", "scratch": "from scratch"}
    stages = [stage for stage in stages if stage.name in styles]  # a masked autoencoder's loss is another quantity
    groups = [[stage for stage in stages if stage.name == "pretrain"],
              [stage for stage in stages if stage.name != "pretrain"]]
    groups = [group for group in groups if group]
    figure = Figure(figsize=(5 * len(groups), 6.4), layout="constrained")
    axes = figure.subplots(2, len(groups), squeeze=False, sharex="col")
    for column, group in enumerate(groups):
        loss, accuracy = axes[:, column]
        loss.set_title(f"{'pretrain' if group[0].name == 'pretrain' else 'finetune'} on {group[0].dataset.name}",
                       **figures.text_options())
        for stage in group:
            trained = stage.history.epochs
            evaluated = [epoch for epoch in trained if "accuracy" in epoch]
            (colour, marker), label = styles[stage.name], labels[stage.name]
            for axis, epochs, key, line, how, options in (
                    (loss, trained, "train_loss", "-", ", training", {}),
                    (loss, evaluated, "eval_loss", "--", f", {stage.dataset.evaluated_on}", {"mfc": "white"}),
                    (accuracy, evaluated, "accuracy", "-", "", {"clip_on": False, "zorder": 3})):
                values = [epoch[key] * (100 if axis is accuracy else 1) for epoch in epochs]
                size = 10 if len(epochs) == 1 else 5  # a point that no line leads to is to be seen as well
                axis.plot([epoch["epoch"] for epoch in epochs], values, line, color=colour, marker=marker,
                          markersize=size, label=f"{label}{how}", **options)  # a point at 100 % is drawn whole
        last = max((epoch["epoch"] for stage in group for epoch in stage.history.epochs), default=1)
        accuracy.set_xlim(0.5, last + 0.5)  # a whole axis for a single epoch, too
        highest = loss.dataLim.y1  # -inf where no loss is finite
        loss.set_ylim(0, 1.1 * highest if 0 < highest < math.inf else 1)
        loss.set_ylabel("cross entropy")
        accuracy.set_ylabel(f"top-1 on the {group[0].dataset.evaluated_on} images, %")
        accuracy.set_ylim(0, 100)
        accuracy.set_xlabel("epoch")
        accuracy.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        for axis in (loss, accuracy):
            axis.grid(alpha=0.3)
            axis.legend()
    figures.save(figure, path, dpi=120)
