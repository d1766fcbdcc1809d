"""The spec of a training run: data, augmentation, optimizer, epochs. A model's spec is in `vit/model/config.py`."""
import dataclasses
import math
from dataclasses import dataclass

from vit.fields import check_types
from vit.model import parameters
from vit.model.config import VARIANTS, ViTConfig

CHOICES = {
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": ("constant", "cosine", "step", "exponential"),
    "augment": ("none", "randaugment", "autoaugment_cifar", "autoaugment_imagenet"),
    "normalize": ("data", "imagenet", "half"),
    "precision": ("fp32", "bf16", "fp16"),
}
# Field to (lowest, highest); None for no limit. The brackets of the message say whether the limit itself is allowed.
_LIMITS = {
    "[]": {"batch_size": (1, None), "pretrain_epochs": (1, None), "finetune_epochs": (1, None),
           "train_steps_per_epoch": (1, None), "eval_steps_per_epoch": (1, None), "image_size": (1, 2**14),
           "accumulate_steps": (1, None), "seed": (0, 2**32 - 1), "crop_padding": (0, None), "cutout_size": (0, None),
           "learning_rate": (0, None), "min_learning_rate": (0, None), "weight_decay": (0, None), "clip_norm": (0, None),
           "warmup_steps": (0, None), "warmup_epochs": (0, 10**6), "mixup": (0, None), "cutmix": (0, None),
           "hflip_prob": (0, 1), "mixup_prob": (0, 1), "random_erasing_prob": (0, 1), "crop_scale_min": (0, 1),
           "crop_scale_max": (0, 1), "decay_epochs": (1e-6, 10**6), "randaugment_number": (1, None),
           "randaugment_magnitude": (0, 10), "randaugment_std": (0, None)},
    "[)": {"momentum": (0, 1), "ema_decay": (0, 1), "label_smoothing": (0, 1), "dropout": (0, 1),
           "attention_dropout": (0, 1), "drop_path": (0, 1)},
    "(]": {"layer_decay": (0, 1), "decay_rate": (0, 1), "eval_crop_pct": (0, 1)},
    "()": {"beta1": (0, 1), "beta2": (0, 1), "epsilon": (0, None)},
}


