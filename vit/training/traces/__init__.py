"""The traces of a stage: the only place that subclasses FastEstimator's. Imported when training starts, not before."""
from fe_compat import load_fastestimator

load_fastestimator()

from fastestimator.trace.adapt import LRScheduler

from vit.model import precision
from vit.training.traces.accuracy import Accuracy
from vit.training.traces.best import BestModelSaver
from vit.training.traces.checkpoint import CheckpointSaver, Saving
from vit.training.traces.early_stopping import EarlyStopping
from vit.training.traces.ema import EMA
from vit.training.traces.history import EpochLog, EvalHistory, TrainHistory
from vit.training.traces.loss_scale import LossScale
from vit.training.traces.profile import Profile
from vit.training.traces.progress import Progress
from vit.training.traces.whole_batch import WholeBatch

__all__ = ["EMA", "Accuracy", "BestModelSaver", "CheckpointSaver", "EarlyStopping", "EvalHistory", "LossScale",
           "Profile", "Progress", "Saving", "TrainHistory", "WholeBatch", "build"]


def build(stage, model) -> list:
    """List a stage's traces in the order in which they run.

    Args:
        stage: The `vit.training.job.Stage` that trains; its `saver` is set.
        model: Its model, as `fastestimator.build` made it.
    """
    job, recipe = stage.job, stage.job.recipe
    scaled = precision.scales_loss(recipe.precision)
    loss_scale = LossScale(model, recipe.accumulate_steps, recipe.loss_scale) if scaled else None
    ema = EMA(stage, model) if recipe.ema_decay else None
    if job.saves_checkpoints:
        saving = Saving(job.script, job.model_dir / "checkpoints", job.options.checkpoint_every, job.options.keep,
                        job.options.on_save_error, stage.name, accumulate_steps=recipe.accumulate_steps,
                        metric="accuracy" if stage.classifies else None,
                        resume=job.checkpoints.get(stage.name), recipe=recipe.to_dict(), options=job.started_with,
                        data=job.fingerprint, stretches=job.stretches, world=job.world, mirror=job.mirror)
        stage.saver = CheckpointSaver(model, saving, stage.history, ema, loss_scale)
    log = EpochLog(stage)
    profile = Profile(stage) if job.options.profile and stage is job.stages[0] else None  # one stage is enough
    return [
        *([LRScheduler(model, stage.learning_rate)] if recipe.scheduled else []),
        *([Accuracy(true_key="y", pred_key="y_pred"), BestModelSaver(stage, model)] if stage.classifies else []),
        TrainHistory(stage, model, loss_scale, log),
        EvalHistory(stage, log),
        Progress(stage),
        *(trace for trace in (loss_scale, ema, stage.saver, profile) if trace is not None),
        # Last, as checkpoints count by place.
        *([EarlyStopping(stage)] if recipe.early_stopping_patience and stage.classifies else []),
    ]
