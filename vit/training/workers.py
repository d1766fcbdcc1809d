"""The workers of a run: the processes that train one model together, each on its share of every batch.

A run of one worker asks nothing of this but that it is alone. How workers find each other and what they send each other
by is the framework's: `vit/backend/workers/`.
"""
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

import vit
from vit.backend import TITLES
from vit.data.share import Share
from vit.errors import UserError, WorkerLost, one_line, printable
from vit.training import meeting
from vit.training.watch import Watch

_LAST_WORD = 1.0  # seconds in which the worker that has a fault says so: launchers end all once one has ended


@dataclass(frozen=True, slots=True)  # without a __dict__, into which FastEstimator would look
class World:
    """All workers of a run, as one of them sees them.

    Args:
        rank: Which one this process is, from 0.
        size: How many there are.
        backend: The framework's collectives, a module of `vit/backend/workers/`; None for one alone.
        reduce: How gradients are added over the workers: "ordered" or "fast".
        watch: Sees which other worker ends or hangs; None where nothing watches.
    """
    rank: int = 0
    size: int = 1
    backend: ModuleType | None = None
    reduce: str = "ordered"
    watch: Watch | None = None

    @property
    def alone(self) -> bool:
        """Whether there is no other worker."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the worker that prints, draws, saves, and owns the run's folder."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """This worker's part of every batch."""
        return Share(self.rank, self.size)

    def gather(self, *arrays: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        """Give every worker's arrays, in the order of their ranks; all have the same shapes and dtypes."""
        if self.alone:
            return [arrays]
        data = np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)
        ends = np.cumsum([array.nbytes for array in arrays])[:-1]
        return [tuple(np.frombuffer(part.tobytes(), array.dtype).reshape(array.shape)
                      for part, array in zip(np.split(row, ends), arrays, strict=True))
                for row in self._gather(data)]

    def _gather(self, data: np.ndarray) -> np.ndarray:
        with self.heard():
            return self.backend.gather(data)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """A block with collectives: an error of one whose other end is gone becomes one line."""
        try:
            with self.watch.waiting() if self.watch else contextlib.nullcontext():
                yield
        except Exception as error:
            if isinstance(error, WorkerLost) or not self.backend.lost(error):
                raise
            watch = self.watch or Watch(self.rank, self.size)
            raise watch.error(one_line(error)) from None

    def gather_texts(self, text: str) -> list[str]:
        """Give every worker's text, in the order of their ranks."""
        data = np.frombuffer(text.encode(), np.uint8)
        sizes = [int(size) for size, in self.gather(np.array(data.size))]
        padded = np.zeros(max(sizes), np.uint8)
        padded[:data.size] = data
        return [row[:size].tobytes().decode() for (row,), size in zip(self.gather(padded), sizes, strict=True)]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block, without collectives in it, that ends well in all workers or in none, and in all before any goes on.

        What ends it in one worker is raised there; the others end without a word, with the status of bad input.
        """
        if self.alone:
            yield
            return
        fault = None
        try:
            yield
        except Exception as error:
            fault = error
        failed = [rank for rank, (flag,) in enumerate(self.gather(np.array(fault is not None))) if flag]
        if failed:
            with contextlib.suppress(WorkerLost):  # once more: else one could be gone before another has heard of it
                self.gather(np.array(True))
        if failed and failed[0] == self.rank:
            raise UserError(f"rank {self.rank}: {fault}") if self.rank and isinstance(fault, UserError) else fault
        if failed:
            time.sleep(_LAST_WORD)
            raise SystemExit(2)

    def agree(self, facts: dict[str, object]) -> None:
        """Refuse workers that do not do the same.

        Args:
            facts: By what a person calls them, plain values that must be the same in all workers.

        Raises:
            UserError: In the first worker; the others end without a word.
        """
        own = {name: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
               for name, value in facts.items()}
        told = [json.loads(text) for text in self.gather_texts(json.dumps(own))]
        with self.together():
            for rank, other in enumerate(told if self.first else ()):
                if differing := [name for name in own if other.get(name) != own[name]]:
                    raise UserError(f"rank {rank} has {differing[0]} other than rank 0's: all workers of a run need "
                                    "the same command line, files and code")

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """While it is entered, nothing that Python prints is seen, but in the first worker."""
        if self.first:
            yield
            return
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), \
                contextlib.redirect_stderr(nowhere):
            yield


ALONE = World()


@contextlib.contextmanager
def joined(script: ModuleType, device_target: str | None, reduce: str, timeout: int = 1800) -> Iterator[World]:
    """Meet the other workers, if this process was started as one of several, and part from them in the end.

    Args:
        script: The module of the script.
        device_target: As `vit.training.options` has it.
        reduce: How gradients are added over the workers.
        timeout: Seconds that the others wait for one that is late.

    Raises:
        UserError: The framework's variables make no sense, or the others cannot be reached.
        WorkerLost: Another worker has ended, or hangs.
    """
    backend = script.backend.workers
    try:
        rank, size, local = backend.announced() or (0, 1, 0)
        if not 0 <= rank < size or local < 0:
            raise ValueError(f"rank {rank} of {size}, {local} on its host")
        place = backend.meeting() if size > 1 else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the variables of a run of several workers make no sense ({printable(error)}): start it as "
                        "docs/scale-out.md says") from None
    if size == 1:
        yield ALONE
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else []
    os.environ["CUDA_VISIBLE_DEVICES"] = str(local) if visible is None else "".join(devices[local:local + 1])
    script.backend.use_device(device_target)
    watch = Watch(rank, size, TITLES[script.backend.NAME], timeout, local)
    world = World(rank, size, backend, reduce, watch)
    if place is not None:
        meeting.meet(*place, rank, size, timeout)
    try:
        backend.join(local, timeout + 10)  # the watch, which knows more, speaks first
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"rank {rank} of {size} ({watch.framework}) cannot join the others ({one_line(error)}): a port "
                        "is in use, or not all were started as docs/scale-out.md says") from None
    try:
        watch.meet(world.gather_texts)
        with world.quiet():
            yield world
    except WorkerLost:
        raise
    except BaseException as error:
        watch.close(goodbye=isinstance(error, SystemExit | KeyboardInterrupt | UserError))
        backend.leave()  # torch's threads may abort a process that ends among them
        raise
    watch.close(goodbye=True)
    backend.leave()


def code() -> str:
    """Fingerprint the project's own code, with the script's."""
    room = Path(vit.__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*room.rglob("*.py"), *room.parent.glob("vit_*.py")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
