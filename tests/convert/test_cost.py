"""What converting ViT-B/16 takes: under three times the file's size in memory."""
import os
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from vit import convert
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS

CONFIG = VARIANTS["vit_b_16_224"]
MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "vit", "convert", *sys.argv[1:], "--quiet"])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def cost(repo, source, destination, *options):
    """Return the peak memory of a conversion in a process of its own, over the source's size."""
    path = source if source.is_file() else source / "model.safetensors"
    done = subprocess.run([sys.executable, "-c", MEASURE, source, destination, *options], cwd=repo, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) * 1024 / path.stat().st_size


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    canonical.save(folder / "canonical", parameters.initial(CONFIG, 0), CONFIG)
    return folder


@pytest.mark.parametrize("options", [[], ["--to", "hf", "--image_size", "384"]], ids=["canonical", "hf"])
def test_a_base_size_file(repo, base, options):
    assert cost(repo, base / "canonical", base / f"result{len(options)}", *options) < 3


@pytest.mark.full
@pytest.mark.parametrize("kind", ["hf", "timm", "mindspore", "npz", "torch"])
def test_every_kind_of_base_size_file(repo, base, tmp_path, kind):
    values = parameters.initial(CONFIG, 0)
    if kind == "torch":
        torch.save({name: torch.tensor(value) for name, value in values.items()}, tmp_path / kind)
    else:
        convert.write(tmp_path / kind, values, CONFIG, kind)
    assert cost(repo, tmp_path / kind, tmp_path / "result") < 3


@pytest.fixture(scope="module")
def torchs_own(repo):
    """Peak memory of a process that only imports torch, KiB: 230 to 520 MB, as it is built."""
    program = MEASURE.replace('"-m", "vit", "convert"', '"-c", "import torch"')
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, text=True, capture_output=True)
    return int(done.stdout.split()[-1])


def test_the_measure_sees_what_a_process_takes(repo):
    program = MEASURE.replace('"-m", "vit", "convert"', """"-c", "b = b'x' * (1 << 29)" """)
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, text=True, capture_output=True)
    assert int(done.stdout.split()[-1]) * 1024 > 1 << 29


@pytest.mark.parametrize("kind", ["npz", "safetensors", "torch"])
def test_a_file_that_claims_gigabytes_gets_none(repo, tmp_path, torchs_own, kind):
    path = tmp_path / "m"
    if kind == "npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, \
                archive.open("cls.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 29, )})
            member.write(bytes(1 << 26))
    elif kind == "safetensors":
        path.write_bytes(struct.pack("<Q", 1 << 33) + b'{"a":' + b" " * 1000)
    else:
        torch.save({"cls_token": torch.zeros(1).expand(1 << 15, 1 << 15)}, path)
    done = subprocess.run([sys.executable, "-c", MEASURE, path, tmp_path / "result"], cwd=repo, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=20)
    assert done.returncode == 2
    assert int(done.stdout.split()[-1]) < torchs_own + (300 << 10)  # KiB
