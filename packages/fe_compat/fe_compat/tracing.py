"""FastEstimator's steps in TensorFlow, traced as they are written.

AutoGraph translates every Python function that a step calls, FastEstimator's own too: 6 seconds in each process. Only
an `if` or a loop on a tensor needs it, as that of FastEstimator's UpdateOp where it merges gradients.
"""
import functools

from fe_compat import legacy_tensorflow, load_fastestimator


def trace_as_written() -> None:
    """Let networks leave AutoGraph out, until a step turns out to need it: its network is translated from then on."""
    load_fastestimator()
    legacy_tensorflow()
    from fastestimator.network import TFNetwork
    if not hasattr(TFNetwork._forward_step_static, "translated"):
        TFNetwork._forward_step_static = _step(TFNetwork._forward_step_static)


def _step(translated):
    """The step of a network, of which TensorFlow's function `translated` is the one with AutoGraph."""
    function = legacy_tensorflow().function
    as_written = function(translated.python_function, reduce_retracing=True, autograph=False)

    @functools.wraps(translated.python_function)
    def step(network, *arguments):
        if not getattr(network, "needs_autograph", False):
            try:
                return as_written(network, *arguments)
            except TypeError:  # what a tensor answers that is taken for a Python bool, int or sequence
                network.needs_autograph = True
        return translated(network, *arguments)

    step.translated = translated
    return step
