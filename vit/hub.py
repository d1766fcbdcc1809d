"""Models in a line each, in any framework, under the names that other projects' hubs have.

    from vit import hub
    classify = hub.pipeline("image_classification", "runs/demo-torch", backend="tf")
    classify("photos/7.png", top_k=2)                     # [{"label": "7", "score": 0.93}, ...]
    classify.features(["photos/7.png", "photos/8.png"])   # float32 [2, D]
    model = hub.from_pretrained("vit_b_16_224", backend="ms")
    trainer = hub.Trainer("tiny", (images, labels), val_fraction=0.1, finetune_epochs=5)
    trainer.train()
    trainer.predict("photos/7.png", top_k=3)

Importing it imports no framework.
"""
import os

from vit import convert
from vit.backend import load_script
from vit.errors import UserError
from vit.model.config import VARIANTS
from vit.use.classifier import BATCH_SIZE
from vit.use.image_classifier import ImageClassifier
from vit.use.trainer import Trainer

__all__ = ["TASK", "ImageClassifier", "Trainer", "from_pretrained", "list_models", "pipeline"]

TASK = "image_classification"


def list_models() -> list[str]:
    """Name the variants that there are; `vit list` says more of each."""
    return list(VARIANTS)


def from_pretrained(model: str | os.PathLike, backend: str = "torch"):
    """Make a framework's model: `ViT` of `vit_torch.py`, `vit_tf.py` or `vit_ms.py`.

    Args:
        model: A file of weights, a checkpoint, a folder of Hugging Face or of a run, or an address, as
            `vit.convert.read` takes them; or the name of a variant, whose weights are then seed 0's initial ones.
        backend: "torch", "tf" or "ms".

    Raises:
        UserError: There is no such model, or its framework is not installed.
    """
    script = load_script(backend)
    if str(model) in VARIANTS and not os.path.exists(model):
        return script.ViT(str(model))
    weights, config, report = convert.read(model)
    made = script.ViT(config, weights=weights)
    made.usage = report.usage  # for `pipeline`: the names of its classes, and what becomes of an image before it
    return made


def pipeline(task: str, model: object, backend: str | None = None,
             batch_size: int = BATCH_SIZE) -> ImageClassifier:
    """Make a function of images.

    Args:
        task: "image_classification", or as Hugging Face writes it, "image-classification".
        model: As of `from_pretrained`, a variant aside, which has not learnt anything; or what `from_pretrained` gave,
            whose weights are copied; or what `vit export` has written.
        backend: "torch", "tf" or "ms", or the form of an exported model; None for the model's own, or else "torch".
        batch_size: Images that are computed at a time.

    Raises:
        UserError: There is no such task or model, or what runs it is not installed.
    """
    if task.replace("-", "_") != TASK:
        raise UserError(f"unknown task {task!r}: {TASK} is the one that there is")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    if isinstance(model, str) and model in VARIANTS and not os.path.exists(model):
        raise UserError(f"{model} is a variant, which has not learnt any class: name a file of weights, or train one "
                        "(Trainer)")
    return ImageClassifier(model, backend, batch_size)
