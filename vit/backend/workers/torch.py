"""Several workers in PyTorch: what torchrun tells a process, and the collectives between processes.

Siblings: `vit/backend/workers/tensorflow.py` and `vit/backend/workers/mindspore.py` define the same names.
"""
import os
from datetime import timedelta

import torch
from torch import distributed


def announced():
    """Tell this process's rank, the number of workers and its place on its host; None where it was started alone."""
    if "WORLD_SIZE" not in os.environ:
        return None
    return tuple(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))


def meeting():
    """Tell where the workers meet: host, port, the ranks that come to this process, and the port that is its own.

    None where torchrun sees to it.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return None
    rank, size, _ = announced()
    return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), range(0 if rank else 1, 0 if rank else size), 0


def join(place, seconds):
    """Meet the other workers; `place` is this one's on its host. Any of them is waited for so many seconds."""
    store, rank, size = next(distributed.rendezvous("env://", timeout=timedelta(seconds=seconds)))
    if os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        # The store of a torchrun that has started the workers again holds addresses at which they were.
        store = distributed.PrefixStore(f"start{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", store=store,
                                   rank=rank, world_size=size, timeout=timedelta(seconds=seconds))


def leave():
    """Part from the other workers."""
    distributed.destroy_process_group()


def lost(error):
    """Whether an error says that another worker does not answer."""
    words = ("gloo", "NCCL", "Connection", "Store")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def gather(data):
    """Give every worker's bytes, in the order of their ranks: uint8 [n] to uint8 [workers, n]."""
    return torch.stack(_gathered(torch.from_numpy(data.copy()))).numpy()


def add(tensors, how):
    """Sum tensors over the workers: "ordered", in the order of their ranks, or "fast", as it comes.

    Ordered, all workers hold the same bits each time, and the three frameworks do the same arithmetic.
    """
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    if how == "fast":
        distributed.all_reduce(flat)
    else:
        flat, *others = _gathered(flat)
        for other in others:
            flat += other
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def mean(values):
    """The mean of values [B]."""
    return values.mean()


def weighted_sum(values, weights):
    """Sum values [B], each times its weight [B]."""
    return torch.sum(values * weights)


def _gathered(tensor):
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor)
    return parts
