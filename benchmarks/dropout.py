"""What dropout costs in a training step, beside the framework's own dropout in the same model.

    python benchmarks/dropout.py [--variant apphub] [--batch_size 128] [--rounds 6]

Times the gradients of the whole model (PyTorch eagerly, TensorFlow and MindSpore as graphs) with three fillings of the
same dropout sites: nothing, the framework's own dropout, and the hash of `vit/model/dropout.py`.
Each framework is a process of its own, in which the three take turns, each round in another order; the least processor
seconds of some rounds are kept, as other work on the machine adds to the others. Prints a table and writes it to
`benchmarks/dropout.md`.
"""
import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vit.backend import SCRIPTS, TITLES, load_script
from vit.model import dropout, parameters
from vit.model.config import VARIANTS

FILLINGS = ("none", "own", "ours")
MODULES = {"torch": "torch", "tf": "tensorflow", "ms": "mindspore"}
CALLS = {"torch": "forward", "tf": "call", "ms": "construct"}


def none(self, x, key):
    return x


def torch_own(self, x, key):
    import torch
    return x if self.site is None else torch.nn.functional.dropout(x, 1 - self.site.kept)


def tf_own(self, x, key):
    import tensorflow as tf
    return x if self.site is None else tf.nn.dropout(x, 1 - self.site.kept)


def ms_own(self, x, key):
    return self.own(x)


OWN = {"torch": torch_own, "tf": tf_own, "ms": ms_own}


def torch_step(script, model, images: np.ndarray, labels: np.ndarray, key: np.ndarray) -> Callable:
    torch = script.torch
    x, y, key = torch.tensor(images.transpose(0, 3, 1, 2).copy()), torch.tensor(labels), torch.tensor(key)
    weights = list(model.parameters())
    return lambda: torch.autograd.grad(torch.nn.functional.cross_entropy(model(x, key), y), weights)


def tf_step(script, model, images: np.ndarray, labels: np.ndarray, key: np.ndarray) -> Callable:
    tf = script.tf
    x, y, key = tf.constant(images), tf.constant(labels), tf.constant(key)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, key)))
        return tape.gradient(loss, model.trainable_variables)

    return gradients


def ms_step(script, model, images: np.ndarray, labels: np.ndarray, key: np.ndarray) -> Callable:
    ms, ops, nn = script.ms, script.ops, script.nn
    x, y, key = ms.Tensor(images.transpose(0, 3, 1, 2).copy()), ms.Tensor(labels, ms.int32), ms.Tensor(key)
    for _, cell in model.cells_and_names():
        if isinstance(cell, script.Dropout):
            cell.own = nn.Identity() if cell.site is None else nn.Dropout(p=1 - cell.site.kept)
    model.set_train()

    def loss(x, y, key):
        return ops.cross_entropy(model(x, key), y)

    differentiate = ms.jit(ms.value_and_grad(loss, None, model.trainable_params()))
    return lambda: differentiate(x, y, key)[1][-1].asnumpy()


STEPS = {"torch": torch_step, "tf": tf_step, "ms": ms_step}


def order(turn: int) -> tuple[str, ...]:
    """The fillings in the order of a round: in three rounds each comes once in each place."""
    return FILLINGS[turn % 3:] + FILLINGS[:turn % 3]


def cost(seconds: dict[str, float]) -> str:
    """What our dropout adds to what the framework's own adds, where both add something."""
    own, ours = seconds["own"] - seconds["none"], seconds["ours"] - seconds["none"]
    return f"{ours / own:.2f}" if min(own, ours) > 0 else "within the noise"


def measure(backend: str, variant: str, batch_size: int, rounds: int) -> dict[str, float]:
    """Seconds of processor time of a step with each filling."""
    script, config = load_script(backend), VARIANTS[variant].replace(num_classes=10)
    layer = script.Dropout
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, config.image_size, config.image_size, 3)).astype(np.float32)
    labels, key = rng.integers(0, 10, batch_size), dropout.keys(0, 1, 0, np.arange(batch_size))
    calls = {"none": none, "own": OWN[backend], "ours": getattr(layer, CALLS[backend])}
    weights = parameters.initial(config, seed=0)
    steps = {filling: STEPS[backend](script, script.from_numpy(script.ViT(config), weights), images, labels, key)
             for filling in FILLINGS}
    seconds = {filling: [] for filling in FILLINGS}
    for turn in range(rounds + 1):
        for filling in order(turn):
            with mock.patch.object(layer, CALLS[backend], calls[filling]):
                begin = time.process_time()
                steps[filling]()
                seconds[filling].append(time.process_time() - begin)
    return {filling: min(times[1:]) for filling, times in seconds.items()}  # the first one compiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="apphub")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--backend", choices=SCRIPTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.batch_size < 1:
        parser.error("--rounds and --batch_size must be at least 1")
    if not dropout.sites(VARIANTS[asked.variant]):
        parser.error(f"{asked.variant} has no dropout")
    if asked.backend:
        with contextlib.redirect_stdout(sys.stderr):
            found = measure(asked.backend, asked.variant, asked.batch_size, asked.rounds)
        print(json.dumps(found))
        return
    lines = ["| | without | its own | ours | what ours adds to what its own adds |", "| --- | --- | --- | --- | --- |"]
    for backend in SCRIPTS:
        done = subprocess.run([sys.executable, __file__, "--backend", backend, "--variant", asked.variant, "--rounds",
                               str(asked.rounds), "--batch_size", str(asked.batch_size)], text=True, check=True,
                              stdout=subprocess.PIPE, cwd=tempfile.gettempdir(),
                              env={"OMP_NUM_THREADS": "1"} | os.environ)
        s = json.loads(done.stdout.splitlines()[-1])
        lines.append(f"| {TITLES[backend]} {version(MODULES[backend])} | {s['none']:.2f} | {s['own']:.2f} | "
                     f"{s['ours']:.2f} | {cost(s)} |")
        print(lines[-1], flush=True)
    where = f"{platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 1)}"
    text = ["# What dropout costs", "",
            f"Gradients of `{asked.variant}`, batch {asked.batch_size}, float32, with the same sites of dropout filled",
            f"in three ways: processor seconds, the least of {asked.rounds} rounds ({where}).",
            "`python benchmarks/dropout.py` wrote this.", "", *lines, ""]
    (HERE / "dropout.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
