"""The scripts' flags, and bad input: one line on stderr, exit status 2, nothing written."""
import argparse
import dataclasses
import importlib.util
import os
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest

import vit
from vit.backend import INSTALL, MissingBackend, require
from vit.cli import commands as tool
from vit.cli import train as cli
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training.options import RunOptions
from vit.training.recipe import Recipe

GOOD = ("--data", "digits", "--variant", "tiny", "--pretrain_epochs", "1", "--train_steps_per_epoch", "1")
# Flags of the recipe, which override a file only where they are given; and flags of the run, with their defaults.
FIELDS = {"data", "variant", "pretrain_epochs", "finetune_epochs", "batch_size", "train_steps_per_epoch",
          "eval_steps_per_epoch", "image_size", "learning_rate", "precision", "seed", "val_fraction",
          "early_stopping_patience", "eval_every", "eval_offset"}
RUN = {"recipe": None, "data_dir": None, "model_dir": None, "num_workers": 0, "log_steps": 100,
       "compare_scratch": False, "pretrained": None, "skip_bad_images": False, "tensorboard": None,
       "profile": False, "overwrite": False, "on_nan": "stop", "compile": False, "activation_checkpointing": False,
       "reduce": "ordered", "dist_timeout": 1800, "quiet": False, "verbose": False,
       "checkpoint_every": "epoch", "keep": 3, "on_save_error": "continue", "resume": None, "resume_override": ()}
