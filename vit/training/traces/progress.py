"""The progress bar of a stage."""
import sys

from fastestimator.trace.trace import Trace
from tqdm import tqdm

from vit import terminal


class Progress(Trace):
    """Show a bar with the time left, from when the stage begins until `close`; none where a window has no width.

    Args:
        stage: The `vit.training.job.Stage` that trains.
    """

    def __init__(self, stage) -> None:
        super().__init__(inputs="ce", mode="train")
        self.stage, self.bar = stage, None

    def on_begin(self, data) -> None:
        columns = terminal.width(sys.stderr)
        self.bar = tqdm(total=self.stage.steps, desc=self.stage.name, unit="step", bar_format=bar_format(columns or 80),
                        leave=False, dynamic_ncols=True, disable=self.stage.job.options.quiet or columns is None)

    def on_batch_end(self, data) -> None:
        if losses := self.stage.history.step_losses:  # the last that was read: to ask for this one would be to wait
            self.bar.set_postfix_str(f"loss {losses[-1]:.3f}", refresh=False)
        self.bar.update(self.system.global_step - self.bar.n)  # a resumed training begins further on

    def close(self) -> None:
        """Take the bar away, if there is one."""
        if self.bar is not None:
            self.bar.close()


def bar_format(columns: int) -> str:
    """What a bar says in a window of a width: steps and the time left; the loss and the speed where they have place."""
    loss = "{postfix}" if columns >= 50 else ""
    speed = ", {rate_fmt}" if columns >= 75 else ""
    return "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}" + loss + ", {remaining} left" + speed
