"""What the page of several workers reckons, and that it says what was measured."""
import sys

import pytest

from benchmarks import scale


@pytest.mark.parametrize("how", ["ordered", "fast"])
@pytest.mark.parametrize("variant", ["apphub", "vit_b_16_224"])
def test_more_devices_and_slower_networks_reach_less(variant, how):
    fast, slow = scale.NETWORKS.values()
    assert fast > slow
    shares = [scale.reckoned(variant, count, fast, how) for count in (8, 64, 512)]
    assert 1 > shares[0] > shares[1] > shares[2] > 0
    assert scale.reckoned(variant, 8, slow, how) == shares[0]  # one host needs no network
    assert scale.reckoned(variant, 64, slow, how) < shares[1]


def test_ordered_costs_what_it_sends():
    """Seven other gradients of ViT-B/16, 86,567,656 float32, at 450 GB/s, beside 128 images' products."""
    computing = 3 * 35_124_000_000 * 128 / (989e12 * 0.4)
    sending = 7 * 4 * 86_567_656 / 450e9
    assert scale.reckoned("vit_b_16_224", 8, 1, "ordered") == pytest.approx(computing / (computing + sending), rel=0.01)


def test_the_page_says_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "HERE", tmp_path)
    figures = {str(size): size / 1e9 for size in scale.SIZES.values()}
    content = {"machine": "M, 2 cores", "rounds": 3, "step": [2.0, 1.5],
               "reduction": {f"{how} {count}": figures for how in ("ordered", "fast") for count in (2, 4)}}
    scale.write({"ms": content})
    page = (tmp_path / "scale.md").read_text()
    assert "M, 2 cores, 3 rounds. " in page
    assert "| MindSpore | 2.00 | 1.50 | 0.75 |" in page
    assert "| MindSpore | 86 M | 344.0 | 86 | 86 | 86 | 86 |" in page


@pytest.mark.parametrize(("flags", "line"), [
    (["--rounds", "0"], "--rounds must be at least 1"),
    (["--backends", "torch,jax"], "--backends: jax is none of torch, tf, ms")])
def test_what_cannot_be_measured_is_one_line(flags, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scale.py", *flags])
    monkeypatch.setattr(scale, "measure", lambda *_: pytest.fail("it measures"))
    with pytest.raises(SystemExit) as ended:
        scale.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {line}")
