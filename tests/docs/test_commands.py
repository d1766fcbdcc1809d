"""Each command of the pages is run here, in the order of its page, or is named with the reason why it is only read.

What is read is held to its form: flags and their values, recipes, scripts, targets of make, packages.
"""
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.docs import flags, pages
from tests.docs.test_use import _executed
from tests.training.past_runs import leave
from vit.cli import train
from vit.cli.commands import main
from vit.files import canonical
from vit.model.config import VARIANTS

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

# By page, what the tests here run (`tests/docs/test_use.py` runs all of docs/use.md).
RUN = {
    "docs/use.md": r".*",
    "docs/train.md": r"python vit_torch\.py --data digits .*|vit (recipe|report) .*",
    "docs/checkpoints.md": r".*",
    "docs/convert.md": r"vit convert .*",
    "docs/model.md": r"vit list",
    "docs/parity.md": r"vit compare .*",
    "docs/get-started.md": r"vit compare .*",
    "README.md": r"vit compare .*",
}
# Why the others are only read.
READ = {
    r"make .*": "the demo, an installation or a whole suite of tests: minutes each, and CI runs the suites themselves",
    r"docker .*": "needs docker; CI's job `docker` runs these lines, and tests/test_make_venv.py reads the Dockerfile",
    r"pip install .*": "needs the network; CI's jobs `install` and `fe-mindspore` run these lines",
    r"(torchrun|msrun|TF_CONFIG=|vit launch) ?.*":
        "several workers, for as long as a training takes: tests/training/test_workers_run.py launches short ones",
    r"python vit_\w+\.py .*": "hours, or sets and weights that are not here",
    r"vit shards .*": "needs a folder of images or a bucket: tests/data/test_shards.py and tests/remote run them",
    r"vit compare torch ms": "half a minute of compiling: tests/parity compares all pairs",
    r"python benchmarks/\w+\.py.*": "measures, and wants a machine of its own",
    r"python packages/release\.py .*": "installs gigabytes for each Python: tests/test_release.py tries its parts",
}
# Scripts for clusters, which the page calls untested; what they hand to the three scripts is read.
CLUSTER = "On a cluster"


def _pages(repo):
    return {str(path.relative_to(repo)): path for path in (repo / "README.md", repo / "CONTRIBUTING.md",
                                                           *sorted((repo / "docs").glob("*.md")))}


def _parted(repo):
    """{page: (commands that are run, those that are read)}, without the clusters' scripts."""
    parted = {}
    for name, path in _pages(repo).items():
        run, read = [], []
        for command in pages.commands(path, without=pages.section(path, CLUSTER)):
            (run if re.fullmatch(RUN.get(name, r"(?!)"), command) else read).append(command)
        parted[name] = run, read
    return parted


def test_every_command_is_run_or_has_its_reason(repo):
    parted = _parted(repo)
    assert all(parted[name][0] for name in RUN)
    rest = {command for _, read in parted.values() for command in read}
    assert [command for command in sorted(rest) if not any(re.fullmatch(pattern, command) for pattern in READ)] == []
    assert [pattern for pattern in READ if not any(re.fullmatch(pattern, command) for command in rest)] == []


def test_what_is_only_read_has_the_right_form(repo):
    for name, (_, read) in _parted(repo).items():
        for command in read:
            for part in filter(None, re.split(r" && | &$", command)):
                assert not (fault := _fault(part, repo)), (name, command, fault)


def test_what_the_clusters_scripts_hand_on_has_the_right_form(repo):
    scripts = pages.section(repo / "docs/scale-out.md", CLUSTER).replace("\\\n", " ").replace("$PWD/", "")
    [shared] = re.findall(r'ALL="([^"]+)"', scripts)
    found = re.findall(r"(vit_\w+\.py) ([^'\n&]*)", scripts.replace("$ALL", shared))
    assert len(found) == 6
    assert [pair for pair in found if _fault(f"python {pair[0]} {pair[1]}", repo)] == []


@pytest.mark.parametrize("command", [
    "make dmeo", "make demo BACKEMD=tf", "docker run --rm vti", "pip install packages/fe_mindspoor",
    "pip install '.[s4]'",
    "python vit_torch.py --pretrain_epoch 100", "python vit_torch.py --recipe smal_data", "python vit_jax.py",
    "torchrun --nproc_per_node 2 vit_torch.py --recipe small_data --modeldir x", "vit shards mak a b",
    "python benchmarks/stp.py", "python benchmarks/step.py --variants apphub"])
def test_a_wrong_form_is_found(repo, command, capsys):
    assert _fault(command, repo)


def _fault(command, repo):
    """What is wrong with the form of a command; "" if nothing is."""
    words = [word for word in pages.words(command) if not word.startswith("TF_CONFIG=")]
    try:
        return _FORMS[words[0]](words, repo) or ""
    except SystemExit:
        return "its flags"
    except (KeyError, ValueError) as error:
        return repr(error)


