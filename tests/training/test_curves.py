"""`curves.png`: lines that are told apart without colour, and one epoch as a clear point on a whole axis."""
from types import SimpleNamespace

import numpy as np
import pytest

from vit.training.report import figures, results

pytestmark = pytest.mark.plots


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """A function that draws stages, {name: epochs}: the figure."""
    shown = []
    monkeypatch.setattr(figures, "save", lambda figure, path, dpi: shown.append(figure))

    def draw(loss=2.0, **stages):
        dataset = SimpleNamespace(name="digits", evaluated_on="test")
        made = [SimpleNamespace(name=name, dataset=dataset, history=SimpleNamespace(epochs=[
            {"epoch": i + 1, "train_loss": loss / (i + 1), "eval_loss": 0.9 * loss, "accuracy": 0.5}
            for i in range(count)])) for name, count in stages.items()]
        results.plot(made, tmp_path / "curves.png")
        return shown.pop()

    return draw


def test_a_masked_autoencoder_is_not_drawn(drawn):
    assert len(drawn(mae=2, pretrain=2).axes) == 2


def test_one_epoch_is_a_clear_point_on_a_whole_axis(drawn):
    figure = drawn(pretrain=12, finetune=1, scratch=1)
    _, loss, _, accuracy = figure.axes
    for axis in (loss, accuracy):
        low, high = axis.get_xlim()
        assert (low, high) == (0.5, 1.5)
        assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1]
        assert all(line.get_markersize() >= 10 for line in axis.lines)
    assert loss.get_ylim()[0] == 0 and loss.get_ylim()[1] > max(line.get_ydata()[0] for line in loss.lines)
    assert accuracy.get_ylim() == (0, 100)


def test_lines_are_told_apart_without_colour(drawn):
    for axis in drawn(pretrain=3, finetune=3, scratch=3).axes:
        looks = [(line.get_marker(), line.get_linestyle(), line.get_markerfacecolor() == "white")
                 for line in axis.lines]
        assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("loss", [np.nan, np.inf, 0.0])
def test_losses_that_have_no_height_are_drawn(drawn, loss):
    assert drawn(loss=loss, finetune=2).axes[0].get_ylim() == (0, 1)
