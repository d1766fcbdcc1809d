"""Which part of a batch each of several workers takes."""
from typing import NamedTuple

import numpy as np


class Share(NamedTuple):
    """One worker's part of every batch: as many samples as each other worker's, side by side in the batch's order.

    Attributes:
        rank: Which worker, from 0.
        size: How many workers there are.
    """
    rank: int = 0
    size: int = 1

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Say which samples of a batch are this worker's, and with which weights they make up the batch's mean.

        Where the samples cannot be shared evenly, the last one pads the last shares, with weight 0. The weights of all
        workers add up to 1.

        Args:
            count: Samples of the batch.

        Returns:
            Places in the batch, int64 [c], and weights, float64 [c], of the worker's c = ceil(count / size) samples.
        """
        own = -(-count // self.size)
        places = self.rank * own + np.arange(own)
        return np.minimum(places, count - 1), np.where(places < count, 1 / count, 0.0)


WHOLE = Share()
