"""Loss scaling for float16, dynamic or fixed (Micikevicius et al. 2018, section 3.2)."""
import math

from fastestimator.trace.trace import Trace

from vit.model.precision import FIRST_SCALE, GROWTH_STEPS


class LossScale(Trace):
    """Halve the loss scale after a skipped update, double it after `GROWTH_STEPS` good ones in a row; or leave it.

    The optimizer skips an update whose gradients' norm is not finite, and tells that norm. The rule is kept outside of
    the models, and so alike in all frameworks.

    Args:
        model: The model that is trained.
        accumulate_steps: Training steps of an update.
        fixed: The scale that the loss keeps; None for one that changes.

    Attributes:
        state: The scale, the good updates in a row, and the skipped ones so far.
    """

    def __init__(self, model, accumulate_steps: int = 1, fixed: float | None = None) -> None:
        super().__init__(inputs="ce", mode="train")
        self.model, self.accumulate_steps, self.fixed = model, accumulate_steps, fixed
        self.state = {"scale": fixed or FIRST_SCALE, "good_steps": 0, "skipped": 0}

    def on_batch_end(self, data) -> None:
        if self.system.global_step % self.accumulate_steps:
            return
        if not math.isfinite(float(self.model.current_optimizer.norm)):
            self.go_on({"scale": self.state["scale"] / 2, "good_steps": 0, "skipped": self.state["skipped"] + 1})
        elif self.state["good_steps"] + 1 == GROWTH_STEPS:
            self.go_on(self.state | {"scale": self.state["scale"] * 2, "good_steps": 0})
        else:
            self.state["good_steps"] += 1

    def go_on(self, state: dict) -> None:
        """Take over a state, the present one or a checkpoint's; a fixed scale stays."""
        self.state = dict(state) if self.fixed is None else state | {"scale": self.fixed}
        self.model.current_optimizer.set_loss_scale(self.state["scale"])
