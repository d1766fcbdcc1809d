"""The spec of a training run: data, augmentation, optimizer, epochs. A model's spec is in `vit/config.py`."""
import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One training run, exactly. The defaults are those of FastEstimator's apphub.

    Args:
        data: Name of a pair of sets (`vit.data.NAMES`).
        variant: Name of a model spec (`vit.config.VARIANTS`).
        batch_size: Pictures of a training step; the last step of an epoch may see fewer.
        pretrain_epochs: Passes over the many-class set.
        finetune_epochs: Passes over the few-class set.
        train_steps_per_epoch: Steps after which a training epoch ends, or None for the whole set.
        eval_steps_per_epoch: Steps after which an evaluation ends, or None for the whole set.
        seed: Of the initial weights, the order of the samples, the augmentation and the dropout.
        learning_rate: Of SGD, constant.
        momentum: Of SGD: `v = momentum * v + g`, `w = w - learning_rate * v` (Sutskever et al. 2013, as in torch).
        weight_decay: Of SGD: `g = gradient + weight_decay * w`, for every parameter.
        pad: Pixels of mirrored border on each side before a random crop of the original size.
        mirror_rate: How often a picture is mirrored, where the data allows it.
        hole: Side of the one square that is blanked in each training picture, pixels; 0 for none.

    Raises:
        ValueError: A field has an impossible value; the message names the field and the value.
    """
    data: str = "cifar"
    variant: str = "apphub"
    batch_size: int = 128
    pretrain_epochs: int = 100
    finetune_epochs: int = 1
    train_steps_per_epoch: int | None = None
    eval_steps_per_epoch: int | None = None
    seed: int = 0
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    pad: int = 4
    mirror_rate: float = 0.5
    hole: int = 8

    def __post_init__(self) -> None:
        for name in ("batch_size", "pretrain_epochs", "finetune_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("train_steps_per_epoch", "eval_steps_per_epoch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "pad", "hole", "learning_rate", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {self.momentum}")
        if not 0 <= self.mirror_rate <= 1:
            raise ValueError(f"mirror_rate must be in [0, 1], not {self.mirror_rate}")

    def to_dict(self) -> dict:
        """The fields as plain values, for JSON."""
        return dataclasses.asdict(self)
