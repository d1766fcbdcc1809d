"""What `make .venv` and `make demo` would install: everything, one framework's, a lock's; and the container."""
import re
import shutil
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHONS = ("3.10", "3.11", "3.12")


def _list(path, name):
    """The strings of a list of a pyproject.toml (Python 3.10 has no tomllib)."""
    [body] = re.findall(rf"^{name} = \[$(.*?)^\]", path.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r'^    "([^"]+)"', body, re.MULTILINE)


def _vit(repo):
    return [need for need in _list(repo / "pyproject.toml", "dependencies") if "@" not in need]


def _extra(repo, name):
    """The needs of an extra of fe_compat and of those that it names, without the distributions of this checkout."""
    needs = _list(repo / "packages/fe_compat/pyproject.toml", name)
    return [more for need in needs for more in
            (_extra(repo, need[len("fe-compat["):-1]) if need.startswith("fe-compat[") else [need]) if "@" not in more]


def _make(folder, *arguments):
    """Run make as a user's shell does: where a make runs the tests, its variables would make this one its child."""
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60,
                          env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"})


@pytest.fixture
def make(repo, tmp_path):
    """A function that gives what make would do in a checkout without a .venv, and its status: (*arguments)."""
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt",
                 "vit_torch.py", "vit_tf.py", "vit_ms.py",
                 *(str(path.relative_to(repo)) for path in repo.glob("packages/*/pyproject.toml")),
                 *(f"requirements/lock-{python}.txt" for python in PYTHONS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repo / name, tmp_path / name)

    def run(*arguments, status=0):
        done = _make(tmp_path, "-n", *arguments)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize(("backend", "extra"), [("torch", "torch"), ("tf", "tensorflow"), ("ms", "torch")])
@pytest.mark.parametrize("goal", [".venv", "demo"])
def test_one_frameworks(make, goal, backend, extra):
    shown = make(goal, f"BACKEND={backend}")
    assert f'"packages/fe_compat[{extra}]"' in shown and "--no-deps fastestimator==1.7.0" in shown
    assert "requirements" not in shown
    assert ("packages/fe_mindspore" in shown) == (backend == "ms")


@pytest.mark.parametrize("asked", [[".venv"], ["demo"], ["test"], ["test", "BACKEND=torch"], ["check"]])
def test_everything_is_the_default_and_what_tests_need(make, asked):
    shown = make(*asked)
    assert "-r requirements.txt -r requirements-dev.txt" in shown and "-e packages/fe_mindspore" in shown


def test_everything_is_enough_for_one(make, tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/installed").touch()
    assert "pip install" not in make("demo", "BACKEND=tf")


def test_a_lock_is_installed_by_its_hashes(make):
    shown = make(".venv", "LOCKED=1")
    assert re.search(r"--no-deps --no-build-isolation --require-hashes -r requirements/lock-3\.1[012]\.txt", shown)
    assert not re.search(r"pip install (?!.*--no-build-isolation).*-r requirements/lock", shown)


@pytest.mark.parametrize("python", PYTHONS)
def test_what_builds_the_sources_comes_first_and_by_its_hash(make, repo, python):
    [(script, install)] = re.findall(r"^(sed .*lock-).*txt \| (.+)$", make(".venv", "LOCKED=1"), re.MULTILINE)
    assert "--require-hashes -r /dev/stdin" in install
    taken = subprocess.check_output(f"{script}{python}.txt", shell=True, cwd=repo, text=True)
    assert [line.split("==")[0] for line in taken.splitlines() if "==" in line] == ["packaging", "setuptools", "wheel"]
    assert taken.count("--hash=") == 6 and not taken.endswith("\\\n")  # each of a source and a wheel


def test_locks_are_for_a_venv_of_their_own(make, tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/installed-tf").touch()
    done = _make(tmp_path, ".venv", "LOCKED=1", "PYTHON=false")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.splitlines()[0] == ".venv was installed without LOCKED=1: rm -rf .venv first"
    (tmp_path / ".venv/installed-locked").touch()
    assert "without LOCKED=1" not in _make(tmp_path, ".venv", "LOCKED=1", "PYTHON=false").stderr
    assert "rm -f .venv/installed-locked" in make(".venv/installed")  # which makes it one without


@pytest.mark.parametrize(("asked", "said"), [(["BACKEND=jax"], "torch, tf or ms"), (["BACKEND="], "torch, tf or ms"),
                                             (["LOCKED=1", "BACKEND=tf"], "LOCKED=1 installs everything")])
def test_what_cannot_be_installed_is_refused(repo, asked, said):
    done = _make(repo, ".venv", "PYTHON=false", *asked)
    assert done.returncode == 2 and said in done.stderr and not done.stdout


def test_what_make_reads_of_the_project_is_what_it_needs(make, repo, tmp_path):
    [script] = re.findall(r"^(sed .*?pyproject\.toml) \|", make(".venv", "BACKEND=torch"), re.MULTILINE)
    assert subprocess.check_output(script, shell=True, cwd=repo, text=True).split() == _vit(repo)
    assert re.search(r"whl/cpu torch==\d+\.\d+\.\d+ ", make(".venv", "BACKEND=torch").replace("\\\n\t", ""))


def test_one_framework_is_installed_in_fastestimators_releases(repo):
    pinned = {canonicalize_name(need.name): need.specifier for need in map(Requirement, requires("fastestimator"))}
    for need in map(Requirement, _extra(repo, "tensorflow")):
        theirs = str(pinned.get(canonicalize_name(need.name), "")).removeprefix("==")
        assert not theirs or need.specifier.contains(theirs), need


@pytest.mark.parametrize("python", PYTHONS)
def test_a_lock_has_what_is_asked_for(repo, python):
    text = (repo / f"requirements/lock-{python}.txt").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE))
    assert len(locked) == len(re.findall(r"^[^ #]", text, re.MULTILINE))
    tools = re.sub(r"#.*", "", (repo / "requirements-dev.txt").read_text()).split("\n")
    mindspore = _list(repo / "packages/fe_mindspore/pyproject.toml", "dependencies")
    asked = [*_vit(repo), *_extra(repo, "fastestimator"), "fastestimator==1.7.0", *filter(str.strip, tools),
             *(need for need in mindspore if "@" not in need)]
    place = {"python_version": python, "python_full_version": f"{python}.0"}
    for need in map(Requirement, asked):
        if need.marker is None or need.marker.evaluate(place):
            assert need.specifier.contains(locked[canonicalize_name(need.name)]), f"{need}: run `make lock`"