def _make(words, repo):
    text = (repo / "Makefile").read_text()
    for word in words[1:]:
        name, given, _ = word.partition("=")
        if not re.search(rf"\$\({name}\)" if given else rf"^{re.escape(name)}:", text, re.MULTILINE):
            return f"the Makefile has no {name}"


def _pip(words, repo):
    for word in words[2:]:
        if word.startswith("-") or word in ("s3fs", "fastestimator==1.7.0"):
            continue
        folder, extra = re.fullmatch(r"([\w./]+)(?:\[([\w,]+)\])?", word).groups()
        project = tomllib.loads((repo / folder / "pyproject.toml").read_text())["project"] \
            if (repo / folder / "pyproject.toml").exists() else None
        if project is None or (extra and not set(extra.split(",")) <= set(project["optional-dependencies"])):
            return f"there is no {word}"


def _script(words, repo):
    """A command that has one of the three scripts, or another of the repository's, in it."""
    at = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
    if at is None or not (repo / words[at]).exists():
        return "there is no such script"
    if words[at] in ("vit_torch.py", "vit_tf.py", "vit_ms.py"):
        return flags.read_script(words[at + 1:])
    source = (repo / words[at]).read_text()
    unknown = [word for word in words[at + 1:] if word.startswith("-") and f'"{word}"' not in source]
    return f"it has no {unknown}" if unknown else None


_FORMS = {
    "make": _make, "pip": _pip, "python": _script, "torchrun": _script, "msrun": _script,
    "vit": lambda words, repo: flags.read_tool(words[1:]) or ("launch" in words and _script(words[1:], repo)),
    "docker": lambda words, repo: " ".join(words[1:]) not in ("build --tag vit .", "run --rm vit") and "unknown",
    "aws": lambda words, repo: words[1:3] != ["s3", "sync"] and "unknown"}


@pytest.fixture
def place(tmp_path, monkeypatch, random_weights, digits):
    """A folder with the demo's weights, of random values: what docs/convert.md begins with."""
    from vit.files.usage import Preprocessing, Usage
    config = VARIANTS["tiny"].replace(num_classes=10)
    for name in ("demo-torch", "demo-tf"):
        leave(tmp_path / "runs" / name)
    weights = {name: value.astype(np.float32) for name, value in random_weights(config).items()}
    canonical.save(tmp_path / "runs/demo-torch/finetuned.safetensors", weights, config,
                   Usage(digits.finetune.classes, Preprocessing(digits.mean, digits.std)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(command, capsys):
    words = pages.words(command)
    if words[0] == "vit":
        status = main(words[1:])
    else:
        import vit_torch
        assert words[:2] == ["python", "vit_torch.py"]
        status = train.main(vit_torch, words[2:]) or 0
    out, err = capsys.readouterr()
    assert (status, bool(out)) == (0, True), (command, err)
    return out


def test_commands_about_models_recipes_and_weights_end_well(repo, place, capsys):
    parted = _parted(repo)
    for name in ("docs/model.md", "docs/train.md", "docs/convert.md"):
        for command in parted[name][0]:
            if command.startswith("vit "):
                _run(command, capsys)
    assert canonical.load(place / "larger.safetensors")[1].image_size == 48
    assert canonical.load(place / "five.safetensors")[1].num_classes == 5
    assert (place / "back.safetensors").exists() and (place / "old.npz").exists()
    assert "<svg" in (place / "report.html").read_text() and "2 runs" in (place / "both.html").read_text()


@pytest.mark.full
@pytest.mark.backend("torch")
def test_a_run_is_trained_stopped_and_gone_on_with(repo, place, capsys):
    parted = _parted(repo)
    [training] = [command for command in parted["docs/train.md"][0] if command.startswith("python")]
    printed = [_run(command, capsys) for command in (training, *parted["docs/checkpoints.md"][0])]
    assert "pretrain" in printed[-1] and "finetune" in printed[-1]
    table = (repo / "docs/train.md").read_text().partition("## What a run leaves")[2]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+?)/?`", row)}
    left = {path.name for path in Path("runs/short").iterdir() if not path.name.startswith(".")}
    assert left == named - {"scratch.safetensors"}


@pytest.mark.full
@pytest.mark.backend("torch", "tf")
def test_two_frameworks_are_compared(repo, place, capsys):
    parted = _parted(repo)
    ran = parted["docs/parity.md"][0]
    assert all("the same: worst relative difference" in _run(command, capsys) for command in ran)
    assert set(parted["README.md"][0] + parted["docs/get-started.md"][0]) <= set(ran)


@pytest.mark.full
@pytest.mark.backend("torch")
def test_the_models_python_runs(repo, place):
    [snippet] = pages.blocks(repo / "docs/model.md", "python")
    names = _executed(snippet)
    assert names["results"]["stages"]["finetune"]["epochs"]
    shutil.rmtree(place / "runs/mine")
