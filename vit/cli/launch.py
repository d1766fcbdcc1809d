"""`vit launch`: several workers of a script on this machine, started as their framework's own launcher would."""
import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from vit.backend import SCRIPTS, TITLES
from vit.errors import UserError, WorkerLost

GRACE = 10  # seconds that the other workers have to end once one has, before they are killed


def add_parser(commands) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "launch", help="run a script with several workers on this machine", description=__doc__,
        usage="%(prog)s --backend NAME --nproc N SCRIPT [ARGUMENT ...]")
    parser.add_argument("--backend", required=True, choices=tuple(SCRIPTS), metavar="NAME",
                        help=f"the script's framework: {', '.join(SCRIPTS)}")
    parser.add_argument("--nproc", required=True, type=int, metavar="N", help="how many workers")
    parser.add_argument("script", metavar="SCRIPT", help="vit_torch.py, vit_tf.py, vit_ms.py, or one of your own")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="the script's own")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.nproc < 1:
        raise UserError(f"--nproc must be at least 1, not {options.nproc}")
    if not os.path.isfile(options.script):
        raise UserError(f"{options.script}: there is no such script")
    command = [sys.executable, "-u", options.script, *options.arguments]
    return launch(command, environments(options.backend, options.nproc), TITLES[options.backend],
                  options.backend == "ms")


def environments(backend: str, count: int) -> list[dict[str, str]]:
    """Give the variables by which a framework's workers find each other; MindSpore's scheduler comes last.

    Args:
        backend: "torch", "tf" or "ms".
        count: How many workers.
    """
    if count == 1:
        return [{}]
    with contextlib.ExitStack() as held:
        ports = [held.enter_context(_free_port()) for _ in range(count)]
    if backend == "torch":
        return [{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[0]), "RANK": str(rank), "LOCAL_RANK": str(rank),
                 "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)} for rank in range(count)]
    if backend == "tf":
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})}
                for rank in range(count)]
    common = {"MS_WORKER_NUM": str(count), "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(ports[0]),
              "GLOG_v": os.environ.get("GLOG_v", "3")}  # noqa: SIM112
    return [*({**common, "MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(rank), "DEVICE_ID": str(rank)}
              for rank in range(count)), {**common, "MS_ROLE": "MS_SCHED"}]


@contextlib.contextmanager
def _free_port() -> Iterator[int]:
    """A port that nobody has; it stays so as long as it is entered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def launch(command: list[str], environments: list[dict[str, str]], framework: str, scheduler: bool = False) -> int:
    """Run a command once for each environment, and print its lines behind the rank that wrote them.

    The first signal goes on to each worker, once. When a worker ends badly, the others are given time to end, and are
    killed after it.

    Args:
        command: What to run.
        environments: Variables of each, beside this process's own.
        framework: What a person calls the framework.
        scheduler: Whether the last one is no worker, but holds them together.

    Returns:
        The exit status: of the first worker that ended badly, as a shell has it, or else 0.
    """
    processes = [subprocess.Popen(command, env=os.environ | more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, start_new_session=True) for more in environments]
    workers = processes[:-1] if scheduler else processes
    names = [f"[{rank}] ".encode() for rank in range(len(workers))] + [b"[scheduler] "]
    printers = [threading.Thread(target=_print, args=(stream, out, name), daemon=True)
                for process, name in zip(processes, names, strict=False)
                for stream, out in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))]
    for printer in printers:
        printer.start()
    before = {number: signal.signal(number, lambda number, _: _send(workers, number))
              for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
              if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        status = _watch(workers)
    finally:
        fault = _unsaid(workers, framework)
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for printer in printers:
            printer.join(timeout=5)
        for number, handler in before.items():
            signal.signal(number, handler)
        if fault:
            print(fault, file=sys.stderr, flush=True)
    return status


def _watch(workers: list[subprocess.Popen]) -> int:
    """Wait until all workers have ended, or for some time after one has ended badly; return the exit status."""
    status, deadline = 0, None
    while any(worker.poll() is None for worker in workers):
        if deadline is None and (ended := [worker for worker in workers if worker.poll()]):
            first = min(ended, key=lambda worker: worker.returncode)  # a signal's is negative, and no consequence
            status, deadline = _status(first), time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return status or next((_status(worker) for worker in workers if worker.poll()), 0)


def _unsaid(workers: list[subprocess.Popen], framework: str) -> str | None:
    """Give a line about a worker that was killed, unless another one has said that it is lost."""
    ended = {rank: worker.poll() for rank, worker in enumerate(workers)}
    killed = [rank for rank, status in ended.items() if status is not None and status < 0]
    if not killed or WorkerLost.status in ended.values():
        return None
    return (f"error: rank {killed[0]} of {len(workers)} ({framework}) was ended by "
            f"{signal.Signals(-ended[killed[0]]).name}; to go on, start the same command with --resume auto")


def _status(worker: subprocess.Popen) -> int:
    return worker.returncode if worker.returncode > 0 else 128 - worker.returncode


def _send(workers: list[subprocess.Popen], number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def _print(stream, out, name: bytes) -> None:
    """Copy lines, each behind the name of who wrote it."""
    with stream, contextlib.suppress(OSError, ValueError):
        for line in stream:
            out.buffer.write(name + line)
            out.flush()
