"""Epochs as rows: what they say, and that they fit."""
import re

import pytest

from vit.training.report import epoch_rows

EPOCH = {"epoch": 7, "train_seconds": 2.0, "step_seconds": 0.1, "images_per_second": 12345.6, "learning_rate": 0.01,
         "train_loss": 4.25, "eval_loss": 123.0, "accuracy": 0.5, "top5": 1.0, "eval_seconds": 1.5}
TRAINED = {name: EPOCH[name] for name in list(EPOCH)[:6]}


def test_a_row_says_everything():
    head, row = epoch_rows.row([EPOCH], 100, "pretrain", "test", 80)
    assert head.split("  ")[0] == "pretrain" and head.split()[1:] == [
        "loss", "test", "loss", "top-1", "top-5", "time", "images/s", "rate"]
    assert row.split() == ["7/100", "4.2500", "1.2e+02", "50.00%", "100.00%", "3.5", "s", "12,346", "1.00e-02"]
    assert [len(head), len(row)] == [76, 76]


@pytest.mark.parametrize(("columns", "last"), [(200, "scale"), (80, "rate"), (60, "time"), (45, "top-1"), (20, "loss"),
                                               (1, "pretrain")])
def test_a_row_leaves_out_what_does_not_fit(columns, last):
    scaled = EPOCH | {"loss_scale": 65536.0, "skipped_steps": 3}
    head, row = epoch_rows.row([scaled], 100, "pretrain", "validation", columns)
    assert head.split()[-1] == last and len(row) == len(head) <= max(columns, 8)


def test_an_epoch_without_evaluation_or_speed_has_dashes():
    _, row = epoch_rows.row([TRAINED | {"images_per_second": None}], 100, "scratch", "test", 80)
    assert row.split() == ["7/100", "4.2500", "-", "-", "-", "2.0", "s", "-", "1.00e-02"]


def test_a_loss_without_an_accuracy_is_shown():
    _, row = epoch_rows.row([TRAINED | {"eval_loss": 0.25, "eval_seconds": 1.0}], 100, "mae", "test", 80)
    assert row.split()[:5] == ["7/100", "4.2500", "0.2500", "-", "-"]


@pytest.mark.parametrize(("accuracies", "best"), [((0.5,), True), ((0.5, 0.6), True), ((0.5, 0.5), False),
                                                  ((0.5, None), False), ((0.5, float("nan")), False)])
def test_an_accuracy_above_all_before_it_is_bold(accuracies, best, monkeypatch):
    monkeypatch.setattr(epoch_rows.terminal, "styled", lambda text, style: f"<{style} {text}>")
    epochs = [TRAINED if one is None else EPOCH | {"accuracy": one} for one in accuracies]
    head, row = epoch_rows.row(epochs, 100, "scratch", "test", 80)
    assert head.startswith("<dim scratch")
    assert re.findall("<bold *(.+?)>", row) == ([f"{accuracies[-1]:.2%}"] if best else [])


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "0:01:00"),
                                               (36610.0, "10:10:10")])
def test_time_is_in_seconds_and_then_in_hours(seconds, text):
    _, row = epoch_rows.row([TRAINED | {"train_seconds": seconds}], 100, "scratch", "test", 80)
    assert f" {text} " in row
