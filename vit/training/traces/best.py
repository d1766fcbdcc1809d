"""FastEstimator's BestModelSaver, which a full disk need not end."""
import sys
from pathlib import Path

from fastestimator.trace import io

from vit.errors import UserError, one_line


class BestModelSaver(io.BestModelSaver):  # of FastEstimator's name, since checkpoints keep its state under it
    """Save the model whenever its accuracy is higher than ever.

    Args:
        model: The model.
        folder: Where it goes.
        on_error: "stop" or "continue" where it cannot be written.
    """

    def __init__(self, model, folder: Path, on_error: str = "continue") -> None:
        super().__init__(model=model, save_dir=str(folder), metric="accuracy", save_best_mode="max")
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
