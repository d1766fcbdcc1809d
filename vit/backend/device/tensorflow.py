"""TensorFlow's device, and what it can.

Siblings: `vit/backend/device/torch.py` and `vit/backend/device/mindspore.py` define the same names.
"""
import fe_compat

tf = fe_compat.legacy_tensorflow()

from vit.errors import UserError
from vit.processor import multiplies_bfloat16 as multiplies_bfloat16_on_cpu


def on_accelerator():
    """Whether the training runs on another device than the host's processor."""
    return bool(tf.config.list_physical_devices("GPU"))


def device_name():
    """What the device that the training runs on is called."""
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"


def profiler(folder):
    """Give the context that traces its block into a folder, for TensorFlow's viewer."""
    return tf.profiler.experimental.Profile(folder)


def supports_dtype(name):
    """Whether matrices of a dtype can be multiplied where the training would do it."""
    try:
        matrix = tf.ones((2, 2), dtype=name)
        tf.matmul(matrix, matrix).numpy()
    except (RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def multiplies_bfloat16():
    """Whether the device has products of bfloat16, and need not emulate them."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return multiplies_bfloat16_on_cpu()
    return tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0)) >= (8, 0)


def use_device(target):
    """Choose the device, before the framework has looked for any: the first visible GPU, or the CPU."""
    if target is not None:
        raise UserError(f"device_target {target!r} is MindSpore's: TensorFlow takes the first GPU that "
                        "CUDA_VISIBLE_DEVICES shows")
    fe_compat.use_one_gpu()
