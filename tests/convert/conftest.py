"""What the proofs share: a file of another project goes through the command, and its logits are compared."""
import contextlib
import io

import numpy as np
import pytest

from vit.backend import load_script
from vit.cli.commands import main
from vit.files import canonical
from vit.model import oracle

BACKENDS = [pytest.param(name, marks=pytest.mark.backend(name)) for name in ("torch", "tf", "ms")]


def random_images(config, dtype="float32", count=3):
    """Random images [B, S, S, C]."""
    shape = (count, config.image_size, config.image_size, config.in_channels)
    return np.random.default_rng(5).normal(size=shape).astype(dtype)


def convert_command(*arguments):
    """Run the command; returns its exit status, what it printed, and what it complained about."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(["convert", *map(str, arguments)])
        except SystemExit as error:
            status = error.code
    return status, out.getvalue(), err.getvalue()


def converted(source, folder, *options):
    """Weights, spec and printed report of a file that must convert."""
    status, out, err = convert_command(source, folder / "converted.safetensors", *options)
    assert (status, err) == (0, "")
    return *canonical.load(folder / "converted.safetensors"), out


def logits(backend, config, values, images):
    """Our logits, of one framework or of the oracle."""
    if backend == "numpy":
        return oracle.forward(config, values, images)["logits"]
    script = load_script(backend)
    model = script.from_numpy(script.ViT(config, str(images.dtype)), values)
    return script.backend.run_stages(model, images)[-1]


def difference(ours, theirs):
    """The largest difference, relative to the largest logit."""
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def randomize(module, seed=0):
    """Give every parameter of a torch module values under which nothing can hide: no bias is 0, no scale is 1."""
    import torch
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            scale = 1.5 / value[0].numel()**0.5 if value.ndim > 1 and value.shape[0] > 1 else 0.3
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64) * scale
            value.copy_(noise + (1.0 if value.ndim == 1 and bool((value == 1).all()) else 0.0))
    return module


@pytest.fixture(scope="session")
def bars():
    """How much logits may differ, by type."""
    return {"float32": 1e-5, "float64": 1e-10}
