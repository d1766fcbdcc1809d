"""Dynamic loss scaling for float16, as a FastEstimator trace (Micikevicius et al. 2018, section 3.2)."""
import functools
import math

from fe_compat import load_fastestimator

from vit.model.precision import FIRST_SCALE, GROWTH_STEPS


def loss_scaling(model, set_loss_scale, accumulate: int = 1):
    """The trace, for `fastestimator.Estimator(traces=[...])`.

    The optimizer skips an update whose gradients' norm is not finite; after such a one the scale is halved, and after
    `GROWTH_STEPS` good ones in a row it is doubled. Kept outside of the model, and so alike in all frameworks.

    Args:
        model: The model that is trained; its optimizer tells the gradients' norm.
        set_loss_scale: Its script's function.
        accumulate: Training steps of an update.

    Returns:
        A trace; its `state` is the scale, the good updates in a row and the skipped ones so far.
    """
    return _trace_class()(model, set_loss_scale, accumulate)


@functools.cache
def _trace_class():
    """The class, made when FastEstimator is there: importing this module imports no framework."""
    load_fastestimator()
    from fastestimator.trace.trace import Trace
    from fastestimator.util.util import to_number

    class LossScaling(Trace):

        def __init__(self, model, set_loss_scale, accumulate) -> None:
            super().__init__(inputs="ce", mode="train")
            self.model, self.set_loss_scale, self.accumulate = model, set_loss_scale, accumulate
            self.state = {"scale": FIRST_SCALE, "good_steps": 0, "skipped": 0}

        def on_batch_end(self, data) -> None:
            if self.system.global_step % self.accumulate:
                return
            if not math.isfinite(to_number(self.model.current_optimizer.norm)):
                self.go_on({"scale": self.state["scale"] / 2, "good_steps": 0, "skipped": self.state["skipped"] + 1})
            elif self.state["good_steps"] + 1 == GROWTH_STEPS:
                self.go_on(self.state | {"scale": self.state["scale"] * 2, "good_steps": 0})
            else:
                self.state["good_steps"] += 1

        def go_on(self, state: dict) -> None:
            """Take over a state, the present one or a checkpoint's."""
            self.state = dict(state)
            self.set_loss_scale(self.model.current_optimizer, self.state["scale"])

    return LossScaling
