"""The headline job on the whole of CIFAR, epoch by epoch, beside the curve that FastEstimator publishes.

    python benchmarks/cifar.py --data_dir DIR [--recipe apphub] [--backend torch] [--precision fp32] [--seed 0]
                               [--epochs N] [--finetune] [--scratch] [--runs RUNS]

Trains the first N of the recipe's epochs on CIFAR-100 by the script itself; with `--finetune` then the recipe's
finetune on CIFAR-10 from that encoder, with `--scratch` beside it the same from scratch. It may be stopped at any time
(Ctrl-C, SIGTERM, or a machine that goes away) and goes on by the same command: the script saves a checkpoint every 100
steps and resumes exactly. N may be raised later. The runs' files are in RUNS, which must stay.

DIR has CIFAR's python version, whole or in parts (`cifar_archives.py`), or its archives, which else are downloaded.

Each epoch goes into `benchmarks/cifar.json` when it is over, and all that is kept there into `cifar.md` and
`cifar.png`. What is no measurement, with shortened epochs or on other images, goes into RUNS by the same names.
`cifar-published.json` holds FastEstimator's figures. Test images choose nothing: every epoch is shown.
"""
import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import cifar_archives, keeping
from benchmarks.contenders.turns import processor_name
from benchmarks.lines import FRAMEWORKS, VERMILION
from vit.backend import SCRIPTS, TITLES
from vit.checkpoints import list_checkpoints, load
from vit.checkpoints.naming import parse_name
from vit.errors import UserError
from vit.files.atomic import write_whole
from vit.model.precision import PRECISIONS
from vit.training import recipe_file
from vit.training.stretches import git_commit, versions

PUBLISHED = json.loads((HERE / "cifar-published.json").read_text())
ABOUT = """Written by `python benchmarks/cifar.py`. Top-1 on CIFAR-100's 10,000 test images after each epoch, %, mean
± standard deviation where there are several seeds. FastEstimator's figures are of ciFAIR-100: its training images are
the same, but it has others in place of the test images, a tenth, that have a near twin among the training images (Barz
& Denzler 2020). So ours are on the easier test set. Nothing was chosen by test images, and nothing is extrapolated: an
epoch without a figure was not trained."""
SAVED_EVERY = 100  # training steps
CUT = ("train_steps_per_epoch", "eval_steps_per_epoch")
# `vit.training.history.log_line`: one of it is all that is known of an epoch.
EPOCH = re.compile(
    r"(?P<stage>pretrain|finetune|scratch): epoch (?P<epoch>\d+)/\d+: .*?(?:, (?P<images_per_second>\d+) images/s)?, "
    r"rate (?P<learning_rate>\S+), loss (?P<train_loss>[^\s,|]+)[^|\n]* \| test: loss (?P<eval_loss>[^\s,]+), "
    r"top-1 (?P<accuracy>[^\s,%]+)%, top-5 (?P<top5>[^\s,%]+)%")


