"""`python -m vit export`: a file's model for other programs."""
import argparse
import itertools
import sys

import numpy as np

from vit.data import NAMES, load
from vit.errors import UserError, printable
from vit.use.formats import FORMATS

_TRIED, _MOST_TRIED = 8, 64  # images: of the digits, of those that are named


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("export", help="a file's model for other programs", description=(
        "Export a model with a framework's own exporter. The file is run by its own runtime on real images, and "
        "gets its name only if its scores are those of the weights."))
    parser.add_argument("source", metavar="FILE", help="weights, a checkpoint, a folder of Hugging Face or of a run")
    parser.add_argument("destination", metavar="OUT", help="the file to write; a folder for savedmodel and openvino")
    parser.add_argument("--to", choices=FORMATS, required=True, metavar="FORM",
                        help=", ".join(FORMATS))
    parser.add_argument("--batch", type=_batch, default=None, metavar="N",
                        help="images at a time: a number, or dynamic for any (default: dynamic)")
    parser.add_argument("--preprocess", action="store_true", help=(
        "take pixels, uint8 [B, S, S, 3], and give probabilities; default: normalized images, float32, and logits"))
    parser.add_argument("--images", nargs="+", metavar="IMAGE", help=(
        f"images or folders to try it on, the first {_MOST_TRIED} (default: {_TRIED} handwritten digits)"))
    parser.add_argument("--quantize", choices=("int8",), metavar="int8", help=(
        "weights of 8 bits, for onnx; needs --data, on whose test images it may not do much worse"))
    parser.add_argument("--data", choices=NAMES, metavar="NAME", help=f"for --quantize: {', '.join(NAMES)}")
    parser.add_argument("--data_dir", metavar="DIR", help="for --quantize: its folder, as of the scripts")
    parser.add_argument("--max_loss", type=float, default=1.0, metavar="POINTS",
                        help="of top-1 that --quantize may cost (default: %(default)s)")
    parser.set_defaults(run=_run)


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or not 0 < int(text) < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of images nor dynamic")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from vit.use import export
    from vit.use.classifier import Model, read_whole
    from vit.use.evaluation import choose
    export.check_name(options.to, options.destination)
    if options.quantize and options.to != "onnx":
        raise UserError(f"--quantize is for --to onnx, not {options.to}")
    if bool(options.quantize) != (options.data is not None):
        raise UserError("--quantize int8 and --data go together: accuracy before and after is measured on the data")
    if not 0 <= options.max_loss <= 100:
        raise UserError(f"max_loss must be from 0 to 100 points, not {options.max_loss:g}")
    weights, config, usage = read_whole(options.source)
    model = Model(config, usage, options.source, 1)
    images = np.stack([model.pixels(image) for image in _images(options.images)])
    given = (options.batch, options.preprocess)
    if options.quantize:
        pair = load(options.data, options.data_dir, classes=len(model.classes))
        dataset = choose(pair, model, options.source)
        found, after = export.export_int8(weights, config, usage, options.destination, images, dataset.test,
                                          options.max_loss / 100, *given)
    else:
        found = export.export(weights, config, usage, options.to, options.destination, images, *given)
    for note in model.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    line = (f"{options.destination}: {FORMATS[options.to].title}; on {found.images} images {found.runtime} differs by "
            f"{found.difference:.1e} from the weights' own scores (bar {export.BAR:.0e})")
    if options.quantize:
        line += (f"; then int8, {after.bytes / 1e6:.1f} MB, top-1 {after.after:.2%} on {after.images:,} images of "
                 f"{dataset.name}, before {after.before:.2%} (it may lose {options.max_loss:g} points)")
    print(printable(line))
    return 0


def _images(paths: list[str] | None) -> list[np.ndarray]:
    """The images that the export is tried on."""
    if paths is None:
        return list(load("digits").finetune.test.images[:_TRIED])
    from vit.data.image_folder import attempt
    from vit.use.images import find
    images = []
    for path in itertools.islice(find(paths), _MOST_TRIED):
        image, fault = attempt(path)
        if fault is not None:
            raise UserError(f"{path}: {fault}")
        images.append(image)
    return images
