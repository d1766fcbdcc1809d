"""`--backends`: which tests it selects, what it says of the others, and that it refuses what it cannot give."""
import functools
import re
import subprocess
import sys

import pytest

# A test of torch, one of each framework, one of each pair, one of none.
FILES = ("tests/parity/test_stages.py", "tests/test_three_frameworks.py", "tests/test_clean_imports.py")


@pytest.fixture(scope="module")
def collect(repo):
    """A function that collects the tests of some files: exit status, their ids, all that is printed."""

    @functools.cache
    def collect(*arguments, before="pass"):
        code = f"import sys, pytest; {before}; sys.exit(pytest.main(sys.argv[1:]))"
        # Named, since the packages have a configuration of their own, with which their tests run alone.
        done = subprocess.run([sys.executable, "-c", code, "--config-file", "pyproject.toml", "--collect-only", "-q",
                               "-p", "no:cacheprovider", *arguments], cwd=repo, capture_output=True, text=True)
        return done.returncode, set(re.findall(r"^\S+::.+$", done.stdout, re.MULTILINE)), done.stdout + done.stderr

    return collect


def test_all_are_the_default(collect):
    status, selected, _ = collect(*FILES)
    assert (status, selected) == collect(*FILES, "--backends", "torch,tf,ms")[:2]
    assert status == 0 and selected


@pytest.mark.parametrize("requested", ["torch", "tf", "torch,ms"])
def test_what_needs_another_framework_is_left_out_and_counted(collect, requested):
    _, every, _ = collect(*FILES)
    status, selected, printed = collect(*FILES, "--backends", requested)
    assert status == 0
    assert selected == {test for test in every if _needed(test) <= set(requested.split(","))}
    assert 0 < len(selected) < len(every)
    assert f"--backends {requested}: left out {len(every) - len(selected)} of the tests" in printed
    for path in ("packages/fe_mindspore", "tests/convert/test_mindcv.py"):
        assert (f"all of {path}" in printed) is ("ms" not in requested)


def _needed(test):
    """The frameworks that a test's name tells of."""
    name, _, values = test.partition("[")
    if "any_order" in name:
        return {"torch", "tf", "ms"}
    if "missing_framework" in name or "clean_imports" in name:
        return set()
    return set(re.findall(r"(?<![a-z])(?:vit_)?(torch|tf|ms)(?![a-z])", values))


def test_a_package_of_a_framework_is_tested_with_it_alone(collect):
    _, selected, printed = collect("packages", "--backends", "torch")
    assert {test.split("/")[1] for test in selected} == {"fe_compat"} and "all of packages/fe_mindspore" in printed


@pytest.mark.full
def test_a_file_of_a_package_that_is_named_is_left_out_and_counted(collect):
    _, selected, printed = collect("packages/fe_mindspore/tests/test_losses.py", "--backends", "torch")
    assert not selected
    assert int(re.search(r"left out (\d+) of the tests", printed)[1]) > 10


@pytest.mark.parametrize("name", ["jax", "", "TF"])
def test_an_unknown_name_is_an_error(collect, name):
    status, _, printed = collect(*FILES, "--backends", f"torch,{name}")
    assert status == 4
    assert f"ERROR: --backends: unknown backend {name!r}: choose from torch, tf, ms" in printed


@pytest.mark.parametrize(("name", "module"), [("tf", "tensorflow"), ("ms", "mindspore")])
def test_a_framework_that_is_missing_is_an_error_only_where_it_is_asked_for(collect, name, module):
    hide = (f"import importlib.util as u; find = u.find_spec; "
            f"u.find_spec = lambda name, *a: None if name == {module!r} else find(name, *a)")
    status, _, printed = collect(*FILES, before=hide)
    assert status == 4
    assert f"ERROR: --backends: {name}: {module} is not installed: " in printed
    status, selected, _ = collect(*FILES, "--backends", "torch", before=hide)
    assert status == 0 and selected


@pytest.mark.full
def test_a_framework_that_is_not_asked_for_is_not_imported(collect):
    block = "sys.modules['mindspore'] = None"
    status, selected, printed = collect("tests", "packages", "--backends", "torch,tf", before=block)
    assert (status, len(selected) > 1000) == (0, True), printed[-2000:]