class Run(NamedTuple):
    """One training.

    Args:
        recipe: The name of a shipped one.
        backend: "torch", "tf" or "ms".
        precision: The recipe's field.
        seed: The recipe's field.
        schedule: Epochs that the recipe's schedule is for, of which the first are trained.
        settings: What else differs from the recipe, FIELD=VALUE.
    """
    recipe: str
    backend: str
    precision: str
    seed: int
    schedule: int
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What its folder is called, and what it is kept under."""
        return "-".join([self.recipe, self.backend, self.precision, f"of{self.schedule}", *self.settings,
                         f"seed{self.seed}"])

    @property
    def title(self) -> str:
        """What its column is called, whatever the seed."""
        return ", ".join([TITLES[self.backend], self.precision, *self.settings])

    @classmethod
    def of(cls, fields: dict) -> "Run":
        """The inverse of `_asdict`, through JSON."""
        return cls(**{**fields, "settings": tuple(fields["settings"])})


def epochs_in(log: str) -> dict[str, list[dict]]:
    """Read the epochs out of what a run has printed, by stage; one that was trained again counts as it was last.

    Args:
        log: Its lines.
    """
    found: dict[str, dict[int, dict]] = {}
    for match in EPOCH.finditer(log):
        row = {name: float(text) for name, text in match.groupdict().items() if name != "stage" and text is not None}
        row = {**row, "epoch": int(row["epoch"]), "accuracy": round(row["accuracy"] / 100, 6),
               "top5": round(row["top5"] / 100, 6)}
        found.setdefault(match["stage"], {})[row["epoch"]] = row
    return {stage: [rows[epoch] for epoch in sorted(rows)] for stage, rows in found.items()}


def command(run: Run, folder: Path, data_dir: Path | None, extra: list[str]) -> list[str]:
    """The script's command that begins a run, or goes on with it."""
    return [sys.executable, str(HERE.parent / f"{SCRIPTS[run.backend]}.py"),
            "--recipe", str(HERE.parent / "recipes" / f"{run.recipe}.yaml"),
            "--data", "cifar", *(["--data_dir", str(data_dir)] if data_dir else []),
            "--precision", run.precision, "--seed", str(run.seed),
            *(word for setting in run.settings for word in ("--set", setting)),
            "--checkpoint_every", str(SAVED_EVERY), "--log_steps", "0",
            "--model_dir", str(folder), "--resume", "auto", *extra]


class Followed:
    """A command that runs while this is entered, its output behind a log. Signals are passed on to it.

    Args:
        words: The command.
        log: The file.

    Attributes:
        asked: The signals that came.
    """

    def __init__(self, words: list[str], log: Path) -> None:
        self.words, self.log = words, log
        self.asked: list[int] = []
        self.stopped = False

    def __enter__(self) -> "Followed":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as output:
            output.write(f"$ {shlex.join(self.words)}\n".encode())
            output.flush()
            # In a group of its own: a terminal's Ctrl-C comes to this process alone, which passes it on once.
            self.process = subprocess.Popen(self.words, stdout=output, stderr=subprocess.STDOUT, cwd=self.log.parent,
                                            stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"},
                                            start_new_session=True)
        self.before = {number: signal.signal(number, self._pass_on)
                       for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                       if signal.getsignal(number) is not signal.SIG_IGN}
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None and self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, _) -> None:
        self.asked.append(number)
        self.process.terminate()

    def stop(self) -> None:
        """Let it stop, which is no failure."""
        if not self.stopped:
            self.stopped = True
            self.process.terminate()

    def texts(self) -> Iterator[str]:
        """Give what the log holds, whenever it has grown, until the command has ended.

        Raises:
            UserError: It has failed.
        """
        size = -1
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
            ended = self.process.returncode is not None
            if ended or self.log.stat().st_size != size:
                size = self.log.stat().st_size
                yield self.log.read_text(errors="replace")
            if ended:
                break
        status = self.process.returncode
        if status and not ((self.stopped or self.asked) and status in (143, -signal.SIGTERM)):
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-3:])
            raise UserError(f"the run ended with status {status}; the end of {self.log}:\n{last}")


