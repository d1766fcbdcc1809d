"""Run a model on all images of a set, and count."""
import numpy as np
from tqdm import tqdm

from vit.data.sets import DataPair, Dataset, Images
from vit.errors import UserError
from vit.use.classifier import Model
from vit.use.metrics import Metrics


def choose(pair: DataPair, model: Model, source: str) -> Dataset:
    """Give the set whose classes the model has: their names, or their number where the file has no names.

    Args:
        pair: The sets.
        model: The model.
        source: Its file, for the message.

    Raises:
        UserError: Neither has them.
    """
    sets = [dataset for dataset in (pair.finetune, pair.pretrain) if dataset is not None]
    for dataset in sets:
        if dataset.classes == model.classes or (model.numbered and len(dataset.classes) == len(model.classes)):
            return dataset
    there = " and ".join(f"{one.name} has {len(one.classes)} ({', '.join(one.classes[:3])}, ...)" for one in sets)
    raise UserError(f"{source}: has {len(model.classes)} classes ({', '.join(model.classes[:3])}, ...), and {there}")


def evaluate(model: Model, images: Images) -> Metrics:
    """Evaluate a model, with a bar of progress on a terminal."""
    metrics = Metrics(len(model.classes))
    for start in tqdm(range(0, len(images), model.batch_size), "evaluating", unit="batch", disable=None):
        indices = range(start, min(start + model.batch_size, len(images)))
        metrics.add(model.logits(np.stack([model.pixels(images[index]) for index in indices])), images.labels[indices])
    return metrics
