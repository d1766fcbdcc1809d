"""The page of figures: it is what the kept figures say, and a target that is missed is called that."""
from benchmarks import results


def _steps(**seconds):
    rows = {name: {"what": name, "seconds": value, "least": value, "processor": value, "peak": value * 1e9}
            for name, value in seconds.items()}
    return {"apphub": {"torch": {"step_gflop": 100.0, "products_gflop": 200.0, "contenders": rows}}}


def test_the_page_is_that_of_the_kept_figures(repo):
    assert (repo / "benchmarks/RESULTS.md").read_text() == results.text(results.kept())


def test_what_is_asked_is_met_or_missed():
    met = results.targets(_steps(whole=1.0, ours=1.0, fe=2.0, huggingface=2.0, peak=1.6))
    assert [row.rsplit("|", 2)[1].strip() for row in met] == ["yes"] * 5
    missed = results.targets(_steps(whole=2.0, ours=1.0, fe=2.0, huggingface=2.0, peak=1.0))
    assert [row.rsplit("|", 2)[1].strip() for row in missed] == [
        "no, 61% above", "no, 33% above", "no, 90% above", "yes", "no, 67% below"]


def test_a_framework_that_was_not_measured_has_no_row():
    assert results.targets({}) == []
