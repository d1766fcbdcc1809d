"""What each framework makes of pixels is what the host makes of them, to the byte, however it is run."""
import importlib

import numpy as np
import pytest

from vit.backend import load_script
from vit.data import Images
from vit.data.augmentation import Augmentation, normalized, table
from vit.data.batches import Batches

MODULES = {"torch": "torch", "tf": "tensorflow", "ms": "mindspore"}
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
COUNT, SIZE = 12, 16
AUGMENTATION = Augmentation(SIZE, crop_padding=3, hflip_prob=0.5, cutout_size=5)


def _images():
    """Images of which each has every value of a pixel in every channel."""
    values = np.tile(np.arange(256, dtype=np.uint8), (COUNT, 3, 1))
    pixels = np.random.default_rng(0).permuted(values, axis=2).reshape(COUNT, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(pixels), np.arange(COUNT))


def _batch(dtype, training, **options):
    batches = Batches(_images(), AUGMENTATION, MEAN, STD, seed=4, dtype=dtype, **options)
    indices = np.random.default_rng(1).permutation(COUNT)
    return batches.training(2, 0, indices) if training else batches.evaluation(indices)


def _torch(layer, inputs, way):
    import torch
    if way == "on a GPU" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    device = "cuda" if way == "on a GPU" else "cpu"
    x = (torch.compile(layer) if way == "compiled" else layer)(*(torch.tensor(value).to(device) for value in inputs))
    assert x.is_contiguous()  # as the host's are: other strides would be other kernels, and other last bits
    return x.cpu().numpy()


def _tf(layer, inputs, way):
    import tensorflow as tf
    unknown = [tf.TensorSpec((None, ) * value.ndim, value.dtype) for value in inputs]  # as FastEstimator's are
    run = layer if way == "eager" else tf.function(lambda *values: layer(*values), jit_compile=way == "XLA",
                                                   input_signature=unknown if way == "graph" else None)
    return run(*map(tf.constant, inputs)).numpy()


def _ms(layer, inputs, way):
    import mindspore as ms
    return (ms.jit(layer) if way == "graph" else layer)(*map(ms.Tensor, inputs)).asnumpy()


WAYS = [pytest.param(run, way, id=f"{run.__name__[1:]}, {way}", marks=pytest.mark.backend(run.__name__[1:]))
        for run, ways in ((_torch, ("eager", "on a GPU")), (_tf, ("eager", "graph", "XLA")), (_ms, ("eager", "graph")))
        for way in ways] + [pytest.param(_torch, "compiled", marks=[pytest.mark.full, pytest.mark.backend("torch")])]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("run", "way"), WAYS)
def test_images_are_the_hosts_to_the_byte(run, way, dtype, training):
    backend = run.__name__[1:]
    host = _batch(dtype, training, channels_first=load_script(backend).backend.CHANNELS_FIRST)
    left = _batch(dtype, training, on_device=True)
    assert left["y"].tolist() == host["y"].tolist()
    Normalize = importlib.import_module(f"vit.backend.normalize.{MODULES[backend]}").Normalize
    layer = Normalize(table(MEAN, STD).astype(dtype), SIZE, AUGMENTATION.cutout_size)
    x = run(layer, [left[key] for key in ("x", "holes") if key in left], way)
    assert (x.shape, x.dtype) == (host["x"].shape, host["x"].dtype)
    assert x.tobytes() == np.ascontiguousarray(host["x"]).tobytes()
    assert (training, (x == 0).sum()) == ("holes" in left, training * COUNT * 3 * 25)


def test_the_batches_are_pixels():
    training, evaluation = (_batch("float64", training, on_device=True) for training in (True, False))
    for batch in (training, evaluation):
        assert (batch["x"].shape, batch["x"].dtype) == ((COUNT, SIZE, SIZE, 3), np.uint8)
    assert (training["holes"].shape, training["holes"].dtype, training["holes"].max()) == ((COUNT, 2), np.int64, 11)
    assert set(evaluation) == {"x", "y"}


@pytest.mark.parametrize("channels_first", [True, False])
def test_the_table_has_the_hosts_numbers(channels_first):
    images = _images().images
    looked_up = table(MEAN, STD)[images, np.arange(3)]
    assert looked_up.tobytes() == np.ascontiguousarray(normalized(images, MEAN, STD, channels_first)).tobytes()
