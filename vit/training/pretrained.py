"""Weights that a run starts from instead of pretraining: a file of any format that `vit.convert` reads, or a model."""
import tempfile
from pathlib import Path

from vit import convert
from vit.backend import script_of
from vit.errors import UserError
from vit.files import canonical
from vit.files.model_check import HEAD_AND_RATES, check_model
from vit.model.config import ViTConfig
from vit.model.parameters import Weights
from vit.training.report.log import say

FILE = "start.safetensors"  # in a run's folder: what the model held that the run was given
# Here the file's own values count and not the variant's, since the pretrained weights depend on them.
_FREE = (*HEAD_AND_RATES, "image_size", "block_norm_eps", "final_norm_eps", "activation")


def read(given: object, image_size: int | None, expected: ViTConfig | None) -> tuple[Weights, ViTConfig]:
    """Read pretrained weights for images of a size, and print in a few lines what they are.

    Args:
        given: The path of a file of any format that `vit.convert.read` knows, or a script's ViT.
        image_size: Size of the images, pixels; the position embeddings are resized for them. None is the file's own.
        expected: The variant that was asked for by name, or None if the file decides.

    Returns:
        The weights and their model.

    Raises:
        UserError: The file cannot be read, its model sees no RGB images, or it is not the one that was asked for.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path, title = given, given
        if script := script_of(given):  # it takes the way of a file, so that it is held to the same
            path, title = Path(scratch) / FILE, "the given model"
            canonical.save(path, script.to_numpy(given), given.config)
        weights, config, report = convert.read(path, image_size=image_size)
    if config.in_channels != 3:
        raise UserError(f"{title}: its model sees images of {config.in_channels} channels, and these have 3")
    if expected is not None:
        check_model(title, config, expected, _FREE)
    for line in (f"{title}: {report.summary()}", *(f"note: {note}" for note in report.notes)):
        say(line)
    return weights, config
