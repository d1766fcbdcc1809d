"""What several workers cost: a step of one with two threads beside two with one, and what adding gradients takes.

    python benchmarks/scale.py [--backends torch,tf,ms] [--rounds 3]

Writes `benchmarks/scale.json`, in which `--backends` leaves the others as they are, and of all that is in it
`benchmarks/scale.md`. Every figure in the tables of what was measured is of workers on one machine, which share its
cores; the table for many devices is reckoned from public figures, and says so.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "packages/fe_compat"), str(HERE.parent / "packages/fe_mindspore")]

from benchmarks.contenders.turns import processor_name
from vit.backend import SCRIPTS, TITLES
from vit.model import summary
from vit.model.config import VARIANTS

STEPS, EPOCHS, BATCH = 6, 3, 128  # the first epoch compiles, and is left out
SIZES = {"0.15 M": 150_000, "3 M": 3_000_000, "86 M": 86_000_000}
WORKERS = (1, 2, 4)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

# For the reckoning. NVIDIA's data sheet of the H100 SXM: products in bfloat16, and NVLink, 900 GB/s both ways.
FLOPS, SHARE, NVLINK = 989e12, 0.4, 450e9  # a share of the peak that trainings of ViTs do reach
NETWORKS = {"InfiniBand, 400 Gbit/s a GPU": 50e9, "Ethernet, 100 Gbit/s a host": 12.5e9 / 8}
DEVICES = (8, 64, 512)  # eight a host


def launch(backend: str, count: int, command: list[str], folder: str) -> str:
    """Run a command in a folder with so many workers, one thread each; return what it printed."""
    workers = [sys.executable, "-m", "vit", "launch", "--backend", backend, "--nproc", str(count)]
    done = subprocess.run([*workers, *command], cwd=folder, text=True, capture_output=True,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path[:3]),
                               **ONE_THREAD})
    if done.returncode:
        raise SystemExit(f"{backend}, {count} workers: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def step(backend: str, count: int) -> float:
    """Seconds of a whole training step of `apphub`: one worker with all threads, or several with one each."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(HERE.parent / f"{SCRIPTS[backend]}.py"), "--data", "digits", "--variant", "apphub",
                   "--batch_size", str(BATCH), "--train_steps_per_epoch", str(STEPS), "--eval_steps_per_epoch", "1",
                   "--pretrain_epochs", str(EPOCHS), "--finetune_epochs", "1", "--log_steps", "0",
                   "--model_dir", f"{folder}/run"]
        if count == 1:
            subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True,
                           env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
        else:
            launch(backend, count, command, folder)
        epochs = json.loads(Path(folder, "run/results.json").read_text())["stages"]["pretrain"]["epochs"][1:]
    return statistics.median(epoch["step_seconds"] for epoch in epochs)


def reduction(backend: str, count: int, how: str) -> dict[str, float]:
    """Seconds that adding gradients takes, by the number of parameters."""
    sizes = [str(size) for size in SIZES.values()]
    with tempfile.TemporaryDirectory() as folder:
        printed = launch(backend, count, [str(HERE / "contenders/reduction.py"), backend, how, *sizes], folder)
    found = next(line for line in printed.splitlines() if "{" in line)
    return json.loads(found[found.index("{"):])


def measure(backend: str, rounds: int) -> dict:
    """All figures of a framework."""
    turns = [(step(backend, 1), step(backend, 2)) for _ in tqdm(range(rounds), f"{backend}: steps")]
    found = {"step": [statistics.median(column) for column in zip(*turns, strict=True)], "reduction": {}}
    for how in ("ordered", "fast"):
        for count in tqdm(WORKERS[1:], f"{backend}: {how}"):
            found["reduction"][f"{how} {count}"] = reduction(backend, count, how)
    return found


def reckoned(variant: str, devices: int, network: float, how: str) -> float:
    """The share of N times one device's speed that N reach, of 128 images each, nothing overlapping.

    An all-reduce sends 2 (N - 1) / N of the gradients, first within hosts and then, of each device an eighth, between
    them; ordered, each device receives those of all others.
    """
    config = VARIANTS[variant]
    computing = 3 * summary.flops(config) * BATCH / (FLOPS * SHARE)
    size = 4 * summary.parameters(config)
    here, hosts = min(devices, 8), devices // 8
    if how == "ordered":
        sending = (here - 1) * size / NVLINK + (devices - here) * size / network
    else:
        sending = 2 * (here - 1) / here * size / NVLINK + (2 * (hosts - 1) / hosts * size / 8 / network)
    return computing / (computing + sending)


