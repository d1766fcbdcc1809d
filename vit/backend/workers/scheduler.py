"""A guard beside MindSpore's scheduler: a process that ends it once a worker of its host has ended without a goodbye.

The scheduler waits in C++, without its Python, for a worker that is gone, as long as MS_NODE_TIMEOUT says; and msrun
waits for the scheduler. It imports nothing but the standard library, as it is run as a script of its own.
"""
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys

GOODBYE = b"."


def guard(port: str) -> None:
    """Start the guard of this process, which is the scheduler at a port; it ends with it."""
    with _listener(port) as listener:
        subprocess.Popen([sys.executable, "-I", "-S", __file__, str(os.getpid()), str(listener.fileno())],
                         stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])


def hold(port: str) -> list[socket.socket]:
    """Connect to the guard of the scheduler at a port; give the connection, or none where that is on another host."""
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(_name(port))
    except OSError:
        link.close()
        return []
    return [link]


def _name(port: str) -> str:
    return f"\0mindspore-scheduler-{port}"


def _listener(port: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(_name(port))
    listener.listen(128)
    return listener


def _main(scheduler: int, listener: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while os.getppid() == scheduler:
            for key, _ in selector.select(1):
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                selector.unregister(key.fileobj)
                with key.fileobj as link:
                    if link.recv(1) != GOODBYE:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(scheduler, signal.SIGKILL)


if __name__ == "__main__":
    _main(int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
