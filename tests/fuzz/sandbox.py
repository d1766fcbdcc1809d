"""A process that has everything imported, and forks a child for each input: clean, bounded, and cheap.

`Sandbox` is the caller's side, and `serve` is the process. They talk in pickles over its stdin and stdout.
"""
import contextlib
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
DATA_BYTES = 1 << 30  # that an attempt may ask the kernel for, beside what all of them share
_FILE_BYTES = 64 << 20
_PATIENCE = 5  # seconds that an attempt may take for each one of computing that it may: the machine may have more to do
_MAX_OUTPUT = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Args:
        status: Its exit status; None where a signal ended it.
        signal: The signal that ended it, by name, or None.
        timed_out: Whether it was ended because its time was over, computing or waiting.
        out: What it printed.
        err: What it complained of.
        seconds: How long it took.
        peak_bytes: Memory that it touched, beside what was there when it was forked.
    """
    status: int | None
    signal: str | None
    timed_out: bool
    out: str
    err: str
    seconds: float
    peak_bytes: int


class Sandbox:
    """The processes that make attempts, as a context: one for each module of entries, from when it is first needed."""

    def __enter__(self) -> "Sandbox":
        self._processes: dict[str, subprocess.Popen] = {}
        return self

    def _started(self, module: str) -> subprocess.Popen:
        path = [str(REPO), str(REPO / "packages/fe_compat"), str(REPO / "packages/fe_mindspore")]
        path += filter(None, [os.environ.get("PYTHONPATH")])
        environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
        return subprocess.Popen(
            [sys.executable, "-c", "import sys; from tests.fuzz import sandbox; sandbox.serve(sys.argv[1])", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPO,
            env=environment | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "NO_PROXY": "*",
                               "TF_CPP_MIN_LOG_LEVEL": "2"})

    def __exit__(self, *_) -> None:
        for process in self._processes.values():
            process.stdin.close()
            process.wait(60)
            process.stdout.close()

    def attempt(self, entry: str, arguments: list[str], folder: Path, seconds: float) -> Outcome:
        """Call one of the entries in a child process.

        Args:
            entry: Which: a function by the name of its module in `tests.fuzz` and its own, with a dot between.
            arguments: Its command line.
            folder: Where it runs; its temporary files go to the folder `tmp` beside it.
            seconds: Of computing, after which it is ended; one that waits is ended later.
        """
        module, _, function = entry.partition(".")
        if module not in self._processes:
            self._processes[module] = self._started(module)
        process = self._processes[module]
        pickle.dump((function, arguments, str(folder), seconds), process.stdin)
        process.stdin.flush()
        return pickle.load(process.stdout)


def serve(module: str) -> None:
    """Make the attempts that stdin asks for with the functions of a module, until it ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    functions = importlib.import_module(f"tests.fuzz.{module}")
    gc.collect()
    gc.freeze()  # else a child's first collection would touch, and so copy, all of it
    with contextlib.suppress(EOFError):
        while True:
            name, arguments, folder, seconds = pickle.load(requests)
            pickle.dump(_attempt(getattr(functions, name), arguments, folder, seconds), answers)
            answers.flush()


def _attempt(function, arguments: list[str], folder: str, seconds: float) -> Outcome:
    shared, touched = (_own(name) for name in ("VmData", "RssAnon"))  # a child begins with the anonymous pages alone
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(function, arguments, folder, seconds, shared + DATA_BYTES, out.fileno(), err.fileno())
        ended = os.pidfd_open(child)
        timed_out = not select.select([ended], [], [], _PATIENCE * seconds)[0]
        os.close(ended)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # its own children as well
        _, status, usage = os.wait4(child, 0)
        taken = time.monotonic() - begin
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(_MAX_OUTPUT).decode(errors="replace"))
    code = os.waitstatus_to_exitcode(status)
    timed_out = timed_out or code == -signal.SIGXCPU
    return Outcome(code if code >= 0 else None, None if code >= 0 else signal.Signals(-code).name, timed_out, *texts,
                   taken, max(0, usage.ru_maxrss * 1024 - touched))


def _child(function, arguments: list[str], folder: str, seconds: float, data: int, out: int, err: int) -> None:
    """Run an attempt and end the process, without what Python does at its end: that is the parent's to do."""
    os.setpgid(0, 0)
    status = 1
    try:
        # Soft limits: the program itself starts a process with others.
        for kind, limit in ((resource.RLIMIT_DATA, data), (resource.RLIMIT_FSIZE, _FILE_BYTES),
                            (resource.RLIMIT_CPU, int(seconds)), (resource.RLIMIT_CORE, 0)):
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(folder)
        temporary = os.path.join(os.path.dirname(folder), "tmp")
        os.environ |= {"TMPDIR": temporary, "VIT_CACHE": os.path.join(temporary, "cache"),
                       "VIT_DATA_MIRROR": "http://127.0.0.1:9", "HOME": temporary}
        tempfile.tempdir = None
        status = function(arguments) or 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _own(name: str) -> int:
    """A figure of /proc/self/status, bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))
