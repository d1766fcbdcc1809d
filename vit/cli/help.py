"""What `--help` and `--version` print, of the scripts and of `vit`."""
import argparse
import re
import textwrap

import vit
from vit import terminal


class Formatter(argparse.HelpFormatter):
    """Break the paragraphs of a description; those of indented lines stay as they are, where they fit."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs, width = text.strip().split("\n\n"), width - len(indent)
        for number, paragraph in enumerate(paragraphs):
            if paragraph.startswith(" "):
                if max(map(len, paragraph.splitlines())) > width:  # commands, each with a remark far behind it
                    paragraph = re.sub(r"(?<=\S) {3,}", "\n        ", paragraph)
                paragraphs[number] = terminal.wrapped(paragraph, width, indent=" " * 8)
            else:
                paragraphs[number] = terminal.wrapped(" ".join(paragraph.split()), width, indent="")
        return textwrap.indent("\n\n".join(paragraphs), indent)


class Version(argparse.Action):
    """The flag `--version`: print the program's version, and those that its numbers depend on."""

    def __init__(self, option_strings, dest, **_) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser, *_) -> None:
        from vit.training import stretches
        commit = stretches.git_commit()
        found = ", ".join(f"{name} {version or 'is missing'}" for name, version in stretches.versions().items())
        print(f"vit {vit.__version__}" + (f", commit {commit}" if commit else ""))
        print(terminal.wrapped(found, terminal.width()))
        parser.exit()
