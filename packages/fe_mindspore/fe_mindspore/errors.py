"""The one exception for what this backend does not do."""


class UnsupportedError(ValueError):
    """FastEstimator offers it, this backend does not: the message names it and says what to use instead."""
