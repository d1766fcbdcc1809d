"""The release script: wheels that need each other by version, and what keeps a commit from being tagged."""
import base64
import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from email import message_from_bytes

import pytest

CHANGES = "# Changelog\n\n## Unreleased\n\n## 1.2.0\n\nIt is there.\n"


@pytest.fixture(scope="module")
def release(repo):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("release", repo / "packages/release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _needs(wheel):
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])


def _hold_to_record(wheel):
    """Each file of a wheel is of the size and sum that its RECORD says."""
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith("RECORD")]
    rows = [row.rsplit(",", 2) for row in archive.read(name).decode().splitlines()]
    assert {row[0] for row in rows} == set(archive.namelist())
    for path, digest, size in rows:
        if path != name:
            content = archive.read(path)
            said = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={said}", len(content))


def _wheel(path, *needs):
    text = "Metadata-Version: 2.4\nName: a\nVersion: 1\n" + "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.py", "")
        archive.writestr("a-1.dist-info/METADATA", text)
        empty = base64.urlsafe_b64encode(hashlib.sha256(b"").digest()).rstrip(b"=").decode()
        archive.writestr("a-1.dist-info/RECORD", f"a.py,sha256={empty},0\na-1.dist-info/METADATA,sha256=x,1\n"
                                                 "a-1.dist-info/RECORD,,\n")
    return path


def test_a_folder_becomes_a_version(release, tmp_path):
    wheel = _wheel(tmp_path / "a-1-py3-none-any.whl", "fe-compat[fastestimator] @ file:///x/y", "numpy>=1.2",
                   "b @ file:///x/b ; extra == 'c'", "elsewhere @ https://host/e.whl")
    release.need_by_version(wheel, {"fe-compat": "0.1.0", "b": "4.7+x"})
    assert _needs(wheel) == ["fe-compat[fastestimator]==0.1.0", "numpy>=1.2", "b==4.7+x ; extra == 'c'",
                             "elsewhere @ https://host/e.whl"]
    _hold_to_record(wheel)


def test_a_folder_without_a_version_is_an_error(release, tmp_path):
    with pytest.raises(KeyError):
        release.need_by_version(_wheel(tmp_path / "a-1-py3-none-any.whl", "b @ file:///x/b"), {})


@pytest.mark.parametrize(("status", "version", "tags", "fragment"), [
    ("", "1.2.0", ["v1.1.0"], ""), (" M README.md\n", "1.2.0", [], "not committed"),
    ("", "1.2.0", ["v1.2.0"], "already"), ("", "1.3.0", [], "no section"), ("", "1.2", [], "no section")])
def test_what_keeps_a_version_from_its_tag(release, status, version, tags, fragment):
    reason = release.refusal(status, CHANGES, version, tags, ["python3"], [])
    assert bool(reason) == bool(fragment) and fragment in reason


def test_what_was_not_tried_or_has_an_older_ones_version_is_not_tagged(release):
    assert "--pythons" in release.refusal("", CHANGES, "1.2.0", [], [], [])
    assert "packages/a has changed" in release.refusal("", CHANGES, "1.2.0", [], ["python3"], ["packages/a"])


@pytest.fixture
def checkout(release, tmp_path, monkeypatch):
    """A small repository in the place of the script's own, without a tag: a function that writes files and commits."""
    folder = tmp_path / "checkout"

    def git(*arguments):
        subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)

    def commit(**files):
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        git("add", ".")
        git("commit", "--quiet", "--message", "a change")

    folder.mkdir()
    git("init", "--quiet")
    for variable in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{variable}_NAME", "a")
        monkeypatch.setenv(f"{variable}_EMAIL", "a@b")
    monkeypatch.setattr(release, "REPO", folder)
    commit(**{f"{one}/pyproject.toml": '[project]\nversion = "0.1.0"\n' for one in release.FOLDERS[1:]},
           **{"vit/__init__.py": '__version__ = "1.2.0"\n', "CHANGELOG.md": CHANGES})
    return commit


def test_a_package_that_changes_needs_another_version(release, checkout):
    package, other = release.FOLDERS[1:3]
    checkout(**{f"{package}/a.py": "1"})
    assert release.unraised("HEAD") == []  # nothing is tagged
    release._git("tag", "v0.9.0")
    checkout(**{f"{package}/a.py": "2", f"{other}/a.py": "2", "README.md": "of no package"})
    release._git("tag", "v0.10.0", "HEAD~")
    assert release.unraised("HEAD") == [package, other]
    checkout(**{f"{other}/pyproject.toml": '[project]\nversion = "0.1.1"\n'})
    assert release.unraised("HEAD") == [package]
    release._git("tag", "v0.11.0")
    assert release.unraised("HEAD") == []


def test_the_commit_that_was_built_is_tagged(release, checkout, monkeypatch, capsys):
    monkeypatch.setattr(release, "build", lambda out: [])
    monkeypatch.setattr(release, "check", lambda out, python: checkout(**{
        "vit/__init__.py": '__version__ = "1.3.0"\n'}))  # somebody goes on meanwhile
    built = release._git("rev-parse", "HEAD")
    monkeypatch.setattr(sys, "argv", ["release.py", "--tag", "--pythons", "python3"])
    release.main()
    assert capsys.readouterr().out.endswith("tagged v1.2.0\n")
    assert release._git("rev-parse", "v1.2.0^{commit}") == built != release._git("rev-parse", "HEAD")


def test_only_a_folder_of_wheels_is_emptied(release, tmp_path):
    release.empty(tmp_path / "new")
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "a-1-py3-none-any.whl").touch()
    release.empty(folder)
    assert list(folder.iterdir()) == []
    for name in ("a-1-py3-none-any.whl", "thesis.tex"):
        (folder / name).touch()
    for path, named in ((folder, "thesis.tex"), (folder / "thesis.tex", "thesis.tex"), (tmp_path, "dist")):
        with pytest.raises(SystemExit, match=rf"^error: {path} .*\({named}\).*--out$"):
            release.empty(path)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.full
def test_the_wheels_of_this_checkout_find_each_other(release, tmp_path):
    wheels = release.build(tmp_path / "dist", "--no-build-isolation")
    assert len(wheels) == len(release.FOLDERS)
    for wheel in wheels:
        _hold_to_record(wheel)
        assert not any("file:" in need for need in _needs(wheel))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--find-links",
                    tmp_path / "dist", "--target", tmp_path / "there", "vit-three-ways", "fe-compat", "fe-mindspore"],
                   check=True, timeout=120)
    assert (tmp_path / "there/vit/recipes/small_data.yaml").exists()
