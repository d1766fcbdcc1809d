"""What a checkpoint may set in FastEstimator's traces: their numbers, and nothing that steers them."""
import pytest

from vit.checkpoints import restore


class Trace:
    """As FastEstimator's traces are made: state and settings side by side, and methods."""
    skipped = 0

    def __init__(self, folder="runs/best"):
        self.wait, self.best, self.model_path, self.save_dir, self.mode = 0, float("-inf"), None, folder, "eval"
        self.model = object()

    @property
    def metric(self):
        return "accuracy"

    def on_epoch_end(self):
        return "own"


def test_numbers_are_set(refused):
    trace = Trace()
    restore(trace, {"wait": 3, "best": 0.5, "skipped": 2, "new": 1.5, "also_new": None})
    assert (trace.wait, trace.best, trace.skipped, trace.new, trace.also_new) == (3, 0.5, 2, 1.5, None)
    assert Trace.skipped == 0


@pytest.mark.parametrize(("name", "value"), [("on_epoch_end", 1), ("metric", 1), ("model", 1), ("model", "a"),
                                             ("__class__", 1), ("save_dir", 1), ("mode", None)])
def test_what_is_no_number_is_refused(refused, name, value):
    trace = Trace()
    before = dict(vars(trace))
    with refused(name, "of Trace"):
        restore(trace, {name: value})
    assert vars(trace) == before and trace.on_epoch_end() == "own"


@pytest.mark.parametrize("value", ["/elsewhere/model.pt", "runs/best/../../model.pt", "model.pt", "runs/best", ""])
@pytest.mark.parametrize("name", ["model_path", "save_dir", "wait", "new"])
def test_a_file_elsewhere_is_left_out(name, value):
    trace = Trace()
    before = dict(vars(trace))
    restore(trace, {name: value})
    assert vars(trace) == before


def test_a_file_that_the_trace_itself_saved_is_set():
    trace = Trace()
    restore(trace, {"model_path": "runs/best/model_best_ce.pt"})
    assert trace.model_path == "runs/best/model_best_ce.pt"
