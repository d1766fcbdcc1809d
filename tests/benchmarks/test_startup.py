"""What the page of start-up says of the checkout beside this one, and that `make bench` can have one."""
import subprocess

import pytest

from benchmarks import startup


def _git(folder, *arguments):
    subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], check=True,
                   capture_output=True)


def test_the_page_names_the_commit_of_the_checkout_beside_it(tmp_path):
    _git(tmp_path, "init")
    (tmp_path / "a").write_text("a")
    (tmp_path / "inner").mkdir()
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-m", "a")
    commit = (tmp_path / ".git" / (tmp_path / ".git/HEAD").read_text().split()[1]).read_text()[:7]
    assert startup.compared(tmp_path) == f'"ours, before" is the checkout that `--beside` named, at commit {commit}.'
    (tmp_path / "a").write_text("b")
    assert startup.compared(tmp_path).endswith(f", at commit {commit}, with changes.")
    assert startup.compared(tmp_path / "inner").endswith(", of an unknown commit.")


def test_the_page_says_that_nothing_was_beside_it():
    assert startup.compared(None).startswith("No older checkout was beside it (`--beside FOLDER`)")


@pytest.mark.parametrize(("given", "flags"), [([], ""), (["BESIDE=/some where"], ' --beside "/some where"')])
def test_make_bench_passes_the_checkout_on(given, flags, repo):
    done = subprocess.run(["make", "-n", "-o", ".venv/installed", "bench", *given],
                          cwd=repo, capture_output=True, text=True, check=True,
                          env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"})
    [line] = [line.strip() for line in done.stdout.splitlines() if "startup.py" in line]
    assert line == f".venv/bin/python benchmarks/startup.py{flags}"
    assert "step.py --variant apphub --rounds 5" in done.stdout