class Record:
    """What is kept of all runs, in a file of JSON, and the page and the plot that are drawn of it.

    Args:
        folder: Where the three are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "cifar.json"
        self.runs = keeping.read(self.path)
        self.own: set[str] = set()

    def of(self, run: Run) -> dict:
        """What is kept of a run, which is this process's from now on."""
        self.own.add(run.name)
        return self.runs.setdefault(run.name, {"run": run._asdict(), "stretches": [], "pretrain": []})

    def forget(self, run: Run) -> None:
        """Drop what is kept of a run, in the file as well: it may be stopped before it has an epoch."""
        with keeping.changed(self.path) as runs:
            for kept in (runs, self.runs):
                kept.pop(run.name, None)

    def begin(self, run: Run, data: str) -> None:
        """Note on what a run is pretrained from here on."""
        kept = self.of(run)
        stretch = {"after_epochs": len(kept["pretrain"]), **here(data)}
        if not kept["stretches"] or {**kept["stretches"][-1], "after_epochs": 0} != {**stretch, "after_epochs": 0}:
            kept["stretches"].append(stretch)

    def note(self, run: Run, found: dict[str, list[dict]], start: str | None = None, data: str = "") -> None:
        """Keep the epochs that a run has come to; write everything anew if there is a new one.

        Args:
            run: The run.
            found: As of `epochs_in`.
            start: What a finetune began with.
            data: Which images a finetune is given.
        """
        kept = self.of(run)
        before = json.dumps(kept)
        for stage, rows in found.items():
            if stage == "pretrain":
                merged = {row["epoch"]: row for row in (*kept["pretrain"], *rows)}
                kept["pretrain"] = [merged[epoch] for epoch in sorted(merged)]
            elif rows != kept.get(stage, {}).get("epochs"):
                kept[stage] = {"start": start if stage == "finetune" else "initial weights", "on": here(data),
                               "epochs": rows}
        if json.dumps(kept) != before:
            self.write()

    def write(self) -> None:
        """Write the figures, the page and the plot of the runs that have come to some; other processes' runs stay."""
        with keeping.changed(self.path) as runs:
            runs |= {name: self.runs[name] for name in self.own
                     if self.runs[name]["pretrain"] or "finetune" in self.runs[name]}
            self.runs |= runs
            write_whole(self.folder / "cifar.md", page(runs).encode())
            draw(runs, self.folder / "cifar.png")


def here(data: str) -> dict:
    """What a stretch of a run is trained on."""
    preloaded = os.environ.get("LD_PRELOAD", "").replace(":", " ").split()
    return {"data": data, "machine": processor_name(),
            "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count()), "niceness": os.nice(0),
            "preloaded": " ".join(Path(path).name for path in preloaded), "commit": git_commit(),
            "versions": {name: version for name, version in versions().items() if version}}


def percent(values: list[float]) -> str:
    """Mean and, of several seeds, standard deviation."""
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{spread}" if values else "-"


def columns(runs: dict) -> dict[str, dict[str, list[dict]]]:
    """Group what is kept: {recipe and schedule: {title: [a run for each seed]}}."""
    found: dict[str, dict[str, list[dict]]] = {}
    for run, kept in sorted(((Run.of(kept["run"]), kept) for kept in runs.values()), key=_order):
        by_title = found.setdefault(f"`{run.recipe}`, the first epochs of {run.schedule}", {})
        by_title.setdefault(run.title, []).append(kept)
    return found


def _order(pair: tuple[Run, dict]) -> tuple:
    """float32 first, the frameworks as everywhere."""
    run = pair[0]
    return run.recipe, run.schedule, run.precision != "fp32", run.settings, list(SCRIPTS).index(run.backend), run.seed


def page(runs: dict) -> str:
    """Markdown: a table of accuracies for each recipe, the finetunes, and what ran where."""
    lines = ["# CIFAR, the whole of it", "", ABOUT]
    for title, by_title in columns(runs).items():
        published = PUBLISHED["pretrain"]["accuracy"] if title.startswith("`apphub`") else []
        shown = _shown(max(len(kept["pretrain"]) for group in by_title.values() for kept in group))
        names = [*(["FastEstimator, published"] if published else []), *by_title]
        lines += ["", f"## {title}", "", f"| epoch | {' | '.join(names)} |", f"|{' --- |' * (len(names) + 1)}"]
        for epoch in shown:
            cells = [f"{100 * published[epoch - 1]:.2f}" if epoch <= len(published) else "-"] if published else []
            cells += [percent([row["accuracy"] for kept in group for row in kept["pretrain"] if row["epoch"] == epoch])
                      for group in by_title.values()]
            lines.append(f"| {epoch} | {' | '.join(cells)} |")
        lines += apart(kept for group in by_title.values() for kept in group)
    lines += _finetunes(runs) + _where(runs) + ["", "![accuracy over the epochs](cifar.png)"]
    return "\n".join(lines) + "\n"


