"""Recipes, models, environments of some runs: the fields that differ, side by side, and those that do not."""
import json

from vit.training.recipe import Recipe
from vit.training.report.page.cells import NONE, folded, table, text
from vit.training.report.page.past import PastRun


def recipes(runs: list[PastRun], names: list[str]) -> str:
    """What differs between the recipes of several runs, or between one run's and the defaults; and their models."""
    fields = [run.recipe for run in runs]
    if not any(fields):
        return ""
    if len(runs) == 1:
        title, none, rest = "Recipe", "Every field has its default.", "The fields that have their defaults"
        differ, same = _compared([names[0], "default"], [*fields, Recipe().to_dict()])
    else:
        title, none = "What differs between the recipes", "Nothing: the recipes are the same."
        rest = "The fields that are the same"
        differ, same = _compared(names, fields)
    models, alike = _compared(names, [run.spec for run in runs])
    if models:
        models = f"<h3>What differs between the models</h3>\n{models}"
    return "\n".join(filter(None, [f"<h2>{title}</h2>", differ or f"<p>{none}</p>", folded(rest, same), models,
                                   folded("The model" if len(runs) == 1 else "What is the same in the models", alike)]))


def environment(runs: list[PastRun], names: list[str]) -> str:
    """Versions, commit, machine and command of each run."""
    known = [{**run.versions, "commit": run.facts.get("git_commit"), "device": run.facts.get("device"),
              "host": ", ".join(run.hosts) or None, "pretrained from": run.facts.get("pretrained_from"),
              "command": run.facts.get("command")} for run in runs]
    rows = [[text(field), *(NONE if one.get(field) is None else text(one[field]) for one in known)]
            for field in dict.fromkeys(field for one in known for field in one)
            if any(one.get(field) is not None for one in known)]
    return f"<h2>Environment</h2>\n{table(['', *map(text, names)], rows, texts=_columns(names))}" if rows else ""


def _compared(names: list[str], dicts: list[dict]) -> tuple[str, str]:
    """Tables of the fields that differ between some dicts, and of those that do not; "" for none."""
    rows = [[f"<code>{text(field)}</code>", *(_value(one[field]) if field in one else NONE for one in dicts)]
            for field in dict.fromkeys(field for one in dicts for field in one)]
    differ = [row for row in rows if len(set(row[1:])) > 1]
    same = [row[:2] for row in rows if len(set(row[1:])) == 1]
    return (table(["field", *map(text, names)], differ, texts=_columns(names)) if differ else "",
            table(["field", "value"], same, texts=(1, )) if same else "")


def _columns(names: list[str]) -> tuple[int, ...]:
    return tuple(range(1, len(names) + 1))


def _value(value: object) -> str:
    """A field's value, as a recipe file has it."""
    return text(value if isinstance(value, str) else json.dumps(value))
