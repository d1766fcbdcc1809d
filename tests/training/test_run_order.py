"""The order of things in a run, with a stub in the place of a script: what is trained from what, what is left when."""
import fcntl
import json
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from vit.backend import load_script
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training import run, train
from vit.training.report import folder

OPTIONS = {"data": "digits", "variant": "tiny", "batch_size": 16, "pretrain_epochs": 2, "finetune_epochs": 1,
           "train_steps_per_epoch": 3, "eval_steps_per_epoch": 2, "seed": 7, "log_steps": 0}


class Stub:
    """A script that trains nothing: it adds 1 to every weight, and remembers what it was given."""

    def __init__(self):
        self.given, self.fail_at, self.devices = [], None, []
        self.backend = SimpleNamespace(NAME="stub", DEVICE_TARGETS=(), use_device=self.devices.append,
                                       supports_dtype=lambda _: True, on_accelerator=lambda: True,
                                       device_name=lambda: "a stub's device",
                                       load_fastestimator=lambda: None,
                                       workers=SimpleNamespace(announced=lambda: None))

    def fit(self, stage, weights):
        """Stand in for `vit.training.train.fit`."""
        assert stage.job.script is self
        self.given.append((stage, {name: value.copy() for name, value in weights.items()}))
        if stage.name == self.fail_at:
            raise RuntimeError("the power went")
        stage.history.epochs += [{"epoch": i + 1, "train_loss": 2.0, "train_seconds": 1.0, "images_per_second": 5.0,
                                  "eval_loss": 2.5, "accuracy": 0.5, "eval_seconds": 1.0} for i in range(stage.epochs)]
        return {name: value + 1 for name, value in weights.items()}

    def run(self, folder, **options):
        return run.run(self, **OPTIONS | {"model_dir": str(folder)} | options)


def test_finetune_starts_from_the_pretrained_encoder_under_a_new_head(tmp_path, stub):
    stub.run(tmp_path, compare_scratch=True)
    (pretrain, start), (finetune, copied), (scratch, fresh) = stub.given
    assert [stage.name for stage in (pretrain, finetune, scratch)] == ["pretrain", "finetune", "scratch"]
    assert [stage.epochs for stage in (pretrain, finetune, scratch)] == [2, 1, 1]
    assert (pretrain.config.num_classes, finetune.config.num_classes, scratch.config.num_classes) == (100, 10, 10)
    for name, value in start.items():
        if name.startswith("head."):
            assert (copied[name] == fresh[name]).all() and len(copied[name]) == 10, name
        else:
            assert (copied[name] == value + 1).all(), name
            assert (fresh[name] == value).all(), name


@pytest.mark.parametrize("initialization", ["xavier", "mimetic"])
def test_initial_weights_are_the_seeds(tmp_path, stub, initialization):
    stub.run(tmp_path, initialization=initialization)
    expected = parameters.initial(VARIANTS["tiny"], 7, initialization)
    assert parameters.sha256(stub.given[0][1]) == parameters.sha256(expected)


def test_pretrained_file_is_what_the_finetune_starts_from(tmp_path, stub):
    file = tmp_path / "some.safetensors"
    weights = {name: value + 0.25 for name, value in parameters.initial(VARIANTS["tiny"], 1).items()}
    canonical.save(file, weights, VARIANTS["tiny"])
    results = stub.run(tmp_path / "run", pretrained=str(file))
    [(stage, given)] = stub.given
    assert stage.name == "finetune"
    assert all((given[name] == weights[name]).all() for name in given if not name.startswith("head."))
    assert results["pretrained_from"] == str(file)


