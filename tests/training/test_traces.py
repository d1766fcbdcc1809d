"""The traces that write a stage's history down, and the progress bar."""
import contextlib
import dataclasses
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest

from tests.training.test_run import EPOCH
from vit.model.config import VARIANTS
from vit.training import traces
from vit.training.history import count_top, log_line
from vit.training.job import Job, Stage
from vit.training.options import RunOptions
from vit.training.recipe import Recipe

# All that the traces ask of a script and a model.
SCRIPT = SimpleNamespace(backend=SimpleNamespace(on_accelerator=lambda: False, hold=lambda value: value))
MODEL = SimpleNamespace(current_optimizer=SimpleNamespace(norm=np.float32(0.25)))


def _stage(epochs, tensorboard=None):
    """A stage of two steps an epoch, whose learning rate is a hundredth of the step."""
    recipe = Recipe(train_steps_per_epoch=2, learning_rate=0.02 * epochs, warmup_steps=2 * epochs)
    job = Job(SCRIPT, recipe, None, None, RunOptions(tensorboard=tensorboard and str(tensorboard)))
    return Stage(job, "pretrain", SimpleNamespace(evaluated_on="test"), epochs, VARIANTS["tiny"])


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "term", "shown"), [
    (_Terminal, "xterm", True), (_Terminal, "dumb", False), (io.StringIO, "xterm", False)])
def test_progress_bar_shows_the_time_left_on_a_terminal(stream, term, shown, monkeypatch):
    monkeypatch.setenv("TERM", term)
    stage = _stage(epochs=3)
    progress = traces.Progress(stage)
    progress.close()  # of a training that ended before it began
    progress.system = SimpleNamespace(epoch_idx=1, global_step=None)
    err = stream()
    with contextlib.redirect_stderr(err):
        progress.on_begin(None)
        for step in (4, 5, 6):  # resumed after three
            progress.system.global_step = step
            progress.on_batch_end({})
            stage.history.step_losses.append(0.5)
        progress.bar.refresh()
        progress.close()
    assert (err.getvalue() != "") is shown
    if shown:
        last = err.getvalue().split("\r")[-3]  # behind it, the bar is wiped
        assert re.fullmatch(r"pretrain 100%\|.+\| 6/6, loss 0\.500, 00:00 left, .+step/s", last), last


@pytest.mark.parametrize(("on_accelerator", "read"), [(False, 1), (True, 0)])
def test_losses_are_read_at_each_step_but_on_an_accelerator(on_accelerator, read, monkeypatch):
    monkeypatch.setattr(SCRIPT.backend, "on_accelerator", lambda: on_accelerator)
    trace = traces.TrainHistory(stage := _stage(1), MODEL)
    trace.system = SimpleNamespace(epoch_idx=1, global_step=1)
    trace.on_epoch_begin({})
    trace.on_batch_end({"ce": 1.0, "y": np.zeros(3, int)})
    assert (len(stage.history.step_losses), len(stage.history.unread)) == (read, 1 - read)
    trace.on_epoch_end({})
    assert stage.history.step_losses == [1.0]


def test_a_fixed_loss_scale_stays_whatever_a_checkpoint_has():
    set_to = []
    optimizer = SimpleNamespace(set_loss_scale=set_to.append)
    trace = traces.LossScale(SimpleNamespace(current_optimizer=optimizer), fixed=8.0)
    assert trace.state == {"scale": 8.0, "good_steps": 0, "skipped": 0}
    trace.go_on({"scale": 4.0, "good_steps": 3, "skipped": 2})
    assert set_to == [8.0] and trace.state == {"scale": 8.0, "good_steps": 3, "skipped": 2}


