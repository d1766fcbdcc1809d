"""Put what the benchmarks found on one page and into one plot: `benchmarks/RESULTS.md` and `results.png`.

    python benchmarks/results.py

Reads what the others have written, `step-*.json`, `pipeline.md`, `startup.md` and `dropout.md`, and `bounds.md`, which
says in words what bounds the figures. Measures nothing.
"""
import json
import statistics
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vit.backend import TITLES

STEPS = {"apphub": HERE / "step-apphub.json", "small_data": HERE / "step-small_data.json"}
# What is asked of our whole step: variant, framework, to which contender, at most (or nothing); of seconds a step.
TARGETS = [
    ("apphub", "torch", "fe", 0.62), ("apphub", "torch", "huggingface", 0.75), ("apphub", "torch", "ours", 1.05),
    ("apphub", "tf", "fe", 0.90), ("apphub", "tf", "huggingface", 0.90), ("apphub", "tf", "ours", 1.05),
    ("apphub", "ms", "mindcv", 0.60), ("apphub", "ms", "ours", 1.05),
    ("small_data", "torch", "fe", None), ("small_data", "torch", "huggingface", 0.75),
    ("small_data", "tf", "fe", None), ("small_data", "tf", "huggingface", 0.90),
    ("small_data", "ms", "mindcv", None),
]
# Of the peak of memory, likewise.
MEMORY = [("apphub", "torch", "fe", 1.0), ("apphub", "tf", "huggingface", 1.0), ("apphub", "ms", "mindcv", 1.0)]
MATRIX_PEAK = 0.75  # the share of it that PyTorch's step is to reach


def ratio(turns: list[float], others: list[float]) -> list[float]:
    """One contender's seconds to another's in the same rounds: the median of the rounds' ratios, least and greatest."""
    found = [one / other for one, other in zip(turns, others, strict=True)]
    return [statistics.median(found), min(found), max(found)]


def with_spread(ratio: list[float]) -> str:
    """A ratio as the tables show it."""
    return "{:.2f} ({:.2f} to {:.2f})".format(*ratio)


def targets(steps: dict) -> list[str]:
    """The rows of the table of what is asked, and beside a peer's the one of it under our own conditions."""
    rows = []
    for unit, asked in (("time", TARGETS), ("peak memory", MEMORY)):
        for variant, backend, peer, most in asked:
            found = steps.get(variant, {}).get(backend, {}).get("contenders", {})
            for name, bar in ((peer, most), (f"{peer}_kept", None)):
                if name in found:
                    rows.append(f"| {TITLES[backend]}, `{variant}` | {unit}: {_lower(found['whole']['what'])} / "
                                f"{_lower(found[name]['what'])} | {_judged(unit, found['whole'], found[name], bar)} |")
    torch = steps.get("apphub", {}).get("torch")
    if torch:
        share, least = _share(torch), MATRIX_PEAK
        rows.append(f"| PyTorch, `apphub` | share of the measured matrix peak, whole step | at least {least:.2f} | "
                    f"{with_spread(share)} | "
                    f"{'yes' if share[0] >= least else f'no, {1 - share[0] / least:.0%} below'} |")
    return rows


def _judged(unit: str, whole: dict, other: dict, most: float | None) -> str:
    """What is asked of our whole step to another contender's, what was measured, and whether that is met."""
    if unit == "time":
        found = ratio(other["whole"], other["turns"])
        value, shown = found[0], with_spread(found)
    else:
        value = whole["peak"] / other["peak"]
        shown = f"{value:.2f}"
    if most is None:
        return f"- | {shown} | -"
    return f"at most {most:.2f} | {shown} | {'yes' if value <= most else f'no, {value / most - 1:.0%} above'}"


def _share(content: dict) -> list[float]:
    """The share of the matrix peak, measured in the same rounds, that our whole step reaches."""
    peak = content["contenders"]["peak"]
    work = content["step_gflop"] / content["products_gflop"]
    return [work * value for value in ratio(peak["turns"], peak["whole"])]


def _lower(what: str) -> str:
    return what if what.startswith(("FastEstimator", "Hugging", "MindCV")) else what[0].lower() + what[1:]


