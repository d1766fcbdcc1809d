"""Every operation is Pillow's, to the byte."""
import numpy as np
import pytest
from PIL import Image

from tests.training import fe_pipeline
from vit.data import image_operations, policies

NAMES = sorted({*policies.RANDAUGMENT, "Invert"})
STRENGTHS = [sign * step / 9 for step in range(10) for sign in (1, -1)] + [0.123, -0.987, 0.5, 1e-9]


def _images():
    """Noise and smooth images of several sizes, with few and many colours, pale and flat ones."""
    rng = np.random.default_rng(0)
    for shape in ((32, 32), (1, 1), (7, 50), (224, 200)):
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        smooth = np.asarray(small.resize(shape[::-1], Image.Resampling.BICUBIC))
        noise = rng.integers(0, 256, (*shape, 3), np.uint8)
        yield from (smooth, noise, smooth // 3 + 90, noise // 128 * 255, noise // 200 + 7,
                    np.broadcast_to(noise[:1, :1], noise.shape).copy())
        skewed = smooth.copy()
        skewed[..., 0], skewed[..., 1] = 255, noise[..., 1] // 250
        yield skewed


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_is_pillows(name):
    for image in _images():
        before = image.copy()
        for strength in STRENGTHS if name in image_operations.SIGNED else STRENGTHS[::2]:
            wanted = np.asarray(fe_pipeline.apply(Image.fromarray(image), name, strength))
            found = image_operations.apply(image, [(name, strength)])
            assert (found.dtype, found.shape) == (np.uint8, image.shape)
            assert found.tobytes() == wanted.tobytes(), (strength, image.shape)
        assert image.tobytes() == before.tobytes()


def test_operations_follow_one_another():
    chain = [("Equalize", 0.0), ("Rotate", 0.5), ("Contrast", -0.4), ("Color", 0.3), ("Sharpness", 0.9),
             ("Invert", 0.0)]
    for image in _images():
        wanted = Image.fromarray(image)
        for name, strength in chain:
            wanted = fe_pipeline.apply(wanted, name, strength)
        assert image_operations.apply(image, chain).tobytes() == np.asarray(wanted).tobytes()
