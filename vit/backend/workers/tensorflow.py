"""Several workers in TensorFlow: what TF_CONFIG tells a process, and the collectives between processes.

Siblings: `vit/backend/workers/torch.py` and `vit/backend/workers/mindspore.py` define the same names.
"""
import json
import os

import fe_compat
import numpy as np

tf = fe_compat.legacy_tensorflow()

_GROUP = 7001  # a number that names all workers
_instances, _strategies, _timeouts = {}, [], []


def announced():
    """Tell this process's rank, the number of workers and its place on its host; None where it was started alone."""
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    if "cluster" not in config:
        return None
    cluster, task = config["cluster"], config["task"]
    if unknown := cluster.keys() - {"chief", "worker"}:
        raise ValueError(f"{sorted(unknown)[0]} in TF_CONFIG's cluster")
    chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
    rank = {"chief": 0, "worker": len(chiefs)}[task["type"]] + int(task["index"])
    hosts = [address.rpartition(":")[0] for address in (*chiefs, *workers)]
    return rank, len(hosts), hosts[:rank].count(hosts[min(rank, len(hosts) - 1)])


def meeting():
    """Tell where the workers meet: host, port, the ranks that come to this process, and the port that is its own."""
    cluster, (rank, size, _) = json.loads(os.environ["TF_CONFIG"])["cluster"], announced()
    places = [address.rpartition(":") for address in (*cluster.get("chief", []), *cluster.get("worker", []))]
    (host, _, port), (_, _, own) = places[0], places[rank]
    return host, int(port), range(0 if rank else 1, 0 if rank else size), int(own)


def join(place, seconds):
    """Meet the other workers; `place` is this one's on its host. Any of them is waited for so many seconds."""
    if gpus := tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices(gpus[place % len(gpus)], "GPU")
    _timeouts.append(float(seconds))
    # It starts the servers between which collectives run. It is never entered: FastEstimator clears the session, which
    # a strategy does not outlive.
    _strategies.append(tf.distribute.MultiWorkerMirroredStrategy())


def leave():
    """Part from the other workers."""
    _strategies.clear()


def lost(error):
    """Whether an error says that another worker does not answer."""
    return isinstance(error, tf.errors.UnavailableError | tf.errors.DeadlineExceededError | tf.errors.AbortedError
                      | tf.errors.FailedPreconditionError | tf.errors.CancelledError)


def gather(data):
    """Give every worker's bytes, in the order of their ranks: uint8 [n] to uint8 [workers, n]."""
    whole = np.zeros(-(-data.size // 4) * 4, np.uint8)  # collectives know no bytes
    whole[:data.size] = data
    return _gathered(tf.constant(whole.view(np.int32))).numpy().view(np.uint8)[:, :data.size]


def add(tensors, how):
    """Sum tensors over the workers: "ordered", in the order of their ranks, or "fast", as it comes.

    Ordered, all workers hold the same bits each time, and the three frameworks do the same arithmetic.
    """
    flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
    if how == "fast":
        flat = tf.raw_ops.CollectiveReduceV2(input=flat, merge_op="Add", final_op="Id", **_named(flat, "reduce"))
    else:
        flat, *others = tf.unstack(_gathered(flat))
        for other in others:
            flat += other
    parts = tf.split(flat, [tensor.shape.num_elements() for tensor in tensors])
    return [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def mean(values):
    """The mean of values [B]."""
    return tf.reduce_mean(values)


def weighted_sum(values, weights):
    """Sum values [B], each times its weight [B]."""
    return tf.reduce_sum(values * weights)


def _gathered(tensor):
    gathered = tf.raw_ops.CollectiveGatherV2(input=tensor, **_named(tensor, "gather"))
    return tf.reshape(gathered, (announced()[1], tensor.shape[0]))


def _named(tensor, kind):
    """The arguments that tell a collective from others: by what is sent, as all workers send the same in one order."""
    instance = _instances.setdefault((kind, tensor.shape[0], tensor.dtype), len(_instances) + 1)
    return {"group_size": announced()[1], "group_key": _GROUP, "instance_key": instance, "ordering_token": [],
            "communication_hint": "ring", "timeout_seconds": _timeouts[-1]}
