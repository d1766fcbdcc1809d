"""A model that is ready to use: weights of any file in a framework, with what becomes of an image before them."""
import os

import numpy as np

from vit import convert
from vit.backend import load_script, script_of
from vit.data import resizing
from vit.data.augmentation import normalized
from vit.data.sets import IMAGENET
from vit.errors import UserError
from vit.files.usage import Preprocessing, Usage
from vit.model.config import ViTConfig
from vit.model.parameters import Weights

BATCH_SIZE = 64
ASSUMED = Preprocessing(*IMAGENET)


class Model:
    """What has images and gives logits, wherever it runs.

    Args:
        config: The model's spec.
        usage: What its file says of how it is used.
        path: The file.
        batch_size: Images that are computed at a time.

    Attributes:
        config: The model's spec.
        classes: Names of the classes; their numbers where the file has no names, which `numbered` tells.
        preprocessing: What becomes of an image before the model.
        provenance: What the file says of where its weights come from.
        sizes: Of the batches that are computed, ascending; fewer images are filled up to the next of them.
        notes: Lines about what the file does not say.
    """

    def __init__(self, config: ViTConfig, usage: Usage, path: str | os.PathLike, batch_size: int) -> None:
        self.config, self.notes, self.sizes = config, [], (batch_size, )
        self.preprocessing, self.provenance = usage.preprocessing, usage.provenance
        if self.preprocessing is None:
            self.preprocessing = ASSUMED
            self.notes.append(f"{path} does not say how images are normalized: as ImageNet's are")
        self.classes, self.numbered = usage.classes, usage.classes is None
        if self.numbered:
            self.classes = tuple(map(str, range(self.config.num_classes)))
            self.notes.append(f"{path} does not name its classes: they are numbers")

    @property
    def batch_size(self) -> int:
        """Images that are computed at a time, at most."""
        return self.sizes[-1]

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """Give what of an image the model sees: uint8 [S, S, 3].

        Args:
            image: uint8 [h, w, 3].
        """
        size, how = self.config.image_size, self.preprocessing
        if image.shape == (size, size, 3) and how.crop_pct in (None, 1.0):
            return image
        if how.crop_pct is None:
            return resizing.stretch(image, size, how.interpolation)
        return resizing.center_crop(image, size, how.crop_pct, how.interpolation)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the logits, float32 [n, classes].

        Args:
            pixels: uint8 [n, S, S, 3], of `pixels`.
        """
        return self.scores(pixels)

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Compute what the model gives: logits, or what an exported one has made of them; float32 [n, classes].

        Args:
            pixels: uint8 [n, S, S, 3], of `pixels`.
        """
        return self._batched(self._run, pixels, self.config.num_classes)

    def _batched(self, run, pixels: np.ndarray, width: int) -> np.ndarray:
        """What a function of whole batches gives for images, float32 [n, width]."""
        found = []
        for start in range(0, len(pixels), self.batch_size):
            part = pixels[start:start + self.batch_size]
            size = next(size for size in self.sizes if size >= len(part))
            whole = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), np.uint8)])
            found.append(run(whole)[:len(part)])
        return np.concatenate(found) if found else np.zeros((0, width), np.float32)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """The scores of a batch."""
        raise NotImplementedError

    def _normalized(self, pixels: np.ndarray) -> np.ndarray:
        return normalized(pixels, self.preprocessing.mean, self.preprocessing.std, channels_first=False)


class Classifier(Model):
    """The model of a file, in a framework.

    Args:
        source: A file of any kind that `vit.convert.read` takes, a Hugging Face folder, or the folder of a run; or a
            ViT of any of the scripts, whose weights are copied as they are now.
        backend: "torch", "tf" or "ms".
        batch_size: Images that are computed at a time.

    Raises:
        UserError: The file cannot be read, has no head, or its model sees no RGB images; or the framework is not
            installed.
    """

    def __init__(self, source: object, backend: str = "torch", batch_size: int = BATCH_SIZE) -> None:
        weights, config, usage = read_whole(source, backend)
        super().__init__(config, usage, title(source), batch_size)
        self.backend, script = backend, load_script(backend)
        script.backend.use_device(None)
        self._vit = script.ViT(config, weights=weights)
        self._predictor = script.backend.Predictor(self._vit)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Compute what the head is given: the class token's last state, or the pooled tokens; float32 [n, D].

        Args:
            pixels: uint8 [n, S, S, 3], of `pixels`.
        """
        def run(whole):
            return self._predictor.features(self._normalized(whole))

        return self._batched(run, pixels, self.config.width)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        return self._predictor.logits(self._normalized(pixels))


def read_whole(source: object, backend: str = "torch") -> tuple[Weights, ViTConfig, Usage]:
    """Read weights that have all that images need: a head, and channels for red, green and blue.

    Args:
        source: As of `Classifier`.
        backend: The framework, for the message.

    Raises:
        UserError: The file cannot be read, has no head, or its model sees no RGB images.
    """
    if script := script_of(source):
        # What `vit.hub.from_pretrained` has made knows how it is used.
        weights, config, usage = script.to_numpy(source), source.config, getattr(source, "usage", Usage())
        if not config.has_head:
            raise UserError("the given model is a masked autoencoder, which names no class; finetune its encoder first")
    else:
        weights, config, report = convert.read(source)
        usage = report.usage
        if "head.weight" in report.named("new"):
            raise UserError(f"{source}: has no head, so it names no class; finetune it first "
                            f"(python vit_{backend}.py --pretrained {source} --data folder --data_dir DIR)")
    if config.in_channels != 3:
        raise UserError(f"{title(source)}: its model sees images of {config.in_channels} channels, and these have 3")
    return weights, config, usage


def title(source: object) -> object:
    """What messages call a model: its file, or that it was given itself."""
    return "the given model" if script_of(source) else source


def likeliest(model: Model, pixels: np.ndarray, top_k: int) -> list[list[tuple[str, float]]]:
    """Name the likeliest classes of images, each with its probability, the likeliest first.

    Args:
        model: The model.
        pixels: uint8 [n, S, S, 3], of its `pixels`.
        top_k: How many are named of each image, where there are as many.
    """
    return [first(model.classes, row, top_k) for row in probabilities(model.logits(pixels))]


def first(classes: tuple[str, ...], row: np.ndarray, top_k: int) -> list[tuple[str, float]]:
    """Name the likeliest of some classes, each with its probability, the likeliest first.

    Args:
        classes: Their names.
        row: Their probabilities, [classes].
        top_k: How many are named, where there are as many.
    """
    return [(classes[index], row[index].item()) for index in np.argsort(-row, kind="stable")[:top_k]]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    x = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def batch_sizes(model: Model, most: int) -> tuple[int, ...]:
    """Give a model's `sizes` for numbers of images that change: few, as all but PyTorch compile a graph for each.

    Args:
        model: The model; an export of a fixed batch has that one alone.
        most: Images that are computed at a time, at most.
    """
    if getattr(getattr(model, "manifest", None), "batch", None) is not None:
        return (model.manifest.batch, )
    if model.backend == "torch":
        return tuple(range(1, most + 1))
    return (*(1 << power for power in range((most - 1).bit_length())), most)