FLAGS = FIELDS | set(RUN) | {"set", "freeze_encoder"}


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """A function that runs the script's main in an empty folder: its exit status and its error lines."""
    import vit_torch
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(vit_torch, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert out == ""
        assert list(folder.iterdir()) == []
        return ended.value.code, err

    return run


@pytest.fixture
def refuses(command, tmp_path):
    """A function: a command line must end in one line that holds the fragments, and make no model_dir."""

    def check(arguments, *fragments):
        target = tmp_path / "model"
        status, err = command(*(() if "--model_dir" in arguments else ("--model_dir", target)), *arguments)
        assert status == 2
        assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
        assert [fragment for fragment in fragments if str(fragment) not in err] == [], err
        assert not target.exists()

    return check


# The flags.

@dataclasses.dataclass
class Script:
    """What the command line needs of a script; it remembers what it was run with."""
    backend: SimpleNamespace
    __doc__ = "What it does."
    given: dict | None = None

    def fastestimator_run(self, **options):
        self.given = options


def _script(*device_targets):
    return Script(SimpleNamespace(DEVICE_TARGETS=device_targets))


def _given(*arguments):
    script = _script()
    cli.main(script, list(arguments))
    return script.given


def _actions(*device_targets):
    actions = cli.parser("", device_targets)._actions
    return {action.option_strings[0][2:]: action for action in actions
            if action.dest not in ("help", argparse.SUPPRESS)}


def test_flags_are_absent_unless_given():
    assert vars(cli.parser("").parse_args([])) == {}
    assert _given() == {}


def test_defaults_of_the_flags_that_are_not_the_recipes():
    assert dataclasses.asdict(RunOptions()) == RUN | dict.fromkeys(("device_target", "train_dataset", "eval_dataset"))


def test_help_describes_every_flag_and_its_default():
    actions = {name: action for name, action in _actions().items() if action.help != argparse.SUPPRESS}
    assert set(actions) == FLAGS
    assert all(len(action.help) > 10 for action in actions.values())
    recipe = Recipe()
    assert [name for name in FIELDS if getattr(recipe, name) is not None
            and f"(default: {getattr(recipe, name)})" not in actions[name].help] == []
    assert [name for name, value in RUN.items() if value not in (None, False, ())
            and f"(default: {value})" not in actions[name].help] == []
    assert "(default: 0)" in actions["num_workers"].help and "default" not in actions["profile"].help


def test_old_names_of_flags_are_understood_and_not_shown():
    hidden = {name for name, action in _actions().items() if action.help == argparse.SUPPRESS}
    assert hidden == {"skip_bad_pictures"}
    assert _given("--skip_bad_pictures") == {"skip_bad_pictures": True}


def test_only_a_backend_with_device_targets_has_that_flag():
    assert "device_target" not in _actions()
    assert "CPU, Ascend" in _actions("CPU", "Ascend")["device_target"].help
    script = _script("CPU", "Ascend")
    cli.main(script, ["--device_target", "Ascend"])
    assert script.given == {"device_target": "Ascend"}


def _help(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as ended:
        cli.main(_script(), ["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_shows_defaults_and_names(monkeypatch, capsys):
    text = _help(monkeypatch, capsys, 200)
    assert "What it does." in text
    assert all(f"--{flag}" in text for flag in FLAGS)
    assert all(name in text for name in (*VARIANTS, "digits", "cifar", "cifair", "128", "100"))


def test_help_is_in_groups_of_short_entries(monkeypatch, capsys):
    text = _help(monkeypatch, capsys, 80)
    groups = re.split(r"^(\w+):$", text, flags=re.MULTILINE)
    flags = {title: re.findall(r"^  --(\w+)", part, re.MULTILINE)
             for title, part in zip(groups[1::2], groups[2::2], strict=True)}
    assert list(flags) == ["options", "recipe", "data", "model", "training", "scale", "saving", "output"]
    assert flags["recipe"] == ["recipe", "set"]
    assert {"data", "data_dir"} <= set(flags["data"]) and {"variant", "pretrained"} <= set(flags["model"])
    assert {"batch_size", "seed"} <= set(flags["training"]) and {"resume", "keep"} <= set(flags["saving"])
    assert {"precision", "compile", "num_workers"} <= set(flags["scale"])
    assert {"quiet", "verbose", "profile"} <= set(flags["output"])
    texts = re.findall(r"^  --(\w+) .*((?:\n {10,}.*)*)", text, re.MULTILINE)
    # Two lines each, below a flag that needs its own; --variant names them all.
    assert [name for name, rest in texts if rest.count("\n") > 1 + (len(name) > 14)] == ["variant"]


@pytest.mark.parametrize("columns", [60, 80])
def test_help_fits_the_window(monkeypatch, capsys, columns):
    script = _script()
    script.__doc__ = """What it does, in a line that is longer than the windows that are tried here: both of the two.

    python script.py --flag 1      what comes of it, which is told in so many words that it does not fit beside
    python script.py --another_flag and --one_more and --yet_one_more      short

Legend: of shapes."""
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        cli.main(script, ["--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    assert "    python script.py --flag 1\n        what comes of it" in text and "\n        short\n" in text
    assert "Legend" not in text and "python -m vit recipe" in " ".join(text.split())


def test_the_version_is_told_with_what_numbers_depend_on(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(_script(), ["--version"])
    out = capsys.readouterr().out
    assert ended.value.code == 0 and out.startswith(f"vit {vit.__version__}")
    assert all(f"{name} " in out for name in ("python", "fastestimator", "torch", "numpy"))


def test_flags_reach_the_run():
    assert _given(
        "--data", "digits", "--data_dir", "d", "--variant", "tiny", "--pretrain_epochs", "3", "--finetune_epochs", "4",
        "--batch_size", "5", "--train_steps_per_epoch", "6", "--eval_steps_per_epoch", "7", "--seed", "8",
        "--model_dir", "m", "--num_workers", "2", "--log_steps", "9", "--compare_scratch", "--pretrained", "w",
        "--recipe", "r", "--image_size", "64", "--learning_rate", "1e-3", "--precision", "bf16",
        "--skip_bad_images", "--tensorboard", "t", "--profile", "--overwrite", "--on_nan", "continue", "--compile",
        "--activation_checkpointing", "--val_fraction", "0.1", "--early_stopping_patience", "4", "--quiet", "--verbose",
        "--checkpoint_every", "50", "--keep", "2",
        "--on_save_error", "stop", "--resume", "auto", "--resume_override", "seed=1", "--freeze_encoder") == {
        "data": "digits", "data_dir": "d", "variant": "tiny", "pretrain_epochs": 3, "finetune_epochs": 4,
        "batch_size": 5, "train_steps_per_epoch": 6, "eval_steps_per_epoch": 7, "seed": 8, "model_dir": "m",
        "num_workers": 2, "log_steps": 9, "compare_scratch": True, "pretrained": "w", "recipe": "r", "image_size": 64,
        "learning_rate": 1e-3, "precision": "bf16", "skip_bad_images": True, "tensorboard": "t", "profile": True,
        "overwrite": True, "on_nan": "continue", "compile": True, "activation_checkpointing": True,
        "val_fraction": 0.1, "early_stopping_patience": 4, "quiet": True, "verbose": True,
        "checkpoint_every": 50, "keep": 2, "on_save_error": "stop", "resume": "auto", "resume_override": ["seed=1"],
        "freeze_encoder": True}


def test_checkpoints_may_be_asked_for_by_a_word():
    assert _given("--checkpoint_every", "epoch") == {"checkpoint_every": "epoch"}


def test_any_field_can_be_set():
    assert _given("--set", "mixup=0.8", "--set", "decay_bias_and_norm=false", "--set", "optimizer=adamw",
                  "--set", "epsilon=1e-6", "--set", "drop_path=null") == {
        "mixup": 0.8, "decay_bias_and_norm": False, "optimizer": "adamw", "epsilon": 1e-6, "drop_path": None}


def test_a_field_can_be_set_by_its_old_name():
    assert _given("--set", "pad=2", "--set", "mirror_rate=0.25") == {"crop_padding": 2, "hflip_prob": 0.25}


# Bad values.

@pytest.mark.parametrize(("arguments", "fragments"), [
    (("--variant", "huge"), ("huge", "tiny", "apphub", "vit_b_16_224")),
    (("--data", "mnist"), ("mnist", "digits", "cifar", "cifair")),
    (("--data", ""), ("data", "digits")),
    (("--pretrain_epochs", "0"), ("pretrain_epochs", "0")),
    (("--finetune_epochs", "-1"), ("finetune_epochs", "-1")),
    (("--batch_size", "0"), ("batch_size", "0")),
    (("--batch_size", "-16"), ("batch_size", "-16")),
    (("--train_steps_per_epoch", "0"), ("train_steps_per_epoch", "0")),
    (("--eval_steps_per_epoch", "-3"), ("eval_steps_per_epoch", "-3")),
    (("--val_fraction", "1"), ("val_fraction", "[0, 1)", "1.0")),
    (("--early_stopping_patience", "-1"), ("early_stopping_patience", "-1")),
    (("--seed", "-1"), ("seed", "-1")),
    (("--seed", str(2**64)), ("seed", str(2**64))),
    (("--num_workers", "-1"), ("num_workers", "-1")),
    (("--log_steps", "-1"), ("log_steps", "-1")),
    (("--colour", "red"), ("--colour",)),
    (("--batchsize", "3"), ("--batchsize 3", "did you mean '--batch_size'")),
    (("--batch-size=3",), ("--batch-size=3", "did you mean '--batch_size'")),
    (("--mixup", "0.8"), ("--mixup 0.8", "did you mean '--set mixup=VALUE'")),
    (("--hole", "4"), ("--hole 4", "did you mean '--set cutout_size=VALUE'")),
    (("--set", "pad=1", "--set", "crop_padding=2"), ("pad and crop_padding", "give one of them")),
    (("--set", "mixup"), ("FIELD=VALUE", "mixup")),
    (("--set", "mixupp=1"), ("mixupp", "did you mean 'mixup'")),
    (("--set", "model_dir=x"), ("model_dir", "a recipe has")),
    (("--set", "mixup=-1"), ("mixup", "-1")),
    (("--set", "mixup=[1"), ("--set mixup=[1", )),
    (("--set", "batch_size=3", "--batch_size", "4"), ("batch_size", "--set")),
    (("--precision", "fp8"), ("precision", "fp8", "bf16")),
    (("--image_size", "30"), ("image_size", "30", "patch_size 8")),
    (("--set", "cutout_size=33"), ("cutout_size", "(32)", "33")),
    (("--image_size", "8", "--set", "cutout_size=9"), ("cutout_size", "(8)", "9")),
    (("--set", "crop_padding=33"), ("crop_padding", "(32)", "33")),
    (("--set", "randaugment_number=101"), ("randaugment_number", "[1, 100]", "101")),
    (("--set", "accumulate_steps=100000"), ("accumulate_steps", "steps of the pretraining", "100000")),
    (("--recipe", "none.yaml"), ("none.yaml", "recipe")),
    (("stray", ), ("stray", )),
    (("--seed", "seven"), ("--seed", "seven")),
    (("--batch_size", "1.5"), ("--batch_size", "1.5")),
    (("--batch_size", ), ("--batch_size", "argument")),
    (("--pretrain", "3"), ("--pretrain", )),  # no guessing at what an abbreviation means
    (("--data_dir", ""), ("data_dir", )),
    (("--model_dir", ""), ("model_dir", )),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) and value[0].startswith("--") else None)
def test_bad_value(refuses, arguments, fragments):
    refuses((*GOOD, *arguments), *fragments)


# Bad paths.

def test_data_dir_that_is_not_there(refuses, tmp_path):
    refuses(("--data", "cifar", "--data_dir", tmp_path / "none"), tmp_path / "none", "data_dir")


def test_data_dir_that_is_a_file(refuses, tmp_path):
    (tmp_path / "file").write_text("")
    refuses(("--data", "cifar", "--data_dir", tmp_path / "file"), tmp_path / "file", "data_dir")


def test_model_dir_that_is_a_file(refuses, tmp_path):
    (tmp_path / "file").write_text("kept")
    refuses((*GOOD, "--model_dir", tmp_path / "file"), tmp_path / "file", "model_dir")
    assert (tmp_path / "file").read_text() == "kept"


def test_model_dir_under_a_file(refuses, tmp_path):
    (tmp_path / "file").write_text("kept")
    refuses((*GOOD, "--model_dir", tmp_path / "file" / "run"), tmp_path / "file" / "run", "model_dir")


def test_tensorboard_under_a_file(refuses, tmp_path):
    (tmp_path / "file").write_text("kept")
    refuses((*GOOD, "--tensorboard", tmp_path / "file" / "events"), tmp_path / "file" / "events", "tensorboard")


def test_model_dir_where_nothing_can_be_made(refuses):
    refuses((*GOOD, "--model_dir", "/proc/no-such-place/run"), "/proc/no-such-place/run", "model_dir")


@pytest.mark.parametrize("flag", ["recipe", "data_dir", "pretrained", "resume", "model_dir", "tensorboard"])
def test_a_name_that_is_too_long(refuses, flag):
    refuses((*GOOD, f"--{flag}", "x" * 300), "x" * 300, "File name too long")


# Bad data.

class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}", )


def _official_folder(folder, train):
    (folder / "cifar-100-python").mkdir(parents=True)
    names = {b"fine_label_names": [b"class"] * 100}
    (folder / "cifar-100-python" / "meta").write_bytes(pickle.dumps(names, protocol=2))
    (folder / "cifar-100-python" / "train").write_bytes(train)
    return folder


@pytest.mark.parametrize(("train", "fragment"), [
    (b"no pickle", "not a CIFAR file"),
    (pickle.dumps({b"data": 1}, protocol=2), "'data'"),
    (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 100]}, protocol=2), "0 to 99"),
], ids=["damaged", "foreign", "label out of range"])
def test_bad_pickle(refuses, tmp_path, train, fragment):
    data = _official_folder(tmp_path / "data", train)
    refuses(("--data", "cifar", "--data_dir", data), data / "cifar-100-python" / "train", fragment)


def test_class_that_is_not_utf8(refuses, tmp_path):
    folder = _official_folder(tmp_path, b"")
    names = {b"fine_label_names": [b"caf\xe9"] * 100}
    (folder / "cifar-100-python" / "meta").write_bytes(pickle.dumps(names, protocol=2))
    refuses(("--data", "cifar", "--data_dir", tmp_path), "meta", r"b'caf\xe9'", "UTF-8")


def test_pickle_that_would_run_code(refuses, tmp_path):
    data = _official_folder(tmp_path / "data", pickle.dumps(_Touch(tmp_path / "touched")))
    refuses(("--data", "cifar", "--data_dir", data), data / "cifar-100-python" / "train", "system")
    assert not (tmp_path / "touched").exists()


# Bad weights.

@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / "weights.safetensors"
    canonical.save(path, parameters.initial(VARIANTS["tiny"], 0), VARIANTS["tiny"])
    return path


def test_pretrained_that_is_not_there(refuses, tmp_path):
    refuses((*GOOD, "--pretrained", tmp_path / "none"), tmp_path / "none", "no such")


def test_pretrained_that_is_cut_off(refuses, weights_file):
    weights_file.write_bytes(weights_file.read_bytes()[:-1000])
    refuses((*GOOD, "--pretrained", weights_file), weights_file, "safetensors")


def test_pretrained_that_is_not_safetensors(refuses, weights_file):
    weights_file.write_bytes(b"PK\x03\x04 an ordinary .pt file")
    refuses((*GOOD, "--pretrained", weights_file), weights_file, "safetensors")


def test_pretrained_for_grey_images(refuses, tmp_path, capsys):
    config = VARIANTS["tiny"].replace(in_channels=1)
    canonical.save(tmp_path / "grey.safetensors", parameters.initial(config, 0), config)
    refuses(("--data", "digits", "--pretrained", tmp_path / "grey.safetensors"), "grey.safetensors", "1 channels")
    assert tool.main(["compare", "numpy", "torch", "--weights", str(tmp_path / "grey.safetensors")]) == 2
    assert "grey.safetensors: its model sees images of 1 channels" in capsys.readouterr().err


def test_pretrained_of_another_model(refuses, weights_file):
    refuses((*GOOD, "--variant", "apphub", "--pretrained", weights_file), weights_file, "width 64 (expected 256)",
            "--variant")


# A missing backend.

@pytest.mark.parametrize("module", INSTALL)
def test_missing_backend_is_an_error_of_its_own_in_a_module(monkeypatch, module):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingBackend, match=f"{module} is not installed.*pip install"):
        require(module, "vit_something")


def test_present_backend_passes():
    assert require("torch", "__main__") is None


def test_missing_fastestimator(refuses, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fastestimator" else find(name))
    refuses(GOOD, "FastEstimator is not installed", "pip install")


# The script itself, in a process of its own.

def _one_line(done):
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_script_refuses_a_bad_value_in_one_line(run_python, repo, tmp_path):
    err = _one_line(run_python(repo / "vit_torch.py", *GOOD, "--batch_size", 0, "--model_dir", tmp_path / "model"))
    assert "batch_size must be at least 1, not 0" in err
    assert not (tmp_path / "model").exists()


def test_script_that_cannot_write_its_files_says_so_in_one_line(run_python, repo, tmp_path):
    (tmp_path / "file").write_text("")
    err = _one_line(run_python(repo / "vit_torch.py", *GOOD, "--model_dir", tmp_path / "file" / "run"))
    assert "model_dir" in err


def test_script_without_its_framework(run_python, repo, tmp_path):
    """`sitecustomize` runs as Python starts: this one makes torch look as if it were not installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n")
    err = _one_line(run_python(repo / "vit_torch.py", *GOOD, before=str(tmp_path)))
    assert "torch is not installed" in err and "pip install -r requirements.txt" in err
