"""What converting ViT-B/16 takes: under 10 s, and under three times the file's size in memory."""
import os
import subprocess
import sys
import time

import pytest
import torch

from vit import convert, weights
from vit.config import VARIANTS

CONFIG = VARIANTS["vit_b_16_224"]
MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "vit", "convert", *sys.argv[1:], "--quiet"])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def cost(repo, source, destination, *options):
    """Seconds, and peak memory over the source's size, of a conversion in a process of its own."""
    path = source if source.is_file() else source / "model.safetensors"
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", MEASURE, source, destination, *options], cwd=repo, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(repo)})
    seconds = time.monotonic() - begin
    assert done.returncode == 0, done.stderr
    return seconds, int(done.stdout.split()[-1]) * 1024 / path.stat().st_size


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    weights.save(folder / "canonical", weights.initial(CONFIG, 0), CONFIG)
    return folder


@pytest.mark.parametrize("options", [[], ["--to", "hf", "--image_size", "384"]], ids=["canonical", "hf"])
def test_a_base_size_file(repo, base, options):
    seconds, times = cost(repo, base / "canonical", base / f"result{len(options)}", *options)
    assert seconds < 10
    assert times < 3


@pytest.mark.full
@pytest.mark.parametrize("kind", ["hf", "timm", "mindspore", "npz", "torch"])
def test_every_kind_of_base_size_file(repo, base, tmp_path, kind):
    values = weights.initial(CONFIG, 0)
    if kind == "torch":
        torch.save({name: torch.tensor(value) for name, value in values.items()}, tmp_path / kind)
    else:
        convert.write(tmp_path / kind, values, CONFIG, kind)
    seconds, times = cost(repo, tmp_path / kind, tmp_path / "result")
    print(f"{kind}: {seconds:.1f} s, {times:.2f} times the file")
    assert seconds < 10
    assert times < 3


def test_the_measure_sees_what_a_process_takes(repo):
    program = MEASURE.replace('"-m", "vit", "convert"', """"-c", "b = b'x' * (1 << 29)" """)
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, text=True, capture_output=True)
    assert int(done.stdout.split()[-1]) * 1024 > 1 << 29
