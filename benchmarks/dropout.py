"""What it costs to draw dropout's masks outside of the models, so that they are the same in all frameworks.

    python benchmarks/dropout.py

Times, for the attention weights of one `apphub` block at batch 128 (4.3 M values), each framework's own dropout against
two ways to a mask that every framework can compute: a 32-bit hash of the index in the framework's own integer ops
(inside the graph), and what the models do: `vit.model.dropout.draw` for each sample (outside), copied in. Ratios are
within one process; the median of some repeats.
"""
import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vit.backend import load_script
from vit.model import dropout
from vit.model.config import VARIANTS

CONFIG = VARIANTS["apphub"].replace(depth=1, dropout=0.0)
SHAPE, RATE, SEED, STEP, LAYER = (128, 8, 65, 65), 0.1, 7, 3, 2
KEY = np.random.SeedSequence([SEED, STEP, LAYER]).generate_state(1)[0]
INDEX = np.arange(np.prod(SHAPE), dtype=np.int64).reshape(SHAPE)
MULTIPLIERS, MASK = (0x7FEB352D, 0x68BC21EB), 0xFFFFFFFF


def drawn_mask() -> np.ndarray:
    """Rows of a model whose only site is of that size."""
    return np.stack([dropout.draw(CONFIG, SEED, STEP, LAYER, sample) for sample in range(SHAPE[0])]).reshape(SHAPE)


def torch_ways() -> dict[str, Callable]:
    torch = load_script("torch").torch
    x, index = torch.randn(SHAPE), torch.tensor(INDEX)

    def hashed():
        h = index ^ int(KEY)
        for multiplier in MULTIPLIERS:
            h = ((h ^ (h >> 16)) * multiplier) & MASK
        return x * (h >= round(RATE * 2**32)) / (1 - RATE)

    return {"own": lambda: torch.nn.functional.dropout(x, RATE, training=True), "hash in the graph": hashed,
            "drawn outside": lambda: x * torch.from_numpy(drawn_mask()) / (1 - RATE)}


def tf_ways() -> dict[str, Callable]:
    tf = load_script("tf").tf
    x, index = tf.random.normal(SHAPE), tf.constant(INDEX)

    @tf.function
    def own():
        return tf.nn.dropout(x, RATE)

    @tf.function
    def hashed():
        h = tf.bitwise.bitwise_xor(index, tf.constant(int(KEY), tf.int64))
        for multiplier in MULTIPLIERS:
            h = tf.bitwise.bitwise_xor(h, tf.bitwise.right_shift(h, tf.constant(16, tf.int64)))
            h = tf.bitwise.bitwise_and(h * multiplier, tf.constant(MASK, tf.int64))
        return x * tf.cast(h >= round(RATE * 2**32), x.dtype) / (1 - RATE)

    @tf.function
    def masked(mask):
        return x * tf.cast(mask, x.dtype) / (1 - RATE)

    return {"own": own, "hash in the graph": hashed,
            "drawn outside": lambda: masked(tf.constant(drawn_mask()))}


def ms_ways() -> dict[str, Callable]:
    script = load_script("ms")
    ms, nn, ops = script.ms, script.nn, script.ops
    x, index = ms.Tensor(np.random.randn(*SHAPE).astype(np.float32)), ms.Tensor(INDEX)
    numbers = (int(KEY), 2**16, MASK, round(RATE * 2**32))
    key, shift, mask, threshold = (ms.Tensor(value, ms.int64) for value in numbers)
    multipliers = [ms.Tensor(value, ms.int64) for value in MULTIPLIERS]
    drop = nn.Dropout(p=RATE).set_train()

    @ms.jit
    def own(x):
        return drop(x)

    @ms.jit
    def hashed(x, index):
        h = ops.bitwise_xor(index, key)
        for multiplier in multipliers:
            h = ops.bitwise_and(ops.bitwise_xor(h, ops.floor_divide(h, shift)) * multiplier, mask)
        return x * ops.cast(h >= threshold, ms.float32) / (1 - RATE)

    @ms.jit
    def masked(x, mask):
        return x * ops.cast(mask, ms.float32) / (1 - RATE)

    return {"own": lambda: own(x).asnumpy(), "hash in the graph": lambda: hashed(x, index).asnumpy(),
            "drawn outside": lambda: masked(x, ms.Tensor(drawn_mask())).asnumpy()}


def median_ms(run: Callable, repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print("| framework | own dropout, ms | hash in the graph | drawn outside |\n| --- | --- | --- | --- |")
    for backend, ways in {"torch": torch_ways, "tf": tf_ways, "ms": ms_ways}.items():
        times = {name: median_ms(run, repeats) for name, run in ways().items()}
        print(f"| {backend} | {times['own']:.0f} | {times['hash in the graph'] / times['own']:.1f} times that | "
              f"{times['drawn outside'] / times['own']:.1f} times that |", flush=True)


if __name__ == "__main__":
    main()
