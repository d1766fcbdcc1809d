"""The report: one HTML page of one or several runs, which asks for nothing outside of itself."""
import base64
from importlib.resources import files

from vit.backend import TITLES
from vit.errors import printable
from vit.training.report.page import charts, comparison, curves
from vit.training.report.page.cells import NONE, count, duration, fixed, folded, number, share, table, text
from vit.training.report.page.curves import stage_name
from vit.training.report.page.past import PastRun

# No script, no address: whatever a file says, a browser loads nothing for it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write(runs: list[PastRun]) -> str:
    """Make the page of some runs, in the order in which they are given."""
    names = _names(runs)
    title = f"Run {names[0]}" if len(runs) == 1 else f"{len(runs)} runs: {', '.join(names)}"
    parts = [part(runs, names) for part in (_runs, _results, curves.section, comparison.recipes, _predictions, _graphs,
                                            comparison.environment, _epochs)]
    css = files("vit.training.report.page").joinpath("page.css").read_text()
    return "\n".join([
        '<!doctype html>', '<html lang="en">', '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{text(title)}</title>', f'<style>\n{css}</style>', '<main>', f'<h1>{text(title)}</h1>',
        *filter(None, parts), '</main>', '</html>', ''])


def _names(runs: list[PastRun]) -> list[str]:
    """What each run is called: its folder, or the path to it where folders have one name."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else printable(run.folder) for name, run in zip(names, runs, strict=True)]


def _runs(runs: list[PastRun], names: list[str]) -> str:
    known, rows = curves.styles(runs), []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        backend = str(run.facts.get("backend") or NONE)
        mark = charts.key(known[place, False]) if (place, False) in known and len(runs) > 1 else ""
        recipe = {field: text(run.recipe.get(field, NONE)) for field in ("variant", "precision", "batch_size", "seed")}
        rows.append([mark + text(name), "ended" if run.whole else "not ended", text(TITLES.get(backend, backend)),
                     recipe["variant"], count(run.parameters), recipe["precision"], recipe["batch_size"],
                     count(run.workers), recipe["seed"], duration(run.facts.get("seconds"))])
    heads = ["run", "state", "framework", "model", "parameters", "precision", "batch", "workers", "seed", "time"]
    notes = "".join(f"<li>{text(f'{name}: {note}')}</li>" for run, name in zip(runs, names, strict=True)
                    for note in run.notes)
    return (table(heads, rows, numbers=(4, 6, 7, 8, 9), texts=(0, ))
            + (f'\n<ul class="notes">{notes}</ul>' if notes else ""))


def _results(runs: list[PastRun], names: list[str]) -> str:
    rows, tested = [], [stage for run in runs for stage in run.stages if stage.tested is not None]
    test_head = "test top-1" + (", of the best epoch" if all(stage.tested_best for stage in tested) else "")
    for run, name in zip(runs, names, strict=True):
        for stage in run.stages:
            last, epochs = stage.epochs[-1] if stage.epochs else {}, f"{len(stage.epochs):,}"
            if stage.planned and len(stage.epochs) < stage.planned:
                epochs += f" of {stage.planned:,.0f}" + (", stopped early" if stage.stopped_early else "")
            rows.append([text(name), text(stage_name(stage.name)), text(stage.data or NONE), epochs,
                         fixed(last.get("train_loss")), fixed(last.get("eval_loss")), share(last.get("accuracy")),
                         share(last.get("top5")), *([share(stage.tested)] if tested else []), stage.evaluated_on,
                         count(last.get("images_per_second")),
                         f'<code title="{text(stage.sha256)}">{text(stage.sha256[:12]) or NONE}</code>'])
    heads = ["run", "stage", "set", "epochs", "training loss", "loss", "top-1", "top-5",
             *([test_head] if tested else []), "evaluated on", "images/s", "sha256 of the weights"]
    return ("<h2>Results</h2>\n<p class=quiet>After the last epoch of each stage; images/s in training.</p>\n"
            + table(heads, rows, numbers=(4, 5, 6, 7, *([8] if tested else []), 9 + bool(tested)), texts=(0, ))
            if rows else "")


def _predictions(runs: list[PastRun], names: list[str]) -> str:
    drawn = []
    for run, name in zip(runs, names, strict=True):
        if run.predictions:
            data = base64.b64encode(run.predictions).decode()
            alt = (f"Images of the evaluation of {name}, each under the class that the model takes it for; the true "
                   "class stands in brackets where that is wrong.")
            drawn.append(f'<figure><img src="data:image/png;base64,{data}" alt="{text(alt)}"><figcaption>{text(name)}'
                         "</figcaption></figure>")
    said = ('<p class="quiet">Images of the evaluation, under what the model takes them for: blue where that is right; '
            "else orange, with the true class in brackets.</p>")
    return "\n".join(["<h2>Predictions</h2>", said, *drawn]) if drawn else ""


def _graphs(runs: list[PastRun], names: list[str]) -> str:
    """The op graphs, each once, with the runs and stages that have it."""
    having: dict[str, list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        for stage, graph in run.graph.items():
            having.setdefault(_graph(graph), []).append(f"{name}, {stage_name(stage)}" if len(runs) > 1 else
                                                        stage_name(stage))
    said = ('<p class="quiet">FastEstimator\'s ops and traces in the order in which they run: what each reads &rarr; '
            "what it writes; and the modes that it runs in, if not in all.</p>")
    drawn = [f"<h3>{text('; '.join(owners))}</h3>\n{graph}" for graph, owners in having.items()]
    return "\n".join(["<h2>Op graph</h2>", said, *drawn]) if drawn else ""


def _graph(graph: dict) -> str:
    parts = []
    for part, rows in graph.items():
        items = []
        for row in rows:
            keys = {key: ", ".join(map(str, row[key])) if isinstance(row.get(key), list) else ""
                    for key in ("inputs", "outputs", "mode")}
            arrow = " &rarr; ".join(f"<code>{text(keys[key])}</code>" for key in ("inputs", "outputs") if keys[key])
            mode = f'<span class="quiet">{text(keys["mode"])}</span>' if keys["mode"] else ""
            items.append(f"<li><b>{text(row.get('op', ''))}</b> {arrow} {mode}</li>")
        parts.append(f"<div><h4>{text(part.capitalize())}</h4><ol>{''.join(items)}</ol></div>")
    return f'<div class="ops">{"".join(parts)}</div>'


def _epochs(runs: list[PastRun], names: list[str]) -> str:
    heads = ["stage", "epoch", "learning rate", "training loss", "loss", "top-1", "top-5", "seconds"]
    tables = []
    for run, name in zip(runs, names, strict=True):
        rows = [[text(stage_name(stage.name)), count(row["epoch"]), number(row.get("learning_rate"), "{:.4g}".format),
                 fixed(row.get("train_loss")), fixed(row.get("eval_loss")), share(row.get("accuracy")),
                 share(row.get("top5")), number(row.get("train_seconds"), "{:.1f}".format)]
                for stage in run.stages for row in stage.epochs]
        tables.append(folded(text(name), table(heads, rows, numbers=tuple(range(1, 8)))) if rows else "")
    return "\n".join(["<h2>Each epoch</h2>", *filter(None, tables)]) if any(tables) else ""
