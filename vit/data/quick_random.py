"""numpy's old generator, several times quicker at integers."""
import numpy as np


class QuickRandomState(np.random.RandomState):
    """A `RandomState` that draws the same numbers."""

    def __init__(self, seed: int = 0) -> None:
        bits = np.random.MT19937()
        super().__init__(bits)
        self._word = bits.random_raw  # the next 32 bits
        self.seed(seed)

    def randint(self, high: int) -> int:
        """Draw an integer, 0 to `high` - 1; at most 2**32 of them."""
        top = high - 1
        mask = (1 << top.bit_length()) - 1
        while top and (drawn := self._word() & mask) > top:
            pass
        return drawn if top else 0
