"""The frameworks that the project speaks, and what to say when one is not installed."""
import importlib.util
import sys

INSTALL = {
    "torch": "pip install -r requirements.txt",
    "tensorflow": "pip install -r requirements.txt",
    "mindspore": "pip install --no-deps -r requirements-mindspore.txt",
}


class MissingBackend(ImportError):
    """A requested framework is not installed."""


def require(module: str, importer: str) -> None:
    """Make sure that a framework can be imported.

    Args:
        module: "torch", "tensorflow" or "mindspore".
        importer: The `__name__` of who asks. A script gets one line and exit status 2 instead of a traceback.

    Raises:
        MissingBackend: The framework is not installed, and the importer is a module.
    """
    if importlib.util.find_spec(module) is not None:
        return
    message = f"{module} is not installed: run `make .venv`, or {INSTALL[module]}"
    if importer != "__main__":
        raise MissingBackend(message)
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
