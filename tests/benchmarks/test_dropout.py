"""How what dropout costs is measured, and what is said of it."""
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import dropout


def test_each_filling_comes_in_each_place():
    assert sorted(place for turn in range(3) for place in enumerate(dropout.order(turn))) == sorted(
        (place, filling) for place in range(3) for filling in dropout.FILLINGS)


def test_the_fillings_take_turns_in_that_order(monkeypatch):
    """With a stand-in for the framework, whose steps are the names of what fills its sites."""
    class Layer:
        def forward(self, x, key):
            return "ours"

    script = SimpleNamespace(Dropout=Layer, ViT=lambda config: None, from_numpy=lambda model, weights: None)
    done = []
    monkeypatch.setattr(dropout, "load_script", lambda backend: script)
    monkeypatch.setitem(dropout.OWN, "torch", lambda self, x, key: "own")
    monkeypatch.setitem(dropout.STEPS, "torch", lambda *_: lambda: done.append(Layer().forward("none", None)))
    assert set(dropout.measure("torch", "tiny", 2, 3)) == set(dropout.FILLINGS)
    rounds = np.reshape(done, (4, 3)).tolist()
    assert [tuple(one) for one in rounds] == [dropout.order(turn) for turn in range(4)]
    assert Counter(one[0] for one in rounds[1:]) == dict.fromkeys(dropout.FILLINGS, 1)  # the first one compiles


@pytest.mark.parametrize(("none", "own", "ours", "said"), [
    (1.0, 2.0, 1.5, "0.50"), (3.15, 4.18, 2.94, "within the noise"), (1.0, 0.9, 1.5, "within the noise"),
    (1.0, 0.8, 0.9, "within the noise"), (1.0, 1.0, 1.5, "within the noise"), (1.0, 2.0, 1.0, "within the noise")])
def test_a_difference_that_is_not_positive_is_noise(none, own, ours, said):
    assert dropout.cost({"none": none, "own": own, "ours": ours}) == said


@pytest.mark.parametrize("flag", ["--rounds", "--batch_size"])
def test_nothing_to_measure_is_one_line(flag, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dropout.py", flag, "0"])
    with pytest.raises(SystemExit) as ended:
        dropout.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("--rounds and --batch_size must be at least 1")
