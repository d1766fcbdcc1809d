"""What workers tell each other, with threads in the place of processes; and what a launcher may tell them."""
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from vit.backend import load_script
from vit.errors import UserError, WorkerLost
from vit.training import workers
from vit.training.workers import ALONE, World, joined


class _Threads:
    """The collectives of threads."""

    def __init__(self, size):
        self.barrier, self.told = threading.Barrier(size, timeout=30), [None] * size

    def of(self, rank):
        def gather(data):
            self.told[rank] = data
            self.barrier.wait()
            found = np.stack(self.told)
            self.barrier.wait()
            return found
        return SimpleNamespace(gather=gather, lost=lambda error: isinstance(error, ConnectionError))


@pytest.fixture
def each(monkeypatch):
    """A function: run another in each of some workers; what it returned there, or raised."""
    monkeypatch.setattr(workers, "_LAST_WORD", 0)

    def run(function, size=3):
        threads, found = _Threads(size), [None] * size

        def work(rank):
            try:
                found[rank] = function(World(rank, size, threads.of(rank)))
            except BaseException as error:
                found[rank] = error

        ranks = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        return found

    return run


def test_arrays_and_texts_come_in_the_order_of_the_ranks(each):
    def exchange(world):
        rows = world.gather(np.full((2, 2), world.rank + 0.1), np.array(world.rank, np.int64))
        return [(a.tolist(), int(b)) for a, b in rows], world.gather_texts("é" * world.rank)

    expected = [([[r + 0.1] * 2] * 2, r) for r in range(3)], ["", "é", "éé"]
    assert each(exchange) == [expected] * 3


@pytest.mark.parametrize(("failing", "message"), [((0, 1, 2), "no"), ((1, 2), "rank 1: no"), ((2,), "rank 2: no")])
def test_a_block_ends_well_in_all_or_in_none(each, failing, message):
    def work(world):
        with world.together():
            if world.rank in failing:
                raise UserError("no")

    found = each(work)
    assert [(type(error), str(error)) for error in found] == [
        (UserError, message) if rank == failing[0] else (SystemExit, "2") for rank in range(3)]


def test_another_error_stays_what_it_is(each):
    def work(world):
        with world.together():
            if world.rank == 1:
                raise RuntimeError("broken")

    assert list(map(type, each(work))) == [SystemExit, RuntimeError, SystemExit]


def test_a_difference_is_named(each):
    first, *others = each(lambda world: world.agree({"code": 1, "a recipe": {"seed": world.rank // 2}}))
    assert str(first).startswith("rank 2 has a recipe other than rank 0's")
    assert list(map(type, others)) == [SystemExit, SystemExit]
    assert each(lambda world: world.agree({"code": 1})) == [None] * 3


def test_a_lost_worker_is_one_line():
    def gather(_):
        raise ConnectionError("reset\nby peer")

    world = World(1, 2, SimpleNamespace(gather=gather, lost=lambda error: isinstance(error, ConnectionError)))
    with pytest.raises(WorkerLost, match=r"^another worker than rank 1 .* \(reset by peer\).*--resume auto"):
        world.gather_texts("")


@pytest.mark.parametrize(("backend", "variables"), [
    pytest.param(backend, variables, marks=pytest.mark.backend(backend)) for backend, variables in [
        ("torch", {"WORLD_SIZE": "2"}), ("torch", {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}),
        ("torch", {"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0"}), ("tf", {"TF_CONFIG": "{"}),
        ("tf", {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}'}),
        ("tf", {"TF_CONFIG": '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}'}),
        ("tf", {"TF_CONFIG": '{"cluster": []}'}), ("ms", {"MS_WORKER_NUM": "2"}),
        ("ms", {"MS_WORKER_NUM": "2", "MS_ROLE": "MS_WORKER", "MS_NODE_ID": "some"})]])
def test_variables_that_make_no_sense_are_one_line(backend, variables, monkeypatch, refused):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with refused("several workers make no sense"), joined(load_script(backend), None, "ordered"):
        pass


@pytest.mark.backend("tf")
def test_tensorflows_workers_are_counted_over_chief_and_hosts(monkeypatch):
    cluster = '{"cluster": {"chief": ["a:1"], "worker": ["b:1", "a:2", "b:2"]}, "task": {"type": "worker", "index": 2}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    assert load_script("tf").backend.workers.announced() == (3, 4, 1)


@pytest.mark.backend("ms")
@pytest.mark.parametrize(("role", "status"), [("MS_SCHED", "0"), ("MS_WORKER", "alone")])
def test_the_scheduler_of_a_lone_worker_does_not_train(role, status, monkeypatch):
    for name, value in {"MS_WORKER_NUM": "1", "MS_ROLE": role, "MS_NODE_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    try:
        with joined(load_script("ms"), None, "ordered") as world:
            ended = "alone" if world is ALONE else "not alone"
    except SystemExit as error:
        ended = str(error)
    assert ended == status


@pytest.mark.backend("torch")
def test_a_world_of_one_is_alone(monkeypatch):
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with joined(load_script("torch"), None, "ordered") as world:
        assert world is ALONE
