"""Folders as runs leave them, for whoever reads such folders: plain files, without a training."""
import json
from pathlib import Path

from vit.model.config import VARIANTS
from vit.training import recipe_file
from vit.training.recipe import Recipe

PNG = b"\x89PNG\r\n\x1a\n and an image"
GRAPH = {"pretrain": {
    "pipeline": [{"op": "BatchDataset", "mode": ["train"], "inputs": [], "outputs": []}],
    "network": [{"op": "ModelOp", "mode": ["train"], "inputs": ["x", "key"], "outputs": ["y_pred"]}],
    "traces": [{"op": "Accuracy", "mode": ["eval", "test"], "inputs": ["y", "y_pred"], "outputs": ["accuracy"]}]}}


def epoch(number: int, accuracy: float) -> dict:
    """What a history has of an epoch."""
    return {"epoch": number, "learning_rate": 0.01, "train_loss": 2 / number, "eval_loss": 2.25 / number,
            "accuracy": accuracy, "top5": 0.9, "train_seconds": 3.5, "images_per_second": 1234.5}


def results(**fields) -> dict:
    """What `results.json` has of a run with a pretraining, a finetune and one from scratch.

    Args:
        fields: Of the recipe, that differ from the defaults.
    """
    recipe = Recipe(variant="tiny", pretrain_epochs=2, finetune_epochs=1, **fields)
    versions = {"python": "3.11.7", "torch": "2.13.0+cpu", "mindspore": None}

    def stage(data: str, *accuracies: float) -> dict:
        return {"data": data, "epochs_evaluated_on": "test", "stopped_early": False, "test": None,
                "epochs": [epoch(number, accuracy) for number, accuracy in enumerate(accuracies, 1)],
                "weights_sha256": f"{data}0123456789abcdef"}

    return {"backend": "torch", "versions": versions, "git_commit": "0f1e2d", "command": "vit_torch.py --data digits",
            "spec": VARIANTS["tiny"].to_dict(), "recipe": recipe.to_dict(), "seed": recipe.seed,
            "pretrained_from": None, "seconds": 61.5, "stretches": [{
                "stage": "pretrain", "step": 0, "recipe": recipe.to_dict(), "backend": "torch", "versions": versions,
                "git_commit": "0f1e2d", "host": "here", "num_workers": 0, "world_size": 2}],
            "stages": {"pretrain": stage("pairs", 0.125, 0.25), "finetune": stage("digits", 0.9375),
                       "scratch": stage("digits", 0.375)}}


def leave(folder: Path, content: dict | None = None) -> Path:
    """Write a run's files into a folder that is made; returns it."""
    content = results() if content is None else content
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "recipe.yaml").write_text(recipe_file.dump(Recipe(variant="tiny")))
    (folder / "graph.json").write_text(json.dumps(GRAPH))
    (folder / "predictions.png").write_bytes(PNG)
    (folder / "train.log").write_text("2026-11-29 01:02:03  on        AMD EPYC, PyTorch, fp32\n")
    return folder
