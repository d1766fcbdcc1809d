"""The spec of a training run: data, augmentation, optimizer, epochs. A model's spec is in `vit/model/config.py`."""
import bisect
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from vit import data as datasets
from vit.aliases import names_of, resolve
from vit.fields import check, option
from vit.model import parameters
from vit.model.config import VARIANTS, ViTConfig

_OPTIMIZERS = """How gradients change the weights.

In these formulas g is a gradient (after `clip_norm`), w its weight, r the step's learning rate times what `layer_decay`
gives that weight, and t the number of the update, from 1.

Where `gradient_centralization` is on, it says what becomes of g first.

"sgd" (Sutskever et al. 2013, with the learning rate outside of the velocity v):

    d = g + weight_decay * w
    v = momentum * v + d
    w = w - r * v
    w = w - r * (d + momentum * v)        instead, with `nesterov`

"adamw" (Loshchilov & Hutter 2019, algorithm 2):

    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    a = m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + epsilon)
    w = w - r * (weight_decay * w + a)

"adam" (Kingma & Ba 2015, algorithm 1, with a penalty of weight_decay / 2 * w**2) has the m, v and a of "adamw", but
with g + weight_decay * w in place of g, and ends with

    w = w - r * a

"muon" (Jordan et al. 2024) is for the matrices of the blocks, those of attention and MLP; all else is as with "adamw":

    v = momentum * v + g
    o = the matrix nearest to g + momentum * v that is orthogonal
    w = w - r * (weight_decay * w + 0.2 * sqrt(max(rows, columns)) * o)

o is that but roughly, by five Newton-Schulz iterations (`vit/model/muon.py`). q, k and v are three matrices. With that
factor (Liu et al. 2025) AdamW's learning rates and decays are Muon's. Its momentum is published as 0.95."""

_SCHEDULES = """How the learning rate changes after the warm-up.

With e the epochs since the end of the warm-up (fractional: it grows with each step) and E those from there to the end
of the stage, the learning rate is

    constant      learning_rate
    cosine        min_learning_rate + (learning_rate - min_learning_rate)
                                      * (1 + cos(pi * e / E)) / 2
    step          learning_rate * decay_rate**floor(e / decay_epochs)
    exponential   learning_rate * decay_rate**(e / decay_epochs)
    milestones    learning_rate before the first of `milestones`; then the
                  one of `milestone_rates` for the last that e has reached"""

_CENTRALIZATION = """Centralize the gradients of matrices: each row loses its mean.

The matrices are those of patch embedding, attention, MLP and head, with a row for each output (Yong et al. 2020).
Clipping comes before it. So does, in "sgd" and "adam", the penalty of `weight_decay`, but not AdamW's or Muon's:

    g = clip(g)
    g = g + weight_decay * w              in "sgd" and "adam"
    g = g - mean of each row of g
    moments and step as `optimizer` has them

That is the order of the authors' SGD and AdamW, and of MindSpore's optimizers."""

_LAYER_DECAY = """Share of a layer's learning rate that the layer before it has; 1 for the same in all.

In a model of L blocks the learning rate of a weight is multiplied by

    layer_decay**(L + 1)    class token, position embedding, patch embedding
    layer_decay**(L - i)    block i, from 0
    1                       final norm, head

(Clark et al. 2020, as in BEiT and MAE)."""

_EMA = """Decay of the weights' moving average, which is then what is evaluated and saved; 0 for no average.

After each update the average a of a weight w becomes

    a = ema_decay * a + (1 - ema_decay) * w

from a = the initial weight (Polyak & Juditsky 1992)."""


