"""The border between FastEstimator (torch tensors on the CPU) and MindSpore (`ms.Tensor`), through numpy."""
import sys
from typing import Any

import mindspore as ms
import numpy as np
import torch
from mindspore import ops


def to_mindspore(data: Any, key: str) -> Any:
    """Turn what a pipeline yields into MindSpore tensors, without a copy where memory allows and never changing dtype.

    Args:
        data: A torch or TensorFlow tensor, an ndarray, a number, an `ms.Tensor`, or a list, tuple or dict of those.
        key: The batch key, for the error message.

    Raises:
        TypeError: A value is not numeric (a string, say).
    """
    if isinstance(data, ms.Tensor):
        return data
    if isinstance(data, dict):
        return {name: to_mindspore(value, key) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return tuple(to_mindspore(value, key) for value in data)
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu()
        if data.dtype == torch.bfloat16:  # numpy has no bfloat16; float32 holds every one of its values
            return ms.Tensor(data.float().numpy()).astype(ms.bfloat16)
        data = data.numpy()
    elif "tensorflow" in sys.modules and sys.modules["tensorflow"].is_tensor(data):  # else nothing is one
        data = data.numpy()
    array = np.asarray(data)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"the batch key '{key}' feeds an op of the MindSpore network, but holds {array.dtype} "
                        "values, which are not tensors: encode them in the pipeline, or delete the key there")
    # 0-d arrays and strided views have no buffer that MindSpore could share.
    if array.ndim and array.flags.c_contiguous and array.flags.writeable:
        return ms.Tensor.from_numpy(array)
    return ms.Tensor(np.array(array))


def to_torch(data: Any) -> Any:
    """Turn a step's results into torch tensors on the CPU which own their memory; bfloat16 becomes float32."""
    if isinstance(data, ms.Tensor):
        return torch.from_numpy(to_numpy(data))
    if isinstance(data, dict):
        return {name: to_torch(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [to_torch(value) for value in data]
    return data


def to_numpy(tensor: ms.Tensor) -> np.ndarray:
    """Copy a tensor or parameter to a new array; bfloat16, which numpy lacks, becomes float32 (exactly)."""
    if tensor.dtype == ms.bfloat16:
        tensor = tensor.astype(ms.float32)
    # MindSpore may hand out its own buffer, which a later step can overwrite.
    return np.array(tensor.asnumpy())


def assign(parameter: ms.Parameter, array: np.ndarray) -> None:
    """Write `array` into `parameter`, in the parameter's dtype; compiled graphs that use it go on with the new value.

    (`Parameter.set_data` would not do: it gives the parameter new memory, and a graph that has run keeps the old.)
    """
    ops.assign(parameter, ms.Tensor(np.array(array)).astype(parameter.dtype))
