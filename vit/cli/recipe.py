"""`python -m vit recipe`: what a recipe says, and what it can say."""
import argparse

from vit.training import recipe_file
from vit.training.recipe import Recipe


def add_parser(commands) -> None:
    """Add the command and its two parts."""
    parser = commands.add_parser("recipe", help="look at the recipe of a training run, or at what it can say",
                                 description="Look at the recipe of a training run, or at what a recipe can say.")
    parts = parser.add_subparsers(required=True, metavar="PART", dest="part")
    check = parts.add_parser("check", help="print every field of a recipe file, or what is wrong with it", description=(
        "Print the recipe that a YAML file describes, with every field; or say in one line what is wrong with it."))
    check.add_argument("file", metavar="FILE", help="a YAML file, or the name of a shipped recipe such as small_data")
    check.set_defaults(run=_check)
    explain = parts.add_parser("fields", help="print every field with its default and what it means", description=(
        "Print every field of a recipe with its default, what it means and which values it takes. The output is a "
        "recipe file itself, of FastEstimator's apphub job."))
    explain.add_argument("names", nargs="*", metavar="FIELD", help="only these (default: all)")
    explain.set_defaults(run=_explain)


def _check(options: argparse.Namespace) -> int:
    print(recipe_file.dump(recipe_file.build(options.file)), end="")
    return 0


def _explain(options: argparse.Namespace) -> int:
    print(recipe_file.document(Recipe.renamed(dict.fromkeys(options.names)) or recipe_file.FIELDS))
    return 0
