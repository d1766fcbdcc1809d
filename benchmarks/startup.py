"""Seconds from the command to the end of the first training step: imports, building, compiling.

    python benchmarks/startup.py [--backends torch,tf,ms] [--variant tiny] [--rounds 5] [--beside FOLDER]

Each measurement is a process of its own that ends after its first training step; all take turns in each round, and the
figures are medians. Beside ours are FastEstimator's own script, which imports what FastEstimator imports, the bare
import of the framework, and the commands that train nothing; with --beside, another checkout of this project, whose
commit the page names. What is counted as what, `benchmarks/contenders/start.py` says. Writes `benchmarks/startup.md`
and prints it.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT)]

from vit.backend import SCRIPTS, TITLES
from vit.model.config import VARIANTS

MODULES = {"torch": "torch", "tf": "tensorflow", "ms": "mindspore"}
PARTS = {"rest": "other imports", "own": "its framework", "other": "other frameworks", "fastestimator": "FastEstimator",
         "building": "building", "step": "first step"}
OURS, FIRST, BESIDE, PEER, FLOOR = ("ours", "ours, with no graphs kept", "ours, before", "FastEstimator's own script",
                                    "the framework's bare import")
BOUNDS = """\
## What bounds it

- *The framework's own import* is the floor: nothing of it can be left out. TensorFlow imports pandas and jax itself.
- *FastEstimator's pipeline* is torch's DataLoader whatever the framework, so TensorFlow's and MindSpore's runs import
  torch, and torch has no part that could come later: `import torch` needs nearly all that it loads.
- *TensorFlow's own import* alone is near the half of what a run took before. Its functions are traced as they are
  written: AutoGraph, which translated all that is called for 6 seconds, is left out where a step does not need it.
- *MindSpore's graphs* are read from the cache, but for the first run of a recipe; then its backend still builds them.
"""


def run(command: list[str], root: Path, folder: str, keeps: bool = True) -> dict:
    """Run a command to its end: wall and processor seconds, and what `contenders/start.py` answers, if it is that."""
    paths = [root, root / "packages/fe_compat", root / "packages/fe_mindspore"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(map(str, paths)),
                   "TMPDIR": folder, "XDG_CACHE_HOME": f"{folder}/cache"}
    environment |= {} if keeps else {"MS_COMPILER_CACHE_ENABLE": "0"}
    read, write = os.pipe()
    begun = time.monotonic()
    parts = [str({"DESCRIPTOR": write, "SECONDS": begun}.get(part, part)) for part in command]
    with open(Path(folder) / "log", "w+") as log:
        process = subprocess.Popen([sys.executable, *parts], cwd=folder, pass_fds=[write], env=environment, stdout=log,
                                   stderr=subprocess.STDOUT)
        os.close(write)
        with open(read) as answer:
            said = answer.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        row = {"wall": time.monotonic() - begun, "processor": used.ru_utime + used.ru_stime}
        if process.returncode != 0 or ("DESCRIPTOR" in command and not said):
            log.seek(0)
            raise RuntimeError(f"{' '.join(parts)} ended with status {process.returncode}: {log.read()[-2000:]}")
    return row | (json.loads(said) if said else {})


def commands(backend: str, variant: str, folder: str, beside: Path | None) -> dict[str, tuple[list[str], Path]]:
    """What is measured of a framework: by name, the command and the checkout it belongs to."""
    start, module = str(HERE / "contenders/start.py"), MODULES[backend]
    flags = ["--data", "digits", "--variant", variant, "--batch_size", "32", "--model_dir", f"{folder}/run",
             "--overwrite"]
    found = {}
    for name, root in ((OURS, ROOT), *([(BESIDE, beside)] if beside else [])):
        script = root / f"{SCRIPTS[backend]}.py"
        found[name] = [start, "DESCRIPTOR", "SECONDS", str(script), *flags], root
    if backend == "ms":
        found[FIRST] = found[OURS]
    else:
        found[PEER] = [start, "DESCRIPTOR", "SECONDS", module, variant], ROOT
    found[FLOOR] = ["-c", f"import {module}"], ROOT
    for name, root in ((OURS, ROOT), *([(BESIDE, beside)] if beside else [])):
        found[f"{name}: --help"] = [str(root / f"{SCRIPTS[backend]}.py"), "--help"], root
    return found


def measure(asked: argparse.Namespace) -> dict[tuple[str, str], list[dict]]:
    """The rows of all rounds, by framework and name."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs = {(backend, name): what for backend in asked.backends
                for name, what in commands(backend, asked.variant, folder, asked.beside).items()}
        jobs["", "`vit list`"] = ["-m", "vit", "list"], ROOT
        if ("ms", OURS) in jobs:
            run(*jobs["ms", OURS], folder)  # which keeps its graphs
        with tqdm(total=len(jobs) * asked.rounds, unit="run") as bar:
            for _ in range(asked.rounds):
                for key, (command, root) in jobs.items():
                    found.setdefault(key, []).append(run(command, root, folder, key[1] != FIRST))
                    bar.update()
    return found


