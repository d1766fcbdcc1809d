"""The frameworks that the project speaks, and what to say when one is not installed."""
import importlib
import importlib.util
import sys
from types import ModuleType

from vit import start
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
    """A requested framework is not installed, or cannot be imported."""


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


def script_of(model: object) -> ModuleType | None:
    """Give the script that a model is a ViT of (or of a class of its own that is made from it); None of any other."""
    modules = {base.__module__ for base in type(model).__mro__ if base.__name__ == "ViT"}
    return next((sys.modules[name] for name in SCRIPTS.values() if name in modules), None)


def require(module: str, importer: str) -> None:
    """Make sure that a framework can be imported, and that FastEstimator can use it.

    Args:
        module: "torch", "tensorflow" or "mindspore".
        importer: The `__name__` of who asks. A script gets one line and exit status 2 instead of a traceback.

    Raises:
        MissingBackend: The framework cannot be imported, and the importer is a module.
    """
    if importer == "__main__":
        start.begin()
    message = _why_missing(module)
    if message is None:
        return
    if importer != "__main__":
        raise MissingBackend(message)
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _why_missing(module: str) -> str | None:
    if any(importlib.util.find_spec(name) is None for name in _NEEDED[module]):
        return f"{module} is not installed: run `make .venv`, or {INSTALL[module]}"
    import fe_compat  # here: what is imported above delays `start.begin`
    try:
        if module == "tensorflow":
            fe_compat.require_docstrings()
    except fe_compat.Unusable as error:
        return str(error)
    return None
