"""The bridge to FastEstimator: still needed, and enough."""
import gc
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from fe_compat import HEADLESS, load_fastestimator, quiet_stderr, use_one_gpu

# FastEstimator as it is installed, without the bridge; only Keras 2 is asked for, or it would not import.
UNPATCHED = """
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import fastestimator, itertools, json
from fastestimator.dataset.dataloader import InfiniteSampler
from torch.utils.data import BatchSampler, Sampler

try:
    InfiniteSampler(range(6), shuffle=False)
    first = "works"
except TypeError as error:
    first = str(error)
Sampler.__init__ = lambda self, data_source=None: None
batches = BatchSampler(InfiniteSampler(range(6), shuffle=False), 2, drop_last=False)

import tensorflow as tf
from fastestimator.op.tensorop.model import ModelOp

class Model(tf.keras.Model):
    def call(self, x, other=None):
        return x

model = fastestimator.build(model_fn=Model, optimizer_fn=None)
op = ModelOp(model=model, inputs="x", outputs="y")
op.build("tf")

from types import SimpleNamespace
system = SimpleNamespace(train_steps_per_epoch=None, eval_steps_per_epoch=None)
loader = fastestimator.Estimator._configure_loader(SimpleNamespace(network=None, system=system),
                                                   tf.data.Dataset.range(3))
print(json.dumps([first, list(itertools.islice(batches, 3)), op.multi_inputs, loader.options().autotune.enabled]))
"""


def test_fastestimator_still_needs_the_bridge(run_python, tmp_path):
    """Should this fail, FastEstimator or torch has changed: take the part that is named out of `packages/fe_compat`."""
    done = run_python("-c", UNPATCHED, TF_CPP_MIN_LOG_LEVEL="3", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    sampler, batches, spread, tuned = json.loads(done.stdout.splitlines()[-1])
    assert "__init__() takes exactly one argument" in sampler, "Sampler.__init__ takes data_source again"
    assert batches == [[0, 1]] * 3, "BatchSampler no longer begins FastEstimator's sampler anew at each batch"
    assert spread is True, "ModelOp no longer spreads a lone input over a Keras model with an optional second one"
    assert tuned is not False, "Estimator turns TensorFlow's data tuner off itself"
    assert len(list(tmp_path.glob("*.min.js"))) == 1, "FastEstimator's import leaves no JavaScript behind"


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch's CPU build comes without triton")
def test_triton_still_needs_the_bridge(run_python):
    """Should this fail, TensorFlow keeps its LLVM to itself: take `_load_triton_apart` out of `packages/fe_compat`."""
    done = run_python("-c", "import tensorflow, triton", TF_CPP_MIN_LOG_LEVEL="3")
    assert done.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("first", ["pass", "import tensorflow"])
def test_with_the_bridge_torch_has_optimizers(first, run_python):
    done = run_python("-c", f"{first}\nimport fe_compat\nfe_compat.load_fastestimator()\nimport torch\n"
                      "print(torch.optim.SGD([torch.ones(1)], lr=0.5).defaults['lr'])",
                      TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="1")
    assert (done.returncode, done.stdout) == (0, "0.5\n"), done.stderr


def test_what_is_loaded_for_good_is_not_searched_for_garbage():
    load_fastestimator()
    assert gc.get_freeze_count() > 100_000


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_with_the_bridge_a_pipeline_visits_every_sample_once(mode, workers):
    fe = load_fastestimator()
    from fastestimator.dataset.numpy_dataset import NumpyDataset
    data = NumpyDataset({"x": np.arange(11)})
    pipeline = fe.Pipeline(train_data=data, eval_data=data, batch_size=4, num_process=workers)
    with pipeline(mode=mode, epoch=1) as loader:
        batches = [batch["x"].tolist() for batch in loader]
    assert [len(batch) for batch in batches] == [4, 4, 3]
    seen = [value for batch in batches for value in batch]
    assert sorted(seen) == list(range(11))
    assert mode == "train" or seen == list(range(11))


@pytest.mark.parametrize(("inputs", "spread"), [("x", False), (("x", "masks"), True)])
def test_with_the_bridge_a_lone_input_of_a_keras_model_stays_whole(inputs, spread):
    load_fastestimator()
    import tensorflow as tf
    from fastestimator.op.tensorop.model import ModelOp

    class Masked(tf.keras.Model):
        """A model that may be given masks: `call(x)` or `call(x, masks)`."""

        def call(self, x, masks=None):
            return x if masks is None else x * masks

    model = Masked()
    model.fe_compiled = True
    op = ModelOp(model=model, inputs=inputs, outputs="y")
    op.build("tf")
    assert op.multi_inputs is spread


def test_with_the_bridge_tensorflow_tunes_no_data_pipeline():
    """Its tuner's thread is waited for after each pass; on one core for seconds."""
    fe = load_fastestimator()
    import tensorflow as tf
    from fastestimator.dataset.numpy_dataset import NumpyDataset
    from fastestimator.op.tensorop.model import ModelOp

    def one_layer():
        return tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])

    model = fe.build(model_fn=one_layer, optimizer_fn=None)
    pipeline = fe.Pipeline(eval_data=NumpyDataset({"x": np.eye(3, dtype="float32")}), batch_size=2)
    network = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y")])
    estimator = fe.Estimator(pipeline=pipeline, network=network, epochs=1)
    with pipeline(mode="eval", epoch=1) as loader:
        dataset = estimator._configure_loader(loader)
        assert [len(batch["x"]) for batch in dataset] == [2, 1]
    assert dataset.options().autotune.enabled is False


