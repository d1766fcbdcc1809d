"""FastEstimator 1.7 on today's torch and TensorFlow: the one place that bridges the two.

Why it exists: FastEstimator 1.7.0 was written for torch 2.3 and TensorFlow 2.15. It is the newest release and the last
with TensorFlow, so it is the one that is taken, and any other is refused by name.

* Its sampler calls `torch.utils.data.Sampler.__init__(data_source=None)`, an argument that torch has dropped.
* Its sampler is its own iterator, and torch's BatchSampler now calls `iter()` on it before each batch: every batch
  would begin the pass anew, so that an evaluation would see its first batch again and again.
* Its Estimator leaves TensorFlow's tuner of data pipelines on. It has nothing to tune here, and each pass over the data
  may wait for seconds for it to end, the more often the fewer cores there are.
* Its ModelOp spreads a lone input over a Keras model whose `call` may take a second one.
* It needs the Keras 2 that TensorFlow no longer ships: `TF_USE_LEGACY_KERAS=1` before TensorFlow is first imported.
* What draws its logs writes 3.6 MB of JavaScript into the folder for temporary files, and leaves them there.
* It imports all that any of its parts may need; most of it comes when it is used (`stand_ins`).
* TensorFlow, which it may import, since 2.20 lends its LLVM to whatever is loaded later; triton, which torch imports
  with its first optimizer (not torch's CPU build, which has none), would take it for its own and crash.

`tests/test_fe_compat.py` fails as soon as one of these is no longer needed (Keras 2 aside).
"""
import atexit
import contextlib
import functools
import gc
import importlib.util
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

from fe_compat import stand_ins

HEADLESS = "opencv-python-headless==4.11.0.86"  # as in pyproject.toml


class Unusable(ImportError):
    """FastEstimator, or what it needs, cannot be used as it is installed; the message is one line with the way out."""


def legacy_tensorflow():
    """Import TensorFlow with Keras 2, or say what to do if it is too late for that.

    Returns:
        The `tensorflow` module.

    Raises:
        Unusable: TensorFlow was imported with Keras 3 already, or Python drops docstrings.
    """
    _prepare_tensorflow()
    with quiet_stderr():
        import tensorflow
        tensorflow.config.list_physical_devices("GPU")  # here, for its complaint where there is none
    return tensorflow


def _prepare_tensorflow() -> None:
    """Make whoever imports TensorFlow from now on get the one with Keras 2; raise Unusable if it is too late."""
    require_docstrings()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" not in sys.modules:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    elif not sys.modules["tensorflow"].keras.Model.__module__.startswith("tf_keras"):
        raise Unusable("TensorFlow was already imported with Keras 3, and FastEstimator needs Keras 2: set "
                        "TF_USE_LEGACY_KERAS=1 before the first `import tensorflow` (or import FastEstimator first)")
    _load_triton_apart()


def require_docstrings() -> None:
    """Refuse a Python that drops docstrings: Keras 2 edits its own as it is imported.

    Raises:
        Unusable: Python was started with -OO or PYTHONOPTIMIZE=2.
    """
    if sys.flags.optimize > 1:
        raise Unusable("Keras 2 cannot be imported without docstrings: start Python without -OO, and with "
                       "PYTHONOPTIMIZE=1 at most")


def _load_triton_apart() -> None:
    """Import triton, if there is one, such that it finds its own LLVM first, TensorFlow loaded or not."""
    if "triton" in sys.modules or importlib.util.find_spec("triton") is None:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        import triton  # noqa: F401
    finally:
        sys.setdlopenflags(flags)


def use_one_gpu() -> None:
    """Let FastEstimator see the first visible GPU only: it would spread a model over all of them, which the scripts'
    functions of weights and moments do not know. (Without effect once torch has counted the GPUs.)"""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def load_fastestimator():
    """Import FastEstimator, with what it needs from today's torch and TensorFlow in place.

    Returns:
        The `fastestimator` module.

    Raises:
        Unusable: FastEstimator is not installed, is another than 1.7, or cannot be imported as it is installed;
            TensorFlow was imported with Keras 3 already; or Python drops docstrings.
    """
    _check_version()
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    try:
        from cv2 import setNumThreads  # noqa: F401  (FastEstimator calls it first, and a broken OpenCV lacks it)
        _prepare_tensorflow()
        stand_ins.install()
        import fastestimator
        import fastestimator.estimator
        from fastestimator.dataset.dataloader import InfiniteSampler
        from fastestimator.estimator import Estimator
        from fastestimator.op.tensorop.model import ModelOp
        from torch.utils.data import Sampler
    except Unusable:
        raise
    except ImportError as error:
        raise Unusable(_way_out(error)) from error
    fastestimator.fe_history_path = False  # it would keep a database of every fit in the user's home
    # It would print at each fit that torch and TensorFlow are newer than the ones it was released with.
    fastestimator.estimator._verify_dependency_versions = _known_newer_versions
    if Sampler.__init__ is not _init_without_data_source:
        Sampler.__init__ = _init_without_data_source
        begin_pass = InfiniteSampler.__iter__
        InfiniteSampler.__iter__ = lambda sampler: _endless(begin_pass(sampler))
        ModelOp.build = functools.partialmethod(_build_model_op, ModelOp.build)
        Estimator._configure_loader = functools.partialmethod(_configure_loader, Estimator._configure_loader)
        atexit.register(_remove_script, os.getpid())
        # FastEstimator collects garbage after every pass over the data, through all that the frameworks have loaded
        # (750,000 objects, 0.4 s): they are there to stay, and need not be looked at.
        gc.freeze()
    return fastestimator


