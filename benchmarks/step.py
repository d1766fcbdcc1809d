"""Seconds of a training step: ours beside what people use else, in each framework, as ratios within one run.

    python benchmarks/step.py [--backends torch,tf,ms] [--variant apphub] [--batch_size 128] [--rounds 7]

Each contender is a process of its own. Those of one framework take turns, one step each, in another order each round,
so that what else the machine does is shared by all, and all wait in memory. Because they need up to 20 GB, they come
in three groups: those that train, those that are compiled (with our whole step once more beside them), and those that
predict. Ours run under our own conditions, peers as people run them, and the main peers once more under ours
(`_kept`). Steps in bfloat16 are left out where the processor emulates its products, as they take half a minute and
more, and where there are none. All turns after the warm-up are kept, and the median of each contender's is reported.
Writes `benchmarks/step-VARIANT.json`, in which `--backends` leaves the others as they are (with `--only` nothing is
written); `benchmarks/results.py` makes tables and a plot of it. What each contender is, `benchmarks/contenders/`
says.
"""
import argparse
import ast
import contextlib
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "packages/fe_compat"), str(HERE.parent / "packages/fe_mindspore")]

from benchmarks.contenders.turns import processor_name
from vit import processor
from vit.backend import SCRIPTS, TITLES
from vit.model import summary
from vit.model.config import VARIANTS

MODULES = {"torch": "torch", "tf": "tensorflow", "ms": "mindspore"}
PACKAGES = {"torch": ("fastestimator", "torch", "transformers"), "tf": ("fastestimator", "tensorflow", "transformers"),
            "ms": ("fastestimator", "mindspore", "mindcv")}
PRODUCTS_GFLOP = 10 * 2 * 2048**3 / 1e9  # of a turn of the contender `peak`
WARM_UP = 2  # turns: the first compiles, the second takes its memory


def contenders(backend: str) -> dict[str, str]:
    """The contenders of a framework: what they are, in words, by name. Nothing is imported."""
    tree = ast.parse((HERE / "contenders" / f"{MODULES[backend]}.py").read_text())
    return {node.name: node.body[0].value.value.splitlines()[0].rstrip(".") for node in tree.body
            if isinstance(node, ast.FunctionDef) and [one.arg for one in node.args.args][-1:] == ["turns"]}


def groups(names: list[str]) -> list[list[str]]:
    """Who takes turns with whom. `whole` is in each group that trains, as the ratios are to it."""
    predict = [name for name in names if name.endswith(("_1", "_128"))]
    compiled = [name for name in names if name.endswith(("_compiled", "_xla"))]
    rest = [name for name in names if name not in predict + compiled]
    if compiled and "whole" in rest:
        compiled = ["whole", *compiled]
    return [group for group in (rest, compiled, predict) if group]


class Contender:
    """A process that takes turns."""

    def __init__(self, backend: str, name: str, variant: str, batch_size: int) -> None:
        self.backend, self.name, self.turns = backend, name, []
        self.said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", backend, name, variant, str(batch_size)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "passive", **os.environ})

    def turn(self) -> None:
        """Let it do one step. Where it has ended, so does this process, with the last line that it said."""
        with contextlib.suppress(BrokenPipeError):
            print(file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            status = self.process.wait()
            self.said.seek(0)
            lines = self.said.read().splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
            sys.exit(f"error: {TITLES[self.backend]}, {self.name}: ended with status {status}: {last}")
        self.turns.append(json.loads(answer))

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.said):
            with contextlib.suppress(BrokenPipeError):
                file.close()

    def row(self) -> dict:
        """Its turns after the warm-up, in seconds, and their medians."""
        turns = self.turns[WARM_UP:]
        seconds = [turn["seconds"] for turn in turns]
        return {"seconds": statistics.median(seconds),
                "processor": statistics.median(turn["processor"] for turn in turns),
                "least": min(seconds), "peak": self.turns[-1]["peak"], "turns": seconds}


def measure(backend: str, names: list[str], variant: str, batch_size: int, rounds: int) -> dict:
    """The turns and medians of a framework's contenders, and as `whole` those of ours in the same rounds."""
    all_ = []
    try:
        for name in names:
            all_.append(Contender(backend, name, variant, batch_size))
        for one in tqdm(all_, f"{backend}: first steps"):
            for _ in range(WARM_UP):
                one.turn()
        order = random.Random(0)
        for _ in tqdm(range(rounds), f"{backend}: rounds"):
            for one in order.sample(all_, len(all_)):  # whoever came before leaves its mark on caches and clock
                one.turn()
    finally:
        for one in all_:
            one.close()
    found = {one.name: one.row() for one in all_}
    if "whole" in found:
        for row in found.values():
            row["whole"] = found["whole"]["turns"]
    return found


def serve(backend: str, name: str, variant: str, batch_size: str) -> None:
    """Be a contender."""
    from benchmarks.contenders.turns import Turns
    module = importlib.import_module(f"benchmarks.contenders.{MODULES[backend]}")
    config = VARIANTS[variant].replace(num_classes=100)
    getattr(module, name)(variant, config, int(batch_size), Turns())


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="torch,tf,ms")
    parser.add_argument("--only", default="", help="contenders by name, separated by commas (default: all)")
    parser.add_argument("--variant", choices=VARIANTS, default="apphub")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    backends = asked.backends.split(",")
    if unknown := set(backends) - set(SCRIPTS):
        parser.error(f"--backends: {', '.join(sorted(unknown))} is none of {', '.join(SCRIPTS)}")
    if asked.rounds < 1 or asked.batch_size < 1:
        parser.error("--rounds and --batch_size must be at least 1")
    only = asked.only.split(",") if asked.only else []
    there = dict.fromkeys(name for backend in backends for name in contenders(backend))
    if unknown := set(only) - set(there):
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(there)}")
    for backend in backends:
        words = contenders(backend)
        no_bf16 = backend == "ms" or not processor.multiplies_bfloat16()  # MindSpore has no such products on a CPU
        names = [name for name in words if (name in only if only else not (no_bf16 and name.endswith("bf16")))]
        rows = {}
        for group in groups(names):
            found = measure(backend, group, asked.variant, asked.batch_size, asked.rounds)
            rows = {name: {"what": words[name], **row} for name, row in found.items()} | rows  # the first `whole` stays
            for name, row in found.items():
                print(f"{row['seconds']:8.3f} s  {row['peak'] / 1e9:5.1f} GB  {words[name]}")
        if not only:
            _keep(backend, {name: rows[name] for name in names}, asked)


def _keep(backend: str, rows: dict, asked: argparse.Namespace) -> None:
    """Put a framework's figures, with all that they hang on, into the file of the variant."""
    path = HERE / f"step-{asked.variant}.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    flops = summary.flops(VARIANTS[asked.variant].replace(num_classes=100))
    content[backend] = {
        "machine": f"{processor_name()}, {os.cpu_count()} cores", "batch_size": asked.batch_size,
        "rounds": asked.rounds, "step_gflop": 3 * flops * asked.batch_size / 1e9, "products_gflop": PRODUCTS_GFLOP,
        "versions": {name: version(name) for name in PACKAGES[backend]}, "contenders": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
