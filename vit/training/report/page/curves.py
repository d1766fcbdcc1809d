"""The curves of some runs over each other: one or two charts for each stage, and one legend."""
from vit.training.report.page import charts
from vit.training.report.page.cells import fixed, share, text
from vit.training.report.page.past import PastRun, PastStage

_STAGES = {"mae": "masked autoencoder", "pretrain": "pretraining", "finetune": "finetune", "scratch": "from scratch"}
_SAID = ("Loss: solid lines in training, dashed ones with hollow marks on the images of the evaluation. Accuracy: on "
         "those images.")


def stage_name(name: str) -> str:
    """A stage in words."""
    return _STAGES.get(name, name)


def styles(runs: list[PastRun]) -> dict[tuple[int, bool], int]:
    """The number of each curve's style: of a run, and of its training from scratch where a finetune is beside it."""
    keys = [(number, scratch) for number, run in enumerate(runs) for scratch in (False, True)
            if any(_beside(run, stage) is scratch for stage in run.stages)]
    return {key: style for style, key in enumerate(keys)}


def section(runs: list[PastRun], names: list[str]) -> str:
    """The part of the page; nothing where no run has an epoch.

    Args:
        runs: The runs.
        names: What each is called.
    """
    known, groups = styles(runs), {}  # of stages that share their axes
    for number, run in enumerate(runs):
        for stage in run.stages:
            if stage.epochs:
                group = "finetune" if stage.name == "scratch" else stage.name
                label = f"{names[number]}, {stage_name(stage.name)}"
                groups.setdefault(group, []).append((known[number, _beside(run, stage)], label, stage))
    if not groups:
        return ""
    legend = "".join(f"<li>{charts.key(style)}{text(_label(runs, names, *key))}</li>" for key, style in known.items())
    drawn = "\n".join(_pair(name, members) for name, members in groups.items())
    return (f'<h2>Curves</h2>\n<ul class="legend">{legend}</ul>\n<p class="quiet">{_SAID}</p>\n'
            f'<div class="charts">\n{drawn}\n</div>')


def _beside(run: PastRun, stage: PastStage) -> bool:
    """Whether a stage is drawn beside another of its run."""
    return stage.name == "scratch" and any(one.name == "finetune" for one in run.stages)


def _label(runs: list[PastRun], names: list[str], number: int, scratch: bool) -> str:
    if not any(_beside(runs[number], stage) for stage in runs[number].stages):
        return names[number]
    what = "from scratch" if scratch else "pretrained"
    return what if len(runs) == 1 else f"{names[number]}, {what}"


def _pair(name: str, members: list[tuple[int, str, PastStage]]) -> str:
    """The loss of one stage of all runs, and the accuracy where there is one: a masked autoencoder has none."""
    sets = ", ".join(dict.fromkeys(stage.data for *_, stage in members if stage.data))
    on = " and ".join(dict.fromkeys(stage.evaluated_on for *_, stage in members))
    title = stage_name(name) + (f" on {sets}" if sets else "")
    title = title[0].upper() + title[1:]
    losses, accuracies = [], []
    for style, label, stage in members:
        losses += [_line(f"{label}, training loss", style, stage, "train_loss"),
                   _line(f"{label}, {stage.evaluated_on} loss", style, stage, "eval_loss", dashed=True)]
        accuracies.append(_line(f"{label}, {stage.evaluated_on} top-1", style, stage, "accuracy"))
    pair = [("loss", "mean squared error" if name == "mae" else "cross entropy", losses, False)]
    if any(value is not None for line in accuracies for _, value in line.points):
        pair.append((f"accuracy on the {on} images", "top-1, %", accuracies, True))
    drawn = []
    for what, unit, lines, percent in pair:
        chart = charts.chart(f"{title}: {what}; {_ends(lines, percent)}", unit, lines, percent)
        drawn.append(f"<figure>{chart}<figcaption>{text(f'{title}: {what}')}</figcaption></figure>")
    return "\n".join(drawn)


def _line(label: str, style: int, stage: PastStage, field: str, dashed: bool = False) -> charts.Line:
    """A curve of those epochs that have the field; not every epoch need be evaluated."""
    return charts.Line(label, style, [(row["epoch"], row[field]) for row in stage.epochs if field in row], dashed)


def _ends(lines: list[charts.Line], percent: bool) -> str:
    """Where curves end, in words."""
    form = share if percent else fixed
    return ", ".join(f"{line.label} ends at {form(line.points[-1][1])}" for line in lines if line.points)
