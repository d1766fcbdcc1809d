"""Numbers of a training step that stay on a GPU until they are read: to fetch one is to wait for the step."""
import numpy as np


class Unread:
    """A number on a GPU, for whoever takes it for a number or an array.

    Args:
        tensor: A tensor of PyTorch, without dimensions and outside of any graph.
    """
    __slots__ = ("tensor", )

    def __init__(self, tensor) -> None:
        self.tensor = tensor

    def detach(self) -> "Unread":
        """Give itself, as a tensor does that is in no graph."""
        return self

    def __float__(self) -> float:
        return float(self.tensor)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.tensor.cpu().numpy(), dtype)


def leave_numbers(network) -> None:
    """Let a network's training steps leave numbers, such as the loss, on their GPU.

    FastEstimator's network of PyTorch models brings all that traces ask for to the host at the end of each step, and so
    waits for the GPU, which then waits for the next step. Any other network, and one on a CPU, is left as it is.

    Args:
        network: What `fastestimator.Network` gave.
    """
    if getattr(network.device, "type", "cpu") == "cpu":
        return
    from fastestimator import network as module
    run, move = network._run_step, module.move_tensors_to_device

    def leave(data, device):
        return Unread(data) if device == "cpu" and getattr(data, "ndim", None) == 0 else move(data, device)

    def run_step(batch):
        if network.ctx_state["mode"] != "train":
            return run(batch)
        module.move_tensors_to_device = leave
        try:
            return run(batch)
        finally:
            module.move_tensors_to_device = move

    network._run_step = run_step
