"""The spec of a training run: data, augmentation, optimizer, epochs. A model's spec is in `vit/config.py`."""
import dataclasses
import math
from dataclasses import dataclass

from vit.fields import check_types


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
        optimizer: "sgd" or "adamw"; g is the (clipped) gradient, w a weight, r the step's learning rate.
            sgd: `d = g + weight_decay * w`, `v = momentum * v + d`, `w = w - r * v` (or, with Nesterov's momentum,
            `w = w - r * (d + momentum * v)`), as in Sutskever et al. 2013 with the rate outside of v.
            adamw: `m = beta1 * m + (1 - beta1) * g`, `v = beta2 * v + (1 - beta2) * g**2`, and in step t (from 1)
            `w = w - r * (weight_decay * w + m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + epsilon))`
            (Loshchilov & Hutter 2019, algorithm 2).
        learning_rate: The highest rate of the schedule.
        momentum: Of SGD.
        nesterov: Whether SGD looks ahead.
        beta1: Of AdamW.
        beta2: Of AdamW.
        epsilon: Of AdamW, outside of the square root.
        weight_decay: How much of a weight is taken off, as above.
        decay_all: Whether biases, norms, class token and position embedding decay as well.
        clip_norm: Gradients are scaled by `clip_norm / max(clip_norm, global norm)`; 0 for never.
        schedule: "constant" or "cosine" (to 0 at the end of the stage), after the warm-up.
        warmup_steps: Steps in which the rate rises linearly to its highest; the first step has 1 / warmup_steps of it.
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
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-4
    decay_all: bool = True
    clip_norm: float = 0.0
    schedule: str = "constant"
    warmup_steps: int = 0
    pad: int = 4
    mirror_rate: float = 0.5
    hole: int = 8

    def __post_init__(self) -> None:
        check_types(self)
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32, not {self.seed}")
        for name in ("batch_size", "pretrain_epochs", "finetune_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("train_steps_per_epoch", "eval_steps_per_epoch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "pad", "hole", "learning_rate", "weight_decay", "clip_norm", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {self.momentum}")
        for name in ("beta1", "beta2"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), not {getattr(self, name)}")
        if self.optimizer not in ("sgd", "adamw"):
            raise ValueError(f'optimizer must be "sgd" or "adamw", not {self.optimizer!r}')
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f'schedule must be "constant" or "cosine", not {self.schedule!r}')
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be above 0, not {self.epsilon}")
        if not 0 <= self.mirror_rate <= 1:
            raise ValueError(f"mirror_rate must be in [0, 1], not {self.mirror_rate}")

    def decay_of(self, name: str) -> float:
        """The weight decay of one parameter, by its canonical name."""
        exempt = name.endswith("bias") or "norm" in name or name in ("cls_token", "pos_embed")
        return 0.0 if exempt and not self.decay_all else self.weight_decay

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of one step.

        Args:
            step: Which step of the stage, from 1.
            steps: How many steps the stage has.
        """
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - 1 - self.warmup_steps) / max(steps - self.warmup_steps, 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def to_dict(self) -> dict:
        """The fields as plain values, for JSON."""
        return dataclasses.asdict(self)
