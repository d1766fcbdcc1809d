"""The three scripts diff, and so do the files of `vit/backend/`: but for a table of words, to the hunks kept here.

After a change that the frameworks force, look at what it adds and write the lists anew:

    python -m tests.siblings.test_siblings
"""
import difflib
from pathlib import Path

import pytest

from tests.siblings.words import WORDS

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "script": {"torch": "vit_torch.py", "tf": "vit_tf.py", "ms": "vit_ms.py"},
    "backend": {"torch": "vit/backend/torch.py", "tf": "vit/backend/tensorflow.py", "ms": "vit/backend/mindspore.py"},
    "dropout": {"torch": "vit/backend/dropout/torch.py", "tf": "vit/backend/dropout/tensorflow.py",
                "ms": "vit/backend/dropout/mindspore.py"},
    "muon": {"torch": "vit/backend/muon/torch.py", "tf": "vit/backend/muon/tensorflow.py",
             "ms": "vit/backend/muon/mindspore.py"},
    "normalize": {"torch": "vit/backend/normalize/torch.py", "tf": "vit/backend/normalize/tensorflow.py",
                  "ms": "vit/backend/normalize/mindspore.py"},
    "device": {"torch": "vit/backend/device/torch.py", "tf": "vit/backend/device/tensorflow.py",
               "ms": "vit/backend/device/mindspore.py"},
    "predictor": {"torch": "vit/backend/predictor/torch.py", "tf": "vit/backend/predictor/tensorflow.py",
                  "ms": "vit/backend/predictor/mindspore.py"},
    "explainer": {"torch": "vit/backend/explainer/torch.py", "tf": "vit/backend/explainer/tensorflow.py",
                  "ms": "vit/backend/explainer/mindspore.py"},
    "served": {"torch": "vit/backend/served/torch.py", "tf": "vit/backend/served/tensorflow.py",
               "ms": "vit/backend/served/mindspore.py"},
    "workers": {"torch": "vit/backend/workers/torch.py", "tf": "vit/backend/workers/tensorflow.py",
                "ms": "vit/backend/workers/mindspore.py"},
}
PAIRS = [(kind, backend) for kind in FILES for backend in ("tf", "ms")]


def neutral(backend: str, text: str) -> list[str]:
    """Put the neutral word in the place of each framework's; return the lines."""
    for word, replacement in WORDS[backend].items():
        text = text.replace(word, replacement)
    return text.splitlines()


def hunks(ours: list[str], theirs: list[str]) -> str:
    """Give the lines that differ, hunk by hunk; without line numbers, which change with every edit above them."""
    lines = difflib.unified_diff(ours, theirs, n=0, lineterm="")
    return "\n".join("@@" if line.startswith("@@") else line for line in lines
                     if not line.startswith(("---", "+++"))) + "\n"


def residual(kind: str, backend: str) -> str:
    """Give what is left of the difference between PyTorch's file and another's."""
    ours, theirs = (neutral(one, (ROOT / FILES[kind][one]).read_text()) for one in ("torch", backend))
    return hunks(ours, theirs)


def kept(kind: str, backend: str) -> Path:
    """The file that keeps the difference that is allowed."""
    return Path(__file__).with_name(f"{kind}-torch-{backend}.diff")


@pytest.mark.parametrize(("kind", "backend"), PAIRS)
def test_siblings_differ_in_what_is_kept_and_in_nothing_else(kind, backend):
    assert residual(kind, backend) == kept(kind, backend).read_text(), (
        "look at the change; if the frameworks force it: python -m tests.siblings.test_siblings")


@pytest.mark.parametrize("line", ["        x = self.drop1(self.activation(self.fc1(x)), key)  # B, N, mlp_dim",
                                  "class Block(LAYER):", "        self.pre = config.norm_order == \"pre\""])
def test_a_planted_difference_is_seen(line):
    ours, theirs = (neutral(one, (ROOT / FILES["script"][one]).read_text()) for one in ("torch", "ms"))
    assert theirs.count(line) == 1
    theirs[theirs.index(line)] += "  # and more"
    assert hunks(ours, theirs) != kept("script", "ms").read_text()


@pytest.mark.parametrize("kind", FILES)
def test_siblings_are_short(kind):
    lines = {file: len((ROOT / file).read_text().splitlines()) for file in FILES[kind].values()}
    assert max(lines.values()) <= 260, lines


if __name__ == "__main__":
    for pair in PAIRS:
        kept(*pair).write_text(residual(*pair))
