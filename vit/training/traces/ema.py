"""Exponential moving average of a model's weights (Polyak & Juditsky 1992)."""
from fastestimator.trace.trace import Trace


class EMA(Trace):
    """After each update of the weights w set `a = a + (1 - decay) * (w - a)`, from `a = w` at the beginning.

    Computed in numpy, and so alike in all frameworks. The model is evaluated with the average, and has it when the
    training is over.

    Args:
        stage: The `vit.training.job.Stage` that trains.
        model: Its model.

    Attributes:
        values: The average, canonical weights.
        trained: The trained weights while the average stands in for them; else None.
    """

    def __init__(self, stage, model) -> None:
        # "*" puts it behind the traces that save the best model, which is the average.
        super().__init__(inputs="*", mode=("train", "eval"))
        self.stage, self.model, self.decay = stage, model, stage.job.recipe.ema_decay
        self.values = self.trained = None

    def on_begin(self, data) -> None:
        self.values = self.stage.job.script.to_numpy(self.model)

    def on_batch_begin(self, data) -> None:
        self.before = self.model.current_optimizer.updates()

    def on_batch_end(self, data) -> None:
        if self.system.mode == "train" and self.model.current_optimizer.updates() != self.before:
            for name, value in self.stage.job.script.to_numpy(self.model).items():
                self.values[name] += value.dtype.type(1 - self.decay) * (value - self.values[name])

    def on_epoch_begin(self, data) -> None:
        if self.system.mode == "eval":
            self._stand_in()

    def on_epoch_end(self, data) -> None:
        if self.system.mode == "eval":
            self.stage.job.script.from_numpy(self.model, self.trained)
            self.trained = None

    def on_end(self, data) -> None:
        self._stand_in()

    def _stand_in(self) -> None:
        self.trained = self.stage.job.script.to_numpy(self.model)
        self.stage.job.script.from_numpy(self.model, self.values)
