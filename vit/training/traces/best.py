"""FastEstimator's BestModelSaver, which writes a weights file that every reader here takes, whole or not at all."""
import sys

from fastestimator.trace import io

from vit.errors import UserError
from vit.files import canonical
from vit.training import usage


class BestModelSaver(io.BestModelSaver):  # of FastEstimator's name, since checkpoints keep its state under it
    """Save the weights of the best epoch, and go on if they cannot be written, unless the run shall stop then.

    The file is `best/STAGE_best_accuracy.safetensors` in the run's folder, canonical weights with their spec.

    Args:
        stage: The `vit.training.job.Stage` that trains.
        model: Its model.
    """

    def __init__(self, stage, model) -> None:
        super().__init__(model=model, save_dir="", metric="accuracy", save_best_mode="max")  # it only compares
        self.stage, self.path = stage, stage.job.model_dir / "best" / f"{self.model_name}.safetensors"

    def on_epoch_end(self, data) -> None:
        super().on_epoch_end(data)
        fault = self._save() if self.since_best == 0 and self.stage.job.world.first else None
        if fault is not None:
            if self.stage.job.options.on_save_error == "stop":
                raise UserError(f"{fault}; training stopped, as on_save_error says")
            print(f"warning: {fault}; training goes on", file=sys.stderr, flush=True)

    def _save(self) -> str | None:
        """Write the file; return what kept it from being written, or None."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            canonical.save(self.path, self.stage.job.script.to_numpy(self.model), self.stage.config,
                           usage.of(self.stage, float(self.best)))
        except OSError as error:
            return f"{self.path}: the best model could not be written ({error.strerror})"
        except UserError as error:
            return str(error)
        print(f"{self.stage.name}: the best model so far is in {self.stage.job.shown(self.path)}", flush=True)
        return None
