"""What the tests of this folder read of a page: its commands, links, images and headings."""
import re
import shlex
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^()\s]+)\)")


def every(repo: Path) -> list[Path]:
    """The repository's pages."""
    return [repo / "README.md", *sorted(repo.glob("CONTRIBUTING.md")), repo / "CHANGELOG.md",
            *(path for folder in ("docs", "benchmarks", "packages/*", ".github", ".github/ISSUE_TEMPLATE")
              for path in sorted(repo.glob(f"{folder}/*.md")))]


def section(path: Path, title: str) -> str:
    """The part of a page under a heading of the second order, with the heading; "" if it has none of that title."""
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", path.read_text(), re.DOTALL | re.MULTILINE)
    return found[0] if found else ""


def blocks(path: Path, *languages: str, without: str = "") -> list[str]:
    """Its blocks of code in some languages; "" is that of a block that names none. `without` is a part to leave out."""
    text = path.read_text().replace(without, "") if without else path.read_text()
    return [text for language, text in _FENCE.findall(text) if language in languages]


def commands(path: Path, without: str = "") -> list[str]:
    """Its command lines, without comments, in one spelling: `vit` and `python` for those in .venv."""
    text = "\n".join(blocks(path, "", "bash", without=without)).replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines())
    return [re.sub(r"^\.venv/bin/python", "python", line).replace("python -m vit ", "vit ") for line in lines if line]


def words(command: str) -> list[str]:
    """A command line as a shell parts it."""
    return shlex.split(command)


def prose(path: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", path.read_text())


def links(path: Path) -> list[str]:
    """The targets of its links and images."""
    text = prose(path)
    return [*_LINK.findall(text), *(target for _, target in _IMAGE.findall(text))]


def images(path: Path) -> list[tuple[str, str]]:
    """Its images: alternative text and target."""
    return _IMAGE.findall(prose(path))


def anchors(path: Path) -> set[str]:
    """What a link to a heading of it ends with, as GitHub and MkDocs make it."""
    titles = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}
