"""What docs/troubleshooting.md says that one sees is what the project prints."""
import ast
import re

import pytest

# Lines of others: pip, Linux, torch, argparse.
OTHERS = {"requires a different Python", "fastestimator 1.7.0 requires dill==", "No space left on device", "Killed",
          "libgomp.so.1: cannot open shared object file", "unrecognized arguments: --device_target",
          "CUDA initialization: Unexpected error from cudaGetDeviceCount()"}


@pytest.fixture(scope="module")
def printed(repo):
    """Every text of the code, with "..." for what is put into it; and the Makefile."""
    texts = [re.sub(r"\$\$\([^)]*\)+|\$\(\w+\)", "...", (repo / "Makefile").read_text())]
    for folder in ("vit", "packages/fe_compat/fe_compat", "packages/fe_mindspore/fe_mindspore"):
        for path in (repo / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
                    texts.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return texts


def _parts(line):
    """The words of a line between what stands for something."""
    return [part.strip(" ;:,()") for part in line.removeprefix("error: ").split("...") if len(part.strip(" ;:,()")) > 2]


def _is_said(line, texts):
    """Whether one text, or one of others, has all parts of a line in their order."""
    pattern = re.compile(".*".join(map(re.escape, _parts(line))), re.DOTALL)
    return any(pattern.search(text) for text in texts)


def _quoted(repo):
    page = (repo / "docs/troubleshooting.md").read_text()
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ") and "what you see" not in line]
    return [line for row in rows for line in re.findall(r"`([^`]+)`", row)]


def test_every_line_is_one_that_is_printed(repo, printed):
    lines = _quoted(repo)
    assert len(lines) > 40
    texts = [*printed, *OTHERS]
    assert [line for line in lines if not _is_said(line, texts)] == []


def test_a_line_that_nobody_prints_is_noticed(printed):
    assert _is_said("holds ..., of another run", printed)
    assert not _is_said("holds ..., of an other run", printed)
    assert not _is_said("of another run ... holds", printed)
