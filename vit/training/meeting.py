"""The workers' first meeting, before their framework's own, which would wait or speak of sockets where one is missing.

One of them listens at the port that their framework will use, the others tell it their rank and how many they think
there are, and all go on, or none.
"""
import contextlib
import errno
import json
import socket
import sys
import time
from collections.abc import Collection

from vit.errors import UserError, printable

_PATIENCE = 30.0  # seconds after which it is said who is missing
_LAST_WORD = 1.0  # seconds in which another says it: launchers end all once one has ended
_HELLO = b"workers\n"  # else something else listens at the port
_WAY_OUT = ": all workers need the same number, and a rank of their own; docs/scale-out.md says how to start them"


def meet(host: str, port: int, awaited: Collection[int], own: int, rank: int, size: int, seconds: float) -> None:
    """Wait until all workers have come, and agree on their number.

    Args:
        host: Where they meet.
        port: As well.
        awaited: The ranks that come to this process, if it is the one that listens; else none.
        own: The port that this process's framework will listen at, where each has one; else 0.
        rank: Which one this process is.
        size: How many there are.
        seconds: How long to wait.

    Raises:
        UserError: Some have not come, or disagree; in the process that listens and in the first worker.
        SystemExit: The same, in the others.
    """
    deadline = time.monotonic() + seconds
    fault = _listen(port, awaited, size, deadline) if awaited else _come(host, port, own, rank, size, deadline)
    if fault and (awaited or rank == 0):
        raise UserError(fault)
    if fault:
        time.sleep(_LAST_WORD)
        raise SystemExit(2)


def _listen(port: int, awaited: Collection[int], size: int, deadline: float) -> str:
    """Wait for the others, and tell them what is wrong, or nothing; return it."""
    try:
        listener = socket.create_server(("", port), backlog=size)
    except OSError as error:
        raise UserError(f"port {port}, at which the workers meet, {_why(error)}") from None
    fault, links, note = "", {}, time.monotonic() + _PATIENCE
    with listener, contextlib.ExitStack() as held:
        while not fault and (missing := [rank for rank in awaited if rank not in links]):
            now = time.monotonic()
            if now > deadline:
                fault = f"rank {missing[0]} of {size} has not come: start all workers, and let them reach port {port}"
                break
            if now > note:
                _note(f"waiting for rank {missing[0]} of {size} at port {port}")
                note = deadline + 1
            listener.settimeout(min(deadline, note) - now + 0.01)
            try:
                link = held.enter_context(listener.accept()[0])
                link.settimeout(5)
                link.sendall(_HELLO)
                told = json.loads(link.makefile().readline(200))
                rank, other, own = int(told["rank"]), int(told["size"]), str(told["fault"])
            except (OSError, ValueError, KeyError, TypeError):  # in time, or from another program
                continue
            if other != size:
                fault = f"rank {rank} was started as one of {other} workers, and others as of {size}{_WAY_OUT}"
            elif rank in links or rank not in awaited:
                fault = f"two workers were started as rank {rank} of {size}{_WAY_OUT}"
            elif own:
                fault = f"rank {rank} of {size}: {own}"
            links[rank if rank not in links else -1] = link
        for link in links.values():
            with contextlib.suppress(OSError):
                link.sendall(f"{json.dumps(fault)}\n".encode())
                link.recv(1)  # it closes first, or the port could not be listened at again at once
    return fault


def _come(host: str, port: int, own: int, rank: int, size: int, deadline: float) -> str:
    """Go to the one that listens; return what it says is wrong, or nothing."""
    note, fault = time.monotonic() + _PATIENCE, ""
    try:
        socket.create_server(("", own)).close()
    except OSError as error:
        fault = f"its port {own} {_why(error)}"
    while True:
        now = time.monotonic()
        try:
            link = socket.create_connection((host.strip("[]"), port), timeout=max(1.0, deadline - now))
        except OSError as error:
            link, why = None, error.strerror or str(error)
        if link is not None and link.getsockname() != link.getpeername():  # a port of its own, as it may happen
            break
        if now > deadline:
            raise UserError(f"rank {rank} of {size} cannot reach {host}:{port}, where the workers meet ({why}): start "
                            "all of them, and let them reach that port")
        if now > note:
            _note(f"rank {rank} of {size} waits for {host}:{port}, where the workers meet")
            note = deadline + 1
        time.sleep(0.2)
    with link, link.makefile("rb") as told:
        try:
            link.settimeout(10)
            if told.readline(200) != _HELLO:
                raise ValueError("no greeting")
            link.sendall(f"{json.dumps({'rank': rank, 'size': size, 'fault': fault})}\n".encode())
            link.settimeout(max(1.0, deadline - time.monotonic()) + 10)
            return str(json.loads(told.readline(2000)))
        except (OSError, ValueError) as error:
            raise UserError(f"rank {rank} of {size} has got no answer from {host}:{port}, where the workers meet "
                            f"({printable(error)}): it is another program's port, or its worker has ended") from None


def _why(error: OSError) -> str:
    in_use = error.errno == errno.EADDRINUSE
    return "is in use, by another run or another program: choose another" if in_use else f"is no port: {error.strerror}"


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)
