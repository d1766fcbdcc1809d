"""Export from MindSpore: MINDIR."""
import os

import mindspore as ms
from mindspore.train import serialization


def write_mindir(model, path, image, batch, manifest):
    """Write a MINDIR file.

    Args:
        model: A script's ViT, or one that is Served.
        path: The file; its name ends in .mindir.
        image: An image that it takes, in numpy.
        batch: Images that the file takes at a time; None for any number.
        manifest: What the file carries of itself.
    """
    def add(proto):
        proto.user_info["vit"] = manifest

    images = ms.Tensor(shape=[batch, *image.shape], dtype=ms.Tensor(image).dtype)
    if batch:
        images = ms.ops.zeros(tuple(images.shape), images.dtype)
    most = serialization.TOTAL_SAVE
    serialization.TOTAL_SAVE = serialization.PROTO_LIMIT_SIZE  # one file up to 2 GiB, and not to 1 only
    try:
        ms.export(model.set_train(False), images, file_name=str(path), file_format="MINDIR", custom_func=add)
    finally:
        serialization.TOTAL_SAVE = most
    os.chmod(path, 0o600)  # MindSpore leaves a file that its owner cannot write
