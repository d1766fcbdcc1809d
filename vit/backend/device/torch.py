"""PyTorch's device, and what it can.

Siblings: `vit/backend/device/tensorflow.py` and `vit/backend/device/mindspore.py` define the same names.
"""
import fe_compat
import torch

from vit.errors import UserError
from vit.processor import multiplies_bfloat16 as multiplies_bfloat16_on_cpu


def on_accelerator():
    """Whether the training runs on another device than the host's processor."""
    return torch.cuda.is_available()


def device_name():
    """What the device that the training runs on is called."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def profiler(folder):
    """Give the context that traces its block into a folder, for PyTorch's viewer."""
    return torch.profiler.profile(on_trace_ready=torch.profiler.tensorboard_trace_handler(folder))


def supports_dtype(name):
    """Whether matrices of a dtype can be multiplied where the training would do it."""
    try:
        matrix = torch.ones(2, 2, dtype=getattr(torch, name), device="cuda" if torch.cuda.is_available() else "cpu")
        (matrix @ matrix).cpu()
    except (RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def multiplies_bfloat16():
    """Whether the device has products of bfloat16, and need not emulate them."""
    if not torch.cuda.is_available():
        return multiplies_bfloat16_on_cpu()
    return torch.cuda.is_bf16_supported(including_emulation=False)


def use_device(target):
    """Choose the device, before the framework has looked for any: the first visible GPU, or the CPU."""
    if target is not None:
        raise UserError(f"device_target {target!r} is MindSpore's: PyTorch takes the first GPU that "
                        "CUDA_VISIBLE_DEVICES shows")
    fe_compat.use_one_gpu()
