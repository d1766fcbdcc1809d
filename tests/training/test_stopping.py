"""Signals, and FastEstimator's own traces: what a user of the trace sees, with and without the scripts."""
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from fe_compat import load_fastestimator

from vit import checkpoints
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.parity import levels
from vit.training import pipeline
from vit.training.recipe import Recipe
from vit.training.stopping import StopRequest

pytestmark = pytest.mark.backend("torch")
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
FLAGS = ["--data", "digits", "--variant", "tiny", "--pretrain_epochs", "1", "--finetune_epochs", "1", "--batch_size",
         "16", "--train_steps_per_epoch", "4000", "--eval_steps_per_epoch", "1", "--checkpoint_every", "2",
         "--log_steps", "0"]


def _start(repo, folder, **streams):
    streams = streams or {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "vit_torch.py", *FLAGS, "--model_dir", str(folder)], cwd=repo,
                               text=True, **streams)
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/pretrain-*.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_finishes_the_step_saves_and_leaves_with_a_word(repo, tmp_path, number, status):
    process = _start(repo, tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "stopping: this step is finished and saved" in err
    assert "stopped after step" in err and f"--resume auto --model_dir {tmp_path}" in err
    assert "Traceback" not in err
    checkpoint = checkpoints.newest(tmp_path / "checkpoints", pytest.fail)["pretrain"]
    assert checkpoint.phase == "training" and f"after step {checkpoint.step} of pretrain" in err
    assert not (tmp_path / "results.json").exists()


def test_a_terminal_that_is_closed_is_a_signal_like_any(repo, tmp_path):
    """The kernel sends SIGHUP, and whatever is printed from then on is an error."""
    here, there = pty.openpty()
    process = _start(repo, tmp_path, stdin=there, stdout=there, stderr=there, start_new_session=True,
                     preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY))
    os.close(there)
    os.close(here)
    assert process.wait(timeout=60) == 129
    checkpoint = checkpoints.newest(tmp_path / "checkpoints", pytest.fail)["pretrain"]
    assert checkpoint.phase == "training" and not (tmp_path / "results.json").exists()


@pytest.fixture
def restored():
    """Every handler of a signal is put back after the test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("ignored", SIGNALS)
def test_a_signal_that_the_process_ignores_stays_ignored(restored, ignored):
    """So `nohup` starts a command, and so a shell starts one in the background."""
    signal.signal(ignored, signal.SIG_IGN)
    with StopRequest() as request:
        os.kill(os.getpid(), ignored)
        assert signal.getsignal(ignored) is signal.SIG_IGN and request.status is None
        others = [number for number in SIGNALS if number != ignored]
        os.kill(os.getpid(), others[0])
        assert request.status == 128 + others[0]
        assert signal.getsignal(ignored) is signal.SIG_IGN
    assert signal.getsignal(ignored) is signal.SIG_IGN


def test_a_terminal_may_say_twice_that_it_is_closed(restored, capfd):
    """Its shell tells its jobs, and then the kernel tells them."""
    with StopRequest() as request:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert request.status == 129
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert capfd.readouterr().err.count("stopping: ") == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # as pytest found it
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_leaves_at_once(repo, tmp_path):
    process = _start(repo, tmp_path)
    process.send_signal(signal.SIGSTOP)  # so that both are there before the step ends
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    while "stopping" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    assert process.returncode in (-signal.SIGTERM, 143)  # 143 if the step was over before the second one came
    checkpoints.newest(tmp_path / "checkpoints", pytest.fail)


class _Stop(Exception):
    pass


def _fit(folder, resume=None, stop=None):
    """FastEstimator as a user writes it, with this project's trace among the others; returns the traces."""
    fe = load_fastestimator()
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp
    from fastestimator.trace.adapt import EarlyStopping
    from fastestimator.trace.io import BestModelSaver
    from fastestimator.trace.metric import Accuracy
    from fastestimator.trace.trace import Trace

    import vit_torch
    from vit.training.traces import CheckpointSaver, Saving
    config = VARIANTS["tiny"].replace(depth=1, num_classes=10)
    recipe = Recipe(data="digits", batch_size=32, seed=3, learning_rate=0.05)
    pair = levels.digits_for(config)
    model = vit_torch.from_numpy(vit_torch.ViT(config), parameters.initial(config, 0))
    # FastEstimator looks into what a lambda refers to, and chokes on a module.
    Optimizer, parameters_of = vit_torch.backend.Optimizer, vit_torch.parameters
    model = fe.build(lambda: model, lambda _: Optimizer(parameters_of(model), recipe, config.depth),
                     model_name="plain")
    network = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y_pred"),
                              CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
                              UpdateOp(model=model, loss_name="ce")])
    evaluated = []

    class Watch(Trace):

        def on_epoch_end(self, data):
            evaluated.append(self.system.epoch_idx)

        def on_batch_end(self, data):
            if self.system.mode == "train" and self.system.global_step == stop:
                raise _Stop

    stopping = EarlyStopping(monitor="accuracy", patience=2, compare="max", min_delta=0.5)
    best = BestModelSaver(model=model, save_dir=str(folder / "best"), metric="accuracy", save_best_mode="max")
    saver = CheckpointSaver(model, Saving(vit_torch, folder / "checkpoints", every=3, resume=resume))
    estimator = fe.Estimator(
        pipeline=pipeline.build(pair.finetune.train, pair.finetune.test, pair, recipe, channels_first=True),
        network=network, epochs=9,
        traces=[Accuracy(true_key="y", pred_key="y_pred"), stopping, best, Watch(mode="eval"), Watch(mode="train"),
                saver],
        train_steps_per_epoch=4, eval_steps_per_epoch=2, log_steps=0)
    estimator.fit(warmup=False)
    return {"weights": parameters.sha256(vit_torch.to_numpy(model)), "wait": stopping.wait, "best": stopping.best,
            "since_best": best.since_best, "max": best.best, "last epoch": estimator.system.epoch_idx}, evaluated


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    """The training that is not stopped."""
    return _fit(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stop", [6, 9, 11])
def test_fastestimators_own_traces_go_on_correctly(never_stopped, tmp_path, stop):
    whole, evaluated = never_stopped
    assert whole["last epoch"] < 9, "EarlyStopping acts, or this says nothing about it"
    with pytest.raises(_Stop):
        _fit(tmp_path / "stopped", stop=stop)
    checkpoint = checkpoints.newest(tmp_path / "stopped" / "checkpoints", pytest.fail)["train"]
    assert 0 < checkpoint.step < stop
    resumed, again = _fit(tmp_path / "stopped", resume=checkpoint)
    assert resumed == whole
    assert again == evaluated[-len(again):], "no evaluation comes twice or is left out"
    assert np.isfinite(resumed["best"])
