"""`python -m vit explain`: what a file's model looks at in images."""
import argparse
import io
import sys
from pathlib import Path

import numpy as np

from vit.backend import SCRIPTS
from vit.errors import printable
from vit.files.atomic import write_whole


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("explain", help="what a file's model looks at in images", description=(
        "Draw what a model looks at: for each image a PNG, and the numbers in an .npz file. An image that cannot be "
        "read is named on stderr, the others are drawn, and the exit status is 1."))
    parser.add_argument("source", metavar="FILE", help="weights, a checkpoint, a folder of Hugging Face or of a run")
    parser.add_argument("images", nargs="+", metavar="IMAGE",
                        help="an image; a folder, with all that is in it; or a pattern such as 'a/*.png'")
    parser.add_argument("--method", choices=("attention", "rollout", "gradient"), default="rollout", metavar="NAME",
                        help=(
        "attention: that of each block and head; rollout: of all blocks together (Abnar & Zuidema 2020); gradient: how "
        "the likeliest class's logit changes with each pixel (Simonyan et al. 2014) (default: %(default)s)"))
    parser.add_argument("--out", metavar="DIR", default="explained", help="default: %(default)s")
    parser.add_argument("--backend", choices=SCRIPTS, default="torch", metavar="NAME",
                        help=f"{', '.join(SCRIPTS)} (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from vit.data import image_folder
    from vit.training.report import folder
    from vit.use import images
    from vit.use.explain import Explained
    paths, out = list(images.find(options.images)), Path(options.out)
    folder.probe(out, "out")
    model = Explained(options.source, options.backend)
    for note in model.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    failed, taken = 0, set()
    for path in paths:
        image, fault = image_folder.attempt(path)
        if fault is not None:
            print(printable(f"{path}: {fault}"), file=sys.stderr)
            failed += 1
            continue
        pixels = model.pixels(image)
        map_, found = model.explain(pixels, options.method)
        name, number = f"{path.stem}-{options.method}", 2
        while name in taken:  # an image of another folder is called the same
            name, number = f"{path.stem}-{number}-{options.method}", number + 1
        taken.add(name)
        best = found.argmax()
        content = io.BytesIO()
        np.savez_compressed(content, image=pixels, probabilities=found, **{options.method: map_})
        write_whole(out / f"{name}.npz", content.getvalue())
        title = f"{model.classes[best]} {found[best]:.0%}"
        _draw(out / f"{name}.png", pixels, map_, title, options.method)
        print(printable(f"{path}: {title}; {out / name}.png, {out / name}.npz"))
    if failed:
        print(f"{failed} of {len(paths)} images could not be read", file=sys.stderr)
    return int(failed > 0)


def _draw(path: Path, image: np.ndarray, map_: np.ndarray, title: str, method: str) -> None:
    """The image, and the map over it; of attention one for each block, in rows, and head."""
    from matplotlib.figure import Figure

    from vit.training.report import figures
    maps = map_ if map_.ndim == 4 else map_[None, None]
    rows, columns = maps.shape[0], maps.shape[1] + (1 if map_.ndim == 4 else 2)
    edge = 1.3 if map_.ndim == 4 else 3
    figure = Figure(figsize=(edge * columns, edge * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for row in range(rows):
        if row == 0:
            axes[0, 0].imshow(image)
        else:
            axes[row, 0].set_axis_off()
        if map_.ndim == 4:
            axes[row, 1].set_ylabel(f"block {row}", fontsize=8)
        for column in range(1, maps.shape[1] + 1):
            _overlay(axes[row, column], image, maps[row, column - 1])
            if row == 0 and map_.ndim == 4:
                axes[row, column].set_title(f"head {column - 1}", fontsize=8)
    if map_.ndim != 4:
        axes[0, 2].imshow(map_, cmap="inferno")
        axes[0, 2].set_title(f"{map_.min():.2g} to {map_.max():.2g}", fontsize=8)
        axes[0, 1].set_title(method, fontsize=8)
    figure.suptitle(figures.short(title), fontsize=10, **figures.text_options())
    figures.save(figure, path, dpi=100)


def _overlay(axis, image: np.ndarray, map_: np.ndarray) -> None:
    """A map over the image in grey; each from its least to its largest value."""
    size = len(image)
    axis.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    axis.imshow(map_, cmap="inferno", alpha=0.6, extent=(-0.5, size - 0.5, size - 0.5, -0.5),
                interpolation="nearest" if len(map_) == size else "bilinear")
