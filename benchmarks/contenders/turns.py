"""How a process takes its turns: it waits for a line, does one step, and answers with what the step took."""
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vit import memory

IN_A_ROW = 50  # inferences of one image, which takes milliseconds


class Turns:
    """Answers on what was stdout; whatever else is printed goes to stderr."""

    def __init__(self) -> None:
        self.answers, sys.stdout = sys.stdout, sys.stderr

    def begin(self) -> None:
        """Wait until it is this process's turn; without another one the process ends."""
        if not sys.stdin.readline():
            sys.exit()
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def end(self, steps: int = 1) -> None:
        """Say what a step of the turn took: seconds, processor seconds, and the peak of memory so far in bytes."""
        row = {"seconds": (time.perf_counter() - self.wall) / steps,
               "processor": (time.process_time() - self.processor) / steps, "peak": memory.peak()}
        print(json.dumps(row), file=self.answers, flush=True)

    def repeat(self, step: Callable[[], object], steps: int = 1) -> None:
        """Do a step at each turn, for ever; or several, where one is so short that it would find cold caches."""
        while True:
            self.begin()
            for _ in range(steps):
                step()
            self.end(steps)


def batch(config, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalized images [B, S, S, C] and labels [B]."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, config.image_size, config.image_size, 3)).astype(np.float32)
    return images, rng.integers(0, config.num_classes, size)


def random_images(config, count: int = 10_000):
    """Bytes as CIFAR's: `vit.data.Images`."""
    from vit.data import Images
    rng = np.random.default_rng(0)
    return Images(rng.integers(0, 256, (count, config.image_size, config.image_size, 3), dtype=np.uint8),
                  rng.integers(0, config.num_classes, count))


def processor_name() -> str:
    """What the machine's processor is called, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _turn(turns: Turns):
    """The trace with which each training step is a turn."""
    from fastestimator.trace.trace import Trace

    class Turn(Trace):
        def on_batch_end(self, data):
            turns.end()
            turns.begin()

    return Turn(mode="train")


def ours_whole(backend: str, config, variant: str, size: int, turns: Turns, compiled: bool = False,
               precision: str = "fp32") -> None:
    """Our training through FastEstimator's Estimator: a turn is a step with its batch and all traces."""
    import tempfile

    from vit.backend import load_script
    from vit.data import DataPair, Dataset
    from vit.model import parameters
    from vit.training import traces, train
    from vit.training.job import Job, Stage
    from vit.training.options import RunOptions
    from vit.training.recipe import Recipe
    script = load_script(backend)
    script.backend.use_device(None)
    if not script.backend.on_accelerator():
        memory.keep_freed()  # as a run does
    script.backend.load_fastestimator()

    images = random_images(config)
    dataset = Dataset("random", tuple(map(str, range(config.num_classes))), images, images.take(np.arange(size)))
    recipe = Recipe(variant=variant, batch_size=size, pretrain_epochs=1000, precision=precision)
    build = traces.build
    traces.build = lambda stage, model: [*build(stage, model), _turn(turns)]
    with tempfile.TemporaryDirectory() as folder:
        job = Job(script, recipe, DataPair(None, dataset, (0.5,) * 3, (0.25,) * 3, True), Path(folder),
                  RunOptions(log_steps=0, compile=compiled))
        turns.begin()
        train.fit(Stage(job, "finetune", dataset, 1000, config), parameters.initial(config, 0))


def apphub_pipeline(images, size: int, channels_first: bool = True):
    """The pipeline of FastEstimator's apphub, as its users write it: its own ops, in this process."""
    from fe_compat import load_fastestimator
    fe = load_fastestimator()
    from fastestimator.dataset import NumpyDataset
    from fastestimator.op.numpyop.meta import Sometimes
    from fastestimator.op.numpyop.multivariate import HorizontalFlip, PadIfNeeded, RandomCrop
    from fastestimator.op.numpyop.univariate import ChannelTranspose, CoarseDropout, Normalize
    edge = images.image_size
    x, both = {"inputs": "x", "outputs": "x"}, {"image_in": "x", "image_out": "x", "mode": "train"}
    return fe.Pipeline(
        train_data=NumpyDataset({"x": images.images, "y": images.labels}), batch_size=size, num_process=0,
        ops=[Normalize(mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616), **x),
             PadIfNeeded(min_height=edge + 8, min_width=edge + 8, **both), RandomCrop(edge, edge, **both),
             Sometimes(HorizontalFlip(**both)), CoarseDropout(max_holes=1, mode="train", **x),
             *([ChannelTranspose(**x)] if channels_first else [])])


def fe_whole(model, optimizer, size: int, config, channels_first: bool, turns: Turns) -> None:
    """FastEstimator's own apphub script: its ops, its Network, its Estimator."""
    from fe_compat import load_fastestimator
    fe = load_fastestimator()
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp

    pipeline = apphub_pipeline(random_images(config), size, channels_first)
    model = fe.build(model_fn=lambda: model, optimizer_fn=optimizer)
    network = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y_pred"),
                              CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
                              UpdateOp(model=model, loss_name="ce")])
    turns.begin()
    fe.Estimator(pipeline=pipeline, network=network, epochs=1000, traces=[_turn(turns)],
                 log_steps=0).fit(warmup=False)
