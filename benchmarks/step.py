"""Seconds of a training step: ours beside what people use else, in each framework, as ratios within one run.

    python benchmarks/step.py [--backends torch,tf,ms] [--variant apphub] [--batch_size 128] [--rounds 7]

Each contender is a process of its own. Those of one framework take turns, one step each, so that what else the machine
does is shared by all; the median of a contender's turns is reported. Writes `benchmarks/step-VARIANT.json` and prints a
table. What each contender is, `benchmarks/contenders/` says.
"""
import argparse
import ast
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "packages/fe_compat"), str(HERE.parent / "packages/fe_mindspore")]

from vit.backend import SCRIPTS, TITLES
from vit.model import summary
from vit.model.config import VARIANTS

MODULES = {"torch": "torch", "tf": "tensorflow", "ms": "mindspore"}
PEAK_FLOP = 10 * 2 * 2048**3
WARM_UP = 2  # turns: the first compiles, the second takes its memory
# The ratios that are asked of us: framework, contender, to whom, at most.
TARGETS = {
    "apphub": [("torch", "whole", "fe", 0.62), ("torch", "whole_compiled", "fe", 0.62),
               ("torch", "whole", "huggingface", 0.75), ("torch", "whole_compiled", "huggingface", 0.75),
               ("torch", "whole", "ours", 1.05),
               ("tf", "whole", "fe", 0.90), ("tf", "whole_compiled", "fe", 0.90), ("tf", "whole", "huggingface", 0.90),
               ("tf", "whole_compiled", "huggingface", 0.90), ("tf", "whole", "ours", 1.05),
               ("ms", "whole", "mindcv", 0.60), ("ms", "whole", "ours", 1.05)],
    "small_data": [("torch", "whole", "huggingface", 0.75), ("tf", "whole", "huggingface", 0.90)],
}


def contenders(backend: str) -> dict[str, str]:
    """The contenders of a framework: what they are, in words, by name. Nothing is imported."""
    tree = ast.parse((HERE / "contenders" / f"{MODULES[backend]}.py").read_text())
    return {node.name: node.body[0].value.value.splitlines()[0].rstrip(".") for node in tree.body
            if isinstance(node, ast.FunctionDef) and [one.arg for one in node.args.args][-1:] == ["turns"]}


class Contender:
    """A process that takes turns."""

    def __init__(self, backend: str, name: str, variant: str, batch_size: int) -> None:
        self.name, self.turns = name, []
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", backend, name, variant, str(batch_size)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "passive", **os.environ})

    def turn(self) -> None:
        """Let it do one step."""
        print(file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name}: ended with status {self.process.wait()}")
        self.turns.append(json.loads(answer))

    def close(self) -> dict:
        """End it; return the medians of its turns."""
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        turns = self.turns[WARM_UP:]
        return {"seconds": statistics.median(turn["seconds"] for turn in turns),
                "processor": statistics.median(turn["processor"] for turn in turns),
                "least": min(turn["seconds"] for turn in turns), "peak": self.turns[-1]["peak"]}


def measure(backend: str, names: list[str], variant: str, batch_size: int, rounds: int) -> dict:
    """The medians of a framework's contenders, who take turns."""
    all_ = [Contender(backend, name, variant, batch_size) for name in names]
    try:
        for one in tqdm(all_, f"{backend}: first steps"):
            for _ in range(WARM_UP):
                one.turn()
        for _ in tqdm(range(rounds), f"{backend}: rounds"):
            for one in all_:
                one.turn()
    finally:
        found = {one.name: one.close() for one in all_ if len(one.turns) > WARM_UP}
    return found


def serve(backend: str, name: str, variant: str, batch_size: str) -> None:
    """Be a contender."""
    from benchmarks.contenders.turns import Turns
    module = importlib.import_module(f"benchmarks.contenders.{MODULES[backend]}")
    config = VARIANTS[variant].replace(num_classes=100)
    getattr(module, name)(variant, config, int(batch_size), Turns())


def table(content: dict) -> str:
    """The figures in Markdown."""
    lines = []
    for backend, found in content["contenders"].items():
        words = contenders(backend)
        lines += ["", f"| {TITLES[backend]}, `{content['variant']}`, batch {content['batch_size']} | seconds | "
                  "processor seconds | peak memory |", "| --- | --- | --- | --- |"]
        lines += [f"| {words[name]} | {row['seconds']:.3f} | {row['processor']:.2f} | {row['peak'] / 1e9:.1f} GB |"
                  for name, row in found.items()]
    lines += ["", "| ratio | measured | asked |", "| --- | --- | --- |"]
    for backend, name, other, most in TARGETS.get(content["variant"], []):
        found = content["contenders"].get(backend, {})
        if name in found and other in found:
            words = contenders(backend)
            lines.append(f"| {TITLES[backend]}: {words[name]} / {words[other]} | "
                         f"{found[name]['seconds'] / found[other]['seconds']:.2f} | at most {most} |")
    if "share_of_peak" in content:
        lines.append(f"| PyTorch: share of the matrix peak ({content['peak_gflops']:.0f} GFLOP/s) | "
                     f"{content['share_of_peak']:.2f} | at least 0.75 |")
    return "\n".join(lines)


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
    content = {"variant": asked.variant, "batch_size": asked.batch_size, "rounds": asked.rounds,
               "machine": f"{platform.machine()}, {os.cpu_count()} cores",
               "versions": {name: version(name) for name in ("fastestimator", "torch", "tensorflow", "mindspore",
                                                             "transformers", "mindcv", "numpy")},
               "contenders": {}}
    for backend in asked.backends.split(","):
        if backend not in SCRIPTS:
            parser.error(f"--backends: choose from {', '.join(SCRIPTS)}")
        names = [name for name in contenders(backend) if not asked.only or name in asked.only.split(",")]
        content["contenders"][backend] = measure(backend, names, asked.variant, asked.batch_size, asked.rounds)
    torch = content["contenders"].get("torch", {})
    if "peak" in torch and "whole" in torch:
        step = 3 * summary.flops(VARIANTS[asked.variant].replace(num_classes=100)) * asked.batch_size
        content["peak_gflops"] = PEAK_FLOP / torch["peak"]["seconds"] / 1e9
        best = min(row["seconds"] for name, row in torch.items() if name.startswith("whole"))
        content["share_of_peak"] = step / best / 1e9 / content["peak_gflops"]
    print(table(content))
    if not asked.only:
        (HERE / f"step-{asked.variant}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
