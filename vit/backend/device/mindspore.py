"""MindSpore's device, and what it can.

Siblings: `vit/backend/device/torch.py` and `vit/backend/device/tensorflow.py` define the same names.
"""
import fe_compat
import mindspore as ms
from mindspore import ops

from vit.errors import UserError
from vit.processor import multiplies_bfloat16 as multiplies_bfloat16_on_cpu


def on_accelerator():
    """Whether the training runs on another device than the host's processor."""
    return ms.get_context("device_target") != "CPU"


def device_name():
    """What the device that the training runs on is called."""
    return ms.get_context("device_target")


def profiler(folder):
    """Give the context that traces its block into a folder, for MindSpore's viewer."""
    from mindspore import profiler as tools
    devices = {"Ascend": [tools.ProfilerActivity.NPU], "GPU": [tools.ProfilerActivity.GPU]}
    activities = [tools.ProfilerActivity.CPU, *devices.get(ms.get_context("device_target"), [])]
    return tools.profile(activities=activities, start_profile=False,
                         on_trace_ready=tools.tensorboard_trace_handler(folder))


def supports_dtype(name):
    """Whether matrices of a dtype can be multiplied where the training would do it."""
    try:
        matrix = ops.ones((2, 2), getattr(ms, name))
        ops.matmul(matrix, matrix).asnumpy()
    except (RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def multiplies_bfloat16():
    """Whether the device has products of bfloat16, and need not emulate them."""
    return supports_dtype("bfloat16") if ms.get_context("device_target") != "CPU" else multiplies_bfloat16_on_cpu()


def use_device(target):
    """Choose the device, before the framework has looked for any: one of `DEVICE_TARGETS`, or what is there."""
    try:
        with fe_compat.quiet_stderr(show_on_failure=False):
            ms.set_device(target) if target is not None else None
    except (RuntimeError, ValueError):
        raise UserError(f"device_target {target}: this MindSpore finds no such device") from None
    fe_compat.use_one_gpu()