def write(content: dict) -> None:
    """Write the page."""
    lines = ["# Several workers: what they cost", "",
             "Of `python benchmarks/scale.py`: " + "; ".join(dict.fromkeys(
                 f"{one['machine']}, {one['rounds']} round{'s' * (one['rounds'] > 1)}" for one in content.values()))
             + ". What differs by less than a tenth may be the machine.", "",
             "## A step", "", f"`apphub`, batch {BATCH}, whole step through FastEstimator's Estimator.", "",
             "| | one worker, 2 threads, s | two workers, 1 thread each, s | ratio |", "| --- | --- | --- | --- |"]
    for backend, found in content.items():
        one, two = found["step"]
        lines.append(f"| {TITLES[backend]} | {one:.2f} | {two:.2f} | {two / one:.2f} |")
    lines += ["", "## Adding gradients", "",
              "Milliseconds to add float32 gradients over workers on this machine, once an update. Each worker sends "
              "its own and receives, ordered, those of all others: (N - 1) times 4 bytes a parameter; fast, about "
              "twice 4 bytes a parameter, however many workers there are. One worker adds nothing.", "",
              "| | parameters | MB | " + " | ".join(f"{how}, N = {n}" for how in ("ordered", "fast")
                                                     for n in WORKERS[1:]) + " |",
              "| --- | --- | --- |" + " --- |" * 2 * len(WORKERS[1:])]
    for backend, found in content.items():
        for name, size in SIZES.items():
            figures = [f"{found['reduction'][f'{how} {n}'][str(size)] * 1000:,.0f}"
                       for how in ("ordered", "fast") for n in WORKERS[1:]]
            lines.append(f"| {TITLES[backend]} | {name} | {size * 4 / 1e6:,.1f} | " + " | ".join(figures) + " |")
    lines += ["", "## On paper: many devices", "",
              f"Not measured. {BATCH} images a device, bfloat16 at {SHARE:.0%} of the H100's {FLOPS / 1e12:.0f} "
              "TFLOP/s, float32 gradients, eight devices a host with NVLink between them (450 GB/s each way), and "
              "nothing overlaps, since gradients are added after the backward pass. The share of N times one device's "
              "speed:",
              "", "| | | " + " | ".join(f"{n} devices" for n in DEVICES) + " |",
              "| --- | --- |" + " --- |" * len(DEVICES)]
    for variant in ("apphub", "vit_b_16_224"):
        for how in ("ordered", "fast"):
            for network, speed in NETWORKS.items():
                shares = [f"{reckoned(variant, n, speed, how):.0%}" for n in DEVICES]
                lines.append(f"| `{variant}`, {how} | {network} | " + " | ".join(shares) + " |")
    size = 4 * summary.parameters(VARIANTS["vit_b_16_224"])
    lines += ["", "Where the design would have to change:", "",
              "- *Ordered* holds the gradients of all workers at once: of ViT-B/16 "
              f"{size * 8 / 1e9:.1f} GB with 8 workers, {size * 64 / 1e9:.0f} GB with 64. It is for one host; beyond, "
              "`--reduce fast`.",
              "- *Fast* between hosts over Ethernet needs what DDP does: buckets that are sent while the backward pass "
              "goes on, and gradients in bfloat16. FastEstimator takes all gradients in one call, so the pass would "
              "have to be cut into blocks.",
              "- `apphub` is so small that a device computes its step in less than a millisecond: starting kernels, "
              "the pipeline and Python are more than that, and many devices only make the batch larger.", ""]
    (HERE / "scale.md").write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="torch,tf,ms")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    backends = asked.backends.split(",")
    if unknown := set(backends) - set(SCRIPTS):
        parser.error(f"--backends: {', '.join(sorted(unknown))} is none of {', '.join(SCRIPTS)}")
    if asked.rounds < 1:
        parser.error("--rounds must be at least 1")
    path = HERE / "scale.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    for backend in backends:
        content[backend] = {"machine": f"{processor_name()}, {os.cpu_count()} cores", "rounds": asked.rounds,
                            **measure(backend, asked.rounds)}
        path.write_text(json.dumps(content, indent=1) + "\n")
    write(content)


if __name__ == "__main__":
    main()
