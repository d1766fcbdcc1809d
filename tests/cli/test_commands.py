"""`python -m vit`: its commands, unknown words, and output that nobody reads to the end."""
import pytest

import vit
from tests.fixtures import COMMIT_7D1C055
from vit.cli.commands import COMMANDS, main

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

NAMES = ("evaluate", "predict", "explain", "export", "report", "serve", "compare", "convert", "list", "recipe",
         "checkpoints", "shards", "launch")


def _ends(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_help_names_every_command_and_what_it_is_for(capsys):
    assert _ends(["--help"]) == 0
    lines = capsys.readouterr().out
    assert len(COMMANDS) == len(NAMES)
    assert all(f"    {name}" in lines for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name, capsys):
    assert _ends([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: python -m vit {name} ") and "show this help" in out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [60, 80])
def test_the_help_of_every_command_fits_the_window(name, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert _ends([name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    usage = lines.index("")  # whose lines argparse breaks between flags, and not at all where the command gives it
    assert [line for line in lines[usage:] if len(line) > columns] == []
    assert not any("{" in line for line in lines)  # what a flag may be is told in words


def test_the_version_is_the_packages(capsys, repo):
    assert _ends(["--version"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["vit", vit.__version__ + ","]
    config = tomllib.loads((repo / "pyproject.toml").read_text())
    assert config["tool"]["hatch"]["version"] == {"path": "vit/__init__.py"}


@pytest.mark.parametrize(("arguments", "fragment"), [
    ([], "COMMAND"), (["lst"], "'lst'"), (["list", "--colour"], "--colour"),
    (["compare", "torch", "tf", "--step", "3"], "did you mean '--steps'"),
    (["convert", "a", "b", "--imagesize", "3"], "did you mean '--image_size'"),
    (["recipe"], "PART"), (["recipe", "check"], "FILE")])
def test_a_wrong_command_line_is_one_line(arguments, fragment, capsys):
    assert _ends(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and fragment in err and err.count("\n") == 1


def test_bad_input_is_one_line_and_status_2(capsys, tmp_path):
    assert main(["checkpoints", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: no such folder\n"


def test_the_console_command_calls_itself_by_its_own_name(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/vit"])
    assert _ends(["list", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: vit list ")


@pytest.mark.parametrize("closed", ["1", "2", "1, 2"])
def test_a_reader_that_has_seen_enough_is_no_error(run_python, closed):
    """The other end of the pipe is closed, as `head` closes it."""
    done = run_python("-c", f"import os, sys\nfor number in ({closed},):\n"
                            "    r, w = os.pipe(); os.close(r); os.dup2(w, number)\n"
                            "from vit.cli.commands import main\nsys.exit(main(['list' if 1 in "
                            f"({closed},) else 'lst']))")
    assert (done.returncode, done.stdout, done.stderr) == (141 if "1" in closed else 2, "", "")


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["list", "--help"]])
def test_output_that_cannot_be_written_is_one_line(run_python, arguments):
    done = run_python("-c", "import os, sys\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
                            f"from vit.cli.commands import main\nsys.exit(main({arguments}))", PYTHONUNBUFFERED="")
    assert (done.returncode, done.stderr) == (2, "error: standard output: No space left on device\n")


LONG = "x" * 300


@pytest.mark.parametrize("arguments", [
    ["convert", LONG, "out"], ["convert", "{file}", LONG], ["convert", "{file}", LONG, "--to", "hf"],
    ["convert", "{file}", LONG, "--to", "timm"], ["convert", "{file}", LONG, "--to", "npz"],
    ["convert", "{file}", LONG, "--to", "mindspore"], ["checkpoints", LONG], ["recipe", "check", LONG],
    ["compare", "numpy", "torch", "--weights", LONG],
    ["compare", "numpy", "torch", "--weights", "{file}", "--json", LONG]])
def test_a_name_that_is_too_long_is_one_line(arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([argument.format(file=COMMIT_7D1C055 / "small.safetensors") for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert f"{LONG}: " in err and "File name too long" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
