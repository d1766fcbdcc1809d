"""`python -m vit serve`: a file's model behind HTTP, with a page."""
import argparse
import dataclasses
import importlib.util
import sys
from pathlib import Path

from vit.errors import UserError, printable
from vit.fields import kinds
from vit.serve.limits import Limits
from vit.use.formats import BACKENDS

# What it needs beside the frameworks; newer releases of anyio want a newer typing-extensions than FastEstimator's.
_NEEDED = ("starlette", "uvicorn", "prometheus_client")
_INSTALL = "pip install starlette uvicorn prometheus_client 'anyio<4.15'"


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("serve", help="a file's model behind HTTP, with a page", description=(
        "Serve a model: a page that takes an image and shows its likeliest classes and the attention over it, POST "
        "/predict, /health and /metrics. No image touches the disk. Ctrl-C ends it."))
    parser.add_argument("source", metavar="FILE",
                        help="weights, a checkpoint, a folder of Hugging Face or of a run; or an exported model")
    parser.add_argument("--backend", type=_backends, metavar="NAME[,NAME...]", help=(
        f"{', '.join(BACKENDS)}; several, with commas, are shown beside each other "
        "(default: torch, or what runs the exported FILE)"))
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="default: %(default)s, which this machine alone reaches")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="default: %(default)s; 0: any that is free")
    for field in dataclasses.fields(Limits):
        number = kinds(field.type)[0]
        parser.add_argument(f"--{field.name}", type=number, default=field.default,
                            metavar="N" if number is int else "R",
                            help=f"{field.metadata['text'].rstrip('.')} (default: {field.default:,})")
    parser.set_defaults(run=_run)


def _backends(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in BACKENDS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(BACKENDS)}")
    return tuple(dict.fromkeys(names))


def _run(options: argparse.Namespace) -> int:
    limits = Limits(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)})
    if not 0 <= options.port < 1 << 16:
        raise UserError(f"port must be from 0 to 65535, not {options.port}")
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise UserError(f"vit serve needs {', '.join(_NEEDED)}: {_INSTALL}")
    from vit.serve import server
    from vit.serve.app import Service
    from vit.serve.served import Served
    with server.listen(options.host, options.port) as taken:
        models = [Served(options.source, backend, limits.max_batch) for backend in options.backend or (None, )]
        for note in models[0].model.notes:
            print(printable(f"note: {note}"), file=sys.stderr)
        if not server.is_loopback(taken):
            print(printable(f"note: {options.host}: whoever reaches this machine can send images; there is neither a "
                            "password nor encryption"), file=sys.stderr)
        service = Service({model.model.backend: model for model in models}, limits, Path(options.source).resolve().name)
        service.batcher.warm()
        print(printable(f"{options.source}: {len(models[0].model.classes)} classes, "
                        f"{', '.join(model.title for model in models)}, at {server.address(taken)}; Ctrl-C ends it"),
              flush=True)
        server.serve(service.app(), taken)
    print(f"ended after {service.metrics.count:,} requests for a prediction")
    return 0