def apart(runs: Iterable[dict]) -> list[str]:
    """A line, after an empty one, on each run that several frameworks have trained: how far they are apart."""
    same: dict[Run, dict[str, list[dict]]] = {}
    for kept in runs:
        if kept["pretrain"]:
            run = Run.of(kept["run"])
            same.setdefault(run._replace(backend=""), {})[run.backend] = kept["pretrain"]
    lines = []
    for run, rows in same.items():
        if len(rows) > 1:
            *others, last = (TITLES[backend] for backend in rows)
            what = ", ".join([f"{', '.join(others)} and {last}", run.precision, *run.settings, f"seed {run.seed}"])
            lines += ["", f"{what}: in epochs 1 to {min(map(len, rows.values()))} their top-1 is at most "
                      f"{100 * _most_apart(rows, 'accuracy'):.2f} points apart, their training loss "
                      f"{_most_apart(rows, 'train_loss'):.4f}."]
    return lines


def _most_apart(rows: dict[str, list[dict]], name: str) -> float:
    """How far a figure differs between frameworks after the same epoch, at most."""
    epochs = zip(*([row[name] for row in found] for found in rows.values()), strict=False)
    return max(max(values) - min(values) for values in epochs)


def _shown(most: int) -> list[int]:
    """Which epochs have a row: the first twelve, then every tenth, and the last."""
    return sorted({*range(1, min(most, 12) + 1), *range(20, most + 1, 10), *([most] if most else [])})


def _finetunes(runs: dict) -> list[str]:
    rows = [f"| FastEstimator, published (ciFAIR) | 100 epochs | "
            f"{100 * PUBLISHED['finetune']['accuracy'][0]:.2f} | - |"]
    for kept in runs.values():
        if "finetune" in kept:
            run = Run.of(kept["run"])
            last = [f"{100 * kept[stage]['epochs'][-1]['accuracy']:.2f}" if kept.get(stage, {}).get("epochs") else "-"
                    for stage in ("finetune", "scratch")]
            rows.append(f"| `{run.recipe}`, {run.title}, seed {run.seed} | {kept['finetune']['start']} | "
                        f"{' | '.join(last)} |")
    if len(rows) == 1:
        return []
    return ["", "## CIFAR-10 afterwards", "", "Top-1 on the 10,000 test images at the finetune's end, %.", "",
            "| | encoder after | finetuned | from scratch, as long |", "| --- | --- | --- | --- |", *rows]


def _where(runs: dict) -> list[str]:
    lines = ["", "## What ran where", "",
             "| run | epochs | images/s, median | on | threads | data | commit |", f"|{' --- |' * 7}"]
    for name, kept in sorted(runs.items()):
        lines.append(_ran(name, kept["pretrain"], kept["stretches"]))
        lines += [_ran(f"{name}, {stage}", kept[stage]["epochs"], [kept[stage]["on"]])
                  for stage in ("finetune", "scratch") if stage in kept]
    if any("mkl_avx2.so" in line for line in lines):
        lines += ["", "With [`mkl_avx2.so`](mkl_avx2.c) preloaded, PyTorch takes MKL's AVX2 kernels on AMD as well."]
    return lines


def _ran(name: str, epochs: list[dict], stretches: list[dict]) -> str:
    """A row of who trained what: all machines, images and commits that had a part in it."""
    speeds = [row["images_per_second"] for row in epochs if "images_per_second" in row]
    told = [(one["machine"] + (f" with {one['preloaded']}" if one.get("preloaded") else ""),
             f"{one['threads']}" + f", nice {one['niceness']}" * bool(one["niceness"]), one["data"],
             re.sub("^(.{10})[^+]*", r"\1", one["commit"] or "-")) for one in stretches] or [("-", ) * 4]
    return f"| {name} | {len(epochs)} | {f'{statistics.median(speeds):.0f}' if speeds else '-'} | " + " | ".join(
        " / ".join(dict.fromkeys(column)) for column in zip(*told, strict=True)) + " |"


