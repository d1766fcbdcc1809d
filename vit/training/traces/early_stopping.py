"""The end of a stage that does not get better any more."""
from fastestimator.trace.trace import Trace

from vit.training.history import evaluations_since_best
from vit.training.report.log import say


class EarlyStopping(Trace):
    """End the training after some evaluations in a row without a better accuracy.

    All that counts is in the stage's history: so a run that goes on ends where the other would have, and all workers,
    who have the same history, end together.

    Args:
        stage: The `vit.training.job.Stage` that trains.
    """

    def __init__(self, stage) -> None:
        super().__init__(inputs="*", mode="eval")  # "*" puts it behind the trace that fills the history
        self.stage = stage

    def on_epoch_end(self, data) -> None:
        if self.stage.stops_early:
            self.system.stop_training = True
            say(f"{self.stage.name}: ends after epoch {self.system.epoch_idx} of {self.stage.epochs}: "
                f"{evaluations_since_best(self.stage.history.epochs)} evaluations were no better than the best "
                "(early_stopping_patience)")
