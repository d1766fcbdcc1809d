"""Put what the benchmarks found on one page and into one plot: `benchmarks/RESULTS.md` and `results.png`.

    python benchmarks/results.py

Reads what the others have written, `step-*.json`, `pipeline.md`, `startup.md` and `dropout.md`, and `bounds.md`, which
says in words what bounds the figures. Measures nothing.
"""
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vit.backend import TITLES

STEPS = {"apphub": HERE / "step-apphub.json", "small_data": HERE / "step-small_data.json"}
# What is asked of us: variant, framework, contender, to whom, at most; of seconds a step.
TARGETS = [
    ("apphub", "torch", "whole", "fe", 0.62), ("apphub", "torch", "whole", "huggingface", 0.75),
    ("apphub", "torch", "whole", "ours", 1.05),
    ("apphub", "tf", "whole", "fe", 0.90), ("apphub", "tf", "whole", "huggingface", 0.90),
    ("apphub", "tf", "whole", "ours", 1.05),
    ("apphub", "ms", "whole", "mindcv", 0.60), ("apphub", "ms", "whole", "ours", 1.05),
    ("small_data", "torch", "whole", "huggingface", 0.75), ("small_data", "tf", "whole", "huggingface", 0.90),
]
# Of the peak of memory, likewise.
MEMORY = [("apphub", "torch", "whole", "fe", 1.0), ("apphub", "tf", "whole", "huggingface", 1.0),
          ("apphub", "ms", "whole", "mindcv", 1.0)]
MATRIX_PEAK = 0.75  # the share of it that PyTorch's step is to reach


def targets(steps: dict) -> list[str]:
    """The rows of the table of what is asked."""
    rows = []
    for unit, asked in (("seconds", TARGETS), ("peak", MEMORY)):
        for variant, backend, name, other, most in asked:
            found = steps.get(variant, {}).get(backend, {}).get("contenders", {})
            if name in found and other in found:
                ratio = found[name][unit] / found[other][unit]
                rows.append(f"| {TITLES[backend]}, `{variant}` | {'time' if unit == 'seconds' else 'peak memory'}: "
                            f"{_lower(found[name]['what'])} / {_lower(found[other]['what'])} | at most {most:.2f} | "
                            f"{ratio:.2f} | {'yes' if ratio <= most else f'no, {ratio / most - 1:.0%} above'} |")
    torch = steps.get("apphub", {}).get("torch")
    if torch:
        share, least = _share(torch, "whole"), MATRIX_PEAK
        rows.append(f"| PyTorch, `apphub` | share of the measured matrix peak, whole step | at least {least:.2f} | "
                    f"{share:.2f} | {'yes' if share >= least else f'no, {1 - share / least:.0%} below'} |")
    return rows


def _share(content: dict, name: str) -> float:
    """The share of the matrix peak, measured in the same rounds, that a contender's step reaches."""
    found = content["contenders"]
    peak = content["products_gflop"] / found["peak"]["seconds"]
    return content["step_gflop"] / found[name]["seconds"] / peak


def _lower(what: str) -> str:
    return what if what.startswith(("FastEstimator", "Hugging", "MindCV")) else what[0].lower() + what[1:]


def step_table(variant: str, backend: str, content: dict) -> list[str]:
    """All contenders of a framework."""
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    lines = ["", f"### {TITLES[backend]}, `{variant}`, batch {content['batch_size']}", "",
             f"{content['machine']}; {versions}; medians of {content['rounds']} interleaved rounds.", "",
             "| | seconds | least | processor seconds | to our whole step | peak memory |",
             "| --- | --- | --- | --- | --- | --- |"]
    whole = content["contenders"]["whole"]["seconds"]
    for name, row in content["contenders"].items():
        ratio = "" if name.endswith(("_1", "_128")) or name == "peak" else f"{row['seconds'] / whole:.2f}"
        lines.append(f"| {row['what']} | {row['seconds']:.3f} | {row['least']:.3f} | {row['processor']:.2f} | "
                     f"{ratio} | {row['peak'] / 1e9:.1f} GB |")
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
        bars = axes.barh([row["what"] for _, row in rows], [row["seconds"] for _, row in rows],
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
    lines = ["# Speed", "", "Written by `make bench`; ratios are within one run, as what else the machine does changes "
             "from run to run.", "",
             "| | | asked | measured | met |", "| --- | --- | --- | --- | --- |", *targets(steps),
             *section("bounds"), "", "![seconds a training step](results.png)", "", "## A training step"]
    for variant, found in steps.items():
        for backend, content in found.items():
            lines += step_table(variant, backend, content)
    return "\n".join(lines + section("pipeline") + section("startup") + section("dropout")) + "\n"


def kept() -> dict:
    """The figures of `benchmarks/step.py`, by variant and framework."""
    return {variant: json.loads(path.read_text()) for variant, path in STEPS.items() if path.exists()}


def main() -> None:
    steps = kept()
    if not steps:
        sys.exit("error: there is no benchmarks/step-*.json: run `python benchmarks/step.py` first")
    (HERE / "RESULTS.md").write_text(text(steps))
    draw(steps)
    print(text(steps))


if __name__ == "__main__":
    main()
