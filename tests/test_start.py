"""How commands begin: Ctrl-C while they import, standard streams that are closed, Python without docstrings."""
import os
import signal
import subprocess
import sys
import time

import pytest

from vit import start
from vit.model import summary

SLOW = "import os, time\nopen(os.environ['HERE'], 'w').close()\ntime.sleep(100)\n"


@pytest.fixture
def environment(repo, tmp_path):
    """The environment of a process that finds the modules in `tmp_path` first."""
    path = os.pathsep.join(map(str, (tmp_path, repo, repo / "packages/fe_compat", repo / "packages/fe_mindspore")))
    return {**os.environ, "PYTHONPATH": path, "HERE": str(tmp_path / "here")}


@pytest.mark.parametrize(("command", "module"), [
    (("-m", "vit", "list"), "numpy"), (("vit_torch.py",), "torch"), (("vit_tf.py",), "tensorflow"),
    (("vit_ms.py",), "mindspore")])
def test_ctrl_c_during_the_imports_is_one_line(environment, repo, tmp_path, command, module):
    """While TensorFlow is imported, stderr is held back; the line comes through all the same."""
    (tmp_path / f"{module}.py").write_text(SLOW)
    process = subprocess.Popen([sys.executable, *command], cwd=repo, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "here").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")


def test_ctrl_c_after_the_imports_is_an_exception_and_after_the_end_nothing(run_python):
    done = run_python("-c", "import os, signal\nfrom vit import start\nstart.begin()\nstart.imported()\n"
                            "try: os.kill(os.getpid(), signal.SIGINT)\n"
                            "except KeyboardInterrupt: print('caught', start.interrupted, flush=True)\n"
                            "start.ended()\nos.kill(os.getpid(), signal.SIGINT)")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "caught True\n", "")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_ctrl_c_that_is_ignored_or_handled_elsewhere_stays_so(handler):
    """A shell lets the jobs that it starts in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        for step in (start.begin, start.imported, start.ended):
            step()
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def _without(environment, repo, closed, *command):
    """Run a command with some of its standard streams closed; returns its status and what it wrote to the others."""
    descriptors = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(["bash", "-c", f'"$@" {descriptors}', "bash", sys.executable, *map(str, command)], cwd=repo,
                          env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_closed_stream_takes_what_is_printed_and_nothing_else_does(environment, repo, tmp_path, closed):
    """A file that was opened in the place of a closed stream would get the stream's lines."""
    (tmp_path / "sitecustomize.py").write_text("")
    code = ("from vit import start\nstart.begin()\nimport os, sys\n"
            f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
            "for number in (1, 2): os.write(number, b'from C')\n"
            "print('from Python'); print('a fault', file=sys.stderr); file.write('kept')")
    status, out, err = _without(environment, repo, closed, "-c", code)
    assert status == 0
    assert (tmp_path / "file").read_text() == "kept"
    assert ("from Python" in out, "a fault" in err) == (1 not in closed, 2 not in closed)


def test_a_command_without_stdout_ends_well(environment, repo):
    assert _without(environment, repo, (1,), "-m", "vit", "list") == (0, "", "")


def test_a_name_in_no_encoding_can_be_printed(run_python):
    done = run_python("-c", "from vit import start\nstart.begin()\nprint('caf\\udce9')", PYTHONUTF8="1")
    assert (done.returncode, done.stdout) == (0, "caf\\udce9\n")


@pytest.mark.parametrize("command", [("-m", "vit", "--help"), ("-m", "vit", "recipe", "fields", "--help"),
                                     ("{repo}/vit_torch.py", "--help")])
def test_help_needs_no_docstrings(run_python, repo, command):
    done = run_python("-OO", *(part.format(repo=repo) for part in command))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_options_are_documented_without_docstrings(run_python):
    done = run_python("-OO", "-c", "import vit_torch; print(vit_torch.fastestimator_run.__doc__)")
    assert done.returncode == 0, done.stderr
    assert "num_workers: Processes that prepare batches" in done.stdout


@pytest.mark.backend("tf")
def test_tensorflow_without_docstrings_is_one_line(run_python, repo):
    done = run_python("-OO", repo / "vit_tf.py", "--help")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Keras 2 cannot be imported without docstrings" in done.stderr


@pytest.mark.backend("torch")
def test_a_run_without_docstrings_is_one_line(run_python, repo, tmp_path):
    done = run_python("-OO", repo / "vit_torch.py", "--data", "digits", "--variant", "tiny", "--model_dir",
                      tmp_path / "run")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Keras 2 cannot be imported without docstrings" in done.stderr and not (tmp_path / "run").exists()


def test_the_console_command_is_the_same_command(run_python):
    done = run_python("-c", "import sys\nfrom vit.__main__ import main\nsys.exit(main(['list']))")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{summary.table()}\n", "")
