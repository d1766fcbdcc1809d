"""Put the figures that README and docs quote into their pages, from the files that the benchmarks have kept.

    python benchmarks/quoted.py

A page has pairs of marks, `<!-- quoted: NAME -->` and `<!-- end -->`; what stands between them is written here. It
measures nothing.
"""
import json
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
sys.path.insert(0, str(REPO))

from benchmarks import cifar, learn, parity, results
from benchmarks.lines import PAIRS
from vit.backend import TITLES

DEMO = HERE / "demo.json"
LEVELS = HERE / "levels.json"  # tests/parity/conftest.py writes it
SAME = ("the same bits", "the same bits")
# What is compared, as the parity tests call it up to the comma; None where the tests ask for the same bits.
COMPARED = (
    ("batches that reach the networks", None), ("forward, every stage, dropout off and on", "forward"),
    ("gradient of every parameter", "gradient"),
    ("weights and optimizer state after one step: SGD, AdamW and Muon (Muon also against numpy)", "step"),
    ("loss, gradient norm, final weights over 100 steps, SGD and AdamW, dropout off and on, and Muon", "100 steps"),
    ("losses of a masked autoencoder, hidden patches", "autoencoder"),
    ("loss, gradient norm, final weights over 12 steps of one", "12 steps of an autoencoder"),
    ("weights and optimizer moments through all pairs of frameworks and back", None))
