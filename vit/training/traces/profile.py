"""`--profile`: a few training steps traced for the framework's own viewer."""
import contextlib

from fastestimator.trace.trace import Trace

from vit.training.report.log import say

SKIPPED, TRACED = 3, 5  # the first steps compile and warm up


class Profile(Trace):
    """Trace a few training steps into a folder.

    Args:
        stage: The `vit.training.job.Stage` that trains; where an epoch has few steps, fewer are skipped.
    """

    def __init__(self, stage) -> None:
        super().__init__(mode="train")
        self.stage, self.skipped = stage, min(SKIPPED, stage.steps_per_epoch - 1)
        self.folder = stage.job.model_dir / "profile"

    def on_begin(self, data) -> None:
        self.block, self.seen = None, 0  # here, and so anew in a resumed training

    def on_batch_begin(self, data) -> None:
        if self.seen == self.skipped and self.stage.job.world.first:
            self.block = contextlib.ExitStack()
            self.block.enter_context(self.stage.job.script.backend.profiler(str(self.folder)))

    def on_batch_end(self, data) -> None:
        self.seen += 1
        if self.seen == self.skipped + TRACED:
            self.close()

    def on_epoch_end(self, data) -> None:
        self.close()

    def close(self) -> None:
        """End the trace, and say where it is."""
        if self.block is not None:
            self.block.close()
            self.block = None
            say(f"profile: {self.seen - self.skipped} training steps, in {self.folder}")
