"""Several workers in MindSpore: what msrun tells a process, and the collectives between processes.

Siblings: `vit/backend/workers/torch.py` and `vit/backend/workers/tensorflow.py` define the same names.
"""
import os

import mindspore as ms
import numpy as np
from mindspore import ops
from mindspore.communication import get_rank, init

from vit.backend.workers import scheduler
from vit.errors import UserError

_guarded = []


def announced():
    """Tell this process's rank, the number of workers and its place on its host; None where it was started alone."""
    if "MS_WORKER_NUM" not in os.environ:
        return None
    scheduler, size = os.environ["MS_ROLE"] == "MS_SCHED", int(os.environ["MS_WORKER_NUM"])
    if scheduler and size == 1:
        raise SystemExit(0)  # it runs the script too, and one worker needs none
    rank = 0 if scheduler else int(os.environ["MS_NODE_ID"])
    return rank, size, int(os.environ.get("DEVICE_ID", rank))


def meeting():
    """Tell where the workers meet: host, port, the ranks that come to this process, and the port that is its own.

    They come to the scheduler.
    """
    listens = os.environ["MS_ROLE"] == "MS_SCHED"
    return (os.environ["MS_SCHED_HOST"], int(os.environ["MS_SCHED_PORT"]),
            range(int(os.environ["MS_WORKER_NUM"]) if listens else 0), 0)


def join(place, seconds):
    """Meet the other workers; `place` is this one's on its host. Any of them is waited for so many seconds.

    The scheduler, which runs the script too, ends in it.
    """
    # By default 30 seconds, and a worker that compiles is later than that. The others are Ascend's, within its bounds.
    os.environ.setdefault("MS_NODE_TIMEOUT", str(seconds))
    os.environ.setdefault("HCCL_EXEC_TIMEOUT", str(min(seconds, 17340)))
    os.environ.setdefault("HCCL_CONNECT_TIMEOUT", str(min(max(seconds, 120), 7200)))
    port = os.environ["MS_SCHED_PORT"]
    if os.environ["MS_ROLE"] == "MS_SCHED":
        scheduler.guard(port)
        init()
        raise SystemExit(0)
    init()
    _guarded.extend(scheduler.hold(port))
    # What collectives do not know they may round without a word, as float64 on a CPU.
    value = ms.Tensor(np.array([1 / 3, 2 / 3e9]))
    if get_rank() != announced()[0] or (_gathered(value)[announced()[0]] != value).any():
        raise UserError("this MindSpore's collectives change the values that they send, or the order of the workers")


def leave():
    """Part from the other workers."""
    for link in _guarded:
        link.send(scheduler.GOODBYE)


def lost(error):
    """Whether an error says that another worker does not answer."""
    words = ("cluster", "collective", "Collective", "AllGather", "communicat", "rank")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def gather(data):
    """Give every worker's bytes, in the order of their ranks: uint8 [n] to uint8 [workers, n]."""
    whole = np.zeros(-(-data.size // 4) * 4, np.uint8)  # collectives know no bytes
    whole[:data.size] = data
    gathered = ops.AllGather()(ms.Tensor(whole.view(np.int32)).expand_dims(0))
    return gathered.asnumpy().view(np.uint8)[:, :data.size]


def add(tensors, how):
    """Sum tensors over the workers: "ordered", in the order of their ranks, or "fast", as it comes.

    Ordered, all workers hold the same bits each time, and the three frameworks do the same arithmetic.
    """
    flat = ops.concat([tensor.reshape(-1) for tensor in tensors])
    if how == "fast" and flat.dtype == ms.float32:  # on a CPU there is no other
        flat = ops.AllReduce()(flat)
    else:
        rows = _gathered(flat)
        flat = rows[0]
        for other in rows[1:]:
            flat = flat + other
    parts = ops.split(flat, tuple([tensor.size for tensor in tensors]))
    return [parts[i].reshape(tensors[i].shape) for i in range(len(tensors))]


def mean(values):
    """The mean of values [B]."""
    return values.mean()


def weighted_sum(values, weights):
    """Sum values [B], each times its weight [B]."""
    return ops.sum(values * weights)


def _gathered(tensor):
    if tensor.dtype != ms.float64:
        return ops.unbind(ops.AllGather()(tensor.expand_dims(0)))
    # On a CPU, float64 would be rounded on its way. Three float32 hold it exactly, but for what is below 1e-38.
    parts, rest = (), tensor
    for _ in range(3):
        part = ops.cast(rest, ms.float32)
        parts, rest = parts + (part,), rest - ops.cast(part, ms.float64)
    rows = ()
    for row in ops.unbind(ops.AllGather()(ops.stack(parts).expand_dims(0))):
        high, middle, low = ops.unbind(ops.cast(row, ms.float64))
        rows = rows + (high + middle + low,)
    return rows
