"""How the model of a stage is used, for the files that it leaves."""
from vit.files.usage import Preprocessing, Usage, finite
from vit.training.job import Stage


def of(stage: Stage, accuracy: float) -> Usage:
    """Tell how a stage's model is used.

    Args:
        stage: A stage that trains, or has trained.
        accuracy: Of the evaluation of these weights.
    """
    from vit.training import pipeline  # it imports FastEstimator
    job, recipe, epochs = stage.job, stage.job.recipe, stage.history.epochs
    mean, std = pipeline.normalization(job.data, recipe)
    crop_pct = 1.0 if stage.dataset.evaluation.image_size else recipe.eval_crop_pct
    provenance = {"stage": stage.name, "data": stage.dataset.name, "variant": recipe.variant, "seed": recipe.seed,
                  "epochs": epochs[-1]["epoch"] if epochs else 0, "accuracy": finite(accuracy)}
    return Usage(tuple(stage.dataset.classes), Preprocessing(tuple(mean), tuple(std), crop_pct), provenance)
