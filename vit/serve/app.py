"""The server's addresses: a page, `POST /predict`, `/health` and `/metrics`. Errors are a JSON line."""
import asyncio
import contextlib
import dataclasses
import importlib.resources
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anyio
import numpy as np
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vit.errors import one_line, printable
from vit.serve import images
from vit.serve.batching import Batcher
from vit.serve.limits import Limits
from vit.serve.metrics import Metrics
from vit.serve.served import Served
from vit.use.classifier import first

PAGE = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"),
        "/page.js": ("page.js", "text/javascript")}
_HELD = 32  # times max_bytes: what of images is in memory at once, before they are decoded
_LEFT = 499  # nobody reads it: the client has left


@dataclass(frozen=True)
class Asked:
    """What a request asks for beside its image."""
    backend: str
    top_k: int
    attention: bool


class Service:
    """Answers to requests.

    Args:
        models: By backend; the first is asked where a request names none.
        limits: What is taken.
        name: The file's name.
    """

    def __init__(self, models: dict[str, Served], limits: Limits, name: str) -> None:
        self.models, self.limits, self.name, self.metrics = models, limits, name, Metrics()
        self.batcher = Batcher(models, limits, self.metrics)
        self._model = next(iter(models.values())).model  # of all: they have one preprocessing and the same classes
        Image.init()  # before several threads do it at once
        self._readers = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "read")
        self._inside, self._held = 0, 0
        self._computing: asyncio.Task | None = None

    def app(self) -> Starlette:
        """Give the ASGI application."""
        page = [Route(path, _file(*of)) for path, of in PAGE.items()]
        return Starlette(
            routes=[*page, Route("/predict", self.predict, methods=["POST"]), Route("/health", self.health),
                    Route("/metrics", self.show_metrics)],
            exception_handlers={HTTPException: _refuse, Exception: _fail}, lifespan=self._live)

    async def predict(self, request: Request) -> Response:
        """Answer with the likeliest classes of the image that the body is."""
        begin, status = time.perf_counter(), 500
        try:
            answer = await self._predict(request)
            status = 200
            return JSONResponse(answer)
        except HTTPException as refused:
            status = refused.status_code
            raise
        except ClientDisconnect:
            status = _LEFT
            return Response(status_code=_LEFT)
        finally:
            self.metrics.request(status, time.perf_counter() - begin)

    async def health(self, _: Request) -> Response:
        """Say what is served; 503 where nothing is computed any more."""
        lives = self._computing is not None and not self._computing.done()
        return JSONResponse(status_code=200 if lives else 503, content={
            "status": "ok" if lives else "failed", "file": self.name,
            "backends": [{"name": name, "title": model.title, "attention": model.explains}
                         for name, model in self.models.items()],
            "classes": len(self._model.classes), "image_size": self._model.config.image_size,
            "limits": dataclasses.asdict(self.limits)})

    async def show_metrics(self, _: Request) -> Response:
        """Give the counters."""
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    @contextlib.asynccontextmanager
    async def _live(self, _: Starlette) -> AsyncIterator[None]:
        self._computing = asyncio.create_task(self.batcher.run())
        yield
        self._computing.cancel()
        self.batcher.close()
        self._readers.shutdown(cancel_futures=True)

    async def _predict(self, request: Request) -> dict:
        self._check_header(request)
        asked = self._asked(request)
        with self._inside_queue():
            body = await self._receive(request)
            answer = asyncio.ensure_future(self._answer(body, asked))
            leaving = asyncio.ensure_future(request.receive())  # all of the body is here: what comes now is its end
            try:
                await asyncio.wait({answer, leaving}, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    return answer.result()
                if leaving.done():
                    raise ClientDisconnect
                raise HTTPException(503, f"no answer within {self.limits.timeout:g} seconds; try again later",
                                    {"Retry-After": "1"})
            finally:
                answer.cancel()
                leaving.cancel()

    def _check_header(self, request: Request) -> None:
        """Refuse by its header what need not be received."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("image/") and kind != "application/octet-stream":
            raise HTTPException(415, f"the body must be an image, and not {printable(kind)[:60]}: send the "
                                     "file's bytes, with Content-Type: image/jpeg or the like")
        if int(request.headers.get("content-length", 0)) > self.limits.max_bytes:
            raise self._too_large()

    def _asked(self, request: Request) -> Asked:
        given = dict(request.query_params)
        backend = given.pop("backend", next(iter(self.models)))
        top_k, attention = given.pop("top_k", "5"), given.pop("attention", "0")
        if given:
            raise HTTPException(422, f"unknown {printable(next(iter(given)))[:60]}: there are backend, "
                                     "top_k and attention")
        if backend not in self.models:
            raise HTTPException(422, f"backend must be one of {', '.join(self.models)}")
        if not (top_k.isascii() and top_k.isdecimal() and len(top_k) < 10 and int(top_k) > 0):
            raise HTTPException(422, "top_k must be a whole number, at least 1")
        if attention not in ("0", "1"):
            raise HTTPException(422, "attention must be 0 or 1")
        if attention == "1" and not self.models[backend].explains:
            raise HTTPException(422, f"attention: {backend} runs an exported model, which does not show it")
        return Asked(backend, int(top_k), attention == "1")

    @contextlib.contextmanager
    def _inside_queue(self) -> Iterator[None]:
        if self._inside >= self.limits.queue:
            raise self._busy(f"{self._inside} images wait already")
        self._inside += 1
        self.metrics.inside.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self.metrics.inside.set(self._inside)

    async def _receive(self, request: Request) -> bytearray:
        """Receive the body; it counts as held until `_answer` has read it."""
        body = bytearray()
        try:
            with anyio.fail_after(self.limits.timeout):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > self.limits.max_bytes:
                        raise self._too_large()
                    if self._held + len(chunk) > _HELD * self.limits.max_bytes:
                        raise self._busy("there is no room for more images")
                    body += chunk
                    self._held += len(chunk)
            if not body:
                raise HTTPException(422, "the body is empty: send an image's bytes")
        except BaseException as error:
            self._held -= len(body)
            if isinstance(error, TimeoutError):
                raise HTTPException(408, f"the image has not arrived within {self.limits.timeout:g} seconds") from None
            raise
        return body

    async def _answer(self, body: bytearray, asked: Asked) -> dict:
        self.batcher.coming += 1
        try:
            pixels, address = await asyncio.get_running_loop().run_in_executor(
                self._readers, self._read, body, asked.attention)
        finally:
            self.batcher.coming -= 1
            self._held -= len(body)
        row, map_ = await self.batcher.compute(asked.backend, pixels, asked.attention)
        named = [{"class": name, "probability": value} for name, value in first(self._model.classes, row, asked.top_k)]
        shown = {"attention": map_.tolist(), "image": address} if asked.attention else {}
        return {"backend": asked.backend, "predictions": named, **shown}

    def _read(self, body: bytearray, attention: bool) -> tuple[np.ndarray, str | None]:
        """What the model sees of an image; and, to be shown, as an address."""
        pixels = images.read(body, self._model, self.limits.max_pixels)
        return pixels, images.data_address(pixels) if attention else None

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"an image may have {self.limits.max_bytes:,} bytes")

    @staticmethod
    def _busy(why: str) -> HTTPException:
        return HTTPException(429, f"{why}; try again in a second", {"Retry-After": "1"})


def _file(name: str, kind: str):
    """An endpoint that gives a file of the page."""
    content = importlib.resources.files("vit.serve").joinpath("page", name).read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=kind)

    return endpoint


async def _refuse(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _fail(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the server failed: {one_line(error)}"}, 500)