def test_the_size_must_fit_the_files_model_and_not_a_variant_that_nobody_chose(tmp_path, stub, refused):
    """The default variant's patches of 4 do not divide 35."""
    config = VARIANTS["tiny"].replace(patch_size=7, image_size=35)
    canonical.save(tmp_path / "w", parameters.initial(config, 1), config)
    options = {name: value for name, value in OPTIONS.items() if name != "variant"} | {"pretrained": tmp_path / "w"}
    run.run(stub, model_dir=str(tmp_path / "run"), image_size=35, **options)
    assert stub.given[0][0].config.image_size == 35
    with refused("image_size 36", "patch_size 7"):
        run.run(stub, model_dir=str(tmp_path / "no"), image_size=36, **options)
    assert not (tmp_path / "no").exists()


def test_pretrained_file_may_be_a_path(tmp_path, stub):
    canonical.save(tmp_path / "w", parameters.initial(VARIANTS["tiny"], 1), VARIANTS["tiny"])
    results = stub.run(tmp_path / "run", pretrained=tmp_path / "w")
    assert results["pretrained_from"] == str(tmp_path / "w")


def test_results_are_there_only_after_a_whole_run(tmp_path, stub):
    stub.fail_at = "finetune"
    with pytest.raises(RuntimeError, match="the power went"):
        stub.run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.json", "pretrained.safetensors", "recipe.yaml",
                                                                "train.log"]


def _content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_holds_a_run_is_refused_and_stays_as_it_is(tmp_path, stub, refused):
    stub.run(tmp_path)
    before = _content(tmp_path)
    with refused(str(tmp_path), "--resume auto", "--model_dir", "--overwrite"):
        stub.run(tmp_path, seed=8)
    assert _content(tmp_path) == before


def test_a_run_that_is_overwritten_is_moved_aside_whole_and_so_are_the_ones_before_it(tmp_path, stub, capsys):
    runs = []
    for seed in (7, 8, 9):
        stub.run(tmp_path / "run", seed=seed, overwrite=True)
        runs.append(_content(tmp_path / "run"))
    assert len({run["pretrained.safetensors"] for run in runs}) == 3
    assert [_content(tmp_path / name) for name in ("run.old", "run.old2", "run")] == runs
    assert f"is now in {tmp_path / 'run.old2'}" in capsys.readouterr().out


def test_results_of_an_earlier_run_are_not_beside_those_of_a_broken_one(tmp_path, stub):
    stub.run(tmp_path / "run")
    stub.fail_at = "finetune"
    with pytest.raises(RuntimeError, match="the power went"):
        stub.run(tmp_path / "run", seed=8, overwrite=True)
    assert not (tmp_path / "run" / "results.json").exists()
    assert (tmp_path / "run.old" / "results.json").exists()


def test_a_folder_in_which_a_run_is_writing_is_refused(tmp_path, stub, refused, monkeypatch):
    """Also from the same process, for a new run, one that overwrites and one that goes on."""
    within = []

    def fit(stage, weights):
        for how in ({}, {"overwrite": True}):
            with refused(str(tmp_path), "another run is writing there", f"process {os.getpid()}"):
                stub.run(tmp_path, **how)
            within.append(how)
        return stub.fit(stage, weights)

    monkeypatch.setattr(train, "fit", fit)
    stub.run(tmp_path)
    assert len(within) == 4
    assert not (tmp_path / folder.LOCK).exists()


