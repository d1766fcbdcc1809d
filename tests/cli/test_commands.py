"""`python -m vit`: its commands, unknown words, and output that nobody reads to the end."""
import pytest

from vit.cli.commands import COMMANDS, main

NAMES = ("compare", "convert", "list", "recipe", "checkpoints")


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


def test_the_console_command_is_the_same_function():
    from vit import __main__
    assert __main__.main is main


def test_the_console_command_calls_itself_by_its_own_name(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/vit"])
    assert _ends(["list", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: vit list ")


def test_a_reader_that_has_seen_enough_is_no_error(run_python):
    """The other end of the pipe is closed, as `head` closes it."""
    done = run_python("-c", "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1)\n"
                            "from vit.cli.commands import main\nsys.exit(main(['list']))")
    assert (done.returncode, done.stderr) == (141, "")