def draw(runs: dict, path: Path) -> None:
    """Accuracy over the epochs: the published curve, and a line for each run; once whole, once the first epochs."""
    from matplotlib.figure import Figure
    groups = columns(runs)
    figure = Figure(figsize=(11, 4.2 * max(len(groups), 1)), layout="constrained")
    for (title, by_title), axes in zip(groups.items(), figure.subplots(max(len(groups), 1), 2, squeeze=False),
                                       strict=False):
        published = PUBLISHED["pretrain"]["accuracy"] if title.startswith("`apphub`") else []
        most = max(2, *(len(kept["pretrain"]) for group in by_title.values() for kept in group))
        for axis, scale in zip(axes, (0.5, 1), strict=True):
            if published:
                axis.plot(range(1, len(published) + 1), [100 * value for value in published], color="0.6", linewidth=2,
                          zorder=3, label="FastEstimator, published (ciFAIR-100)")
            for label, group in by_title.items():
                for kept in group:
                    run = Run.of(kept["run"])
                    axis.plot([row["epoch"] for row in kept["pretrain"]],
                              [100 * row["accuracy"] for row in kept["pretrain"]], **_style(run, scale),
                              label=label if kept is group[0] else None)
            axis.set_xlabel("epoch")
            axis.set_ylabel("top-1 on the test images, %")
            axis.grid(alpha=0.3)
            axis.set_ylim(0)
        axes[0].set_title(title.replace("`", ""))
        axes[0].legend(fontsize="small", loc="lower right")
        axes[1].set_title(f"the first {most}")
        axes[1].set_xlim(0.5, most + 0.5)
        seen = [100 * value for value in published[:most]] + [
            100 * row["accuracy"] for group in by_title.values() for kept in group for row in kept["pretrain"]]
        axes[1].set_ylim(0, 1.1 * max(seen, default=1))
    figure.savefig(path, dpi=100)


def _style(run: Run, scale: float) -> dict:
    """How a run's line is drawn, so that others that lie on it are seen."""
    style = FRAMEWORKS[run.backend].copy()
    if run.precision != "fp32":
        style |= {"linewidth": 1.4, "linestyle": ":", "marker": "x" if run.precision == "bf16" else "+",
                  "markersize": 9, "markeredgewidth": 2, "markeredgecolor": VERMILION}
    return style | {name: scale * style[name] for name in ("linewidth", "markersize")} | {
        "alpha": 0.5 if run.settings else 1}


