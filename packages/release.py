"""Build a release: a folder of wheels that need each other by version, tried in fresh environments; and its tag.

    python packages/release.py --out dist [--pythons python3.10 python3.11 python3.12] [--tag]

In a checkout the distributions name each other by their folders. In a release that becomes a version, so the folder of
wheels is all that pip needs beside PyPI: `pip install --find-links dist vit-three-ways`, then `fe-mindspore` likewise.
"""
import argparse
import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
FOLDERS = (".", "packages/fe_compat", "packages/fe_mindspore", "packages/opencv_python")
# A training of two steps, from a folder without the checkout in it.
TRIAL = ("--data", "digits", "--variant", "tiny", "--pretrain_epochs", "1", "--train_steps_per_epoch", "2",
         "--model_dir", "run")


def build(out: Path, *options: str) -> list[Path]:
    """Build the wheels into a new folder.

    Args:
        out: The folder; wheels that lay there are removed.
        options: More options of `pip wheel`.
    """
    empty(out)
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *options, "--wheel-dir", out,
         *(REPO / folder for folder in FOLDERS))
    wheels = sorted(out.glob("*.whl"))
    versions = {wheel.name.split("-")[0].replace("_", "-"): wheel.name.split("-")[1] for wheel in wheels}
    for wheel in wheels:
        need_by_version(wheel, versions)
    return wheels


def empty(out: Path) -> None:
    """Remove the wheels of an earlier release from its folder; end with a line where something else is there."""
    lying = sorted(out.iterdir()) if out.is_dir() else [out] if out.exists() else []
    if others := [path.name for path in lying if path.suffix != ".whl" or not path.is_file()]:
        sys.exit(f"error: {out} is no folder of wheels alone ({others[0]}): name another one with --out")
    for path in lying:
        path.unlink()


def need_by_version(wheel: Path, versions: dict[str, str]) -> None:
    """Put `NAME==VERSION` for each `NAME @ file:...` among the needs of a wheel.

    Raises:
        KeyError: A distribution that is named by its folder is not among the versions.
    """
    with zipfile.ZipFile(wheel) as archive:
        files = {info: archive.read(info) for info in archive.infolist()}
    [metadata] = [info for info in files if info.filename.endswith(".dist-info/METADATA")]
    [record] = [info for info in files if info.filename.endswith(".dist-info/RECORD")]
    files[metadata] = re.sub(
        rb"^(Requires-Dist: )([\w.-]+)(\[[\w,-]+\])? @ file:[^\s;]+",
        lambda found: b"%s%s%s==%s" % (found[1], found[2], found[3] or b"", versions[found[2].decode()].encode()),
        files[metadata], flags=re.MULTILINE)
    digest = base64.urlsafe_b64encode(hashlib.sha256(files[metadata]).digest()).rstrip(b"=").decode()
    lines = [f"{metadata.filename},sha256={digest},{len(files[metadata])}" if line.startswith(f"{metadata.filename},")
             else line for line in files[record].decode().splitlines()]
    files[record] = ("\n".join(lines) + "\n").encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in files.items():
            archive.writestr(info, content)


def check(out: Path, python: str) -> None:
    """Install the wheels of a folder into a new environment, and use them there."""
    with tempfile.TemporaryDirectory() as folder:
        _run(python, "-m", "venv", Path(folder) / "venv")
        command = Path(folder) / "venv/bin/python"
        install = (command, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--find-links", out)
        _run(*install, "vit-three-ways")
        _run(*install, "fe-mindspore")
        if "3.12" in subprocess.check_output([command, "--version"], text=True):
            _run(*install, "--no-deps", "fastestimator==1.7.0")
        _run(command.parent / "vit", "list", cwd=folder)
        _run(command, "-m", "vit_torch", *TRIAL, cwd=folder)
        _run(command, "-c", "import vit_tf, vit_ms, fe_mindspore", cwd=folder)


def version() -> str:
    """The version of this checkout."""
    return re.search(r'^__version__ = "(.+)"$', (REPO / "vit/__init__.py").read_text(), re.MULTILINE)[1]


def unraised(commit: str) -> list[str]:
    """The packages that are others than in the last version that was tagged before a commit, under the same version."""
    tags = _git("tag", "--list", "v*", "--merged", commit, "--sort=-version:refname").split()
    if not tags:
        return []

    def changes(path: str) -> str:
        return _git("diff-tree", "-p", tags[0], commit, "--", path)

    return [folder for folder in FOLDERS[1:] if changes(folder)
            and not re.search(r'^\+version = ', changes(f"{folder}/pyproject.toml"), re.MULTILINE)]


def refusal(status: str, changes: str, version: str, tags: list[str], pythons: list[str], unraised: list[str]) -> str:
    """Why a version cannot be tagged; "" if it can.

    Args:
        status: What `git status --porcelain` prints.
        changes: CHANGELOG.md.
        version: The version.
        tags: Those that there are.
        pythons: Those to try the wheels with.
        unraised: Packages that have changed, and whose version has not.
    """
    if not pythons:
        return "it is for wheels that were tried: name --pythons"
    if status.strip():
        return "there are changes that are not committed"
    if f"v{version}" in tags:
        return f"there is a tag v{version} already: raise the version in vit/__init__.py"
    if not re.search(rf"^## {re.escape(version)}(\s|$)", changes, re.MULTILINE):
        return f'CHANGELOG.md has no section "## {version}"'
    if unraised:
        return f"{unraised[0]} has changed since the last tag: raise the version in its pyproject.toml"
    return ""


def _run(*command, **options) -> None:
    subprocess.run(list(map(str, command)), check=True, **options)


def _git(*arguments: str) -> str:
    return subprocess.check_output(["git", "-C", str(REPO), *arguments], text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder of the wheels (default: %(default)s)")
    parser.add_argument("--pythons", nargs="*", default=["python3.10", "python3.11", "python3.12"],
                        help="to try them with, 11 GB each while it lasts; none: only build (default: %(default)s)")
    parser.add_argument("--tag", action="store_true", help="tag this commit v<version>")
    asked = parser.parse_args()
    out, name = asked.out.resolve(), version()
    if asked.tag:
        commit = _git("rev-parse", "HEAD").strip()  # another one may be made while the wheels are tried
        if reason := refusal(_git("status", "--porcelain"), (REPO / "CHANGELOG.md").read_text(), name,
                             _git("tag").split(), asked.pythons, unraised(commit)):
            sys.exit(f"error: no tag: {reason}")
    for wheel in build(out):
        print(wheel)
    for python in asked.pythons:
        check(out, python)
        print(f"installed and used with {python}")
    if asked.tag:
        _git("tag", "-a", f"v{name}", "-m", f"Release {name}", commit)
        print(f"tagged v{name}")


if __name__ == "__main__":
    main()