def commit(folder: Path) -> str:
    """The commit of a checkout, in words."""
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True).stdout.strip()

    if git("rev-parse", "--show-toplevel") != str(folder):  # else git would name that of a folder around it
        return "of an unknown commit"
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"at commit {git('rev-parse', '--short', 'HEAD')}{', with changes' if changed else ''}"


def compared(beside: Path | None) -> str:
    """What the page says of the checkout beside this one."""
    if beside is None:
        return "No older checkout was beside it (`--beside FOLDER`), so what is asked, half of its time, is not judged."
    return f"\"{BESIDE}\" is the checkout that `--beside` named, {commit(beside)}."


def table(found: dict[tuple[str, str], list[dict]]) -> str:
    """The medians in Markdown."""
    lines = ["| | wall | processor | " + " | ".join(PARTS.values()) + " |", "| --- |" + " --- |" * (len(PARTS) + 2)]
    for (backend, name), rows in found.items():
        own = MODULES.get(backend)

        def part(group, own=own, rows=rows):
            values = [row["spent"].get(own if group == "own" else group, (0, 0))[1] for row in rows if "spent" in row]
            return f"{statistics.median(values):.1f}" if values else ""

        wall, processor = (statistics.median(row[key] for row in rows) for key in ("wall", "processor"))
        title = f"{TITLES[backend]}: {name}" if backend else name
        lines.append(f"| {title} | {wall:.1f} | {processor:.1f} | " + " | ".join(map(part, PARTS)) + " |")
    lines += ["", "| ratio of processor seconds | measured | asked |", "| --- | --- | --- |"]
    for (backend, name), rows in found.items():
        if name in (BESIDE, PEER):
            ratio = statistics.median(one["processor"] / other["processor"]
                                      for one, other in zip(found[backend, OURS], rows, strict=True))
            lines.append(f"| {TITLES[backend]}: {OURS} / {name} | {ratio:.2f} | "
                         f"{'at most 0.50' if name == BESIDE else ''} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="torch,tf,ms")
    parser.add_argument("--variant", choices=VARIANTS, default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="another checkout, to compare with")
    asked = parser.parse_args()
    asked.backends = asked.backends.split(",")
    if unknown := set(asked.backends) - set(SCRIPTS):
        parser.error(f"--backends: choose from {', '.join(SCRIPTS)}, not {', '.join(sorted(unknown))}")
    if asked.rounds < 1:
        parser.error("--rounds must be at least 1")
    if asked.beside is not None:
        asked.beside = asked.beside.resolve()
        if not (asked.beside / "vit_torch.py").is_file():
            parser.error(f"--beside: {asked.beside} is no checkout of this project")
    versions = ", ".join(f"{name} {version(name)}" for name in ("fastestimator", "torch", "tensorflow", "mindspore",
                                                                 "numpy"))
    flags = "".join(f" --{name} {getattr(asked, name)}" for name in ("variant", "rounds"))
    flags += " --beside FOLDER" if asked.beside else ""
    text = f"""# Start-up

Of `python benchmarks/startup.py{flags}`: from the command to the end of the first training step, in a process of its
own; medians of {asked.rounds} interleaved rounds, in seconds. The parts are processor seconds: imports by who asked for
them, then building (data, model, network, traces), then the first step with all that is compiled for it.
{compared(asked.beside)}

{table(measure(asked))}

{BOUNDS}
{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}.
"""
    (HERE / "startup.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