def _check_version() -> None:
    """Raise Unusable unless FastEstimator 1.7 is installed. Its file is read: another one may fail to import."""
    if sys.version_info < (3, 12):
        install = "pip install fastestimator==1.7.0"
    else:
        install = ("pip install --no-deps fastestimator==1.7.0 (on Python 3.12 some of its pins do not install: "
                   "fe-compat[fastestimator] brings what it needs instead)")
    spec = importlib.util.find_spec("fastestimator")
    if spec is None or spec.origin is None:  # no origin: a folder of that name, with nothing in it to import
        raise Unusable(f"FastEstimator is not installed: {install}")
    text = Path(spec.origin).read_text(encoding="utf-8")
    found = re.search(r"""^__version__ = ['"](.+?)['"]""", text, re.MULTILINE)
    version = found[1] if found else "of an unknown version"
    if version.split(".")[:2] != ["1", "7"]:
        raise Unusable(f"FastEstimator {version} is installed, and only 1.7 can be used (2.0 has no TensorFlow): "
                       f"{install}")


def _way_out(error: ImportError) -> str:
    """What to do if an import of FastEstimator's fails, as one line."""
    reason = " ".join(str(error).split())
    if "libGL" in reason or "cv2" in reason:  # it wants a display, or was one of two in one folder
        return f"OpenCV cannot be imported ({reason}): pip install --no-deps --force-reinstall {HEADLESS}"
    return (f"FastEstimator cannot be imported ({reason}): "
            'pip install "packages/fe_compat[fastestimator]" in the checkout brings what it needs')


def _init_without_data_source(self, data_source=None) -> None:
    """`Sampler.__init__` as FastEstimator calls it; the argument has had no effect since torch 2.1."""


def _endless(sampler):
    """An iterator apart from the sampler, so that `iter()` on it does not begin the pass anew."""
    while True:
        yield next(sampler)


def _build_model_op(op, build, framework: str, device=None) -> None:
    """`ModelOp.build`, and for TensorFlow the condition that it has for torch: several inputs."""
    build(op, framework, device)
    op.multi_inputs = op.multi_inputs and len(op.inputs) > 1


def _configure_loader(estimator, configure, loader):
    """`Estimator._configure_loader`, and for TensorFlow without the tuner."""
    loader = configure(estimator, loader)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not isinstance(loader, tensorflow.data.Dataset):
        return loader
    options = tensorflow.data.Options()
    options.autotune.enabled = False
    return loader.with_options(options)


def _remove_script(owner: int) -> None:
    """Remove the copy of plotly's JavaScript that FastEstimator has written if it has had figures of logs to draw.

    Args:
        owner: The process that may do it; a child that was forked from it ends first.
    """
    log_plot = sys.modules.get("fastestimator.summary.logs.log_plot")
    if log_plot is None or os.getpid() != owner:
        return
    path = getattr(log_plot._kaleido.scope, "plotlyjs", None)  # none without kaleido
    if path and os.path.dirname(path) == tempfile.gettempdir():
        with contextlib.suppress(OSError):
            os.unlink(path)


def _known_newer_versions() -> None:
    """What FastEstimator's version check becomes: this project's tests run on the versions that it installs."""


@contextlib.contextmanager
def quiet_stderr(show_on_failure: bool = True):
    """Hold back what libraries write to stderr (TensorFlow's start-up notes heed no log level).

    Args:
        show_on_failure: Whether to show what was held back if the block raises; after Ctrl-C it never is.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException as error:
            if show_on_failure and not isinstance(error, KeyboardInterrupt):
                held.seek(0)
                os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
