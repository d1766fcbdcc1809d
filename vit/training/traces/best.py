"""FastEstimator's BestModelSaver, which a full disk need not end."""
import functools
import sys
from pathlib import Path

from fe_compat import load_fastestimator

from vit.errors import UserError, one_line


def best_model_saver(model, folder: Path, metric: str, on_error: str = "continue"):
    """The trace, for `fastestimator.Estimator(traces=[...])`.

    Args:
        model: The model to save when its metric is higher than ever.
        folder: Where it goes.
        metric: The key that an evaluation is judged by.
        on_error: "stop" or "continue" where it cannot be written.
    """
    return _trace_class()(model, folder, metric, on_error)


@functools.cache
def _trace_class():
    """The class, made when FastEstimator is there: importing this module imports no framework."""
    load_fastestimator()
    from fastestimator.trace import io

    class BestModelSaver(io.BestModelSaver):  # of that name: checkpoints keep its state under it

        def __init__(self, model, folder, metric, on_error) -> None:
            super().__init__(model=model, save_dir=str(folder), metric=metric, save_best_mode="max")
            self.on_error = on_error

        def on_epoch_end(self, data) -> None:
            try:
                super().on_epoch_end(data)
            except (OSError, RuntimeError) as error:  # PyTorch's writer has no error of its own for a full disk
                reason = getattr(error, "strerror", None) or one_line(error)
                line = f"{self.save_dir}: the best model could not be written ({reason})"
                if self.on_error == "stop":
                    raise UserError(f"{line}; training stopped, as on_save_error says") from None
                print(f"warning: {line}; training goes on", file=sys.stderr, flush=True)
                for key, value in zip(self.outputs, (self.since_best, self.best), strict=True):
                    data.write_with_log(key, value)

    return BestModelSaver