def test_the_container_is_made_by_make(repo):
    text = re.sub(r"^#.*\n", "", (repo / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line]
    assert {step[0] for step in steps} <= {"FROM", "RUN", "USER", "WORKDIR", "COPY", "ARG", "ENV", "CMD"}
    made = re.findall(r'make"?,? "?([.\w-]+)', " ".join(step[1] for step in steps if step[0] in ("RUN", "CMD")
                                                         and "apt-get" not in step[1]))
    assert made == [".venv", "demo"]
    assert set(re.findall(r"^BACKEND \?= (\w+)", (repo / "Makefile").read_text(), re.MULTILINE)) \
        == set(re.findall(r"ARG BACKEND=(\w+)", text))
    assert {".git", ".venv*", "runs"} <= set((repo / ".dockerignore").read_text().split())


@pytest.mark.parametrize("path", ["Dockerfile", "README.md", "docs/get-started.md", "docs/troubleshooting.md"])
def test_what_mindspore_takes_from_the_system_is_named(repo, path):
    assert "libgomp1" in (repo / path).read_text()


@pytest.mark.skipif(not shutil.which("apt-cache") or not list(Path("/var/lib/apt/lists").glob("*_Packages*")),
                    reason="no lists of Debian's packages here")
def test_the_containers_packages_exist(repo):
    [names] = re.findall(r"--no-install-recommends (.+) \\", (repo / "Dockerfile").read_text())
    shown = subprocess.check_output(["apt-cache", "show", *names.split()], text=True)
    assert set(names.split()) == set(re.findall("^Package: (.+)", shown, re.MULTILINE))


def test_the_page_says_the_sizes_that_make_says(repo):
    said = dict(re.findall(r"^\.venv/installed-?(\w*): SIZE := (.+)$", (repo / "Makefile").read_text(), re.MULTILINE))
    page = (repo / "docs/get-started.md").read_text()
    rows = re.findall(r"^\| `make \.venv(?: BACKEND=)?(\w*)` \|.*\| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert {backend: f"{without} ({with_it} with CUDA)" for backend, without, with_it in rows} == \
        {backend: said[backend] for backend in ("", "torch", "tf", "ms")}
    front = (repo / "README.md").read_text()
    for text in (front, page):
        [(backend, size)] = re.findall(r"^make demo BACKEND=(\w+) +# installs (.+) into \.venv,", text, re.MULTILINE)
        assert size == said[backend]
    assert f"into `.venv` ({said[''].replace(' (', ', ')}" in front
    assert f"the rest: {said['']} in all" in page
