"""The pages lead where they say: links, headings, images, files and flags that they name."""
import re

import pytest
import yaml

from tests.docs import pages
from tests.docs.flags import known_flags

NAMED = re.compile(r"`((?:vit|tests|docs|benchmarks|packages|recipes|apphub)/[\w./-]+|vit_\w+\.py)`")


def faults(path, repo):
    """The links of a page that lead nowhere."""
    found = []
    for target in pages.links(path):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (path.parent / name).resolve() if name else path
        if not (there.is_relative_to(repo) and there.exists() and (not anchor or anchor in pages.anchors(there))):
            found.append(target)
    return found


def test_every_link_leads_somewhere(repo):
    found = {str(path.relative_to(repo)): bad for path in pages.every(repo) if (bad := faults(path, repo))}
    assert found == {}


@pytest.mark.parametrize("target", ["gone.md", "page.md#no-such", "#none", "../../outside.md", "missing.png"])
def test_a_link_that_leads_nowhere_is_found(tmp_path, target):
    page = tmp_path / "docs/page.md"
    page.parent.mkdir()
    page.write_text(f"# Here and there\n\n[good](page.md#here-and-there), [it](#here-and-there) and [bad]({target})\n")
    assert faults(page, tmp_path) == [target]


def test_a_new_framework_is_told_of_every_folder(repo):
    steps = pages.section(repo / "CONTRIBUTING.md", "Add a framework")
    told = steps.partition("one file in each of")[2].partition(".")[0]
    folders = sorted(path.parent.name for path in (repo / "vit/backend").glob("*/torch.py"))
    assert re.findall(r"`(\w+)/`", told) == folders


def test_every_image_is_told_in_words(repo):
    told = [(path.name, text, target) for path in pages.every(repo) for text, target in pages.images(path)]
    assert len(told) >= 5
    assert [row for row in told if len(row[1]) < 20] == []


def test_every_file_that_a_page_names_is_there(repo):
    gone = {}
    for path in pages.every(repo):
        if path.name == "CHANGELOG.md" or path.is_relative_to(repo / "packages"):
            continue  # what was, and files that are named from a package's own folder
        names = {name for name in NAMED.findall(pages.prose(path)) if "X" not in name}
        if missing := {name for name in names if not (repo / name).exists()}:
            gone[path.name] = missing
    assert gone == {}


def test_every_flag_that_a_page_names_is_one(repo):
    of_others = {"--nproc_per_node", "--max_restarts", "--join", "--node_rank", "--standalone", "--requeue"}
    known = known_flags() | of_others
    strange = {}
    for path in (repo / "README.md", *sorted((repo / "docs").glob("*.md"))):
        flags = set(re.findall(r"(?<![\w-])--[a-z]\w*", " ".join(re.findall(r"`[^`\n]+`", pages.prose(path)))))
        if unknown := flags - known:
            strange[path.name] = unknown
    assert strange == {}


def _navigated(entries):
    for entry in entries:
        for value in entry.values():
            yield from _navigated(value) if isinstance(value, list) else [value]


def test_the_site_has_every_page_of_docs(repo):
    names = list(_navigated(yaml.safe_load((repo / "mkdocs.yml").read_text())["nav"]))
    assert len(names) == len(set(names))
    assert {path.name for path in (repo / "docs").glob("*.md")} == {name for name in names if "/" not in name} - {
        "CONTRIBUTING.md", "CHANGELOG.md"}
    assert [name for name in names if not ((repo / "docs" / name).exists() or (repo / name).exists())] == []


def test_the_front_page_fits_on_one(repo):
    assert len((repo / "README.md").read_text().splitlines()) <= 100
