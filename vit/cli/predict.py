"""`python -m vit predict`: what a file's model takes images for."""
import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

from vit import terminal
from vit.errors import UserError, printable
from vit.use.formats import BACKENDS

_SHOWN = 48  # images of the grid, at most


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("predict", help="what a file's model takes images for", description=(
        "Name the likeliest classes of images. An image that cannot be read is named on stderr, the others are "
        "predicted, and the exit status is 1."))
    parser.add_argument("source", metavar="FILE",
                        help="weights, a checkpoint, a folder of Hugging Face or of a run; or an exported model")
    parser.add_argument("images", nargs="+", metavar="IMAGE",
                        help="an image; a folder, with all that is in it; or a pattern such as 'a/*.png'")
    parser.add_argument("--top_k", type=int, default=5, metavar="K", help="classes named (default: %(default)s)")
    parser.add_argument("--backend", choices=BACKENDS, metavar="NAME", help=(
        f"{', '.join(BACKENDS)} (default: torch, or what runs the exported FILE)"))
    parser.add_argument("--batch_size", type=int, default=64, metavar="N", help="default: %(default)s")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print a JSON object a line for each image")
    forms.add_argument("--csv", action="store_true", help="print CSV: image, rank, class, probability")
    parser.add_argument("--grid", metavar="PNG", help=f"draw the first {_SHOWN} images under what they are taken for")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from vit.training.report import figures, folder
    from vit.use import images
    from vit.use.classifier import likeliest
    from vit.use.exported import open_model
    for name in ("top_k", "batch_size"):
        if getattr(options, name) < 1:
            raise UserError(f"{name} must be at least 1, not {getattr(options, name)}")
    if options.grid is not None:
        if Path(options.grid).is_dir():
            raise UserError(f"{options.grid}: is a folder; name a file for --grid")
        if Path(options.grid).suffix.lower() != ".png":
            raise UserError(f"{options.grid}: --grid draws a PNG: name a file that ends in .png")
        folder.probe(Path(options.grid).parent, "grid")
    paths = list(images.find(options.images))
    model = open_model(options.source, options.backend, min(options.batch_size, len(paths)))
    for note in model.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    failed, shown = 0, []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if options.csv:
        writer.writerow(("image", "rank", "class", "probability"))
    for start in range(0, len(paths), model.batch_size):
        some, pixels = _read(model, paths[start:start + model.batch_size])
        failed += len(paths[start:start + model.batch_size]) - len(some)
        for path, image, named in zip(some, pixels, likeliest(model, pixels, options.top_k), strict=True):
            if options.json:
                print(json.dumps({"image": str(path), "predictions": [
                    {"class": name, "probability": value} for name, value in named]}, ensure_ascii=False))
            elif options.csv:
                writer.writerows((path, rank, name, f"{value:.6f}") for rank, (name, value) in enumerate(named, 1))
            else:
                line = printable(f"{path}: {', '.join(f'{name} {value:.1%}' for name, value in named)}")
                print(terminal.wrapped(line, terminal.width()))
            if options.grid is not None and len(shown) < _SHOWN:
                shown.append((image, f"{figures.short(named[0][0])}\n{named[0][1]:.0%}"))
    if shown:
        drawn, titles = zip(*shown, strict=True)
        figures.save(figures.grid(drawn, titles, ["black"] * len(shown), 6, 2.6), Path(options.grid), dpi=100)
    if failed:
        print(f"{failed} of {len(paths)} images could not be read", file=sys.stderr)
    return int(failed > 0)


def _read(model, paths: list[Path]) -> tuple[list[Path], np.ndarray]:
    """The images that can be read, and what the model sees of them; the others are named on stderr."""
    from vit.data import image_folder
    some, pixels = [], []
    for path in paths:
        image, fault = image_folder.attempt(path)
        if fault is None:
            pixels.append(model.pixels(image))
            some.append(path)
        else:
            print(printable(f"{path}: {fault}"), file=sys.stderr)
    size = model.config.image_size
    return some, np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
