"""Requests to `vit serve` beside a plain FastAPI server around the same torch model.

    python benchmarks/serve.py [--variants tiny,vit_ti_16_224] [--rounds 5]

Both run at once, each in a process of its own; in each round they take turns: 50 requests one after the other, and 500
of 50 clients at once, a tenth of whose images are damaged. Answers are compared, and counted: none may be lost. Figures
are medians of the rounds, ratios are medians of the rounds' ratios. Writes `benchmarks/serve.md` and prints it.
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import io
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT)]

from vit.data import load
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model import parameters
from vit.model.config import VARIANTS

ALONE, TOGETHER, CLIENTS = 50, 500, 50
BROKEN = 10  # every tenth
OURS, PLAIN = "vit serve", "plain FastAPI"
ROWS = {"alone": "one client: milliseconds, median", "alone 99": "one client: milliseconds, 99 of 100",
        "rate": f"{CLIENTS} clients: answers a second", "together": f"{CLIENTS} clients: milliseconds, median",
        "together 99": f"{CLIENTS} clients: milliseconds, 99 of 100",
        "processor": f"{CLIENTS} clients: processor milliseconds of the server an answer"}


class Server:
    """A process that answers on a port.

    Args:
        name: What it is called.
        command: What Python runs; "PORT" stands for the port.
    """

    def __init__(self, name: str, command: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        paths = [ROOT, ROOT / "packages/fe_compat", ROOT / "packages/fe_mindspore"]
        self.name, self._of_thread = name, threading.local()
        self._process = subprocess.Popen(
            [sys.executable, *(str(self.port) if one == "PORT" else one for one in command)], stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))})

    def wait(self, body: bytes) -> None:
        """Wait for its first answer."""
        while True:
            try:
                assert self.ask(body)[0] == 200
                return
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError(f"{self.name} ended with status {self._process.returncode}") from None
                time.sleep(0.2)

    def ask(self, body: bytes) -> tuple[int, dict, float]:
        """Send an image; gives the status, what is said, and the seconds. A thread keeps its connection."""
        begin = time.perf_counter()
        connection = getattr(self._of_thread, "connection", None)
        self._of_thread.connection = None
        fresh = connection is None
        if fresh:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            content = json.loads(answer.read())
        except OSError:
            connection.close()
            if fresh:
                raise
            return self.ask(body)  # servers close connections on which nothing comes for some seconds
        self._of_thread.connection = connection
        return answer.status, content, time.perf_counter() - begin

    def memory(self, what: str) -> float:
        """Megabytes that it holds ("VmRSS") or has held at most ("VmHWM")."""
        return int(re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{self._process.pid}/status").read_text())[1]) / 1024

    def processor(self) -> float:
        """Seconds of a processor that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """End it; gives its status."""
        self._process.terminate()
        return self._process.wait(60)


def photos() -> list[bytes]:
    """JPEGs of 640 x 480; every tenth is cut off."""
    found = []
    for index, image in enumerate(load("digits").finetune.test.images[:BROKEN * 2]):
        file = io.BytesIO()
        Image.fromarray(image).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
        found.append(file.getvalue()[:1000] if index % BROKEN == BROKEN - 1 else file.getvalue())
    return found


def turn(server: Server, images: list[bytes]) -> dict[str, float]:
    """One round of one server."""
    whole = [image for index, image in enumerate(images) if index % BROKEN != BROKEN - 1]
    alone = [server.ask(whole[index % len(whole)])[2] for index in range(ALONE)]
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        begin, used = time.perf_counter(), server.processor()
        answers = list(pool.map(lambda index: server.ask(images[index % len(images)]), range(TOGETHER)))
        seconds, used = time.perf_counter() - begin, server.processor() - used
    for index, (status, said, _) in enumerate(answers):
        if status != (422 if index % BROKEN == BROKEN - 1 else 200):
            raise RuntimeError(f"{server.name}: request {index}: {status} {said}")
    together = [one[2] for one in answers]
    return {"alone": 1000 * statistics.median(alone), "alone 99": 1000 * np.quantile(alone, 0.99),
            "rate": TOGETHER / seconds, "together": 1000 * statistics.median(together),
            "together 99": 1000 * np.quantile(together, 0.99), "processor": 1000 * used / TOGETHER}


