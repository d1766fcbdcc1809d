"""The socket, the connections and the signals of a server."""
import errno
import ipaddress
import os
import signal
import socket

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from vit.errors import UserError

PATIENCE = 60.0  # seconds that a connection may stay without a whole request
GRACE = 10  # seconds that requests are given when the server is to end
BACKLOG = 256  # connections that the system keeps until they are accepted
# Nothing from elsewhere is run or loaded by the page, and the page is in no other page's frame.
HEADERS = [("content-security-policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                                       "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
           ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("cache-control", "no-store"),
           ("cross-origin-resource-policy", "same-origin")]


def listen(host: str, port: int) -> socket.socket:
    """Take a port, before anything that lasts.

    Args:
        host: A name or an address of this machine.
        port: Its number; 0 for any that is free.

    Raises:
        UserError: The port is in use, or there is no such host here.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)  # without the protocol asyncio leaves Nagle's delay in: 40 ms
    except (OSError, UnicodeError) as error:
        raise UserError(f"host {host}: is no name or address ({getattr(error, 'strerror', error)})") from None
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port}: is in use; name another with --port, 0 for any that is free") from None
        raise UserError(f"host {host}, port {port}: cannot be served at ({os.strerror(error.errno)})") from None
    return taken


def is_loopback(taken: socket.socket) -> bool:
    """Whether only this machine reaches a socket."""
    return ipaddress.ip_address(taken.getsockname()[0]).is_loopback


def address(taken: socket.socket) -> str:
    """Give a socket's address, as a browser takes it."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Connection(H11Protocol):
    """A connection that is closed where it stays without a whole request.

    uvicorn waits for ever for a header that does not end, and for what a client still sends that was refused.
    """

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._patience = self.loop.call_later(PATIENCE, self._give_up)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._patience.cancel()
        if not self.transport.is_closing():
            self._patience = self.loop.call_later(PATIENCE, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def server(app: Starlette) -> uvicorn.Server:
    """Make the server of an application; `run(sockets=[...])` serves until a signal ends it."""
    return uvicorn.Server(uvicorn.Config(
        app, http=Connection, ws="none", loop="asyncio", lifespan="on", log_config=None, log_level="error",
        access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=GRACE, headers=HEADERS))


def serve(app: Starlette, taken: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, and then answer what is inside.

    Args:
        app: The application.
        taken: What `listen` gave.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    # uvicorn has its own handlers while it runs, and sends itself the signal again when it has ended.
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        server(app).run(sockets=[taken])
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
