"""Write requirements/lock-3.10.txt, -3.11.txt and -3.12.txt: everything, in one release each, with its hashes.

    python packages/lock.py

`make .venv LOCKED=1` installs from them. They are for Linux on x86_64. The checkout's own distributions are not in
them, nor is PyTorch's CPU build, which is on no index but PyTorch's own.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
UV = "uv>=0.5"
PYTHONS = ("3.10", "3.11", "3.12")
OWN = {"vit-three-ways": ".", "fe-compat": "packages/fe_compat[fastestimator]", "fe-mindspore": "packages/fe_mindspore",
       "opencv-python": "packages/opencv_python"}
DILL = "dill==0.3.7"  # FastEstimator pins an older one, MindSpore wants a newer one; both are tested with this


def main() -> None:
    environment = REPO / ".venv-lock"
    if not (environment / "bin/uv").exists():
        _run(sys.executable, "-m", "venv", environment)
        _run(environment / "bin/pip", "install", "--quiet", UV)
    (REPO / "requirements").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        own, override, alone = (Path(folder) / name for name in ("own.txt", "override.txt", "alone.txt"))
        own.write_text("".join(f"-e {REPO / place}\n" for place in OWN.values()))
        override.write_text(f"{DILL}\n")
        alone.write_text("fastestimator==1.7.0\n")
        for python in PYTHONS:
            command = (environment / "bin/uv", "pip", "compile", "--quiet", "--upgrade", "--generate-hashes",
                       "--no-annotate", "--no-header", "--python-version", python,
                       "--python-platform", "x86_64-manylinux_2_28")
            out = REPO / f"requirements/lock-{python}.txt"
            out.unlink(missing_ok=True)
            left_out = [word for name in OWN for word in ("--no-emit-package", name)]
            _run(*command, *left_out, "--override", override, "--output-file", out, own, REPO / "requirements-dev.txt")
            text = out.read_text()
            if python == "3.12":  # where its own pins do not install
                _run(*command, "--no-deps", "--output-file", Path(folder) / "out.txt", alone)
                text += (Path(folder) / "out.txt").read_text()
            out.write_text(f"# Written by `make lock`, for Python {python} on Linux, x86_64.\n{text}")
            print(f"{out.relative_to(REPO)}: {text.count('==')} packages")


def _run(*command) -> None:
    subprocess.run(list(map(str, command)), check=True, cwd=REPO)


if __name__ == "__main__":
    main()