def step_table(variant: str, backend: str, content: dict) -> list[str]:
    """All contenders of a framework."""
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    lines = ["", f"### {TITLES[backend]}, `{variant}`, batch {content['batch_size']}", "",
             f"{content['machine']}; {versions}; medians of {content['rounds']} interleaved rounds.", "",
             "| | seconds | least | processor seconds | to our whole step | peak memory |",
             "| --- | --- | --- | --- | --- | --- |"]
    for name, row in content["contenders"].items():
        to_whole = "" if "whole" not in row or name == "peak" else with_spread(ratio(row["turns"], row["whole"]))
        lines.append(f"| {row['what']} | {row['seconds']:.3f} | {row['least']:.3f} | {row['processor']:.2f} | "
                     f"{to_whole} | {row['peak'] / 1e9:.1f} GB |")
    return lines


def draw(steps: dict) -> None:
    """Bars: seconds a step of each contender that trains, ours in colour, but for those that take over ten seconds."""
    from matplotlib.figure import Figure
    parts = [(variant, backend, content) for variant, found in steps.items() for backend, content in found.items()]
    trained = [[(name, row) for name, row in content["contenders"].items()
                if name != "peak" and not name.endswith(("_1", "_128")) and row["seconds"] < 10]
               for _, _, content in parts]
    figure = Figure(figsize=(10, 0.6 * len(parts) + 0.34 * sum(map(len, trained))), layout="constrained")
    all_axes = figure.subplots(len(parts), squeeze=False, height_ratios=[len(rows) + 1 for rows in trained])[:, 0]
    for axes, rows, (variant, backend, content) in zip(all_axes, trained, parts, strict=True):
        rows = sorted(rows, key=lambda row: -row[1]["seconds"])
        bars = axes.barh([textwrap.fill(row["what"], 66) for _, row in rows], [row["seconds"] for _, row in rows],
                         color=["#0072B2" if row["what"].startswith("Ours") else "lightgray" for _, row in rows])
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set_title(f"{TITLES[backend]}, {variant}, batch {content['batch_size']}: seconds a training step",
                       loc="left", fontsize=10)
        axes.margins(x=0.08)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "results.png", dpi=110)


def section(name: str) -> list[str]:
    """Another benchmark's page as a section of this one."""
    lines = (HERE / f"{name}.md").read_text().rstrip().splitlines()
    return ["", *(f"#{line}" if line.startswith("#") else line for line in lines)]


def text(steps: dict) -> str:
    """The page."""
    lines = ["# Speed", "", "Written by `make bench`. Contenders take turns, one step each a round, as what else the "
             "machine does changes from minute to minute: a ratio of times is the median of the ratios within each "
             "round, and in brackets are the least and the greatest of them. Ours keep freed memory as a run does "
             "(`vit.memory.keep_freed`), peers run as people run them, and the main ones once more under our "
             "conditions, in rows that say so.", "",
             "| | | asked | measured | met |", "| --- | --- | --- | --- | --- |", *targets(steps),
             *section("bounds"), "", "![seconds a training step](results.png)", "", "## A training step"]
    for variant, found in steps.items():
        for backend, content in found.items():
            lines += step_table(variant, backend, content)
    return "\n".join(lines + section("pipeline") + section("startup") + section("dropout")) + "\n"


def kept() -> dict:
    """The figures of `benchmarks/step.py`, by variant and framework."""
    steps = {variant: json.loads(path.read_text()) for variant, path in STEPS.items() if path.exists()}
    for variant, found in steps.items():
        for backend, content in found.items():
            rows = content["contenders"]
            if "whole" not in rows or not all("turns" in row for row in rows.values()):  # as an older version wrote it
                sys.exit(f"error: benchmarks/step-{variant}.json does not have each round of {TITLES[backend]}: run "
                         f"`python benchmarks/step.py --variant {variant} --backends {backend}` again")
    return steps


def main() -> None:
    steps = kept()
    if not steps:
        sys.exit("error: there is no benchmarks/step-*.json: run `python benchmarks/step.py` first")
    (HERE / "RESULTS.md").write_text(text(steps))
    draw(steps)
    print(text(steps))


if __name__ == "__main__":
    main()
