"""The page of figures: it is what the kept figures say, and a target that is missed is called that."""
import json

import pytest

from benchmarks import quoted, results


def _row(name, turns, whole):
    return {"what": name, "seconds": sorted(turns)[1], "least": min(turns), "processor": 1.0, "peak": turns[0] * 1e9,
            "turns": turns, "whole": whole}


def _steps(backend="torch", variant="apphub", whole=(1.0, 1.0, 1.0), **turns):
    rows = {name: _row(name, list(values), list(whole)) for name, values in {"whole": whole, **turns}.items()}
    return {variant: {backend: {"step_gflop": 100.0, "products_gflop": 200.0, "machine": "M", "rounds": 3,
                                "batch_size": 128, "versions": {}, "contenders": rows}}}


def _same(**seconds):
    return _steps(**{name: (value, ) * 3 for name, value in seconds.items()})


def test_the_page_is_that_of_the_kept_figures(repo):
    assert (repo / "benchmarks/RESULTS.md").read_text() == results.text(results.kept())


def test_what_is_asked_is_met_or_missed():
    met = results.targets(_same(whole=1.0, ours=1.0, fe=2.0, huggingface=2.0, peak=1.6))
    assert [row.rsplit("|", 2)[1].strip() for row in met] == ["yes"] * 5
    missed = results.targets(_same(whole=2.0, ours=1.0, fe=2.0, huggingface=2.0, peak=1.0))
    assert [row.rsplit("|", 2)[1].strip() for row in missed] == [
        "no, 61% above", "no, 33% above", "no, 90% above", "yes", "no, 67% below"]


def test_a_framework_that_was_not_measured_has_no_row():
    assert results.targets({}) == []


def test_a_ratio_is_that_of_the_rounds():
    """The machine is slow in the first round, and we are before the peer in two of three: not so the medians."""
    whole, theirs = [5.0, 2.0, 3.0], [10.0, 2.5, 2.0]
    assert results.ratio(whole, theirs) == [0.8, 0.5, 1.5]
    assert results.with_spread(results.ratio(whole, theirs)) == "0.80 (0.50 to 1.50)"
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        results.ratio(whole, theirs[:2])


def test_every_table_shows_that_ratio():
    steps = _steps(whole=(5.0, 2.0, 3.0), fe=(10.0, 2.5, 2.0), peak=(5.0, 2.0, 1.5))
    [fe, _, share] = results.targets(steps)
    assert "| at most 0.62 | 0.80 (0.50 to 1.50) | no, 29% above |" in fe
    assert "| at least 0.75 | 0.50 (0.25 to 0.50) | no, 33% below |" in share
    table = results.step_table("apphub", "torch", steps["apphub"]["torch"])
    [row] = [line for line in table if line.startswith("| fe")]
    assert "| 1.25 (0.67 to 2.00) |" in row


@pytest.mark.parametrize(("backend", "peer"), [("torch", "fe"), ("torch", "huggingface"), ("tf", "fe"),
                                               ("tf", "huggingface"), ("ms", "mindcv")])
@pytest.mark.parametrize("variant", results.STEPS)
def test_a_peer_under_our_conditions_has_a_row_in_which_nothing_is_asked(variant, backend, peer):
    steps = _steps(backend, variant, peak=(1.0, ) * 3, **{peer: (2.0, 2.0, 2.0), f"{peer}_kept": (1.5, 1.0, 2.0)})
    rows = [row for row in results.targets(steps) if "time: " in row]
    assert f"/ {peer} | " in rows[0] and "| 0.50 (0.50 to 0.50) |" in rows[0]
    assert rows[1].endswith(f"/ {peer}_kept | - | 0.67 (0.50 to 1.00) | - |")


def test_the_pages_quote_the_same_ratios(monkeypatch):
    steps = _steps(whole=(5.0, 2.0, 3.0), fe=(10.0, 2.5, 2.0), fe_kept=(5.0, 2.0, 6.0), huggingface=(5.0, 4.0, 4.0))
    monkeypatch.setattr(results, "kept", lambda: steps)
    lines = quoted.speed()
    assert lines[2:4] == [
        "| PyTorch, `apphub` | 3.00 | fe: 2.50 | 0.80 (0.50 to 1.50) | 1.00 (0.50 to 1.00) |",
        "| PyTorch, `apphub` | 3.00 | huggingface: 4.00 | 0.75 (0.50 to 1.00) | - |"]
    assert {line.count("|") for line in lines[:4]} == {6}


@pytest.mark.parametrize("forget", [lambda rows: rows["fe"].pop("turns"), lambda rows: rows.clear()])
def test_a_file_without_the_rounds_wants_to_be_measured_again(forget, tmp_path, monkeypatch):
    content = _steps(fe=(1.0, 1.0, 1.0))["apphub"]
    path = tmp_path / "step-apphub.json"
    monkeypatch.setattr(results, "STEPS", {"apphub": path})
    path.write_text(json.dumps(content))
    assert results.kept() == {"apphub": content}
    forget(content["torch"]["contenders"])
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as ended:
        results.kept()
    assert ended.value.code == ("error: benchmarks/step-apphub.json does not have each round of PyTorch: run "
                                "`python benchmarks/step.py --variant apphub --backends torch` again")
