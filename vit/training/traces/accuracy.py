"""FastEstimator's Accuracy, which takes the highest of logits that are no numbers for class 0."""
import numpy as np
from fastestimator.trace import metric
from fastestimator.util.util import to_number


class Accuracy(metric.Accuracy):  # of FastEstimator's name, since checkpoints keep its state under it
    """Count right classes; logits that are not finite make the accuracy of the whole evaluation NaN."""

    def on_epoch_begin(self, data) -> None:
        super().on_epoch_begin(data)
        self.finite = True

    def on_batch_end(self, data) -> None:
        super().on_batch_end(data)
        self.finite = self.finite and bool(np.isfinite(to_number(data[self.pred_key])).all())

    def on_epoch_end(self, data) -> None:
        super().on_epoch_end(data)
        if not self.finite:
            data.write_with_log(self.outputs[0], np.nan)
