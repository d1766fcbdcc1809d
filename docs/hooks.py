"""What the site of mkdocs.yml has beside docs/: pages that lie elsewhere, and the reference of the Python API.

Links are written as they hold in the repository. Here a link to a page that the site has is turned into the site's, and
one to any other file into its text; one to nothing is a warning, which ends a strict build.
"""
import ast
import logging
import os
import re
from pathlib import Path

from mkdocs.structure.files import File

REPO = Path(__file__).parent.parent
LOG = logging.getLogger("mkdocs.hooks.repository")  # warnings of it end a strict build
# Outside docs/; their place in the site is their place in the repository.
ELSEWHERE = [path.relative_to(REPO).as_posix()
             for pattern in ("C*.md", "packages/*/*.md", "benchmarks/*.md", "benchmarks/*.png")
             for path in sorted(REPO.glob(pattern)) if path.name != "bounds.md"]  # which is a part of RESULTS.md
# The reference, a page for each: its title, and the folders or files whose modules it has.
REFERENCE = {
    "vit": ("vit: the rooms' ground floor", ["vit/*.py"]),
    "scripts": ("The three scripts", ["vit_torch.py", "vit_tf.py", "vit_ms.py"]),
    **{f"vit.{room}": (f"vit.{room}", [f"vit/{room}/**/*.py"])
       for room in sorted(path.parent.name for path in REPO.glob("vit/*/__init__.py"))},
    "fe_mindspore": ("fe_mindspore", ["packages/fe_mindspore/fe_mindspore/*.py"]),
    "fe_compat": ("fe_compat", ["packages/fe_compat/fe_compat/*.py"]),
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_BLOCKS = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def modules(patterns: list[str]) -> list[str]:
    """Name the modules that hold code, of some files of the repository."""
    found = []
    for path in (path for pattern in patterns for path in sorted(REPO.glob(pattern))):
        tree = ast.parse(path.read_text())
        if path.name != "__main__.py" and (len(tree.body) > 1 or ast.get_docstring(tree)):
            inside = path.relative_to(REPO).parts
            inside = inside[2:] if inside[0] == "packages" else inside
            found.append(".".join([*inside[:-1], *([] if path.stem == "__init__" else [path.stem])]))
    return found


def on_config(config):
    """Add the reference to the navigation."""
    pages = [{title: f"reference/{name}.md"} for name, (title, _) in REFERENCE.items()]
    config.nav.append({"Reference": pages})
    return config


def on_files(files, config):
    """Add the pages that lie elsewhere, and those of the reference."""
    for name in ELSEWHERE:
        files.append(File.generated(config, name, abs_src_path=str(REPO / name)))
    for name, (title, patterns) in REFERENCE.items():
        lines = [f"# {title}", "", *(f"::: {module}\n" for module in modules(patterns))]
        files.append(File.generated(config, f"reference/{name}.md", content="\n".join(lines)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn the links of a page from the repository's into the site's."""
    if page.file.src_uri.startswith("reference/"):
        return markdown
    source = page.file.src_uri if page.file.src_uri in ELSEWHERE else f"docs/{page.file.src_uri}"

    def turned(match: re.Match) -> str:
        image, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        inside = os.path.normpath(os.path.join(os.path.dirname(source), path))
        if not (REPO / inside).exists():
            LOG.warning("%s: a link to %s, and there is no such file", source, target)
            return match[0]
        inside = {"README.md": "docs/README.md", "docs": "docs/README.md"}.get(inside, inside)
        uri = inside.removeprefix("docs/") if inside.startswith("docs/") else inside
        if files.get_file_from_path(uri) is None:
            return text
        there = os.path.relpath(uri, os.path.dirname(page.file.src_uri) or ".")
        return f"{image}[{text}]({there}{'#' if anchor else ''}{anchor})"

    return "".join(part if part.startswith("```") else _LINK.sub(turned, part) for part in _BLOCKS.split(markdown))