def test_with_the_bridge_no_javascript_is_left_behind(run_python, tmp_path):
    """The child that Python forks ends first, and the file is its parent's."""
    done = run_python("-c", "import fe_compat, glob, os, sys\nfe_compat.load_fastestimator()\n"
                      "import fastestimator.summary.logs.log_plot\n"
                      "if os.fork() == 0: sys.exit()\nos.wait()\n"
                      "print(len(glob.glob(os.environ['TMPDIR'] + '/*.min.js')))", TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert list(tmp_path.glob("*.min.js")) == []


def test_loading_twice_bridges_once():
    from torch.utils.data import Sampler
    fe = load_fastestimator()
    from fastestimator.dataset.dataloader import InfiniteSampler
    from fastestimator.op.tensorop.model import ModelOp

    def bridged():
        return (Sampler.__init__, InfiniteSampler.__iter__, vars(ModelOp)["build"],
                vars(fe.Estimator)["_configure_loader"])

    before = bridged()
    assert load_fastestimator() is fe
    assert bridged() == before


def test_no_database_of_fits_is_kept_in_the_users_home():
    assert load_fastestimator().fe_history_path is False


def test_tensorflow_that_came_with_keras_3_is_one_clear_line(run_python):
    done = run_python("-c", "import tensorflow\nimport fe_compat\n"
                      "try: fe_compat.load_fastestimator()\nexcept fe_compat.Unusable as error: print(error)",
                      TF_CPP_MIN_LOG_LEVEL="3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "Keras 3" in done.stdout and "TF_USE_LEGACY_KERAS=1" in done.stdout


def test_a_python_that_drops_docstrings_is_one_clear_line(run_python):
    done = run_python("-OO", "-c", "import fe_compat\ntry: fe_compat.load_fastestimator()\n"
                      "except fe_compat.Unusable as error: print(error)")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert "without docstrings" in done.stdout and "PYTHONOPTIMIZE=1" in done.stdout


def test_missing_fastestimator_is_one_clear_line(monkeypatch, unusable):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fastestimator" else find(name))
    monkeypatch.setattr(sys, "version_info", (3, 11))
    with unusable("FastEstimator is not installed: pip install fastestimator==1.7.0"):
        load_fastestimator()


def test_missing_fastestimator_on_python_3_12_says_how_it_installs_there(monkeypatch, unusable):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "version_info", (3, 12))
    with unusable("FastEstimator is not installed: pip install --no-deps fastestimator==1.7.0", "3.12",
                  "fe-compat[fastestimator]"):
        load_fastestimator()


LOAD = """
import sys
import fe_compat
try:
    fe_compat.load_fastestimator()
except fe_compat.Unusable as error:
    print(error)
print(sorted({"tensorflow", "torch", "fastestimator"} & set(sys.modules)))
"""


@pytest.fixture
def with_a_fastestimator(tmp_path, run_python):
    """A function from the text of a `fastestimator/__init__.py` to what `load_fastestimator` says of it."""

    def load(text):
        (tmp_path / "fastestimator").mkdir()
        (tmp_path / "fastestimator" / "__init__.py").write_text(text)
        done = run_python("-c", LOAD, before=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return load


@pytest.mark.parametrize("version", ["2.0.0", "1.6.0", "1.70.0", "17.0"])
def test_another_fastestimator_is_refused_by_name_and_before_it_is_imported(with_a_fastestimator, version):
    [message, imported] = with_a_fastestimator(f"__version__ = '{version}'\nraise SystemExit('imported')\n")
    assert message.startswith(f"FastEstimator {version} is installed, and only 1.7 can be used")
    assert "fastestimator==1.7.0" in message
    assert imported == "[]"


def test_a_fastestimator_that_does_not_say_its_version_is_refused(with_a_fastestimator):
    message = with_a_fastestimator("")[0]
    assert message.startswith("FastEstimator of an unknown version is installed, and only 1.7 can be used")


@pytest.mark.parametrize(("raised", "named"), [
    ("libGL.so.1: cannot open shared object file", f"pip install --no-deps --force-reinstall {HEADLESS}"),
    ("No module named 'cv2'", f"pip install --no-deps --force-reinstall {HEADLESS}"),
    ("No module named 'plotly'", "(No module named 'plotly'): pip install \"packages/fe_compat[fastestimator]\""),
])
def test_what_keeps_fastestimator_from_importing_is_one_clear_line(with_a_fastestimator, raised, named):
    lines = with_a_fastestimator(f'__version__ = "1.7.1"\nraise ImportError({raised!r})\n')
    assert len(lines) == 2 and named in lines[0], lines


def test_an_opencv_whose_files_are_gone_is_one_clear_line(with_a_fastestimator, tmp_path):
    """Two OpenCVs install into one folder, and to uninstall one leaves it nearly empty."""
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text("")
    message = with_a_fastestimator("__version__ = '1.7.0'")[0]
    assert message.startswith("OpenCV cannot be imported") and message.endswith(HEADLESS)


def test_messages_name_the_releases_that_are_installed():
    """Of the pins of this package's extra, and of the stand-in's for opencv-python."""
    packages = Path(__file__).parents[2]
    assert '"fastestimator==1.7.0; ' in (packages / "fe_compat" / "pyproject.toml").read_text()
    assert f'"{HEADLESS}"' in (packages / "opencv_python" / "pyproject.toml").read_text()


def test_quiet_stderr_holds_back_what_c_writes(capfd):
    with quiet_stderr():
        os.write(2, b"a note from C++\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_quiet_stderr_shows_what_it_held_when_the_block_fails(capfd):
    with pytest.raises(RuntimeError, match="broken"), quiet_stderr():
        os.write(2, b"the reason\n")
        raise RuntimeError("broken")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the reason\nafter\n"


def test_quiet_stderr_shows_nothing_after_ctrl_c(capfd):
    with pytest.raises(KeyboardInterrupt), quiet_stderr():
        os.write(2, b"a note from C++\n")
        raise KeyboardInterrupt
    assert capfd.readouterr().err == ""


def test_quiet_stderr_leaks_no_file(capfd):
    before = len(os.listdir("/proc/self/fd"))
    with quiet_stderr():
        pass
    with pytest.raises(RuntimeError), quiet_stderr():
        raise RuntimeError
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("visible", "wanted"), [(None, "0"), ("2,3", "2"), ("1", "1"), ("", "")])
def test_one_gpu_is_seen(monkeypatch, visible, wanted):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    use_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == wanted
