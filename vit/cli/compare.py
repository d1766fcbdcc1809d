"""`python -m vit compare`: the first stage at which two frameworks compute something else."""
import argparse
import json

from vit import terminal
from vit.errors import UserError
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.parity import differences, pairs
from vit.training.pretrained import read


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("compare", help="which stage differs first between two frameworks", description=(
        "Run the same weights on the same images in two frameworks and compare them stage by stage; the first one "
        "over the bar is marked. Exit status 1 if there is one."))
    backends = ", ".join(pairs.BACKENDS)
    parser.add_argument("a", metavar="A", help=f"one of {backends}")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument("--weights", metavar="FILE",
                        help="weights: any file, or a run's folder, that --pretrained takes (default: random weights)")
    parser.add_argument("--variant", default=None, metavar="NAME",
                        help=f"{', '.join(VARIANTS)} (default: that of --weights, or tiny)")
    parser.add_argument("--stage", choices=pairs.STAGES, default="forward", metavar="NAME",
                        help=f"{', '.join(pairs.STAGES)} (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of --stage train (default: %(default)s)")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", metavar="NAME",
                        help="float64 or float32 (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.steps < 1:
        raise UserError(f"steps must be at least 1, not {options.steps}")
    if options.variant is not None and options.variant not in VARIANTS:
        raise UserError(f"unknown variant {options.variant!r}: choose one of {', '.join(VARIANTS)}")
    if options.weights:
        weights, config = read(options.weights, None, VARIANTS.get(options.variant))
    else:
        config = VARIANTS[options.variant or "tiny"].replace(num_classes=10)
        weights = parameters.perturbed(config, seed=0)
    rows = pairs.compare(options.a, options.b, config, weights, options.stage, options.dtype, options.steps)
    print(terminal.wrapped(differences.report(rows), terminal.width()))
    if options.json:
        content = {"backends": [options.a, options.b], "stage": options.stage, "dtype": options.dtype,
                   "rows": [{**vars(row), "over": row.over} for row in rows]}
        try:
            with open(options.json, "w") as file:
                json.dump(content, file, indent=2)
        except OSError as error:
            raise UserError(f"{options.json}: cannot be written ({error.strerror})") from None
    return int(any(row.over for row in rows))
