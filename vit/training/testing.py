"""The test images, where epochs were evaluated on others: seen once, at the end, by the best epoch's weights."""
import json
import math
import sys

import numpy as np

from vit.errors import UserError
from vit.files import canonical
from vit.files.safetensors import open_tensors
from vit.model.parameters import Weights
from vit.training.history import count_top
from vit.training.job import Stage


def test(stage: Stage) -> dict | None:
    """Evaluate what a stage's best epoch has left on the test images; all workers take part.

    Args:
        stage: A stage that has been trained.

    Returns:
        The "weights" (which file of the run), their "epoch", and of how many "images" which "loss", "accuracy" and
        "top5"; None where no images were set apart to choose by, or there are none to test on.
    """
    from vit.training import pipeline  # it imports FastEstimator
    job, script, images = stage.job, stage.job.script, stage.dataset.test
    if not stage.classifies or stage.dataset.val is None or not len(images):
        return None
    file, epoch, weights = _best(stage)
    predictor = script.backend.Predictor(script.ViT(stage.config, job.dtype, job.recipe.precision, weights))
    line = pipeline.build(images, images, job.data, job.recipe, False, job.options.num_workers, job.dtype, stage.config,
                          share=job.world.share)
    counted, size = np.zeros(4), 0
    with line(mode="eval", epoch=1) as loader:
        for batch in loader:
            x, labels = batch["x"].numpy(), batch["y"].numpy()
            size = size or len(x)  # all batches have one size: a graph is compiled for each
            x = np.concatenate([x, np.zeros((size - len(x), *x.shape[1:]), x.dtype)])
            logits = predictor.logits(x)[:len(labels)].astype(np.float64)
            if "weight" in batch:  # what only fills a worker's share up has none
                real = batch["weight"].numpy() > 0
                logits, labels = logits[real], labels[real]
            counted += _counted(logits, labels)
    total = sum(part for part, in job.world.gather(counted))
    count = int(total[0])
    return {"weights": file, "epoch": epoch, "images": count, "loss": total[1] / count, "accuracy": total[2] / count,
            "top5": total[3] / count}


def _counted(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images, the sum of their losses, and how many labels are the highest logit and among the five highest."""
    if not len(labels):
        return np.zeros(4)
    top = logits.max(axis=1)
    losses = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[np.arange(len(labels)), labels]
    return np.array([len(labels), losses.sum(), (logits.argmax(axis=1) == labels).sum(), count_top(logits, labels)])


def _best(stage: Stage) -> tuple[str, int, Weights]:
    """The weights of the best epoch: their file, their epoch and themselves, which the first worker reads for all.

    What the folder has under that name may be of another training, where a run went on from before its best epoch, or
    of an earlier epoch, where the best had no room; then it is the last epoch's.
    """
    world, epochs = stage.job.world, stage.history.epochs
    best = max((one["accuracy"] for one in epochs if not math.isnan(one.get("accuracy", math.nan))), default=None)
    found = None
    if world.first:
        path = stage.job.model_dir / "best" / f"{stage.name}_best_accuracy.safetensors"
        try:
            weights, config = canonical.load(path)
            provenance = json.loads(open_tensors(path)[1]["usage"])["provenance"]
            epoch = provenance["epochs"]
            if config == stage.config and best == provenance["accuracy"] and any(
                    one["epoch"] == epoch and one.get("accuracy") == best for one in epochs):
                found = epoch, weights
        except (UserError, KeyError, ValueError):
            pass
        if found is None:
            print(f"warning: {stage.job.shown(path)} is not of {stage.name}'s best epoch, so the last epoch's weights "
                  "are tested", file=sys.stderr, flush=True)
    told, = world.gather(np.array(found[0] if found else 0))[0]
    if not told:
        return "the last epoch's", epochs[-1]["epoch"], stage.weights
    # The others have weights of the same shapes.
    values = found[1] if found else stage.weights
    weights = {name: world.gather(np.asarray(values[name], stage.weights[name].dtype))[0][0] for name in stage.weights}
    return f"best/{stage.name}_best_accuracy.safetensors", int(told), weights