def encoder(folder: Path, epochs: int) -> tuple[Path, str]:
    """Find the checkpoint that a finetune begins with: the one at the end of the last epoch, or else the newest."""
    paths = [path for path in list_checkpoints(folder / "checkpoints") if parse_name(path)[0] == "pretrain"]
    if not paths:
        raise UserError(f"{folder}: holds no checkpoint of a pretraining to finetune from; give --epochs")
    for path in reversed(paths):
        found = load(path)
        if found.epoch == epochs and found.phase in ("evaluated", "finished"):
            return path, f"{epochs} epochs"
    found = load(paths[-1])
    if found.phase == "training":
        return paths[-1], f"{found.epoch - 1} epochs and {found.batch} step{'s' * (found.batch != 1)}"
    return paths[-1], f"{found.epoch} epochs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, help="folder with CIFAR, whole or in parts (default: download it)")
    parser.add_argument("--recipe", default="apphub", help="a shipped one, by name")
    parser.add_argument("--backend", choices=SCRIPTS, default="torch")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=0, help="how many of the schedule's epochs, from the first")
    parser.add_argument("--schedule", type=int, help="epochs that the schedule is for (default: the recipe's)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="what else differs")
    parser.add_argument("--finetune", action="store_true", help="then finetune on CIFAR-10")
    parser.add_argument("--scratch", action="store_true", help="with --finetune: also train from scratch as long")
    parser.add_argument("--runs", type=Path, default=Path("runs/cifar"), help="where the runs' files are")
    parser.add_argument("--out", type=Path, default=HERE, help="where cifar.json, cifar.md and cifar.png are")
    parser.add_argument("--train_steps_per_epoch", type=int, help="shortened epochs: a trial, no measurement")
    parser.add_argument("--eval_steps_per_epoch", type=int, help="likewise")
    asked = parser.parse_args()
    if asked.scratch and not asked.finetune:
        parser.error("--scratch needs --finetune")
    try:
        status = measure(asked)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.exit(status)


def measure(asked: argparse.Namespace) -> int:
    """Do what was asked for; return the status to end with."""
    asked.runs = asked.runs.resolve()
    data_dir, data = _data(asked.data_dir)
    settings = (*asked.set, *(f"{name}={getattr(asked, name)}" for name in CUT if getattr(asked, name)))
    whole = recipe_file.build(asked.recipe, **recipe_file.settings(settings))
    if whole.val_fraction or whole.eval_every > 1 or whole.eval_offset:
        raise UserError("val_fraction, eval_every and eval_offset are not for this: each epoch is shown, with the test "
                        "images")
    run = Run(asked.recipe, asked.backend, asked.precision, asked.seed, asked.schedule or whole.pretrain_epochs,
              settings)
    folder, cut = asked.runs / run.name, whole.train_steps_per_epoch or whole.eval_steps_per_epoch
    record = Record(asked.out.resolve() if not cut and data != "other images" else asked.runs)
    log = folder.with_name(f"{folder.name}.log")

    if log.exists():  # what was trained when nobody looked on
        record.note(run, epochs_in(log.read_text(errors="replace")))
    if len(record.of(run)["pretrain"]) < asked.epochs:
        if not folder.exists() and record.of(run)["pretrain"]:
            print(f"{folder}: holds no run, so it is trained anew, in place of the epochs that are kept", flush=True)
            record.forget(run)
            log.unlink(missing_ok=True)
        record.begin(run, data)
        kept = record.of(run)
        print(f"{folder}: from epoch {len(kept['pretrain']) + 1} to {asked.epochs} of {run.schedule}; its output is in "
              f"{log}", flush=True)
        with Followed(command(run, folder, data_dir, ["--pretrain_epochs", str(run.schedule)]), log) as process:
            for text in process.texts():
                record.note(run, epochs_in(text))
                if len(kept["pretrain"]) >= asked.epochs:
                    process.stop()
        if process.asked:
            print(f"stopped; the same command goes on ({len(kept['pretrain'])} epochs are over)", flush=True)
            return 128 + process.asked[0]
    kept = record.of(run)
    if asked.finetune:
        path, start = encoder(folder, len(kept["pretrain"]))
        own = folder.with_name(f"{folder.name}-finetune-{path.stem}")
        words = command(run, own, data_dir, ["--pretrained", str(path),
                                             *(["--compare_scratch"] if asked.scratch else [])])
        with Followed(words, own.with_name(f"{own.name}.log")) as process:
            for text in process.texts():
                record.note(run, epochs_in(text), start, data)
        if process.asked:
            return 128 + process.asked[0]
    record.write()
    print(f"{record.folder / 'cifar.md'}: {len(kept['pretrain'])} epochs of {run.name}", flush=True)
    return 0


def _data(folder: Path | None) -> tuple[Path | None, str]:
    """A folder of CIFAR that is whole now, and what is in it."""
    if folder is None:
        return None, "the published archives"
    folder = cifar_archives.joined(folder.resolve())
    found = cifar_archives.sums(folder)
    missing = [name for name, what in found.items() if what == "missing"]
    if len(missing) == len(found):  # then the archives, which a run checks
        return folder, "the archives"
    if missing:
        raise UserError(f"{folder}: lacks {', '.join(missing)}, whole or in parts")
    return folder, "the published files" if set(found.values()) == {"published"} else "other images"


if __name__ == "__main__":
    main()
