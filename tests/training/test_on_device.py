"""On an accelerator images leave the pipeline as pixels, and the network normalizes them: it is the same training."""
import dataclasses

import numpy as np
import pytest

from vit.backend import load_script
from vit.data import load
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training.job import Job
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.train import fit

CONFIG = VARIANTS["tiny"].replace(depth=1, num_classes=10)
PAIR = dataclasses.replace(load("digits"), hflip=True)
FLOAT = {"mixup": {"mixup": 0.5}, "cutmix": {"cutmix": 1.0}, "random erasing": {"random_erasing_prob": 0.5}}

OPTIONS = {
    "float64, no cutout": {"dtype": "float64", "cutout_size": 0},
    "bf16, soft labels, colors": {"precision": "bf16", "normalize": "imagenet", "label_smoothing": 0.1,
                                  "augment": "randaugment"},
    "fp16, crops of any size": {"precision": "fp16", "crop_padding": 0, "crop_scale_min": 0.5, "hflip_prob": 0.0},
    "dropout, accumulated": {"config": CONFIG.replace(dropout=0.1), "accumulate_steps": 3},
    "mixed and erased": {"mixup": 0.5, "cutmix": 1.0, "random_erasing_prob": 0.5},
}


def _recipe(**fields):
    return Recipe(**{"data": "digits", "variant": "tiny", "batch_size": 16, "train_steps_per_epoch": 3,
                     "eval_steps_per_epoch": 2, "crop_padding": 4, "hflip_prob": 0.5, "cutout_size": 8, **fields})


def _run(backend, folder, on_device, dtype="float32", config=CONFIG, **fields):
    """Two short epochs, as on an accelerator or not: what they end with, and the images that traces see."""
    script, seen = load_script(backend), []
    script.backend.load_fastestimator()
    from fastestimator.trace.trace import Trace

    from vit.training import pipeline, traces
    job = Job(script, _recipe(**fields), PAIR, folder, RunOptions(log_steps=0), dtype, base=config)
    stage, build = job.stage("finetune", PAIR.finetune, 2), traces.build

    class Spy(Trace):
        def on_batch_end(self, data):
            seen.append((data["x"].shape, np.asarray(data["x"]).dtype, np.asarray(data["x"]).tobytes()))

    def spied(*arguments):
        ops = normalizing(*arguments)
        assert bool(ops) is on_device
        return ops

    normalizing = pipeline.normalizing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "normalizing", spied)
        patch.setattr(script.backend, "on_accelerator", lambda: on_device)
        patch.setattr(traces, "build", lambda stage, model: [*build(stage, model), Spy(inputs="x")])
        weights = fit(stage, parameters.initial(stage.config, 1))
    return (parameters.sha256(weights), stage.history.step_losses, stage.history.gradient_norms,
            [epoch["eval_loss"] for epoch in stage.history.epochs], seen)


def _line(on_device=True, workers=0, **fields):
    from vit.training import pipeline
    sets = PAIR.finetune
    return pipeline.build(sets.train, sets.test, PAIR, _recipe(**fields), True, workers, "float32", CONFIG, on_device)


def _batches(line, mode="train"):
    with line(mode=mode, epoch=1, steps_per_epoch=3) as loader:
        return [{key: (value.numpy().shape, value.numpy().dtype, value.numpy().tobytes())
                 for key, value in batch.items()} for batch in loader]


def _same(one, other):
    assert len(one[-1]) == 2 * (3 + 2)
    for ours, theirs in zip(one, other, strict=True):
        assert ours == theirs


@pytest.mark.full_in("ms")  # it compiles four graphs
def test_a_run_is_the_same(backend, tmp_path):
    _same(_run(backend, tmp_path, True), _run(backend, tmp_path, False))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_run_is_the_same_with_other_options(options, tmp_path):
    _same(_run("torch", tmp_path, True, **options), _run("torch", tmp_path, False, **options))


@pytest.mark.parametrize("cutout_size", [8, 0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pixels_leave_the_pipeline(smoothing, cutout_size):
    training = _batches(_line(label_smoothing=smoothing, cutout_size=cutout_size))
    assert {batch["x"][:2] for batch in training} == {((16, 32, 32, 3), np.dtype("uint8"))}
    assert [batch.get("holes", (None, None))[:2] for batch in training] == 3 * [
        ((16, 2), np.dtype("int64")) if cutout_size else (None, None)]
    assert {batch["x"][:2] for batch in _batches(_line(), "eval")} == {((16, 32, 32, 3), np.dtype("uint8"))}


@pytest.mark.parametrize("name", FLOAT)
def test_images_that_are_mixed_or_erased_leave_the_host_normalized(name):
    line = _line(**FLOAT[name])
    assert _batches(line) == _batches(_line(False, **FLOAT[name]))
    assert _batches(line, "eval")[0]["x"][1] == np.uint8


@pytest.mark.parametrize("fields", [{"mixup": 0.5, "mixup_prob": 0.0}, {"augment": "autoaugment_cifar"}], ids=str)
def test_what_is_not_float_does_not_make_it_so(fields):
    assert {batch["x"][1] for batch in _batches(_line(**fields))} == {np.dtype("uint8")}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_byte(workers):
    assert _batches(_line(workers=workers)) == _batches(_line())


def test_on_a_cpu_the_network_begins_with_the_model():
    from vit.training import pipeline
    backend = load_script("torch").backend
    assert pipeline.normalizing(_line(False), backend) == []
    assert len(pipeline.normalizing(_line(), backend)) == 2
    assert [op.mode for op in pipeline.normalizing(_line(mixup=0.5), backend)] == [{"eval", "test", "infer"}]
