"""Install the newest releases of everything that is pinned, try them, and report: how far are they from working?

    python packages/newest.py

FastEstimator stays at 1.7. What is installed goes into .venv-newest, a new environment of its own; .venv stays as it
is. Exits 1 where the tests fail; the report says what was newer.
"""
import re
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PYTHON = REPO / ".venv-newest/bin/python"
# Held for reasons that newer releases do not change: packages/fe_compat/pyproject.toml says which.
HELD = ("fastestimator", "opencv-python", "fe-compat", "setuptools")
FILES = ("pyproject.toml", "packages/fe_compat/pyproject.toml", "packages/fe_mindspore/pyproject.toml",
         "requirements-dev.txt")
TESTS = ("packages", "tests/test_three_frameworks.py", "tests/parity", "tests/training/test_run.py")


def pins() -> dict[str, str]:
    """The packages that this checkout needs, each with the release that it is pinned to, or ""."""
    found = {}
    for name in FILES:
        text = (REPO / name).read_text()
        if name.endswith(".toml"):  # the strings of its lists of needs; extras are another distribution's
            lines = re.findall(r'"([^"]+)"', "".join(re.findall(r"^(?!requires)[\w-]+ = \[$.*?^\]", text, re.S | re.M)))
        else:
            lines = [line for line in text.splitlines() if line and not line.startswith(("#", "-"))]
        for line in lines:
            package, pin = re.match(r"([\w.-]+)(?:\[[\w,]+\])?(?:==([\w.]+))?", line).groups()
            if package.lower() not in HELD:
                found[package] = pin or found.get(package, "")
    return found


def install(packages: list[str]) -> None:
    """Make the environment, with the newest release of each package that goes with the others."""
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(sys.executable, "-m", "venv", "--clear", PYTHON.parent.parent)
    _run(*pip, "setuptools<81", "opencv-python-headless", *packages)
    own = [word for place in ("packages/fe_compat", "packages/fe_mindspore", ".") for word in ("-e", place)]
    _run(*pip, "--no-deps", "fastestimator==1.7.0", *own)


def main() -> None:
    pinned = pins()
    install(sorted(pinned))
    listed = subprocess.check_output([PYTHON, "-m", "pip", "freeze", "--disable-pip-version-check"], text=True)
    found = {_same(name): release for name, release in re.findall(r"^([\w.-]+)==(.+)$", listed, re.M)}
    for package, release in sorted(pinned.items()):
        newest = found.get(_same(package), "none")
        if release and newest.partition("+")[0] != release:
            print(f"{package:<28} {release:<14} -> {newest}", flush=True)
    sys.exit(subprocess.call([PYTHON, "-m", "pytest", "-q", "-x", *TESTS], cwd=REPO))


def _same(name: str) -> str:
    """A distribution's name, in the one spelling of all."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(*command) -> None:
    subprocess.run(list(map(str, command)), check=True, cwd=REPO)


if __name__ == "__main__":
    main()
