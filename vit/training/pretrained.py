"""What a run starts from that was not pretrained in it: a file of any readable format, and the model that it holds."""
import os

from vit import convert
from vit.errors import UserError
from vit.model.config import ViTConfig
from vit.model.parameters import Weights

# What a file's model may have that the variant asked for has not: it is the file's that counts.
_FREE = ("image_size", "num_classes", "dropout", "attention_dropout", "drop_path", "block_norm_eps", "final_norm_eps",
         "activation")


def read(path: str | os.PathLike, side: int | None, like: ViTConfig | None) -> tuple[Weights, ViTConfig]:
    """Read pretrained weights for images of some side, and say in a line what they are.

    Args:
        path: A file of any format that `vit.convert.read` knows.
        side: Of the images, pixels; the position embeddings are resized for them. None is the file's own.
        like: The variant that was asked for by name, or None if the file decides.

    Returns:
        The weights and their model.

    Raises:
        UserError: The file cannot be read, or holds another model than was asked for.
    """
    weights, config, report = convert.read(path, image_size=side)
    if config.in_channels != 3:
        raise UserError(f"{path}: its model sees images of {config.in_channels} channels, and these have 3")
    if like is not None:
        theirs, ours = config.to_dict(), like.to_dict()
        other = [f"{name} {theirs[name]!r} (wanted {ours[name]!r})" for name in ours
                 if name not in _FREE and theirs[name] != ours[name]]
        if other:
            raise UserError(f"{path}: holds another model: {', '.join(other)}; leave --variant out, or choose the one "
                            "it was made with")
    print("\n".join([f"{path}: {report.summary()}", *(f"note: {note}" for note in report.notes)]), flush=True)
    return weights, config