# Whose steps stand beside ours: what the best known implementation of each framework takes.
PEERS = {"torch": ("fe", "huggingface"), "tf": ("fe", "huggingface"), "ms": ("mindcv", )}
_BLOCK = re.compile(r"(<!-- quoted: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def demo() -> list[str]:
    """What `make demo` reaches; frameworks that reach the same share a row."""
    content = json.loads(DEMO.read_text())
    rows: dict[tuple, list[str]] = {}
    for backend, run in content["runs"].items():
        stages = run["accuracy"]
        shown = [stages["pretrain"][-1], *(stages[name][at] for name in ("finetune", "scratch") for at in (0, -1))]
        rows.setdefault(tuple(f"{value:.1%}".replace("%", " %") for value in shown), []).append(TITLES[backend])
    lines = ["| | pretraining, at the end | finetune, after epoch 1 | at the end | from scratch, after epoch 1 | "
             "at the end |", "| --- | --- | --- | --- | --- | --- |"]
    for cells, names in rows.items():
        alike = f"{', '.join(names[:-1])} and {names[-1]} alike" if len(names) > 1 else names[0]
        lines.append(f"| {alike} | {' | '.join(cells)} |")
    return [*lines, "", f"Top-1 on test images whose digits were never trained on; {content['machine']}, "
            f"seed {content['seed']} (`benchmarks/demo.py`)."]


def curves() -> list[str]:
    """What the plot of the three curves shows."""
    row = parity.three_curves(parity.kept())
    worst = max(parity.drift(row, a, b).max() for a, b in PAIRS)
    steps = len(row["losses"]["torch"])
    return textwrap.wrap(
        f"`tiny` on handwritten digits, {steps} steps of {row['optimizer']} in {row['dtype']} through FastEstimator's "
        "Estimator, from the same initial weights: loss and gradient norm of any two frameworks are at most "
        f"{worst:.0e} apart, relatively ([`parity.json`]({{root}}benchmarks/parity.json)).", 116)


def drift() -> list[str]:
    """The worst difference over the pairs, for each optimizer and dtype."""
    lines = ["| | float64 (bar 1e-9) | float32 |", "| --- | --- | --- |"]
    rows = {(row["optimizer"], row["dtype"]): max(parity.drift(row, a, b).max() for a, b in PAIRS)
            for row in parity.kept()}
    for name in dict.fromkeys(optimizer for optimizer, _ in rows):
        lines.append(f"| {name} | {rows[name, 'float64']:.0e} | {rows[name, 'float32']:.0e} |")
    return lines


def levels() -> list[str]:
    """What the parity tests compare, their bars, and the worst that they saw."""
    lines = ["| what is compared, among the three and (forward) against a numpy oracle | bar, float64 | worst seen | "
             "bar, float32 | worst seen |", "| --- | --- | --- | --- | --- |"]
    for what, level in COMPARED:
        cells = [cell for dtype in ("float64", "float32") for cell in (_worst(level, dtype) if level else SAME)]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


def _worst(level: str, dtype: str) -> tuple[str, str]:
    """The bar of a level and the worst difference that was seen there, over all pairs; empty where none is compared."""
    rows = [row for name, pairs in json.loads(LEVELS.read_text()).items() for row in pairs.values()
            if re.split(", | with", name)[0] == level and name.endswith(dtype)]
    if not rows:
        return "", ""
    return f"{max(row['bar'] for row in rows):.0e}".replace("e-0", "e-"), f"{max(row['worst'] for row in rows):.0e}"


def resumed() -> list[str]:
    """How far a run that went on in another framework is from one that did not."""
    bar, worst = _worst("resumed elsewhere", "float64")
    return [f"In another framework the rest of the curve agrees to {worst} in float64 (bar {bar}; `make parity`)."]


def saved() -> list[str]:
    """What checkpoints cost."""
    content = json.loads((HERE / "saving.json").read_text())
    lines = [f"| a save every {content['every']} steps of the demo | a step, ms | a save, ms | "
             "share of the steps' time |", "| --- | --- | --- | --- |"]
    lines += [f"| {TITLES[backend]} | {row['step_ms']:.1f} | {row['save_ms']:.1f} | {row['share']:.1%} |"
              for backend, row in content["found"].items()]
    return [*lines, "", f"{content['machine']} (`benchmarks/saving.py`)."]


def speed(variants: tuple[str, ...] = ("apphub", )) -> list[str]:
    """Our step through FastEstimator beside the peers', of some variants."""
    lines = ["| | ours | beside | ours to theirs | under like conditions |", "| --- | --- | --- | --- | --- |"]
    machines, rounds = [], set()
    kept = results.kept()
    for variant in variants:
        for backend, content in kept[variant].items():
            steps = content["contenders"]
            ours = steps["whole"]["seconds"]
            for peer in PEERS[backend]:
                if peer in steps:
                    ratios = [results.with_spread(results.ratio(steps[name]["whole"], steps[name]["turns"]))
                              if name in steps else "-" for name in (peer, f"{peer}_kept")]
                    lines.append(f"| {TITLES[backend]}, `{variant}` | {ours:.2f} | {steps[peer]['what']}: "
                                 f"{steps[peer]['seconds']:.2f} | {' | '.join(ratios)} |")
            machines.append(content["machine"])
            rounds.add(content["rounds"])
    return [*lines, "", f"Seconds; medians of {' to '.join(map(str, sorted({min(rounds), max(rounds)})))} interleaved "
            f"rounds within one run ({'; '.join(dict.fromkeys(machines))}; `benchmarks/step.py`). A ratio is the "
            "median of those within each round (the least to the greatest). Peers run as people run them; under like "
            "conditions they keep freed memory as our runs do, and MindSpore's calling thread does not spin."]


def learned() -> list[str]:
    """What the recipes reach on digits100 in the three frameworks."""
    found = learn.grouped(json.loads(learn.KEPT.read_text()))
    lines = learn.table({protocol: runs for protocol, runs in found.items() if protocol.data == "digits"}).splitlines()
    return lines[2:]


def on_cifar() -> list[str]:
    """The headline job's first epochs in float32 and its finetune, of the frameworks that have trained some, beside
    those published."""
    runs = _headline()
    shown = range(min(12, max(len(kept["pretrain"]) for kept in runs.values())))
    published = cifar.PUBLISHED["pretrain"]["accuracy"]
    ours = {TITLES[backend]: [row["accuracy"] for row in runs[backend]["pretrain"]] for backend in TITLES
            if backend in runs}
    rows = {"FastEstimator's notebook, as published": published} | ours
    lines = [f"| epoch | {' | '.join(str(epoch + 1) for epoch in shown)} |", f"|{' --- |' * (len(shown) + 1)}"]
    for name, row in rows.items():
        cells = [f"{100 * row[epoch]:.2f}" if epoch < len(row) else "-" for epoch in shown]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines + _on_cifar10(runs)


def _on_cifar10(runs: dict[str, dict]) -> list[str]:
    """A line, after an empty one, on the finetunes; none where there are none."""
    told = [f"FastEstimator's after 100 epochs {100 * cifar.PUBLISHED['finetune']['accuracy'][-1]:.2f} (ciFAIR-10)"]
    for backend, kept in runs.items():
        if "finetune" in kept:
            told.append(f"{TITLES[backend]}'s after {kept['finetune']['start']} "
                        f"{100 * kept['finetune']['epochs'][-1]['accuracy']:.2f}")
        if "scratch" in kept:
            told[-1] += f", from scratch {100 * kept['scratch']['epochs'][-1]['accuracy']:.2f}"
    return ["", f"Then one epoch of CIFAR-10: {'; '.join(told)}."] if len(told) > 1 else []


def apart() -> list[str]:
    """How far the frameworks are apart there."""
    runs = _headline()
    told = cifar.apart(runs[backend] for backend in TITLES if backend in runs)
    return textwrap.wrap(" ".join(filter(None, told)), 116)


def _headline() -> dict[str, dict]:
    """What `cifar.json` keeps of the headline job in float32 from seed 0, by framework."""
    return {kept["run"]["backend"]: kept for kept in json.loads((HERE / "cifar.json").read_text()).values()
            if [kept["run"][name] for name in ("recipe", "precision", "seed", "schedule")] == ["apphub", "fp32", 0, 100]
            and not kept["run"]["settings"]}


BLOCKS: dict[str, Callable[[], list[str]]] = {
    "demo": demo, "cifar": on_cifar, "apart": apart, "curves": curves, "levels": levels, "drift": drift,
    "resumed": resumed, "saved": saved, "speed": speed, "speeds": lambda: speed(("apphub", "small_data")),
    "learn": learned}


def filled(text: str, root: str) -> str:
    """A page with what its marks are to hold.

    Args:
        text: The page.
        root: Where the repository is, from the page: "" or "../".
    """
    return _BLOCK.sub(lambda match: "".join((match[1], "\n".join(BLOCKS[match[2]]()).replace("{root}", root), "\n",
                                             match[4])), text)


def pages() -> dict[Path, str]:
    """The pages that quote, each with the way from it to the repository."""
    return {REPO / "README.md": ""} | dict.fromkeys(sorted((REPO / "docs").glob("*.md")), "../")


def main() -> None:
    for path, root in pages().items():
        path.write_text(filled(path.read_text(), root))


if __name__ == "__main__":
    main()
