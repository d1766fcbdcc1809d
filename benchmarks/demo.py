"""What `make demo` reaches in each framework: runs it, and keeps the accuracies in `benchmarks/demo.json`.

    python benchmarks/demo.py [--backends torch tf ms]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.contenders.turns import processor_name
from vit.backend import SCRIPTS
from vit.files.atomic import write_whole

KEPT = HERE / "demo.json"
SEED = 7
# Those of `make demo`.
FLAGS = ("--data digits --variant tiny --batch_size 32 --pretrain_epochs 12 --finetune_epochs 5 --compare_scratch "
         f"--seed {SEED}")


def run(backend: str) -> dict:
    """Run the demo in a process of its own: what `results.json` says of it that is kept."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, HERE.parent / f"{SCRIPTS[backend]}.py", *FLAGS.split(), "--model_dir", folder,
                        "--overwrite"], check=True)
        return told(json.loads((Path(folder) / "results.json").read_text()))


def told(results: dict) -> dict:
    """Of a run's `results.json`: the accuracy after each epoch, by stage, and the commit."""
    return {"git_commit": results["git_commit"],
            "accuracy": {name: [epoch["accuracy"] for epoch in stage["epochs"]]
                         for name, stage in results["stages"].items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    asked = parser.parse_args().backends
    kept = json.loads(KEPT.read_text())["runs"] if KEPT.exists() else {}
    for backend in asked:
        kept[backend] = run(backend)
        content = {"machine": f"{processor_name()}, {os.cpu_count()} cores", "seed": SEED, "flags": FLAGS,
                   "runs": {backend: kept[backend] for backend in SCRIPTS if backend in kept}}
        write_whole(KEPT, f"{json.dumps(content, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
