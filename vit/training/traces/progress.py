"""The progress bar of a stage."""
from fastestimator.trace.trace import Trace
from tqdm import tqdm


class Progress(Trace):
    """Show a bar with the time left; tqdm keeps quiet where the output is not a terminal.

    Args:
        stage: The `vit.training.job.Stage` that trains.
    """

    def __init__(self, stage) -> None:
        super().__init__(inputs="ce", mode="train")
        self.stage = stage

    def on_begin(self, data) -> None:
        self.bar = tqdm(total=self.stage.steps, desc=self.stage.name, unit="step",
                        disable=self.stage.job.options.quiet or None, dynamic_ncols=True)

    def on_batch_end(self, data) -> None:
        if losses := self.stage.history.step_losses:  # the last that was read: to ask for this one would be to wait
            self.bar.set_postfix(epoch=self.system.epoch_idx, loss=f"{losses[-1]:.3f}", refresh=False)
        self.bar.update(self.system.global_step - self.bar.n)  # a resumed training begins further on

    def on_end(self, data) -> None:
        self.bar.close()