def check_answers(servers: dict[str, Server], images: list[bytes]) -> None:
    """Both compute the same: else they could not be compared."""
    for body in images[:5]:
        one, other = (server.ask(body)[1]["predictions"] for server in servers.values())
        np.testing.assert_allclose([row["probability"] for row in one], [row["probability"] for row in other],
                                   rtol=1e-3)
        assert one[0]["class"] == other[0]["class"]


@contextlib.contextmanager
def both(variant: str, folder: Path, images: list[bytes]) -> Iterator[dict[str, Server]]:
    """Both servers of a variant, ready."""
    config, path = VARIANTS[variant], folder / f"{variant}.safetensors"
    how = Preprocessing((0.5, ) * 3, (0.5, ) * 3, crop_pct=None)
    canonical.save(path, parameters.perturbed(config, 0), config, Usage(None, how))
    servers = {OURS: Server(OURS, ["-m", "vit", "serve", str(path), "--port", "PORT"]),
               PLAIN: Server(PLAIN, ["-m", "benchmarks.contenders.plain_server", str(path), "PORT"])}
    try:
        for server in servers.values():
            server.wait(images[0])
        check_answers(servers, images)
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def measure(variant: str, rounds: int, folder: Path, images: list[bytes]) -> str:
    """The table of a variant, in Markdown."""
    with both(variant, folder, images) as servers:
        before = {name: server.memory("VmRSS") for name, server in servers.items()}
        found = {name: [] for name in servers}
        for number in tqdm(range(rounds), variant, unit="round"):
            for name in list(servers)[::1 if number % 2 else -1]:
                found[name].append(turn(servers[name], images))
        peaks = {name: server.memory("VmHWM") for name, server in servers.items()}
    lines = [f"| `{variant}` | {OURS} | {PLAIN} | ratio |", "| --- | --- | --- | --- |"]
    for key, title in ROWS.items():
        ours, plain = ([row[key] for row in found[name]] for name in (OURS, PLAIN))
        ratio = statistics.median(a / b for a, b in zip(ours, plain, strict=True))
        lines.append(f"| {title} | {statistics.median(ours):.1f} | {statistics.median(plain):.1f} | {ratio:.2f} |")
    grown = [peaks[name] / before[name] for name in (OURS, PLAIN)]
    lines += [f"| memory at first, MB | {before[OURS]:.0f} | {before[PLAIN]:.0f} | |",
              f"| memory at most, of that | {grown[0]:.2f} | {grown[1]:.2f} | |"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="tiny,vit_ti_16_224")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if unknown := set(asked.variants.split(",")) - set(VARIANTS):
        parser.error(f"--variants: choose from {', '.join(VARIANTS)}, not {', '.join(sorted(unknown))}")
    if asked.rounds < 1:
        parser.error("--rounds must be at least 1")
    images = photos()
    with tempfile.TemporaryDirectory() as folder:
        tables = [measure(variant, asked.rounds, Path(folder), images) for variant in asked.variants.split(",")]
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "starlette", "uvicorn", "fastapi"))
    each = asked.rounds * (ALONE + TOGETHER)
    joined = "\n\n".join(tables)
    text = f"""# Serving

Of `python benchmarks/serve.py --variants {asked.variants} --rounds {asked.rounds}`: `vit serve` beside a plain
FastAPI server around the same torch model (`benchmarks/contenders/plain_server.py`: an image at a time, in a pool of
threads). Both are up, and take turns in each round: {ALONE} JPEGs of 640 x 480 one after the other, then {TOGETHER} of
{CLIENTS} clients at once, every tenth of which is cut off. Each of the {each:,} requests to each server was answered,
with 422 where it was cut off, and the answers are the same. Medians of {asked.rounds} rounds; the clients run on the
same cores.

{joined}

{platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}, Python {platform.python_version()}, {versions}.
"""
    (HERE / "serve.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