def _two_batches(tensorboard=None):
    """The history of one epoch of two batches, the second with less weight; it is the fourth of seven."""
    rng, stage = np.random.default_rng(0), _stage(7, tensorboard)
    for trace in (traces.TrainHistory(stage, MODEL), traces.EvalHistory(stage)):
        trace.system = SimpleNamespace(epoch_idx=4, global_step=8)
        trace.on_epoch_begin({})
        for loss, size in ((1.0, 30), (5.0, 10)):
            trace.on_batch_end({"ce": loss, "y": np.zeros(size, int), "y_pred": rng.normal(size=(size, 10))})
        trace.on_epoch_end({"accuracy": 0.75})
        trace.on_end({})
    return stage.history


def test_top_five_counts_labels_among_the_five_highest():
    logits = np.arange(70.0).reshape(7, 10)
    assert [count_top(logits, np.full(7, label)) for label in (9, 5, 4, 0)] == [7, 7, 0, 0]
    assert count_top(logits[:, :3], np.zeros(7, int)) == 7
    assert count_top(logits * np.nan, np.zeros(7, int)) == 0


def test_log_line_says_everything(capsys):
    history = _two_batches()
    out = capsys.readouterr().out
    [epoch] = history.epochs
    assert out == log_line(epoch, "pretrain: epoch", 7) + "\n"
    parts = ("pretrain: epoch 4/7: ", " ms a step, ", " images/s, ", "rate 8.00e-02, ", "loss 2.0000 | test: ",
             "loss 2.0000, ", "top-1 75.00%, ", f"top-5 {epoch['top5']:.2%}, ")
    assert [out.find(part) for part in parts] == sorted(out.find(part) for part in parts)
    assert all(part in out for part in parts), out


def test_an_epoch_that_is_not_evaluated_is_told_of_as_well(tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    stage = _stage(7, tmp_path)
    stage.job.recipe = dataclasses.replace(stage.job.recipe, eval_every=5)
    trace = traces.TrainHistory(stage, MODEL)
    trace.system = SimpleNamespace(epoch_idx=4, global_step=8)
    trace.on_epoch_begin({})
    trace.on_batch_end({"ce": 1.0, "y": np.zeros(30, int)})
    trace.on_epoch_end({})
    out, [epoch] = capsys.readouterr().out, stage.history.epochs
    assert out.startswith("pretrain: epoch 4/7: ") and out.endswith("loss 1.0000\n") and "test" not in out
    assert set(epoch) == EPOCH - {"eval_loss", "accuracy", "top5", "eval_seconds"}
    [file] = (tmp_path / "pretrain").iterdir()
    assert "train_loss" in EventAccumulator(str(file)).Reload().Tags()["scalars"]


def test_log_line_of_one_step_has_no_speed():
    epoch = {"epoch": 1, "train_seconds": 1.0, "step_seconds": None, "images_per_second": None, "learning_rate": 0.1,
             "train_loss": 2.0, "eval_loss": 3.0, "accuracy": 0.5, "top5": 1.0, "eval_seconds": 2.0}
    for evaluated_on in ("test", "validation"):
        assert log_line(epoch, "scratch: epoch", 3, evaluated_on) == (
            f"scratch: epoch 1/3: 1.0 s, rate 1.00e-01, loss 2.0000 | {evaluated_on}: loss 3.0000, top-1 50.00%, top-5 "
            "100.00%, 2.0 s")


def test_tensorboard_gets_every_number_of_an_epoch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    history = _two_batches(tmp_path)
    [epoch] = history.epochs
    [file] = (tmp_path / "pretrain").iterdir()
    events = EventAccumulator(str(file)).Reload()
    assert set(events.Tags()["scalars"]) == EPOCH - {"epoch"}
    for name in EPOCH - {"epoch"}:
        [scalar] = events.Scalars(name)
        assert (scalar.step, scalar.value) == (8, pytest.approx(epoch[name]))


def test_mean_loss_weighs_batches_by_their_size():
    history = _two_batches()
    [epoch] = history.epochs
    assert (epoch["epoch"], epoch["train_loss"], epoch["eval_loss"], epoch["accuracy"]) == (4, 2.0, 2.0, 0.75)
    assert history.step_losses == [1.0, 5.0]
    assert history.gradient_norms == [0.25, 0.25]
    assert set(epoch) == EPOCH
