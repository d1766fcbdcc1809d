"""The figures that the pages quote are those of the files that they come from."""
import re

import pytest

from benchmarks import demo, parity, quoted
from tests.docs import pages
from vit.model import summary
from vit.model.config import VARIANTS
from vit.parity.pairs import BARS

# What looks measured: percents with a fraction, powers of ten, seconds, deviations.
MEASURED = re.compile(r"\d\.\d+ ?%|\d ?e-\d+|\d+\.\d+ (?:s|seconds|GB)\b|±")
# What the front page may say outside its quoted blocks: the plots' words, which name the bar; and what `make
# demo` and `make .venv` install, which tests/test_make_venv.py holds to the Makefile.
SAID = {"1e-15", "1e-9", "3.7 GB", "7.6 GB", "7.5 GB"}


def test_the_pages_quote_what_is_kept():
    stale = [path.name for path, root in quoted.pages().items()
             if path.read_text() != quoted.filled(path.read_text(), root)]
    assert stale == [], "run benchmarks/quoted.py"


def test_every_block_is_quoted_somewhere():
    named = {name for path in quoted.pages() for name in re.findall(r"<!-- quoted: (\w+) -->", path.read_text())}
    assert named == set(quoted.BLOCKS)


def test_a_changed_figure_is_seen():
    text = quoted.filled("<!-- quoted: drift -->\n<!-- end -->\n", "")
    assert text.count("|") > 12
    assert quoted.filled(text.replace("e-", "e-9"), "") == text


def test_the_finetunes_are_quoted_once_there_are_some(monkeypatch):
    def rows(*accuracies):
        return [{"accuracy": accuracy} for accuracy in accuracies]

    runs = {"torch": {"pretrain": rows(0.1, 0.25)}, "tf": {"pretrain": rows(0.1)}}
    monkeypatch.setattr(quoted, "_headline", lambda: runs)
    assert quoted.on_cifar()[-2:] == ["| PyTorch | 10.00 | 25.00 |", "| TensorFlow | 10.00 | - |"]
    runs["torch"] |= {"finetune": {"start": "2 epochs", "epochs": rows(0.5)}, "scratch": {"epochs": rows(0.4, 0.45)}}
    assert quoted.on_cifar()[-2:] == ["", "Then one epoch of CIFAR-10: FastEstimator's after 100 epochs 74.26 "
                                      "(ciFAIR-10); PyTorch's after 2 epochs 50.00, from scratch 45.00."]


def test_the_front_page_says_no_figure_of_its_own(repo):
    text = re.sub(r"<!-- quoted: \w+ -->.*?<!-- end -->", "", (repo / "README.md").read_text(), flags=re.DOTALL)
    assert set(MEASURED.findall(text)) <= SAID


def test_the_drifts_page_is_that_of_what_is_kept(repo):
    assert (repo / "benchmarks/parity.md").read_text() == parity.table(parity.kept())


def test_every_pair_was_within_the_bar_when_it_was_measured():
    for row in parity.kept():
        bar = BARS["train", row["dtype"]]
        assert max(parity.drift(row, *pair).max() for pair in parity.PAIRS) < bar
        assert row["dtype"] != "float64" or max(row["weights"].values()) < bar


def test_the_three_curves_are_as_close_as_their_plot_says(repo):
    row = parity.three_curves(parity.kept())
    worst = max(parity.drift(row, a, b).max() for a, b in parity.PAIRS)
    assert len(row["losses"]["torch"]) == 100
    assert worst < 1e-14 < BARS["train", "float64"]  # "some 1e-15, a million times less"


def test_the_demo_that_was_measured_is_that_of_make(repo):
    assert demo.FLAGS in re.sub(r"\\\n\s*", "", (repo / "Makefile").read_text())


def test_the_variants_table_is_the_specs(repo):
    lines = pages.prose(repo / "docs/model.md").splitlines()
    rows = {row[0]: row[1:] for row in (re.findall(r"[^|]+", line) for line in lines if line.startswith("| `"))}
    for name, config in VARIANTS.items():
        if name.startswith("vit_"):
            continue
        cells = [cell.strip() for cell in rows[f" `{name}` "]]
        assert cells[:6] == [str(value) for value in (config.image_size, config.patch_size, config.width, config.depth,
                                                      config.heads, config.mlp_dim)]
        assert float(cells[6].split()[0]) == pytest.approx(summary.parameters(config) / 1e6, abs=0.05)
    others = [summary.parameters(config) / 1e6 for name, config in VARIANTS.items() if name.startswith("vit_")]
    assert f"{min(others):.1f} to {max(others):.1f} M" in (repo / "docs/model.md").read_text()


def test_the_bars_are_those_that_the_tests_hold(repo):
    text = (repo / "docs/parity.md").read_text()
    [forward] = re.findall(r"^\| forward.*$", text, re.MULTILINE)
    [gradient] = re.findall(r"^\| gradient.*$", text, re.MULTILINE)
    for row, stage in ((forward, "forward"), (gradient, "gradient")):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert (float(cells[1]), float(cells[3])) == (BARS[stage, "float64"], BARS[stage, "float32"])
        assert float(cells[2]) < float(cells[1]) and float(cells[4]) < float(cells[3])
    assert f"{BARS['train', 'float64']:.0e}".replace("e-0", "e-") in text
