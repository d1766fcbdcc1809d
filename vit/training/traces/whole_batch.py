"""What the traces of one worker among several see: the whole batch, and what was asked of any of the workers."""
from collections import ChainMap

import numpy as np
from fastestimator.backend import to_tensor
from fastestimator.util.util import to_number


class WholeBatch:
    """Run a network's steps on shares of batches, and give the traces what a step on the whole batch would have given.

    That is "ce", the mean over the batch; in evaluation "y" and, of a model that classifies, "y_pred", of all samples
    in their order; and "samples", how many they are. In training all else is the share's. Each step is one exchange,
    which tells each worker also whether a signal has come to any of them: so all stop after the same step.

    Args:
        network: The FastEstimator network.
        stage: The `vit.training.job.Stage` that trains.
    """

    def __init__(self, network, stage) -> None:
        self.network, self.stage, self.run_share = network, stage, network.run_step

    def run_step(self, batch: dict) -> ChainMap:
        """Stand in for the network's own `run_step`."""
        world = self.stage.job.world
        with world.heard():
            batch = self.run_share(batch)
        saver, training = self.stage.saver, self.network.ctx_state["mode"] == "train"
        asked = saver.request.status if saver is not None else None
        keys = ("y", "y_pred") if self.stage.classifies else ("y",)
        told = world.gather(
            np.array([to_number(batch["ce"]).item(), np.count_nonzero(to_number(batch["weight"])), asked or 0]),
            *(() if training else (to_number(batch[key]) for key in keys)))
        losses, samples, statuses = np.array([numbers for numbers, *_ in told]).T
        if saver is not None:
            saver.agreed = next((int(status) for status in statuses if status), None)
        whole = {"ce": np.array(sum(losses), to_number(batch["ce"]).dtype)}  # in the order of the ranks
        if not training:
            parts = zip(*(arrays for _, *arrays in told), strict=True)
            whole |= {key: np.concatenate(part)[:int(samples.sum())]
                      for key, part in zip(keys, parts, strict=True)}
        whole = {key: to_tensor(value, self.network.target_type) for key, value in whole.items()}
        return ChainMap(whole | {"samples": int(samples.sum())}, batch)
