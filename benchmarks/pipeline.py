"""Images a second that a core prepares for training, and bytes that leave, beside FastEstimator's own ops.

    python benchmarks/pipeline.py [--rounds 7] [--seconds 2]

Each way is a FastEstimator pipeline over the same images, 32 x 32, in this process and one thread, channels first, in
batches of 128. Seconds are the process's own (other processes take none of them). All ways take turns in each round;
the figures are medians over the rounds, and ratios are taken within a round. Writes `benchmarks/pipeline.md`.
"""
import argparse
import contextlib
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fe_compat import load_fastestimator
from PIL import Image
from tqdm import tqdm

fe = load_fastestimator()

import albumentations
import cv2
import PIL
import torch

from benchmarks.contenders.turns import apphub_pipeline, processor_name
from tests.training import fe_pipeline
from vit.data import DataPair, Dataset, Images
from vit.data.augmentation import Draws
from vit.training import pipeline, recipe_file
from vit.training.recipe import Recipe

BATCH, COUNT, CLASSES, STEPS = 128, 5120, 100, 20_000  # so many steps that the time is over first
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
OWN = "FastEstimator's own ops"
UNMOVED = "as pixels, drawn for but neither cropped nor flipped"  # the most that a device could take over besides


def images() -> Images:
    """Smooth random images, of which most operations make others."""
    small = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 6, 3), np.uint8)
    pixels = np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in small])
    return Images(pixels, np.arange(COUNT, dtype=np.int64) % CLASSES)


def ways(train: Images, recipe: Recipe) -> dict:
    """Our pipeline for a model with and without dropout, and what it was when it worked image by image."""
    sets = Dataset("set", ("a", ), train, train)
    pair = DataPair(sets, sets, MEAN, STD, True)
    dropping = recipe.model(CLASSES, 32)
    plain = dropping.replace(dropout=0.0, attention_dropout=0.0, drop_path=0.0)
    build = {"by the batch": (pipeline, plain), "by the batch, with what dropout needs": (pipeline, dropping),
             "image by image, as it was": (fe_pipeline, plain)}
    lines = {way: module.build(train, train, pair, recipe, True, config=config)
             for way, (module, config) in build.items()}
    on_device = pipeline.build(train, train, pair, recipe, True, config=plain, on_device=True)
    if on_device.data["train"][""].batches.trains_on_pixels:
        lines |= {"by the batch, as pixels for an accelerator": on_device, UNMOVED: on_device}
    return lines


def as_they_are(draws: Draws, images: np.ndarray) -> np.ndarray:
    """In the place of `Draws.move`."""
    return images


def measure(line, seconds: float, epoch: int) -> tuple[float, float]:
    """Images a second and bytes an image, over some seconds from the second batch on."""
    count = 0
    with line(mode="train", epoch=epoch, steps_per_epoch=STEPS) as loader:
        batches = iter(loader)
        next(batches)
        begin = time.process_time()
        for batch in batches:
            count += len(batch["x"])
            if time.process_time() - begin > seconds:
                break
        spent = time.process_time() - begin
    return count / spent, sum(value.numel() * value.element_size() for value in batch.values()) / len(batch["x"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.seconds <= 0:
        parser.error("--rounds must be at least 1, and --seconds above 0")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    train = images()
    lines = {("apphub", OWN): apphub_pipeline(train, BATCH)}
    for name in ("apphub", "small_data"):
        recipe = recipe_file.build(HERE.parent / "recipes" / f"{name}.yaml")
        lines |= {(name, way): line for way, line in ways(train, recipe).items()}
    rates, sizes = {key: [] for key in lines}, {}
    with tqdm(total=asked.rounds * len(lines), unit="run") as bar:
        for epoch in range(1, asked.rounds + 1):
            for key, line in lines.items():
                with mock.patch.object(Draws, "move", as_they_are) if key[1] == UNMOVED else contextlib.nullcontext():
                    rate, sizes[key] = measure(line, asked.seconds, epoch)
                rates[key].append(rate)
                bar.update()
    own = rates["apphub", OWN]
    rows = ["| recipe | how | images/s a core | to FastEstimator's own ops (apphub's) | bytes an image |",
            "| --- | --- | --- | --- | --- |"]
    for key, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, own, strict=True))
        rows.append(f"| {key[0]} | {key[1]} | {statistics.median(values):,.0f} | {ratio:.2f} | {sizes[key]:,.0f} |")
    versions = ", ".join(f"{module.__name__} {module.__version__}"
                         for module in (fe, albumentations, cv2, PIL, np, torch))
    text = f"""# The pipeline

Of `python benchmarks/pipeline.py --rounds {asked.rounds} --seconds {asked.seconds:g}`: training images of 32 x 32
pixels, one process, one thread, batches of {BATCH}; medians of {asked.rounds} interleaved rounds, in seconds of the
process's own.

{chr(10).join(rows)}

{processor_name()}, Python {platform.python_version()}, {versions}.
"""
    (HERE / "pipeline.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