@dataclass(frozen=True)
class Recipe:
    """One training run, exactly. The defaults are those of FastEstimator's apphub.

    Args:
        data: Name of a pair of sets (`vit.data.NAMES`).
        variant: Name of a model spec (`vit.model.config.VARIANTS`).
        image_size: Side of the images that the model sees, pixels; None is the side of the data's images or, for
            a folder of images of all sizes, the variant's.
        dropout: In place of the variant's own, if not None; so are the next two.
        attention_dropout: Rate on the attention weights.
        drop_path: Rate of stochastic depth in the last block.
        freeze_encoder: Whether a finetune trains the head alone. (A pretraining and a training from scratch train all.)
        precision: "fp32", or "bf16" or "fp16" for the factors of matrix products, with all else in float32
            (`vit.model.precision`); "fp16" scales the loss, and skips steps whose gradients overflow (`vit.training.traces.loss_scale`).

        batch_size: Images of a training step; the last step of an epoch may see fewer.
        accumulate_steps: Steps whose gradients are averaged into one update of the weights, at the rate of the last.
            What a stage's last steps gather short of an update is dropped.
        pretrain_epochs: Passes over the many-class set.
        finetune_epochs: Passes over the few-class set, or over a folder.
        train_steps_per_epoch: Steps after which a training epoch ends, or None for the whole set; one of more steps
            than the set has passes over it again, augmented anew.
        eval_steps_per_epoch: Steps after which an evaluation ends, the whole set at most; None for the whole set.
        seed: Of the initial weights, the order of the samples, the augmentation and the dropout.

        optimizer: "sgd", "adam" or "adamw"; g is the (clipped) gradient, w a weight, r the step's learning rate times
            `layer_scale`, t the update, from 1.
            sgd: `d = g + weight_decay * w`, `v = momentum * v + d`, `w = w - r * v` (or, with Nesterov's momentum,
            `w = w - r * (d + momentum * v)`), as in Sutskever et al. 2013 with the rate outside of v.
            adamw: `m = beta1 * m + (1 - beta1) * g`, `v = beta2 * v + (1 - beta2) * g**2`, and
            `w = w - r * (weight_decay * w + m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + epsilon))`
            (Loshchilov & Hutter 2019, algorithm 2).
            adam: The same with `g + weight_decay * w` in the place of g, and without the `weight_decay * w` in the
            last formula (Kingma & Ba 2015, algorithm 1, with a penalty of `weight_decay / 2 * w**2`).
        learning_rate: The highest rate of the schedule.
        momentum: Of SGD.
        nesterov: Whether SGD looks ahead.
        beta1: Of Adam and AdamW.
        beta2: Of Adam and AdamW.
        epsilon: Of Adam and AdamW, outside of the square root.
        weight_decay: How much of a weight is taken off, as above.
        decay_bias_and_norm: Whether biases, norms, class token and position embedding decay as well.
        layer_decay: The rate of block i of L is multiplied by `layer_decay**(L - i)` (i from 0), that of class token,
            position and patch embedding by `layer_decay**(L + 1)`, that of final norm and head by 1 (Clark et al.
            2020; BEiT, MAE).
        clip_norm: Gradients (averaged, if accumulated) are scaled by `clip_norm / max(clip_norm, global norm)`; 0 for
            never.
        ema_decay: After each update `a = ema_decay * a + (1 - ema_decay) * w`, from a = the initial weights; the
            averages a are what is evaluated and kept. 0 for the weights themselves.

        schedule: After the warm-up, in the e-th epoch since then (e is fractional):
            "constant", "cosine" (`min_learning_rate + (learning_rate - min_learning_rate) * (1 + cos(pi * e / E)) / 2`, where E is what
            the warm-up leaves of the stage), "step" (`learning_rate * decay_rate**floor(e / decay_epochs)`) or
            "exponential" (`learning_rate * decay_rate**(e / decay_epochs)`).
        warmup_steps: Steps in which the rate rises linearly to its highest; the first step has 1 / warmup_steps of it.
        warmup_epochs: The same in epochs (rounded to steps); one of the two at most.
        min_learning_rate: Where the cosine ends.
        decay_rate: Of "step" and "exponential".
        decay_epochs: Of "step" and "exponential".

        label_smoothing: Share of a label that is spread evenly over all classes (Szegedy et al. 2016).
        mixup: Alpha of mixup: `lam ~ Beta(alpha, alpha)`, `x = lam * x1 + (1 - lam) * x2`, y alike (Zhang et al.
            2018); 0 for never. Every image has its own partner, from the whole set, and its own lam.
        cutmix: Alpha of CutMix: a box of `1 - lam` of the image comes from the partner, and as much of the label
            (Yun et al. 2019); 0 for never. With both, a coin decides for each image.
        mixup_prob: How often an image is mixed at all.
        crop_padding: Pixels of mirrored border on each side before a random crop of the original size.
        crop_scale_min: Smallest share of an image's area that a random crop takes, of an aspect of 3/4 to 4/3, to be
            resized to the model's side (Szegedy et al. 2015); 0 for none. `crop_padding` must be 0 with it.
        crop_scale_max: Largest share of the same.
        hflip_prob: How often an image is mirrored, where the data allows it.
        augment: "none", "randaugment" (Cubuk et al. 2020), "autoaugment_cifar" or "autoaugment_imagenet" (Cubuk et al.
            2019, the published policies), after cropping and mirroring.
        randaugment_number: Operations on each image.
        randaugment_magnitude: Their strength, 0 to 10.
        randaugment_std: Deviation of a normal noise on each operation's strength.
        cutout_size: Side of the one square that is blanked in each training image, pixels; 0 for none.
        random_erasing_prob: How often a rectangle of 2 to 33 % of the image becomes normal noise (Zhong et al. 2020).
        normalize: Mean and deviation that are taken off: "data" (the set's own; ImageNet's for a folder), "imagenet",
            or "half" (0.5 and 0.5: Google's ViT checkpoints).
        eval_crop_pct: In evaluation of a folder, the share of the shorter side that is cut out of an image's middle.

    Raises:
        ValueError: A field has an impossible value; the message names the field, the value and what is allowed.
    """
    data: str = "cifar"
    variant: str = "apphub"
    image_size: int | None = None
    dropout: float | None = None
    attention_dropout: float | None = None
    drop_path: float | None = None
    freeze_encoder: bool = False
    precision: str = "fp32"

    batch_size: int = 128
    accumulate_steps: int = 1
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
    decay_bias_and_norm: bool = True
    layer_decay: float = 1.0
    clip_norm: float = 0.0
    ema_decay: float = 0.0

    schedule: str = "constant"
    warmup_steps: int = 0
    warmup_epochs: float = 0.0
    min_learning_rate: float = 0.0
    decay_rate: float = 0.1
    decay_epochs: float = 30.0

    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0
    crop_padding: int = 4
    crop_scale_min: float = 0.0
    crop_scale_max: float = 1.0
    hflip_prob: float = 0.5
    augment: str = "none"
    randaugment_number: int = 2
    randaugment_magnitude: float = 9.0
    randaugment_std: float = 0.0
    cutout_size: int = 8
    random_erasing_prob: float = 0.0
    normalize: str = "data"
    eval_crop_pct: float = 0.875

    def __post_init__(self) -> None:
        check_types(self)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                words = ", ".join(f'"{word}"' for word in allowed)
                raise ValueError(f"{name} must be one of {words}, not {getattr(self, name)!r}")
        for brackets, limits in _LIMITS.items():
            for name, (low, high) in limits.items():
                _check_limits(name, getattr(self, name), brackets, low, high)
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError(f"warmup_steps and warmup_epochs are two words for one thing: set one of them to 0, "
                             f"not {self.warmup_steps} and {self.warmup_epochs}")
        if self.crop_scale_min > self.crop_scale_max:
            raise ValueError(f"crop_scale_min must be at most crop_scale_max ({self.crop_scale_max}), not {self.crop_scale_min}")
        if self.crop_scale_min and self.crop_padding:
            raise ValueError(f"crop_padding must be 0 where crop_scale_min ({self.crop_scale_min}) asks for another crop, "
                             f"not {self.crop_padding}")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate must be at most learning_rate ({self.learning_rate}), not {self.min_learning_rate}")

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed with partners."""
        return bool(self.mixup or self.cutmix) and self.mixup_prob > 0

    @property
    def soft_labels(self) -> bool:
        """Whether training labels are shares of every class ([B, classes]) and not classes ([B])."""
        return self.mixes or self.label_smoothing > 0

    def model(self, classes: int, side: int | None, base: ViTConfig | None = None) -> ViTConfig:
        """The variant (or `base`) with a head for `classes`, this recipe's dropout rates, an input of `side` if given.

        Raises:
            ValueError: The side does not fit the variant's patches.
        """
        rates = {name: getattr(self, name) for name in ("dropout", "attention_dropout", "drop_path")}
        rates = {name: rate for name, rate in rates.items() if rate is not None}
        variant = base or VARIANTS[self.variant]
        return variant.replace(num_classes=classes, image_size=side or variant.image_size, **rates)

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate changes at all."""
        return self.schedule != "constant" or bool(self.warmup_steps or self.warmup_epochs)

    def decay_of(self, name: str) -> float:
        """Give the weight decay of one parameter, by its canonical name."""
        return self.weight_decay if self.decay_bias_and_norm or parameters.row_of(name).decays else 0.0

    def layer_scale(self, name: str, depth: int) -> float:
        """What one parameter's learning rate is multiplied by.

        Args:
            name: Its canonical name.
            depth: Number of blocks of its model.
        """
        return self.layer_decay**(depth + 1 - parameters.layer_of(name, depth))

    def rate(self, step: int, steps: int, steps_per_epoch: int | None = None) -> float:
        """The learning rate of one step, before `layer_scale`.

        Args:
            step: Which step of the stage, from 1.
            steps: How many steps the stage has.
            steps_per_epoch: Steps of an epoch; needed where the recipe counts in epochs.

        Raises:
            ValueError: `steps_per_epoch` is needed and missing.
        """
        if steps_per_epoch is None and (self.warmup_epochs or self.schedule in ("step", "exponential")):
            raise ValueError("this recipe counts in epochs: its rate needs steps_per_epoch")
        warmup = self.warmup_steps or round(self.warmup_epochs * (steps_per_epoch or 0))
        if step <= warmup:
            return self.learning_rate * step / warmup
        passed = step - 1 - warmup
        if self.schedule == "cosine":
            progress = min(passed / max(steps - warmup, 1), 1.0)
            return self.min_learning_rate + (self.learning_rate - self.min_learning_rate) * 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "constant":
            return self.learning_rate
        decays = passed / steps_per_epoch / self.decay_epochs
        return self.learning_rate * self.decay_rate**(math.floor(decays) if self.schedule == "step" else decays)

    def to_dict(self) -> dict:
        """The fields as plain values, for JSON and YAML."""
        return dataclasses.asdict(self)


def _check_limits(name: str, value: float | None, brackets: str, low: float, high: float | None) -> None:
    """Hold a field to its range, the brackets of which say whether its ends belong to it."""
    if value is None:
        return
    above = value >= low if brackets[0] == "[" else value > low
    below = high is None or (value <= high if brackets[1] == "]" else value < high)
    if not (above and below):
        if high is None:
            wanted = f"{'at least' if brackets[0] == '[' else 'above'} {low}"
        else:
            wanted = f"in {brackets[0]}{low}, {high}{brackets[1]}"
        raise ValueError(f"{name} must be {wanted}, not {value}")
