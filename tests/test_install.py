"""The wheels of `vit` and the two packages hold what they should, and work from any folder in their own environment.

Nothing is downloaded: hatchling builds without isolation, and what the three need is borrowed from this environment.
That `pip install .` finds all of it in a bare one is shown by the jobs `install` and `fe-mindspore` of CI.
"""
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

FOLDERS = {"vit_three_ways": ".", "fe_compat": "packages/fe_compat", "fe_mindspore": "packages/fe_mindspore"}


def _run(*command, **environment):
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(list(map(str, command)), cwd="/", capture_output=True, text=True, timeout=300,
                          env={**variables, **environment})


def _succeeds(*command, **environment):
    done = _run(*command, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheels(repo, tmp_path_factory):
    """{distribution: the path of its wheel}."""
    folder = tmp_path_factory.mktemp("wheels")
    _succeeds(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
              "--wheel-dir", folder, *(repo / path for path in FOLDERS.values()))
    return {path.name.split("-")[0]: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def environment(wheels, tmp_path_factory):
    """The folder of a new virtual environment that has the wheels, and sees what is installed in this one.

    A `.pth` file names this one's packages. Python does not read the `.pth` files there, so a checkout that is
    installed here with `pip install -e` cannot stand in for a file that a wheel lacks.
    """
    folder = tmp_path_factory.mktemp("environment")
    _succeeds(sys.executable, "-m", "venv", "--without-pip", folder)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(packages) / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    _succeeds(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-deps",
              "--ignore-installed", "--no-index", *wheels.values())
    return folder


def _files(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def _metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(archive.read(name))


def _committed(repo, folder, pattern):
    """The files that git has there, by their paths below the folder."""
    command = ("git", "-C", repo / folder, "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern)
    return set(_succeeds(*command).split())


def test_wheel_of_vit_holds_its_modules_the_three_scripts_and_the_recipes(wheels, repo):
    code = _committed(repo, ".", "vit/*") | {"vit_torch.py", "vit_tf.py", "vit_ms.py"}
    recipes = {f"vit/{name}" for name in _committed(repo, ".", "recipes/*")}
    files = {name for name in _files(wheels["vit_three_ways"]) if ".dist-info/" not in name}
    assert {"vit/__main__.py", "vit/recipes/small_data.yaml"} <= files
    assert files == code | recipes


@pytest.mark.parametrize("package", ["fe_compat", "fe_mindspore"])
def test_wheel_of_a_package_holds_its_modules(wheels, repo, package):
    files = {name for name in _files(wheels[package]) if ".dist-info/" not in name}
    assert f"{package}/__init__.py" in files
    assert files == _committed(repo, FOLDERS[package], f"{package}/*")


@pytest.mark.parametrize("distribution", FOLDERS)
def test_every_wheel_brings_the_license_and_names_the_pythons(wheels, repo, distribution):
    archive = zipfile.ZipFile(wheels[distribution])
    [name] = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert archive.read(name) == (repo / "LICENSE").read_bytes()
    assert _metadata(wheels[distribution])["Requires-Python"] == "<3.13,>=3.10"
    assert _metadata(wheels[distribution])["Version"] == "0.1.0"


def test_what_the_wheels_need(wheels, repo):
    """FastEstimator and MindSpore do not resolve together: only `vit` needs the one, only fe_mindspore the other."""
    needs = {distribution: _metadata(wheel).get_all("Requires-Dist", []) for distribution, wheel in wheels.items()}
    assert f"fe-compat[fastestimator] @ {(repo / 'packages/fe_compat').as_uri()}" in needs["vit_three_ways"]
    assert f"fe-compat @ {(repo / 'packages/fe_compat').as_uri()}" in needs["fe_mindspore"]
    assert any(need.startswith("mindspore==") for need in needs["fe_mindspore"])
    assert not re.search("mindspore", " ".join(needs["vit_three_ways"] + needs["fe_compat"]))
    assert not re.search(r"fastestimator(?!\])|torch|tensorflow", " ".join(needs["fe_mindspore"]))
    assert [need for need in needs["fe_compat"] if "extra ==" not in need] == []
    assert any(need.startswith("fastestimator==1.7.0;") for need in needs["fe_compat"])


def test_vit_is_a_command(environment):
    listed = _succeeds(environment / "bin" / "vit", "list")
    assert "apphub" in listed and "3,218,020" in listed
    assert listed == _succeeds(environment / "bin" / "python", "-m", "vit", "list")


@pytest.mark.backend("torch", "tf", "ms")
def test_all_is_imported_from_the_environment(environment):
    shown = _succeeds(environment / "bin" / "python", "-c",
                      "import fe_mindspore, fe_compat, vit, vit_torch, vit_tf, vit_ms\n"
                      "for module in (fe_mindspore, fe_compat, vit, vit_torch, vit_tf, vit_ms): print(module.__file__)",
                      TF_CPP_MIN_LOG_LEVEL="3")
    paths = shown.splitlines()[-6:]
    assert all(Path(path).is_relative_to(environment) for path in paths), paths


def test_a_shipped_recipe_is_found_by_its_name(environment):
    path = _succeeds(environment / "bin" / "python", "-c",
                     "from vit.training.recipe_paths import find_recipe; print(find_recipe('small_data'))")
    assert Path(path.strip()).is_relative_to(environment) and Path(path.strip()).is_file()


@pytest.mark.parametrize("absent", ["mindspore", "fe_mindspore"])
def test_without_mindspore_its_script_says_what_to_install(environment, tmp_path, absent):
    """`sitecustomize` runs as Python starts: this one makes a package look as if it were not installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {absent!r} else find(name, *rest)\n")
    done = _run(environment / "bin" / "python", "-m", "vit_ms", "--data", "digits", "--variant", "no_such",
                PYTHONPATH=str(tmp_path))  # the variant is refused at once, should the script go on
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: mindspore is not installed: run `make .venv`, or pip install packages/fe_mindspore\n"
