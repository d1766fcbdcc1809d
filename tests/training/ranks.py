"""One worker of a run of several, which trains a list of cases and leaves what came of each in a folder.

    torchrun --standalone --nproc_per_node 2 tests/training/ranks.py torch OUT CASE ...

A case is the name of one of `CASES`; behind a colon, of one of `DEFECTS`, which must be seen in its results, or the
checkpoint that it goes on from.
"""
import contextlib
import dataclasses
import sys
from pathlib import Path
from unittest import mock

import numpy as np

from vit import checkpoints
from vit.backend import load_script
from vit.data import load
from vit.data.share import Share
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training.job import Job, Stage
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.train import fit
from vit.training.workers import World, joined

TRAIN, TEST, BATCH, EPOCHS = 61, 21, 16, 2  # the last batches are of 13 and 5
STEPS = EPOCHS * 4
CONFIG = VARIANTS["tiny"].replace(depth=2, num_classes=10, dropout=0.1, attention_dropout=0.2, drop_path=0.2)
_BASE = Recipe(data="digits", batch_size=BATCH, seed=3, decay_bias_and_norm=False, schedule="cosine", warmup_steps=3)
CASES = {
    "adamw": dataclasses.replace(_BASE, optimizer="adamw", learning_rate=1e-3, weight_decay=0.05, clip_norm=0.5,
                                 accumulate_steps=2, mixup=0.4, cutmix=0.5, label_smoothing=0.1, ema_decay=0.9,
                                 gradient_centralization=True),
    "sgd": dataclasses.replace(_BASE, nesterov=True, clip_norm=0.5, weight_decay=1e-2, gradient_centralization=True,
                               schedule="milestones", milestones=(0.5, 1), milestone_rates=(0.02, 0.005)),
    "muon": dataclasses.replace(_BASE, optimizer="muon", learning_rate=1e-3, weight_decay=0.05, clip_norm=0.5),
    "frozen": dataclasses.replace(_BASE, freeze_encoder=True, batch_size=3),
    "fast": dataclasses.replace(_BASE, nesterov=True, clip_norm=0.5, weight_decay=1e-2),
    "fp16": dataclasses.replace(_BASE, nesterov=True, clip_norm=0.5, precision="fp16"),
}
SCALE, GROWTH = 2.0**20, 2  # of float16's losses: the first steps are skipped, and then the scale grows


def train(backend: str, name: str, world: World, folder: Path, resume: Path | None = None) -> dict:
    """Train a case in this process: losses, norms, evaluations and, after a slash, weights and moments."""
    script, pair = load_script(backend), load("digits")
    dataset = dataclasses.replace(pair.finetune, train=pair.finetune.train.take(np.arange(TRAIN)),
                                  test=pair.finetune.test.take(np.arange(TEST)))
    recipe, dtype = CASES[name], "float32" if name == "fp16" else "float64"
    found = {"finetune": checkpoints.load(resume)} if resume else {}
    job = Job(script, recipe, pair, folder, RunOptions(log_steps=0, checkpoint_every=2, keep=9), dtype,
              saves_checkpoints=True, checkpoints=found, world=dataclasses.replace(
                  world, reduce="fast" if name == "fast" else "ordered"))
    stage = Stage(job, "finetune", dataset, EPOCHS if recipe.batch_size == BATCH else 1, CONFIG)
    from vit.training.traces import loss_scale
    with (mock.patch.object(script.backend, "FIRST_SCALE", SCALE), mock.patch.object(loss_scale, "FIRST_SCALE", SCALE),
          mock.patch.object(loss_scale, "GROWTH_STEPS", GROWTH)):
        weights = fit(stage, {key: value.astype(dtype) for key, value in parameters.initial(CONFIG, seed=1).items()})
    moments = [script.to_numpy(stage.model, slot) for slot in stage.model.current_optimizer.moments()]
    history = stage.history  # between updates, a norm is that of the last one, which a resumed training has not
    return {"losses": np.array(history.step_losses),
            "norms": np.array(history.gradient_norms)[recipe.accumulate_steps - 1::recipe.accumulate_steps],
            "sizes": np.array(history.step_sizes),
            "evaluations": np.array([[epoch[key] for key in ("eval_loss", "accuracy", "top5")]
                                     for epoch in history.epochs]),
            "scales": np.array([[epoch.get(key, 0) for key in ("loss_scale", "skipped_steps")]
                                for epoch in history.epochs]),
            **{f"weights/{key}": value for key, value in weights.items()},
            **{f"moment{i}/{key}": value for i, slot in enumerate(moments, 1) for key, value in slot.items()}}


def divided(workers):
    """The sum over the workers is divided by their number, though the losses' weights do that."""
    add = workers.add
    return mock.patch.object(workers, "add", lambda tensors, how: [t / 2 for t in add(tensors, how)])


def clipped_first(workers):
    """Each worker clips its own gradients before they are added."""
    add, clip = workers.add, load_script(sys.argv[1]).backend.clip
    return mock.patch.object(workers, "add", lambda tensors, how: add(clip(tensors, 0.5)[0], how))


def mean_of_means(_):
    """Each share counts alike, however many samples of it are padding."""
    def take(share, count):
        places, weights = SHARE(share, count)
        return places, np.where(weights > 0, 1 / (len(places) * share.size), 0)
    return mock.patch.object(Share, "take", take)


def padding_counted(_):
    """The loss counts padding too."""
    def take(share, count):
        places, _ = SHARE(share, count)
        return places, np.full(len(places), 1 / count)
    return mock.patch.object(Share, "take", take)


def padding_kept(_):
    """Evaluations are not cut at the end of the batch."""
    def take(share, count):
        places, weights = SHARE(share, count)
        return places, np.maximum(weights, 1e-200)
    return mock.patch.object(Share, "take", take)


def overflow_hidden(workers):
    """What is too large for float16 is lost on the way to the other workers."""
    add, torch = workers.add, workers.torch
    return mock.patch.object(workers, "add",
                             lambda tensors, how: add([torch.nan_to_num(t, 0, 0, 0) for t in tensors], how))


def other_seed(_):
    """The last worker's samples are another seed's."""
    other = {name: dataclasses.replace(recipe, seed=4) for name, recipe in CASES.items()}
    return mock.patch.dict(CASES, other) if WORLD.rank else contextlib.nullcontext()


SHARE, WORLD = Share.take, None
DEFECTS = {function.__name__: function for function in (
    divided, clipped_first, mean_of_means, padding_counted, padding_kept, overflow_hidden, other_seed)}

if __name__ == "__main__":
    backend, out, *cases = sys.argv[1:]
    with joined(load_script(backend), None, "ordered") as WORLD:
        for i, case in enumerate(cases):
            name, _, more = case.partition(":")
            folder = Path(out) / (str(i) if "/" in more else case)
            with DEFECTS[more](WORLD.backend) if more in DEFECTS else contextlib.nullcontext():
                found = train(backend, name, WORLD, folder, Path(more) if "/" in more else None)
            np.savez(folder / f"rank{WORLD.rank}.npz", **found)
