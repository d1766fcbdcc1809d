"""`predictions.png`: evaluation images under what the model takes them for, blue if right and red if wrong."""
import dataclasses
from pathlib import Path

import numpy as np

from vit.training.job import Stage
from vit.training.report import figures

ROWS, COLUMNS = 4, 6
RIGHT, WRONG = "#0072B2", "#D55E00"  # what is wrong has its true class in brackets, too


def draw(stage: Stage, path: Path) -> None:
    """Draw a grid of evaluation images, evenly spread over the set, as the model sees them.

    Args:
        stage: A stage that has been trained.
        path: The file to write.
    """
    from vit.training import pipeline
    images, labels = _batch(stage)
    job, script = stage.job, stage.job.script
    model = script.ViT(stage.config, job.dtype, job.recipe.precision, stage.weights)
    guesses = script.backend.run_stages(model, images)[-1].argmax(axis=1)
    mean, std = pipeline.normalization(job.data, job.recipe)
    shown = np.clip(images * std + mean, 0, 1)
    names = [figures.short(name) for name in stage.dataset.classes]
    titles = [names[guess] if guess == label else f"{names[guess]}\n(is {names[label]})"
              for label, guess in zip(labels, guesses, strict=True)]
    figure = figures.grid(shown, titles, [RIGHT if right else WRONG for right in guesses == labels], COLUMNS, 2.3)
    figure.suptitle(f"{(guesses == labels).sum()} of these {len(labels)} are right")
    figures.save(figure, path, dpi=100)


def _batch(stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """Images as they reach the model in evaluation, [B, S, S, C], and their labels."""
    from vit.training import pipeline
    images = stage.dataset.evaluation
    count = min(ROWS * COLUMNS, len(images))
    part = images.take(np.linspace(0, len(images) - 1, count).astype(int))
    recipe = dataclasses.replace(stage.job.recipe, batch_size=count)
    line = pipeline.build(part, part, stage.job.data, recipe, False, dtype=stage.job.dtype, config=stage.config)
    with line(mode="eval", epoch=1) as loader:
        batch = next(iter(loader))
    return batch["x"].numpy(), batch["y"].numpy()
