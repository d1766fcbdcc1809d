"""A loss stays on its GPU until it is read, and is the same number then."""
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from vit.backend import load_script
from vit.data import load
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training import train, unread
from vit.training.job import Job
from vit.training.options import RunOptions
from vit.training.recipe import Recipe

pytestmark = pytest.mark.backend("torch")
CONFIG = VARIANTS["tiny"].replace(depth=1, num_classes=10)


class Device(str):
    """The CPU, as a device of another kind: FastEstimator then moves models and batches there, and losses back."""
    type = "gpu"


def _run(folder, patch, on_gpu, **options):
    script, pair = load_script("torch"), dataclasses.replace(load("digits"), hflip=True)
    fe = script.backend.load_fastestimator()
    recipe = Recipe(data="digits", variant="tiny", batch_size=16, train_steps_per_epoch=4, eval_steps_per_epoch=2)
    job = Job(script, recipe, pair, folder, RunOptions(**options), base=CONFIG)
    stage = job.stage("finetune", pair.finetune, 2)
    if on_gpu:
        patch.setattr(fe.network, "get_device", lambda: Device("cpu"))
        patch.setattr(script.backend, "on_accelerator", lambda: True)
    weights = train.fit(stage, parameters.initial(CONFIG, 1))
    return parameters.sha256(weights), stage.history.step_losses, [one["eval_loss"] for one in stage.history.epochs]


def test_losses_are_read_when_an_epoch_is_over_or_fastestimator_prints_one(tmp_path, monkeypatch, capsys):
    plain = _run(tmp_path, monkeypatch, False, log_steps=0)
    read = []
    for name in ("__float__", "__array__"):
        own = getattr(unread.Unread, name)
        monkeypatch.setattr(unread.Unread, name,
                            lambda number, *given, name=name, own=own: read.append(name) or own(number, *given))
    with monkeypatch.context() as patch:
        assert _run(tmp_path, patch, True, log_steps=0) == plain
    assert read == ["__float__"] * 8
    read.clear()
    with monkeypatch.context() as patch:
        assert _run(tmp_path, patch, True, log_steps=2, verbose=True) == plain
    assert read.count("__array__") > 0 and f"ce: {np.float32(plain[1][1])!s}" in capsys.readouterr().out


def _network(kind):
    """A network whose steps give a number and a row of them, as FastEstimator's do on a device of a kind."""
    import torch
    from fastestimator import network as module
    made = {"ce": torch.tensor(2.5), "y_pred": torch.zeros(3)}

    def run_step(batch):
        return batch, {key: module.move_tensors_to_device(value, "cpu") for key, value in made.items()}

    return SimpleNamespace(device=kind and SimpleNamespace(type=kind), ctx_state={"mode": "train"}, _run_step=run_step)


def test_only_numbers_stay_and_only_those_of_training():
    network = _network("gpu")
    unread.leave_numbers(network)
    found = network._run_step({})[1]
    assert isinstance(found["ce"], unread.Unread) and found["y_pred"].shape == (3, )
    assert float(found["ce"].detach()) == 2.5 and np.array(found["ce"], "float64") == 2.5
    network.ctx_state["mode"] = "eval"
    assert network._run_step({})[1]["ce"].shape == ()


@pytest.mark.parametrize("kind", ["cpu", None])  # none is what TensorFlow's and MindSpore's networks have
def test_another_network_is_left_as_it_is(kind):
    network = _network(kind)
    before = network._run_step
    unread.leave_numbers(network)
    assert network._run_step is before
