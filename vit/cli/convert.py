"""`python -m vit convert`: weights of another project to this one's, or back."""
import argparse

from vit import terminal
from vit.convert import FORMATS, read, write
from vit.model import summary


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("convert", help="another project's checkpoint to this one's, or back", description=(
        "Read the weights of a ViT from a file of timm, DeiT, MAE, Hugging Face, torchvision, Google, MindCV, "
        "FastEstimator's apphub or this project, and write them for one of these. Says what was recognised and what "
        "became of every tensor. Of a run's folder it takes the finished weights (finetuned.safetensors, else scratch, "
        "else pretrained) or, if no stage is over, the newest whole checkpoint of finetune, scratch or pretrain, in "
        "this order; of a checkpoint the moving average (EMA), where there is one."))
    parser.add_argument("source", metavar="SRC",
                        help="a file (a checkpoint, too), a folder of Hugging Face or timm, or the folder of a run")
    parser.add_argument("destination", metavar="DST", help="the file to write; for --to hf and timm_hub a folder")
    parser.add_argument("--to", choices=FORMATS, default="canonical", metavar="FORMAT",
                        help=f"{', '.join(FORMATS)} (default: %(default)s)")
    parser.add_argument("--image_size", type=int, metavar="N",
                        help="size of the images, pixels; the position embeddings are resized (default: the source's)")
    parser.add_argument("--num_classes", type=int, metavar="N",
                        help="where it is not the source's, the head is new (default: the source's)")
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads, where the source does not say")
    parser.add_argument("--grid", type=_grid, metavar="ROWSxCOLUMNS",
                        help="of the source's position embeddings, where they are no square")
    parser.add_argument("--quiet", action="store_true", help="print notes and a summary, not every tensor")
    parser.set_defaults(run=_run)


def _grid(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not written ROWSxCOLUMNS, such as 14x14")
    return int(rows), int(columns)


def _run(options: argparse.Namespace) -> int:
    weights, config, report = read(options.source, options.image_size, options.num_classes, options.heads, options.grid)
    write(options.destination, weights, config, options.to, report)
    told = [*(f"note: {note}" for note in report.notes), report.summary()] if options.quiet else [str(report)]
    told.append(f"{summary.describe(config)}; written to {options.destination} as {options.to}")
    print(terminal.wrapped("\n".join(told), terminal.width()))
    return 0
