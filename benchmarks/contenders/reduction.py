"""What adding gradients over workers takes: run by `vit launch`, each worker with the framework's own collectives.

    vit launch --backend torch --nproc 2 benchmarks/contenders/reduction.py torch ordered 150000 3000000

The first worker prints a line of JSON: for each number of parameters the median of the seconds.
"""
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In the place of this folder, whose files have frameworks' names.
sys.path[:1] = [str(ROOT), str(ROOT / "packages/fe_compat"), str(ROOT / "packages/fe_mindspore")]

import numpy as np

from vit.backend import load_script
from vit.training import workers

REPEATS, WARM_UP = 5, 1


def adder(name: str, backend, gradient: np.ndarray, how: str) -> Callable[[], object]:
    """A function that adds a gradient, float32 [n], over the workers, as an Optimizer does, and waits for the sum."""
    if name == "torch":
        import torch
        tensor = torch.from_numpy(gradient)
        return lambda: backend.workers.add([tensor], how)[0].numpy()
    if name == "tf":
        import tensorflow as tf
        tensor, add = tf.constant(gradient), tf.function(lambda tensor: backend.workers.add([tensor], how)[0])
        return lambda: add(tensor).numpy()
    import mindspore as ms

    @ms.jit
    def add(tensor):
        return backend.workers.add([tensor], how)[0]

    tensor = ms.Tensor(gradient)
    return lambda: add(tensor).asnumpy()


def main() -> None:
    name, how, *sizes = sys.argv[1:]
    script = load_script(name)
    with workers.joined(script, None, how, 300) as world:
        found = {}
        for size in map(int, sizes):
            add, seconds = adder(name, script.backend, np.ones(size, np.float32), how), []
            for _ in range(WARM_UP + REPEATS):
                world.gather(np.array(0))  # all begin at once
                begin = time.perf_counter()
                total = add()
                seconds.append(time.perf_counter() - begin)
            if not (total == world.size).all():
                raise SystemExit(f"the sum of {world.size} workers' ones is {total}")
            found[size] = statistics.median(seconds[WARM_UP:])
        if world.first:
            print(json.dumps(found))


if __name__ == "__main__":
    main()
