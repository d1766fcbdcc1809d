"""Moving average of a model's weights, as a FastEstimator trace (Polyak & Juditsky 1992)."""
import functools
from collections.abc import Callable

from fe_compat import load_fastestimator


def average(model, to_numpy, from_numpy, decay: float, updates: Callable[[], int]):
    """The trace, for `fastestimator.Estimator(traces=[...])`.

    After each update of the weights w it sets `a = a + (1 - decay) * (w - a)`, from `a = w` at the beginning, in numpy
    and so alike in all frameworks. The model is evaluated with the average, and has it when the training is over.

    Args:
        model: The model that is trained.
        to_numpy: Its script's function.
        from_numpy: Its script's function.
        decay: How much of the average stays in a step.
        updates: Tells how many updates the optimizer has made: a step that accumulates or is skipped makes none.

    Returns:
        A trace; its `values` are the average, and `kept` the trained weights while the average stands in for them.
    """
    return _trace_class()(model, to_numpy, from_numpy, decay, updates)


@functools.cache
def _trace_class():
    """The class, made when FastEstimator is there: importing this module imports no framework."""
    load_fastestimator()
    from fastestimator.trace.trace import Trace

    class WeightAverage(Trace):

        def __init__(self, model, to_numpy, from_numpy, decay, updates) -> None:
            # "*" puts it behind those that save the best model, which is the average.
            super().__init__(inputs="*", mode=("train", "eval"))
            self.model, self.to_numpy, self.from_numpy = model, to_numpy, from_numpy
            self.decay, self.updates = decay, updates
            self.values = self.kept = None

        def on_begin(self, data) -> None:
            self.values = self.to_numpy(self.model)

        def on_batch_begin(self, data) -> None:
            self.before = self.updates()

        def on_batch_end(self, data) -> None:
            if self.system.mode == "train" and self.updates() != self.before:
                for name, value in self.to_numpy(self.model).items():
                    self.values[name] += value.dtype.type(1 - self.decay) * (value - self.values[name])

        def on_epoch_begin(self, data) -> None:
            if self.system.mode == "eval":
                self._stand_in()

        def on_epoch_end(self, data) -> None:
            if self.system.mode == "eval":
                self.from_numpy(self.model, self.kept)
                self.kept = None

        def on_end(self, data) -> None:
            self._stand_in()

        def _stand_in(self) -> None:
            self.kept = self.to_numpy(self.model)
            self.from_numpy(self.model, self.values)

    return WeightAverage
