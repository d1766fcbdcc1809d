"""`python -m vit evaluate`: how well a file's model does on a set."""
import argparse
import csv
import io
import json
import sys
import time
from pathlib import Path

import numpy as np

from vit import terminal
from vit.data import NAMES, load, splitting
from vit.errors import UserError, printable
from vit.files.atomic import write_whole
from vit.use.formats import BACKENDS


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("evaluate", help="how well a file's model does on a set", description=(
        "Evaluate a model on the test images of a set: top-1 and top-5 accuracy, cross entropy, and the expected "
        "calibration error. The set is the one of --data whose classes the model has."))
    parser.add_argument("source", metavar="FILE",
                        help="weights, a checkpoint, a folder of Hugging Face or of a run; or an exported model")
    parser.add_argument("--data", choices=NAMES, required=True, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--data_dir", metavar="DIR", help="its folder, as of the scripts")
    parser.add_argument("--split", choices=("test", "train", "val"), default="test", metavar="NAME", help=(
        "which images: test, train, or val: those that --val_fraction and --seed set apart (default: %(default)s)"))
    parser.add_argument("--val_fraction", type=float, default=0.0, metavar="R", help=(
        "as of the run: the share of the training images that were set apart"))
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="as of the run (default: %(default)s)")
    parser.add_argument("--backend", choices=BACKENDS, metavar="NAME", help=(
        f"{', '.join(BACKENDS)} (default: torch, or what runs the exported FILE)"))
    parser.add_argument("--batch_size", type=int, default=64, metavar="N", help="default: %(default)s")
    parser.add_argument("--skip_bad_images", action="store_true", help="leave out images that cannot be read")
    parser.add_argument("--out", metavar="DIR", help="write metrics.json, classes.csv and confusion.png there")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from vit.training.report import folder
    from vit.use.evaluation import choose, evaluate
    from vit.use.exported import open_model
    if options.batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {options.batch_size}")
    if options.out is not None:
        folder.probe(Path(options.out), "out")
    if not 0 <= options.val_fraction < 1 or (options.split == "val" and not options.val_fraction):
        raise UserError(f"--val_fraction must be in [0, 1), and above 0 for --split val, not {options.val_fraction}")
    if options.seed < 0:
        raise UserError(f"--seed must be at least 0, not {options.seed}")
    model = open_model(options.source, options.backend, options.batch_size)
    pair = load(options.data, options.data_dir, options.skip_bad_images, untested=options.split != "test",
                classes=len(model.classes))
    if options.val_fraction:
        pair = splitting.apart(pair, options.val_fraction, options.seed)
    dataset = choose(pair, model, options.source)
    for note in model.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    images, begin = getattr(dataset, options.split), time.perf_counter()
    metrics = evaluate(model, images)
    seconds = time.perf_counter() - begin
    content = {"file": str(options.source), "backend": model.backend, "data": dataset.name, "split": options.split,
               **metrics.result(), "images_per_second": len(images) / seconds}
    if options.out is not None:
        _write(Path(options.out), content, metrics, model.classes)
    if options.json:
        print(json.dumps(content, indent=2))
        return 0
    told = (f"{printable(options.source)} on the {content['images']:,} {options.split} images of "
            f"{printable(dataset.name)}, {model.backend}, {content['images_per_second']:,.0f} images/s\n"
            f"  top-1 {content['top1']:.2%}, top-5 {content['top5']:.2%}, loss {content['loss']:.4f}, "
            f"calibration error {content['calibration_error']:.2%}")
    print(terminal.wrapped(told, terminal.width()))
    return 0


def _write(folder: Path, content: dict, metrics, names: tuple[str, ...]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("class", "images", "recall", "precision"))
    writer.writeheader()
    writer.writerows(metrics.per_class(names))
    write_whole(folder / "classes.csv", text.getvalue().encode())
    _draw(folder / "confusion.png", metrics.confusion, names, content)
    write_whole(folder / "metrics.json", f"{json.dumps(content, indent=2)}\n".encode())


def _draw(path: Path, confusion: np.ndarray, names: tuple[str, ...], content: dict) -> None:
    """The share of each class's images, by row, that is taken for each class."""
    from matplotlib.figure import Figure

    from vit.training.report import figures
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    edge = min(14.0, max(4.5, 0.28 * len(names) + 2))
    figure = Figure(figsize=(edge + 1, edge), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes, label="share of the class's images", shrink=0.8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    if len(names) <= 50:
        shown = [figures.short(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90, **figures.text_options())
        axes.set_yticks(range(len(names)), shown, **figures.text_options())
    axes.set_title(f"top-1 {content['top1']:.1%} on {content['images']:,} images of {content['data']}", fontsize=10,
                   **figures.text_options())
    figures.save(figure, path, dpi=100)
