"""A watch over the workers of a run: which one has ended, or hangs, whatever their framework notices of it.

Each worker holds a connection to the first one, beside those of its framework, on which a thread tells once a second
how many exchanges it has begun. A connection that closes without a goodbye is a worker that has ended.
"""
import contextlib
import os
import secrets
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

from vit.errors import WorkerLost, printable

LOST = WorkerLost.status
_GRACE = 2.0  # seconds that an exchange has to fail by itself once a worker is lost
_CONNECT = 20.0  # seconds to connect to the first worker
# The words of a message; the number behind it is exchanges begun, or a rank.
_BEAT, _BYE, _GONE, _STUCK, _SILENT = range(5)
_MESSAGE = struct.Struct("!iq")


class Watch:
    """What one worker knows of the others.

    Args:
        rank: Which one this is.
        size: How many there are.
        framework: What a person calls the framework.
        seconds: How long an exchange may wait for a worker.
        place: Which one this is on its host.

    Attributes:
        to_go_on: What a person types to go on with the run.
        lost: What is known of a worker that is lost, a line; None as long as all live.
    """

    def __init__(self, rank: int, size: int, framework: str = "", seconds: float = 0, place: int = 0) -> None:
        self.rank, self.size, self.framework, self.seconds = rank, size, framework, seconds
        self.to_go_on, self.lost = "the same command with --resume auto", None
        self._links: dict[int, socket.socket] = {}  # by rank: of the first worker all others, of another the first
        self._begun = dict.fromkeys(range(size), 0)  # exchanges, as they last said
        self._heard: dict[int, float] = {}  # when they last said anything
        self._left: dict[int, float] = {}  # when they said goodbye
        self._awake = 0.0  # since when this thread was not kept waiting
        self._entered = self._since = None  # when this process began to wait, and when a worker was lost
        self._told = threading.Event()
        self._closing = False
        # One line is enough; but what the first worker cannot say, each host says, as one of them may be gone whole.
        self._speaks, self._speaks_of_first = rank == 0, rank == 1 or place == 0

    # Of the process that is watched.

    def meet(self, gather_texts) -> None:
        """Connect the workers.

        Args:
            gather_texts: Gives every worker's text, in the order of their ranks.
        """
        hosts = gather_texts(socket.gethostname())
        near = len(set(hosts)) == 1
        with socket.socket() as listener:
            listener.bind(("127.0.0.1" if near else "", 0))
            listener.listen(self.size)
            secret = secrets.token_hex(16)
            addresses = ["127.0.0.1"] if near else _addresses()
            own = f"{secret} {listener.getsockname()[1]} {' '.join(addresses)}" if self.rank == 0 else ""
            told, port, *addresses = gather_texts(own)[0].split()
            if self.rank == 0:
                self._accept(listener, told.encode())
            else:
                self._connect(told.encode(), int(port), addresses)
        missing = [rank for rank, text in enumerate(gather_texts("1" if self._links else "")) if not text]
        if missing and self.rank == 0:
            print(f"note: rank {missing[-1]} cannot be watched, as it cannot connect to {', '.join(addresses)}: "
                  f"{self.framework} itself must notice whether it lives", file=sys.stderr, flush=True)
        self._heard = dict.fromkeys(self._links, time.monotonic())
        self._stderr = os.dup(2)  # which others hold back at times
        # What prepares batches would keep the connections of a process that was killed.
        os.register_at_fork(after_in_child=self._let_go)
        threading.Thread(target=self._run, daemon=True, name="watch").start()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that waits for the other workers."""
        if self.lost is not None:
            raise self.error()
        self._begun[self.rank] += 1
        self._entered = time.monotonic()
        yield
        self._entered = None  # after an error the process ends: it may wait no longer than in the block

    def error(self, why: str = "") -> WorkerLost:
        """Give the error of a lost worker; `why` is what the framework says, for where nothing else is known."""
        if self._links:
            self._told.wait(_GRACE)
            # A framework may have heartbeats of its own, and less patience.
            if self.lost is None and (silent := [rank for rank in self._links if self._silent(rank)]):
                self._lose(min(silent), _SILENT)
        lost = self.lost or (f"another worker than rank {self.rank} of {self.size} ({self.framework}) has ended, or "
                             f"cannot be reached ({why})")
        return WorkerLost(self._line(lost), said=self.lost is not None)

    def close(self, goodbye: bool) -> None:
        """End the watch; without a goodbye this process is lost to the others."""
        self._closing = goodbye
        if goodbye:
            for link in self._links.values():
                self._send(link, _BYE, 0)

    def _line(self, lost: str) -> str:
        return f"{lost}; once all workers have ended, go on with {self.to_go_on}"

    # The connections.

    def _accept(self, listener: socket.socket, secret: bytes) -> None:
        deadline = time.monotonic() + _CONNECT
        while len(self._links) < self.size - 1 and (left := deadline - time.monotonic()) > 0:
            listener.settimeout(left)
            with contextlib.suppress(OSError, struct.error):
                link, _ = listener.accept()
                link.settimeout(5)
                told = b""
                while len(told) < len(secret) + 4 and (more := link.recv(len(secret) + 4 - len(told))):
                    told += more
                rank, = struct.unpack("!i", told[len(secret):])
                if secrets.compare_digest(told[:len(secret)], secret) and 0 < rank < self.size:
                    self._links[rank] = link

    def _connect(self, secret: bytes, port: int, addresses: list[str]) -> None:
        for address in addresses:
            with contextlib.suppress(OSError):
                link = socket.create_connection((address, port), timeout=_CONNECT / len(addresses))
                link.sendall(secret + struct.pack("!i", self.rank))
                self._links[0] = link
                return

    def _send(self, link: socket.socket, word: int, number: int) -> None:
        with contextlib.suppress(OSError):  # full, as of a process that is stopped; or closed, which reading tells
            link.send(_MESSAGE.pack(word, number), socket.MSG_DONTWAIT)

    def _let_go(self) -> None:
        for link in self._links.values():
            link.close()

    # The thread.

    def _run(self) -> None:
        beat, unread, before = 0.0, dict.fromkeys(self._links, b""), time.monotonic()
        with selectors.DefaultSelector() as selector:
            for rank, link in self._links.items():
                link.setblocking(False)
                selector.register(link, selectors.EVENT_READ, rank)
            while not self._closing:
                for key, _ in selector.select(0.25):
                    rank = key.data
                    try:
                        told = key.fileobj.recv(4096)
                    except OSError:
                        told = b""
                    unread[rank] = self._read(rank, unread[rank] + told)
                    if not told:
                        selector.unregister(key.fileobj)
                        if rank not in self._left:
                            self._lose(rank, _GONE)
                now = time.monotonic()
                if now - before > _GRACE:  # a compiler may keep this thread waiting, and the others' as well
                    self._awake, self._heard = now, dict.fromkeys(self._links, now)
                before = now
                if now >= beat + 1:
                    beat = now
                    for link in self._links.values():
                        self._send(link, _BEAT, self._begun[self.rank])
                self._judge(now)

    def _read(self, rank: int, told: bytes) -> bytes:
        """Take what a worker says, and return the rest that is no whole message yet."""
        self._heard[rank] = time.monotonic()
        whole = len(told) // _MESSAGE.size * _MESSAGE.size
        for word, number in _MESSAGE.iter_unpack(told[:whole]):
            if word == _BEAT:
                self._begun[rank] = number
            elif word == _BYE:
                self._left[rank] = self._heard[rank]
            else:
                self._lose(number, word)
        return told[whole:]

    def _lose(self, rank: int, word: int) -> None:
        """Note that a worker is lost, once; say it, if no other worker does, and tell the others."""
        if self.lost is not None or self._closing:
            return
        name = f"rank {rank} of {self.size} ({self.framework})"
        if word == _GONE:
            self.lost = f"{name} has ended without a word, as one that is killed"
        elif word == _SILENT:
            self.lost = f"{name} does not answer any more"
        else:
            self.lost = f"{name} hangs: the others have waited for it for {self.seconds:g} seconds (--dist_timeout)"
        self._since = time.monotonic()
        if self.rank == 0:
            for other, link in self._links.items():
                if other != rank:
                    self._send(link, word, rank)
        if self._speaks or (rank == 0 and self._speaks_of_first):
            with contextlib.suppress(OSError):
                os.write(self._stderr, f"{printable(f'error: {self._line(self.lost)}')}\n".encode())
        self._told.set()

    def _silent(self, rank: int) -> bool:
        """Whether a worker, or its host, does not even tell how far it is."""
        return time.monotonic() - self._heard[rank] > 2 * _GRACE

    def _judge(self, now: float) -> None:
        """Find a worker that hangs, and end this process where its exchange does not end by itself."""
        entered, since = self._entered, self._since
        if since is not None:
            patience = self.seconds if entered is None else _GRACE
            if now - max(since, entered or since) > patience:
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(OSError, ValueError):
                        stream.flush()
                os._exit(LOST)
        elif entered is not None:
            if gone := [rank for rank, when in self._left.items() if now - max(entered, when) > _GRACE]:
                self._lose(min(gone), _GONE)
            elif (waited := now - max(entered, self._awake)) > self.seconds:
                # Who has not begun what this worker waits in; and who says nothing at all.
                late = [rank for rank in self._links
                        if self._begun[rank] < self._begun[self.rank] or self._silent(rank)]
                # The first worker knows of all, so another waits for its word, but where it is late itself. That nobody
                # is late may mean that all compile; where it does not, the framework's own timeout ends the exchange.
                if late and (self.rank == 0 or waited > self.seconds + _GRACE):
                    self._lose(min(late), _STUCK)


def _addresses() -> list[str]:
    """Names and numbers by which other hosts may know this one."""
    host = socket.gethostname()
    found = [socket.getfqdn(), host]
    with contextlib.suppress(OSError):
        found += [info[4][0] for info in socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)]
    return list(dict.fromkeys(address for address in found if not address.startswith(("127.", "localhost"))))
