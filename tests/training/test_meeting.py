"""The first meeting of workers: who is missing, who disagrees, and which port is another's; with threads as workers."""
import contextlib
import socket
import threading

import pytest

from vit.errors import UserError
from vit.training import meeting


@pytest.fixture
def port():
    """A port that nobody has."""
    with socket.create_server(("", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def meet(port, monkeypatch):
    """A function: workers meet, given as (rank, size, ranks that come to it); how each comes out of it."""
    monkeypatch.setattr(meeting, "_LAST_WORD", 0)

    def run(*workers, seconds=30, own=0):
        found = [None] * len(workers)

        def work(place, rank, size, awaited):
            try:
                meeting.meet("127.0.0.1", port, awaited, own, rank, size, seconds)
                found[place] = "goes on"
            except (UserError, SystemExit) as error:
                found[place] = str(error)

        threads = [threading.Thread(target=work, args=(place, *worker)) for place, worker in enumerate(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    return run


@pytest.mark.parametrize("first", [(0, 3, (1, 2)), (0, 3, ())])
def test_all_go_on_once_all_have_come(meet, first):
    scheduler = () if first[2] else ((0, 3, range(3)),)  # listens, and is no worker
    workers = (*scheduler, first, (1, 3, ()), (2, 3, ()))
    assert meet(*workers) == ["goes on"] * len(workers)
    assert meet(*workers) == ["goes on"] * len(workers)  # at once again: the port is free


@pytest.mark.parametrize(("other", "message"), [
    ((1, 3, ()), "rank 1 was started as one of 3 workers, and others as of 2: all workers need the same number"),
    ((2, 3, ()), "rank 2 was started as one of 3 workers, and others as of 2"),
    ((0, 2, ()), "two workers were started as rank 0 of 2: all workers need"),
])
def test_workers_that_disagree_are_refused(meet, other, message):
    found = meet((0, 2, (1,)), other)
    assert found[0].startswith(message)
    assert found[1] == (found[0] if other[0] == 0 else "2")  # one that is rank 0 does not know that another is


def test_all_hear_of_a_rank_that_came_twice(meet):
    found = sorted(meet((0, 3, (1, 2)), (1, 3, ()), (1, 3, ())))
    assert found[:2] == ["2", "2"] and found[2].startswith("two workers were started as rank 1 of 3")


def test_one_that_is_missing_is_named(meet, port, monkeypatch, capsys):
    monkeypatch.setattr(meeting, "_PATIENCE", 0.2)
    assert meet((0, 3, (1, 2)), (1, 3, ()), seconds=1) == [
        f"rank 2 of 3 has not come: start all workers, and let them reach port {port}", "2"]
    assert capsys.readouterr().err == f"note: waiting for rank 2 of 3 at port {port}\n"


def test_without_one_that_listens_a_worker_says_where_it_looks(meet, port, monkeypatch, capsys):
    monkeypatch.setattr(meeting, "_PATIENCE", 0.2)
    [said] = meet((1, 2, ()), seconds=1)
    assert said.startswith(f"rank 1 of 2 cannot reach 127.0.0.1:{port}, where the workers meet (Connection refused)")
    assert capsys.readouterr().err == f"note: rank 1 of 2 waits for 127.0.0.1:{port}, where the workers meet\n"


def test_a_port_in_use_is_named(meet, port):
    with socket.create_server(("127.0.0.1", port)) as other:
        def greet():
            with other.accept()[0] as link:
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        greeting = threading.Thread(target=greet)
        greeting.start()
        first, second = meet((0, 2, (1,)), (1, 2, ()))
        greeting.join()
    assert first == (f"port {port}, at which the workers meet, is in use, by another run or another program: "
                     "choose another")
    assert second.startswith(f"rank 1 of 2 has got no answer from 127.0.0.1:{port}")
    assert "another program's port" in second


def test_a_port_of_another_in_use_is_named(meet):
    with socket.create_server(("127.0.0.1", 0)) as other:
        own = other.getsockname()[1]
        first, second = meet((0, 2, (1,)), (1, 2, ()), own=own)
    assert first == f"rank 1 of 2: its port {own} is in use, by another run or another program: choose another"
    assert second == "2"


def test_strangers_are_passed_over(meet, port):
    def knock():
        strangers = [b"GET / HTTP/1.1\r\n\r\n", b'{"rank": "x"}\n', b"[]\n", b""]
        while strangers:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)) as link:
                link.sendall(strangers.pop())
        meet((1, 2, ()))

    knocking = threading.Thread(target=knock)
    knocking.start()
    assert meet((0, 2, (1,))) == ["goes on"]
    knocking.join()
