"""`--profile`: a few training steps traced for the framework's own viewer, as a FastEstimator trace."""
import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

from fe_compat import load_fastestimator

SKIPPED, TRACED = 3, 5  # the first steps compile and warm up


def profiling(profiler: Callable[[str], contextlib.AbstractContextManager], folder: Path, steps: int):
    """The trace, for `fastestimator.Estimator(traces=[...])`.

    Args:
        profiler: A script's function: from a folder to what traces its block into it.
        folder: Where the trace goes.
        steps: Training steps of an epoch; where they are few, fewer are skipped.
    """
    return _trace_class()(profiler, folder, min(SKIPPED, steps - 1))


@functools.cache
def _trace_class():
    """The class, made when FastEstimator is there: importing this module imports no framework."""
    load_fastestimator()
    from fastestimator.trace.trace import Trace
    from tqdm import tqdm

    class Profiling(Trace):

        def __init__(self, profiler, folder, skipped) -> None:
            super().__init__(mode="train")
            self.profiler, self.folder, self.skipped = profiler, folder, skipped

        def on_begin(self, data) -> None:
            self.block, self.seen = None, 0  # here, and so anew in a resumed training

        def on_batch_begin(self, data) -> None:
            if self.seen == self.skipped:
                self.block = contextlib.ExitStack()
                self.block.enter_context(self.profiler(str(self.folder)))

        def on_batch_end(self, data) -> None:
            self.seen += 1
            if self.seen == self.skipped + TRACED:
                self.close()

        def on_epoch_end(self, data) -> None:
            self.close()

        def close(self) -> None:
            if self.block is not None:
                self.block.close()
                self.block = None
                tqdm.write(f"profile: {self.seen - self.skipped} training steps, in {self.folder}")

    return Profiling
