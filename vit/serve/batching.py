"""Requests that come at the same time are computed together, and one batch at a time, whichever framework it is for.

Each framework takes all cores (or the device) for a batch: two at once would take them from each other.
"""
import asyncio
import collections
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from vit.serve.limits import Limits
from vit.serve.metrics import Metrics
from vit.serve.served import Served


@dataclass(frozen=True, eq=False)
class Waiting:
    """An image that waits for its answer.

    Args:
        backend: Which of the models it is for.
        pixels: uint8 [S, S, 3].
        explain: Whether the attention over it is asked for.
        answer: What becomes of it: the probabilities [classes], and the map [G, G] or None.
    """
    backend: str
    pixels: np.ndarray
    explain: bool
    answer: asyncio.Future


class Batcher:
    """Models, and the images that wait for them.

    Args:
        models: By backend.
        limits: How many are computed together, and how long is waited for them.
        metrics: What counts batches.

    Attributes:
        coming: Images that are being read, which a batch that is not full waits for.
    """

    def __init__(self, models: dict[str, Served], limits: Limits, metrics: Metrics) -> None:
        self.models, self.coming = models, 0
        self._limits, self._metrics = limits, metrics
        self._waiting: collections.deque[Waiting] = collections.deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "compute")

    def warm(self) -> None:
        """Compute a batch of each size and a map, in the thread that will; shows progress where graphs are compiled."""
        for served in self.models.values():
            size = served.model.config.image_size
            sizes = served.sizes if served.model.backend != "torch" else (1, self._limits.max_batch)
            for count in tqdm(sizes, f"{served.title}: compiling", unit="batch size", disable=None):
                self._thread.submit(served.probabilities, np.zeros((count, size, size, 3), np.uint8)).result()
            if served.explains:
                self._thread.submit(served.attention, np.zeros((size, size, 3), np.uint8)).result()

    async def compute(self, backend: str, pixels: np.ndarray, explain: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Wait for an image's turn.

        Args:
            backend: Which of the models it is for.
            pixels: uint8 [S, S, 3].
            explain: Whether the attention over it is asked for.

        Returns:
            The probabilities [classes], and the map [G, G] or None.
        """
        one = Waiting(backend, pixels, explain, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._arrived.set()
        return await one.answer

    async def run(self) -> None:
        """Compute what comes, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            await self._gather()
            batch = self._take()
            if not batch:
                self._arrived.clear()
                continue
            begin = time.perf_counter()
            try:
                found = await loop.run_in_executor(self._thread, self._run, batch)
            except Exception as error:  # a batch's, and not the server's: the next may fare better
                found = [error] * len(batch)
            self._metrics.batch(batch[0].backend, len(batch), time.perf_counter() - begin)
            for one, answer in zip(batch, found, strict=True):
                if not one.answer.done():  # else nobody waits for it any more
                    (one.answer.set_exception if isinstance(answer, Exception) else one.answer.set_result)(answer)

    def close(self) -> None:
        """End the thread, once what it computes is done."""
        self._thread.shutdown(cancel_futures=True)

    async def _gather(self) -> None:
        """Wait a little where more images are about to come. Who comes alone waits for nobody."""
        end = time.monotonic() + self._limits.wait_ms / 1000
        while self.coming and len(self._waiting) < self._limits.max_batch and time.monotonic() < end:
            await asyncio.sleep(0.001)

    def _take(self) -> list[Waiting]:
        """The next batch: the one that waits longest, with those that can be computed together with it."""
        batch, others = [], collections.deque()
        for one in self._waiting:
            if one.answer.done():
                continue
            if not batch or (len(batch) < self._limits.max_batch and not batch[0].explain
                             and (one.backend, one.explain) == (batch[0].backend, batch[0].explain)):
                batch.append(one)
            else:
                others.append(one)
        self._waiting = others
        return batch

    def _run(self, batch: list[Waiting]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        model = self.models[batch[0].backend]
        if batch[0].explain:
            map_, row = model.attention(batch[0].pixels)
            return [(row, map_)]
        return [(row, None) for row in model.probabilities(np.stack([one.pixels for one in batch]))]
