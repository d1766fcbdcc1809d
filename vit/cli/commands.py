"""`python -m vit COMMAND`: tools around the three scripts."""
import argparse
import json

from vit import checkpoints
from vit import convert as convert_
from vit.cli.train import Parser, report_errors
from vit.errors import UserError
from vit.files import canonical
from vit.model import parameters, summary
from vit.model.config import VARIANTS
from vit.parity import differences, pairs
from vit.training import recipe_file


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = Parser(prog="python -m vit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_compare(commands)
    _add_convert(commands)
    _add_list(commands)
    _add_recipe(commands)
    listing = commands.add_parser("checkpoints", help="what is in a run's checkpoints, and whether they are whole")
    listing.add_argument("folder", metavar="DIR", help="a run's --model_dir, or its folder of checkpoints")
    listing.set_defaults(run=_checkpoints)
    options = parser.parse_args(arguments)
    return report_errors(lambda: options.run(options))


def _add_compare(commands) -> None:
    parser = commands.add_parser("compare", help="which stage differs first between two frameworks", description=(
        "Run the same weights on the same images in two frameworks and compare them stage by stage; the first one "
        "over the bar is marked. Exit status 1 if there is one."))
    backends = ", ".join(pairs.BACKENDS)
    parser.add_argument("a", metavar="A", help=f"one of {backends}")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument("--weights", metavar="FILE", help="a weights file (default: random weights)")
    parser.add_argument("--variant", default=None, metavar="NAME",
                        help=f"{', '.join(VARIANTS)} (default: that of --weights, or tiny)")
    parser.add_argument("--stage", choices=pairs.STAGES, default="forward", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of --stage train (default: %(default)s)")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    parser.set_defaults(run=_compare)


def _checkpoints(options: argparse.Namespace) -> int:
    print(checkpoints.describe(options.folder))
    return 0


def _compare(options: argparse.Namespace) -> int:
    if options.steps < 1:
        raise UserError(f"steps must be at least 1, not {options.steps}")
    if options.variant is not None and options.variant not in VARIANTS:
        raise UserError(f"unknown variant {options.variant!r}: choose one of {', '.join(VARIANTS)}")
    if options.weights:
        weights, config = canonical.load(options.weights, expected=VARIANTS.get(options.variant))
        if config.in_channels != 3:
            raise UserError(f"{options.weights}: its model sees images of {config.in_channels} channels, "
                            "and those to compare with have 3")
    else:
        config = VARIANTS[options.variant or "tiny"].replace(num_classes=10)
        weights = parameters.perturbed(config, seed=0)
    rows = pairs.compare(options.a, options.b, config, weights, options.stage, options.dtype, options.steps)
    print(differences.report(rows))
    if options.json:
        content = {"backends": [options.a, options.b], "stage": options.stage, "dtype": options.dtype,
                   "rows": [{**vars(row), "over": row.over} for row in rows]}
        try:
            with open(options.json, "w") as file:
                json.dump(content, file, indent=2)
        except OSError as error:
            raise UserError(f"{options.json}: cannot be written ({error.strerror})") from None
    return int(any(row.over for row in rows))


def _add_convert(commands) -> None:
    parser = commands.add_parser("convert", help="another project's checkpoint to this one's, or back", description=(
        "Read the weights of a ViT from a file of timm, DeiT, MAE, Hugging Face, torchvision, Google, MindCV, "
        "FastEstimator's apphub or this project, and write them for one of these. Says what was recognised and what "
        "became of every tensor."))
    parser.add_argument("source", metavar="SRC", help="a file, or a Hugging Face folder")
    parser.add_argument("destination", metavar="DST", help="the file to write; for --to hf a folder")
    parser.add_argument("--to", choices=convert_.FORMATS, default="canonical", help="default: %(default)s")
    parser.add_argument("--image_size", type=int, metavar="N",
                        help="side of the images, pixels; positions are resized (default: the source's)")
    parser.add_argument("--num_classes", type=int, metavar="N",
                        help="where it is not the source's, the head is new (default: the source's)")
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads, where the source does not say")
    parser.add_argument("--grid", type=_grid, metavar="ROWSxCOLUMNS",
                        help="of the source's positions, where they are no square")
    parser.add_argument("--quiet", action="store_true", help="print notes and a summary, not every tensor")
    parser.set_defaults(run=_convert)


def _grid(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 14x14")
    return int(rows), int(columns)


def _convert(options: argparse.Namespace) -> int:
    weights, config, report = convert_.read(options.source, options.image_size, options.num_classes, options.heads,
                                            options.grid)
    convert_.write(options.destination, weights, config, options.to, report)
    if options.quiet:
        print(*(f"note: {note}" for note in report.notes), report.summary(), sep="\n")
    else:
        print(report)
    print(f"{summary.describe(config)}; written to {options.destination} as {options.to}")
    return 0


def _add_list(commands) -> None:
    parser = commands.add_parser("list", help="the variants: parameters, FLOPs, input size",
                                 description=f"The variants that every script takes. {summary.COUNTED}")
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    print(summary.table())
    return 0


def _add_recipe(commands) -> None:
    parser = commands.add_parser("recipe", help="look at the recipe of a training run")
    parts = parser.add_subparsers(required=True, metavar="COMMAND", dest="part")
    check = parts.add_parser("check", help="print every field of a recipe file, or what is wrong with it", description=(
        "Print the recipe that a YAML file describes, with every field; or say in one line what is wrong with it."))
    check.add_argument("file", metavar="FILE", help="a YAML file, such as recipes/small_data.yaml")
    check.set_defaults(run=_check_recipe)


def _check_recipe(options: argparse.Namespace) -> int:
    print(recipe_file.dump(recipe_file.build(options.file)), end="")
    return 0

