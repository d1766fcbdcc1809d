"""The frameworks that the project speaks, and what to say when one is not installed."""
import importlib
import importlib.util
import sys

from vit.errors import UserError

TITLES = {"torch": "PyTorch", "tf": "TensorFlow", "ms": "MindSpore"}
SCRIPTS = {"torch": "vit_torch", "tf": "vit_tf", "ms": "vit_ms"}
INSTALL = {
    "torch": "pip install -r requirements.txt",
    "tensorflow": "pip install -r requirements.txt",
    "mindspore": "pip install packages/fe_mindspore",
}
# FastEstimator speaks MindSpore through a package of its own.
_NEEDED = {"torch": ("torch",), "tensorflow": ("tensorflow",), "mindspore": ("mindspore", "fe_mindspore")}


class MissingBackend(ImportError):
    """A requested framework is not installed."""


def load_script(backend: str):
    """Import the script of a backend.

    Args:
        backend: "torch", "tf" or "ms".

    Raises:
        UserError: The name is unknown, or its framework is not installed.
    """
    if backend not in SCRIPTS:
        raise UserError(f"unknown backend {backend!r}: choose one of {', '.join(SCRIPTS)}")
    try:
        return importlib.import_module(SCRIPTS[backend])
    except MissingBackend as error:
        raise UserError(str(error)) from None


def require(module: str, importer: str) -> None:
    """Make sure that a framework can be imported, and that FastEstimator can use it.

    Args:
        module: "torch", "tensorflow" or "mindspore".
        importer: The `__name__` of who asks. A script gets one line and exit status 2 instead of a traceback.

    Raises:
        MissingBackend: The framework is not installed, and the importer is a module.
    """
    if all(importlib.util.find_spec(name) is not None for name in _NEEDED[module]):
        return
    message = f"{module} is not installed: run `make .venv`, or {INSTALL[module]}"
    if importer != "__main__":
        raise MissingBackend(message)
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