@dataclass(frozen=True)
class Recipe:
    """One training run, exactly. The defaults are those of FastEstimator's apphub.

    `python -m vit recipe fields` prints every field with its default, its limits and all of its text.

    A field that is added here takes as its default what runs did before there was such a field. So a recipe that
    lacks it, be it a file or a checkpoint's, still means the run that it meant.

    Raises:
        ValueError: A field has an impossible value; the message names the field, the value and what is allowed.
    """
    data: str = option(
        "cifar", """Sets to train on; "folder" is your own.

        "digits" is two handwritten digits side by side (100 classes), then one (10 classes); it needs no network.
        "cifar" is CIFAR-100, then CIFAR-10. "cifair" is the same, but test images that duplicate a training image are
        replaced (Barz & Denzler 2020). "folder" is one set, the images in `data_dir`: there is no pretraining. "arrays"
        is one set, too, given from Python (`train_dataset`), or in a .npz file at `data_dir`.""",
        choices=datasets.NAMES, flag="data")
    val_fraction: float = option(
        0.0, """Share of each class's training images that are set apart for evaluation; 0 for none.

        Which ones is a function of `seed`. Each epoch is then evaluated on them, the best epoch is chosen by them, and
        the test images are seen once, at the end, by the best epoch's weights: `results.json` has both. A folder then
        needs no val/, and arrays no images to test on.""", limits="[0, 1)", flag="data")
    variant: str = option(
        "apphub", "Model, by name. `python -m vit list` shows the size of each.", choices=VARIANTS, flag="model")
    image_size: int | None = option(
        None, """Size of the images that the model sees, pixels (default: the data's).

        For a folder, whose images may have many sizes, the default is the variant's.""",
        limits="[1, 16384]", flag="model")
    dropout: float | None = option(
        None, """Dropout rate (default: the variant's).

        Dropout follows the position embedding, both linear layers of each MLP and the output projection of each
        attention.""", limits="[0, 1)")
    attention_dropout: float | None = option(
        None, "Dropout rate of the attention weights (default: the variant's).", limits="[0, 1)")
    drop_path: float | None = option(
        None, """Rate of stochastic depth (default: the variant's).

        The rate is that of the last block; it grows linearly from 0 in the first (Huang et al. 2016).""",
        limits="[0, 1)")
    patch_dropout: float | None = option(
        None, """Share of the patch tokens that training leaves out of each image (default: the variant's).

        As many of each image, others in each step, before the first block; a step takes less time and memory. An
        evaluation sees all of them (Liu et al. 2022, "PatchDropout").""", limits="[0, 1)")
    pool: str | None = option(
        None, """What goes to the head: the class token or the mean of the patch tokens (default: the variant's).

        With "mean" a variant has no class token; a pretrained model keeps the one that it has.""",
        choices=("cls", "mean"))
    initialization: str = option(
        "xavier", """How the initial weights are drawn.

        "mimetic" begins with attention that looks like that of pretrained models, and with sines and cosines for the
        position embedding (Trockman & Kolter 2023; `vit/model/mimetic.py`); all else is as with "xavier".""",
        choices=("xavier", "mimetic"))
    freeze_encoder: bool = option(
        False, """Train only the head in the finetune (a linear probe).

        A pretraining trains everything, and so does a finetune from scratch.""", flag="model")
    precision: str = option(
        "fp32", """Number type in which matrices are multiplied.

        Everything else stays float32 (`vit/model/precision.py`). "fp16" also scales the loss, and skips an update
        whose gradients overflow. "auto" is bf16 where the device multiplies it, and fp32 elsewhere.""",
        choices=("fp32", "bf16", "fp16", "auto"), flag="scale")
    loss_scale: float | None = option(
        None, """Fixed scale of the loss in precision "fp16" (default: one that follows the gradients).

        The default begins at 65536, halves with each update that overflows and doubles after 2000 good ones in a row.
        A fixed scale stays what it is; updates that overflow are skipped with it, too.""",
        limits="[1, 16777216]")

    batch_size: int = option(
        128, "Images of a training step. The last step of an epoch may see fewer.", limits="[1, inf)", flag="training")
    accumulate_steps: int = option(
        1, """Training steps whose gradients are averaged into one update of the weights.

        The update takes the learning rate of the last of these steps. Steps at the end of a stage that are too few for
        an update change nothing.""", limits="[1, inf)")
    mae_epochs: int = option(
        0, """Epochs of a masked autoencoder, before the pretraining and on its set; 0 for none.

        Of each image the encoder sees a share of the patches, and a small decoder, of its tokens and a learned one in
        the place of each hidden patch, makes the pixels of the hidden ones; the loss is their mean squared error, each
        patch's pixels normalized (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"). Images are
        cropped and flipped, and nothing else; nothing but patches is dropped. An evaluation hides the same patches each
        time. The pretraining begins with the encoder's last weights. Optimizer and schedule are the recipe's.""",
        limits="[0, inf)")
    mae_mask_ratio: float = option(
        0.75, "Share of the patches that the masked autoencoder hides, as many of each image.", limits="(0, 1)")
    mae_decoder_depth: int = option(2, "Blocks of the masked autoencoder's decoder.", limits="[1, 1024]")
    mae_decoder_width: int = option(
        128, "Width of its tokens; its MLPs are four times as wide.", limits="[1, 65536]")
    mae_decoder_heads: int = option(4, "Attention heads of its blocks; they divide its width.", limits="[1, 65536]")
    pretrain_epochs: int = option(
        100, "Epochs of the pretraining, on the set with many classes.", limits="[1, inf)", flag="training")
    finetune_epochs: int = option(
        1, "Epochs of the finetune, on the set with few classes or on your folder.", limits="[1, inf)", flag="training")
    train_steps_per_epoch: int | None = option(
        None, """Steps of a training epoch (default: the whole set).

        An epoch of more steps than the set has goes over the set again, with other augmentation.""",
        limits="[1, inf)", flag="training")
    eval_steps_per_epoch: int | None = option(
        None, """Steps of an evaluation (default: the whole set).

        An evaluation never sees an image twice: with more steps than the set has it is of the whole set.""",
        limits="[1, inf)", flag="training")
    eval_every: int = option(
        1, """Epochs from one evaluation to the next.

        A stage is evaluated after the epochs eval_offset + eval_every, eval_offset + 2 * eval_every and so on, and
        after its last one. The best epoch is the best of those.""", limits="[1, inf)", flag="training")
    eval_offset: int = option(
        0, "Epochs of a stage from which on `eval_every` counts: before, there are no evaluations.",
        limits="[0, inf)", flag="training")
    early_stopping_patience: int = option(
        0, """Evaluations in a row without a better accuracy, after which a stage ends; 0 for no such end.

        It ends with the weights of its last epoch; those of the best are in best/. Where `val_fraction` is 0, the
        accuracy is that on the test images, which then are no fair test any more.""",
        limits="[0, inf)", flag="training")
    seed: int = option(
        0, "Seed of the initial weights, the order of the samples, augmentation and dropout.",
        limits="[0, 4294967295]", flag="training")

    optimizer: str = option("sgd", _OPTIMIZERS, choices=("sgd", "adam", "adamw", "muon"))
    learning_rate: float = option(0.01, "Highest learning rate of the schedule.", limits="[0, inf)", flag="training")
    momentum: float = option(0.9, "Momentum of SGD and Muon.", limits="[0, 1)")
    nesterov: bool = option(False, "Give SGD Nesterov's momentum; Muon's always is.")
    beta1: float = option(
        0.9, "Decay of the first moment of Adam, of AdamW and of Muon's AdamW.", limits="(0, 1)")
    beta2: float = option(
        0.999, "Decay of the second moment of Adam, of AdamW and of Muon's AdamW.", limits="(0, 1)")
    epsilon: float = option(
        1e-8, "What Adam and AdamW add to the square root before they divide by it.", limits="(0, inf)")
    weight_decay: float = option(1e-4, "Weight decay, as the formulas of `optimizer` have it.", limits="[0, inf)")
    decay_bias_and_norm: bool = option(
        True, "Apply weight decay to biases, norms, class token and position embedding as well.",
        aliases=("decay_all",))
    layer_decay: float = option(1.0, _LAYER_DECAY, limits="(0, 1]")
    clip_norm: float = option(
        0.0, """Largest global norm of the gradients; 0 for no clipping.

        All gradients (averaged, if accumulated) are multiplied by

            clip_norm / max(clip_norm, global norm)""", limits="[0, inf)")
    gradient_centralization: bool = option(False, _CENTRALIZATION)
    ema_decay: float = option(0.0, _EMA, limits="[0, 1)")

    schedule: str = option("constant", _SCHEDULES, choices=("constant", "cosine", "step", "exponential", "milestones"))
    warmup_steps: int = option(
        0, """Steps in which the learning rate rises linearly to its highest.

        The first step has 1 / warmup_steps of it.""", limits="[0, inf)")
    warmup_epochs: float = option(
        0.0, """The warm-up in epochs, in place of `warmup_steps`.

        They are rounded to whole steps. One of the two must be 0.""", limits="[0, 1000000]")
    min_learning_rate: float = option(
        0.0, 'Learning rate at which the schedule "cosine" ends.', limits="[0, inf)", aliases=("min_rate",))
    decay_rate: float = option(
        0.1, 'What the schedules "step" and "exponential" multiply the learning rate by.', limits="(0, 1]")
    decay_epochs: float = option(
        30.0, 'Epochs in which "step" and "exponential" multiply by `decay_rate` once.', limits="[1e-06, 1000000]")
    milestones: tuple[float, ...] = option(
        (), 'Epochs from the end of the warm-up to each change of the schedule "milestones", rising.',
        limits="[0, 1000000]")
    milestone_rates: tuple[float, ...] = option(
        (), "Learning rate from each of `milestones` on.", limits="[0, inf)")

    label_smoothing: float = option(
        0.0, """Share of a label that is spread evenly over all classes.

        As in Szegedy et al. 2016.""", limits="[0, 1)")
    mixup: float = option(
        0.0, """Alpha of mixup; 0 for none.

        An image and its label become

            lam ~ Beta(alpha, alpha)
            x = lam * x1 + (1 - lam) * x2
            y = lam * y1 + (1 - lam) * y2

        (Zhang et al. 2018). Each image has a lam of its own, and a partner of its own from the whole set.""",
        limits="[0, inf)")
    cutmix: float = option(
        0.0, """Alpha of CutMix; 0 for none.

        With lam ~ Beta(alpha, alpha), a box of 1 - lam of the image comes from its partner, and as much of the label
        (Yun et al. 2019). Where `mixup` is on as well, each image gets one of the two, with equal chances.""",
        limits="[0, inf)")
    mixup_prob: float = option(
        1.0, "Probability that a training image is changed by mixup or CutMix at all.",
        limits="[0, 1]", aliases=("mix_rate",))
    crop_padding: int = option(
        4, """Mirrored border around an image before a random crop, pixels; 0 for no such crop.

        The crop is as large as the image was without the border. `crop_padding` must be 0 where `crop_scale_min` asks
        for another crop.""", limits="[0, inf)", aliases=("pad",))
    crop_scale_min: float = option(
        0.0, """Smallest share of an image's area in a random crop; 0 for no such crop.

        The crop has an aspect of 3/4 to 4/3 and is resized to `image_size` (Szegedy et al. 2015).""",
        limits="[0, 1]", aliases=("crop_min",))
    crop_scale_max: float = option(
        1.0, "Largest share of an image's area in the random crop of `crop_scale_min`.",
        limits="[0, 1]", aliases=("crop_max",))
    hflip_prob: float = option(
        0.5, """Probability that a training image is flipped left to right.

        Images of "digits" never are: a flipped digit is none.""", limits="[0, 1]", aliases=("mirror_rate",))
    augment: str = option(
        "none", """Policy of image operations, after cropping and flipping.

        "randaugment" is Cubuk et al. 2020; the other two are the published policies of Cubuk et al. 2019.""",
        choices=("none", "randaugment", "autoaugment_cifar", "autoaugment_imagenet"))
    randaugment_number: int = option(2, "Operations of RandAugment on each image.", limits="[1, 100]")
    randaugment_magnitude: float = option(9.0, "Strength of RandAugment's operations.", limits="[0, 10]")
    randaugment_std: float = option(
        0.0, """Standard deviation of the strength of RandAugment's operations.

        Each operation's strength is drawn anew from a normal distribution around `randaugment_magnitude`.""",
        limits="[0, inf)")
    cutout_size: int = option(
        8, "Size of the square that is blanked in each training image, pixels; 0 for none.",
        limits="[0, inf)", aliases=("hole",))
    random_erasing_prob: float = option(
        0.0, """Probability that a rectangle of a training image is filled with noise.

        The rectangle has 2 to 33 % of the image's area, and the noise is normal (Zhong et al. 2020).""",
        limits="[0, 1]", aliases=("erasing_rate",))
    normalize: str = option(
        "data", """Mean and standard deviation to normalize the channels of images with.

        "data" is the set's own (a folder has ImageNet's), "imagenet" is ImageNet's, and "half" is 0.5 and 0.5, as
        Google's ViT checkpoints have it.""", choices=("data", "imagenet", "half"))
    eval_crop_pct: float = option(
        0.875, """Share of an image's shorter edge that an evaluation on a folder sees.

        A square of that size is cut out of the image's middle and resized to `image_size`.""",
        limits="(0, 1]", aliases=("eval_crop",))

    def __post_init__(self) -> None:
        check(self)
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError(f"warmup_steps and warmup_epochs are two words for one thing: set one of them to 0, "
                             f"not {self.warmup_steps} and {self.warmup_epochs}")
        if self.crop_scale_min > self.crop_scale_max:
            raise ValueError(f"crop_scale_min must be at most crop_scale_max ({self.crop_scale_max}), "
                             f"not {self.crop_scale_min}")
        if self.crop_scale_min and self.crop_padding:
            raise ValueError(f"crop_padding must be 0 where crop_scale_min ({self.crop_scale_min}) asks for another "
                             f"crop, not {self.crop_padding}")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate must be at most learning_rate ({self.learning_rate}), "
                             f"not {self.min_learning_rate}")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, not be {list(self.milestones)}")
        if len(self.milestones) != len(self.milestone_rates):
            raise ValueError(f"milestone_rates must be as many as milestones ({len(self.milestones)}), not "
                             f"{len(self.milestone_rates)}")
        if self.schedule == "milestones" and not self.milestones:
            raise ValueError('schedule "milestones" needs milestones and milestone_rates')

    @classmethod
    def from_dict(cls, fields: Mapping) -> "Recipe":
        """Build the recipe of some fields: a file's, a checkpoint's or a person's.

        Args:
            fields: Values by field; one that is absent takes its default. Old names are understood, with a note.

        Raises:
            UserError: A field is unknown, or given by two names.
            ValueError: A field has an impossible value.
        """
        return cls(**cls.renamed(fields))

    @classmethod
    def renamed(cls, fields: Mapping) -> dict:
        """Put today's names in the place of old ones.

        Raises:
            UserError: A field is unknown, or given by two names.
        """
        names = names_of(cls)
        return resolve(fields, names, "key", f"a recipe has {', '.join(dict.fromkeys(names.values()))}")

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed with partners."""
        return bool(self.mixup or self.cutmix) and self.mixup_prob > 0

    @property
    def soft_labels(self) -> bool:
        """Whether training labels are shares of every class ([B, classes]) and not classes ([B])."""
        return self.mixes or self.label_smoothing > 0

    def model(self, classes: int, image_size: int | None, base: ViTConfig | None = None) -> ViTConfig:
        """Give the variant a head for a number of classes, an image size, and this recipe's dropout rates and pooling.

        Args:
            classes: Rows of the head.
            image_size: Size of the images, pixels; None is the variant's.
            base: The model to take in place of the variant, or None.

        Raises:
            ValueError: The image size does not fit the model's patches.
        """
        changes = {name: getattr(self, name)
                   for name in ("dropout", "attention_dropout", "drop_path", "patch_dropout", "pool")}
        changes = {name: value for name, value in changes.items() if value is not None}
        if base is None and self.pool is not None:
            changes["class_token"] = self.pool == "cls"
        variant = base or VARIANTS[self.variant]
        return variant.replace(num_classes=classes, image_size=image_size or variant.image_size, **changes)

    def autoencoder(self, model: ViTConfig) -> ViTConfig:
        """Give a model the masked autoencoder's decoder in the place of its head; what it drops is patches alone.

        Raises:
            ValueError: The decoder's heads do not divide its width, or none or all of the patches would be hidden.
        """
        return model.replace(dropout=0.0, attention_dropout=0.0, drop_path=0.0, patch_dropout=self.mae_mask_ratio,
                             decoder_depth=self.mae_decoder_depth, decoder_width=self.mae_decoder_width,
                             decoder_heads=self.mae_decoder_heads)

    def unmixed(self) -> "Recipe":
        """Give the recipe whose images are cropped and flipped, and nothing else."""
        return dataclasses.replace(self, mixup=0.0, cutmix=0.0, label_smoothing=0.0, augment="none", cutout_size=0,
                                   random_erasing_prob=0.0)

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate changes at all."""
        return self.schedule != "constant" or bool(self.warmup_steps or self.warmup_epochs)

    def decay_of(self, name: str) -> float:
        """Give the weight decay of one parameter, by its canonical name."""
        return self.weight_decay if self.decay_bias_and_norm or parameters.row_of(name).decays else 0.0

    def centralizes(self, name: str) -> bool:
        """Whether one parameter's gradient is centralized, by its canonical name: matrices' are."""
        return self.gradient_centralization and parameters.row_of(name).decays

    @property
    def looks_ahead(self) -> bool:
        """Whether the momentum is Nesterov's."""
        return self.nesterov or self.optimizer == "muon"

    def orthogonalizes(self, name: str) -> int:
        """Give the number of matrices that Muon finds in one parameter, by its canonical name; 0: it is not Muon's.

        In "qkv" there are three, each orthogonalized by itself: they are three maps that are stored in one. As one
        matrix, their shares of an update would hang on how large the gradients of the others are; those of q and k are
        much smaller than those of v while attention is nearly uniform.
        """
        row = parameters.row_of(name)
        if self.optimizer != "muon" or "{i}" not in row.name or not row.decays:
            return 0
        return 3 if row.initial == "xavier3" else 1

    def evaluates(self, epoch: int, epochs: int) -> bool:
        """Whether a stage is evaluated after one of its epochs.

        Args:
            epoch: Which epoch, from 1.
            epochs: How many the stage has.
        """
        counted = epoch - self.eval_offset
        return epoch >= epochs or (counted > 0 and counted % self.eval_every == 0)

    def layer_scale(self, name: str, depth: int) -> float:
        """What one parameter's learning rate is multiplied by.

        Args:
            name: Its canonical name.
            depth: Number of blocks of its model.
        """
        return self.layer_decay**(depth + 1 - parameters.layer_of(name, depth))

    def rate(self, step: int, steps: int, steps_per_epoch: int | None = None) -> float:
        """Compute the learning rate of one step, before `layer_scale`.

        Args:
            step: Which step of the stage, from 1.
            steps: How many steps the stage has.
            steps_per_epoch: Steps of an epoch; needed where the recipe counts in epochs.

        Raises:
            ValueError: `steps_per_epoch` is needed and missing.
        """
        if steps_per_epoch is None and (self.warmup_epochs or self.schedule in ("step", "exponential", "milestones")):
            raise ValueError("this recipe counts in epochs: its rate needs steps_per_epoch")
        warmup = self.warmup_steps or round(self.warmup_epochs * (steps_per_epoch or 0))
        if step <= warmup:
            return self.learning_rate * step / warmup
        passed = step - 1 - warmup
        if self.schedule == "cosine":
            progress = min(passed / max(steps - warmup, 1), 1.0)
            share = 0.5 * (1 + math.cos(math.pi * progress))
            return self.min_learning_rate + (self.learning_rate - self.min_learning_rate) * share
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "milestones":
            reached = bisect.bisect_right(self.milestones, passed / steps_per_epoch)
            return (self.learning_rate, *self.milestone_rates)[reached]
        decays = passed / steps_per_epoch / self.decay_epochs
        return self.learning_rate * self.decay_rate**(math.floor(decays) if self.schedule == "step" else decays)

    def to_dict(self) -> dict:
        """The fields as plain values, for JSON and YAML."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self).items()}

