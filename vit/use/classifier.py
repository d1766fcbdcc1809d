"""A model that is ready to use: weights of any file in a framework, with what becomes of an image before them."""
import os

import numpy as np

from vit import convert
from vit.backend import load_script
from vit.data import resizing
from vit.data.augmentation import normalized
from vit.data.sets import IMAGENET
from vit.errors import UserError
from vit.files.usage import Preprocessing

BATCH_SIZE = 64
_ASSUMED = Preprocessing(*IMAGENET)


class Classifier:
    """The model of a file, in a framework.

    Args:
        path: A file of any kind that `vit.convert.read` takes, a Hugging Face folder, or the folder of a run.
        backend: "torch", "tf" or "ms".
        batch_size: Images that are computed at a time.

    Attributes:
        config: The model's spec.
        classes: Names of the classes; their numbers where the file has no names, which `numbered` tells.
        preprocessing: What becomes of an image before the model.
        provenance: What the file says of where its weights come from.
        notes: Lines about what the file does not say.

    Raises:
        UserError: The file cannot be read, has no head, or its model sees no RGB images; or the framework is not
            installed.
    """

    def __init__(self, path: str | os.PathLike, backend: str = "torch", batch_size: int = BATCH_SIZE) -> None:
        weights, self.config, report = convert.read(path)
        if "head.weight" in report.named("new"):
            raise UserError(f"{path}: has no head, so it names no class; finetune it first "
                            f"(python vit_{backend}.py --pretrained {path} --data folder --data_dir DIR)")
        if self.config.in_channels != 3:
            raise UserError(f"{path}: its model sees images of {self.config.in_channels} channels, and these have 3")
        self.notes, usage = [], report.usage
        self.preprocessing, self.provenance, self.batch_size = usage.preprocessing, usage.provenance, batch_size
        if self.preprocessing is None:
            self.preprocessing = _ASSUMED
            self.notes.append(f"{path} does not say how images are normalized: as ImageNet's are")
        self.classes, self.numbered = usage.classes, usage.classes is None
        if self.numbered:
            self.classes = tuple(map(str, range(self.config.num_classes)))
            self.notes.append(f"{path} does not name its classes: they are numbers")
        script = load_script(backend)
        script.backend.use_device(None)
        self._predictor = script.backend.Predictor(script.ViT(self.config, weights=weights))

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
        found = []
        for start in range(0, len(pixels), self.batch_size):
            part = pixels[start:start + self.batch_size]
            # All batches have one size: a graph is compiled for each.
            whole = np.concatenate([part, np.zeros((self.batch_size - len(part), *part.shape[1:]), np.uint8)])
            x = normalized(whole, self.preprocessing.mean, self.preprocessing.std, channels_first=False)
            found.append(self._predictor.logits(x)[:len(part)])
        return np.concatenate(found) if found else np.zeros((0, self.config.num_classes), np.float32)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    x = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)