def test_a_run_that_has_locked_its_folder_and_not_yet_named_itself_is_waited_for(tmp_path, stub, refused):
    with open(tmp_path / folder.LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def name_itself():
            lock.write("process 1 on elsewhere")
            lock.flush()

        later = threading.Timer(0.2, name_itself)
        later.start()
        with refused("another run is writing there (process 1 on elsewhere)"):
            stub.run(tmp_path)
        later.join()


def test_two_that_overwrite_at_once_are_one_run_and_one_line(tmp_path, stub, refused, monkeypatch):
    """The other makes the folder, and locks it, between the moving of the old one and the making of a new one."""
    stub.run(tmp_path / "run")
    monkeypatch.setattr(folder, "_move_aside", lambda path, move=folder._move_aside: (move(path), other.__enter__())[0])
    other = folder.own_folder(tmp_path / "run")
    with refused(f"{tmp_path / 'run'}: another run is writing there (process {os.getpid()} on "):
        stub.run(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / folder.LOCK).exists() and (tmp_path / "run.old" / "results.json").exists()
    other.__exit__(None, None, None)


def test_the_lock_of_a_process_that_was_killed_is_gone(tmp_path, stub, run_python):
    done = run_python("-c", "import os, signal; from pathlib import Path; from vit.training.report import folder; "
                      f"lock = folder.own_folder(Path({str(tmp_path / 'run')!r})); lock.__enter__(); "
                      "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -9 and (tmp_path / "run" / folder.LOCK).read_text().startswith("process ")
    stub.run(tmp_path / "run")


def test_weights_that_are_not_finite_are_not_written(tmp_path, stub, refused, monkeypatch):

    def diverge(stage, weights):
        weights = stub.fit(stage, weights)
        return weights | {"norm.bias": weights["norm.bias"] * np.nan}

    monkeypatch.setattr(train, "fit", diverge)
    with refused("pretrain has diverged", "norm.bias", "pretrained.safetensors is not written"):
        stub.run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.json", "recipe.yaml", "train.log"]


def test_results_are_valid_json_even_when_the_loss_is_no_number(tmp_path, stub, monkeypatch):

    def diverge(stage, weights):
        weights = stub.fit(stage, weights)
        stage.history.epochs[-1] |= {"train_loss": float("nan"), "eval_loss": float("inf")}
        return weights

    monkeypatch.setattr(train, "fit", diverge)
    results = stub.run(tmp_path)
    assert results["stages"]["finetune"]["epochs"][-1]["eval_loss"] is None

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)


def test_checkpoints_of_an_earlier_run_are_not_taken_for_a_new_ones(tmp_path, stub, refused):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "pretrain-00003130.safetensors").write_bytes(b"old")
    with refused("holds checkpoints, of another run"):
        stub.run(tmp_path / "run")
    stub.run(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run.old" / "checkpoints" / "pretrain-00003130.safetensors").read_bytes() == b"old"
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_runs_of_one_second_have_folders_of_their_own(tmp_path, stub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run.time, "strftime", lambda _: "now")
    for _ in range(3):
        stub.run(None, model_dir=None)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["now-stub", "now-stub-2", "now-stub-3"]


def test_a_run_chooses_its_device_once(tmp_path, stub):
    stub.run(tmp_path)
    assert stub.devices == [None]


def test_a_run_uses_one_gpu(backend, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    load_script(backend).backend.use_device(None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_default_folder_names_the_time_and_the_backend(tmp_path, stub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stub.run(None, model_dir=None)
    [folder] = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-stub")
    assert (folder / "results.json").is_file()


@pytest.mark.parametrize(("option", "fragments"), [
    ({"variant": "huge"}, ("huge", "tiny", "apphub")), ({"data": "mnist"}, ("mnist", "digits")),
    ({"colour": 1}, ("colour", )), ({"num_workers": -1}, ("num_workers", "-1")), ({"log_steps": -1}, ("log_steps",)),
    ({"batch_size": 0}, ("batch_size", "0")), ({"seed": -1}, ("seed", "-1")),
    ({"accumulate_steps": 4}, ("accumulate_steps", "3, the steps of the finetune", "4")),
    ({"batch_size": 10**399}, ("batch_size", "at most")), ({"cutout_size": 40}, ("cutout_size", "(32)", "40")),
])
def test_bad_option_writes_nothing(tmp_path, stub, refused, option, fragments):
    with refused(*fragments):
        stub.run(tmp_path / "run", **option)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("on_accelerator", [False, True])
def test_a_run_on_a_cpu_keeps_the_memory_that_it_frees(stub, tmp_path, monkeypatch, on_accelerator):
    kept = []
    monkeypatch.setattr(run.memory, "keep_freed", lambda: kept.append(True))
    monkeypatch.setattr(stub.backend, "on_accelerator", lambda: on_accelerator)
    stub.run(tmp_path)
    assert kept == ([] if on_accelerator else [True])
