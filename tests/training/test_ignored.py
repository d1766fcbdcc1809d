"""What has no effect is said: for every option and field that a run may have no use for, and for nothing else."""
import dataclasses

import pytest

from vit.data import image_folder
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training.ignored import _without_effect, ignored
from vit.training.options import RunOptions
from vit.training.recipe import Recipe


def _ignored(options=None, given=(), **fields):
    return ignored(RunOptions(**options or {}), Recipe(**fields), given)


@pytest.mark.parametrize(("options", "fields", "name", "reason"), [
    ({"compare_scratch": True}, {"data": "folder"}, "--compare_scratch", "the finetune itself is from scratch"),
    ({}, {"data": "folder", "pretrain_epochs": 7}, "--pretrain_epochs", 'data "folder" has no set to pretrain on'),
    ({"pretrained": "w"}, {"pretrain_epochs": 7}, "--pretrain_epochs", "--pretrained takes the place"),
    ({"pretrained": "w"}, {"initialization": "mimetic"}, "initialization", "those of --pretrained"),
    ({"skip_bad_images": True}, {"data": "digits"}, "--skip_bad_images", 'data is "digits"'),
    ({"skip_bad_images": True}, {"data": "arrays"}, "--skip_bad_images", 'data is "arrays"'),
    ({}, {"data": "arrays", "pretrain_epochs": 7}, "--pretrain_epochs", 'data "arrays" has no set to pretrain on'),
    ({"train_dataset": 1, "data_dir": "d"}, {"data": "arrays"}, "--data_dir", "train_dataset"),
    ({"data_dir": "d"}, {"data": "digits"}, "--data_dir", "scikit-learn"),
    ({}, {"data": "digits", "hflip_prob": 0.2}, "hflip_prob", "never flipped"),
    ({}, {"eval_crop_pct": 0.9}, "eval_crop_pct", 'data "folder"'),
    ({}, {"optimizer": "adamw", "momentum": 0.8}, "momentum", 'optimizer is "adamw"'),
    ({}, {"optimizer": "adam", "nesterov": True}, "nesterov", 'optimizer is "adam"'),
    ({}, {"optimizer": "muon", "nesterov": True}, "nesterov", 'optimizer is "muon"'),
    ({}, {"beta1": 0.8}, "beta1", 'optimizer is "sgd"'), ({}, {"beta2": 0.8}, "beta2", 'optimizer is "sgd"'),
    ({}, {"epsilon": 1e-6}, "epsilon", 'optimizer is "sgd"'),
    ({}, {"min_learning_rate": 1e-6}, "min_learning_rate", 'schedule is "constant"'),
    ({}, {"schedule": "cosine", "decay_rate": 0.5}, "decay_rate", 'schedule is "cosine"'),
    ({}, {"decay_epochs": 5}, "decay_epochs", 'schedule is "constant"'),
    ({}, {"loss_scale": 1024.0, "precision": "bf16"}, "loss_scale", 'precision is "bf16"'),
    ({}, {"mixup_prob": 0.5}, "mixup_prob", "mixup and cutmix are 0"),
    ({}, {"crop_scale_max": 0.5}, "crop_scale_max", "crop_scale_min is 0"),
    ({}, {"randaugment_number": 3}, "randaugment_number", 'augment is "none"'),
    ({}, {"randaugment_magnitude": 3}, "randaugment_magnitude", 'augment is "none"'),
    ({}, {"augment": "autoaugment_cifar", "randaugment_std": 0.5}, "randaugment_std", "autoaugment_cifar"),
])
def test_what_has_no_effect_is_named_with_the_reason(options, fields, name, reason):
    found = _ignored(options, **fields)
    assert list(found) == [name] and reason in found[name]
    assert _ignored({**options, "resume": "auto"}, **fields) == {}, "it was said as the run began"


@pytest.mark.parametrize(("options", "fields"), [
    ({}, {}),
    ({"compare_scratch": True, "data_dir": "d"}, {"pretrain_epochs": 7, "hflip_prob": 0.2, "momentum": 0.8}),
    ({"compare_scratch": True, "pretrained": "w"}, {"initialization": "mimetic"}),
    ({"compare_scratch": True, "pretrained": "w", "skip_bad_images": True}, {"data": "folder", "eval_crop_pct": 0.9}),
    ({"data_dir": "d"}, {"data": "arrays", "eval_crop_pct": 0.9}),
    ({}, {"optimizer": "adamw", "beta1": 0.8, "beta2": 0.8, "epsilon": 1e-6}),
    ({}, {"optimizer": "muon", "momentum": 0.95, "beta1": 0.8, "beta2": 0.8, "epsilon": 1e-6}),
    ({}, {"schedule": "cosine", "min_learning_rate": 1e-6}), ({}, {"schedule": "step", "decay_rate": 0.5}),
    ({}, {"schedule": "exponential", "decay_epochs": 5}), ({}, {"mixup": 0.2, "mixup_prob": 0.5}),
    ({}, {"cutmix": 0.2, "mixup_prob": 0.5}), ({}, {"crop_scale_min": 0.1, "crop_scale_max": 0.5, "crop_padding": 0}),
    ({}, {"augment": "randaugment", "randaugment_number": 3, "randaugment_std": 0.5}),
    ({}, {"schedule": "milestones", "milestones": (1,), "milestone_rates": (0.1,)}),
    ({}, {"loss_scale": 1024.0, "precision": "fp16"}), ({}, {"eval_every": 2}), ({}, {"eval_offset": 3}),
])
def test_what_has_an_effect_is_not_named(options, fields):
    assert _ignored(options, **fields) == {}


def test_milestones_without_their_schedule_are_named():
    assert list(_ignored(milestones=(1,), milestone_rates=(0.1,))) == ["milestones", "milestone_rates"]


def test_a_default_counts_only_where_it_is_given():
    assert list(_ignored({"pretrained": "w"}, given=("pretrain_epochs", "beta1"))) == ["--pretrain_epochs", "beta1"]
    assert _ignored({"pretrained": "w"}) == {}


def test_every_name_is_an_option_or_a_field():
    known = {field.name for spec in (Recipe, RunOptions) for field in dataclasses.fields(spec)}
    cases = [(RunOptions(pretrained="w"), Recipe(data="digits")), (RunOptions(), Recipe(data="folder"))]
    named = {name for options, recipe in cases for names, _ in _without_effect(options, recipe) for name in names}
    assert named <= known and len(named) > 10


def test_mindspore_compiles_anyway():
    asked = RunOptions(compile=True)
    assert ignored(asked, Recipe(), (), "ms") == {"--compile": "MindSpore compiles all training steps"}
    assert ignored(asked, Recipe(), (), "torch") == ignored(RunOptions(), Recipe(), (), "ms") == {}


def test_mindspore_does_not_recompute():
    asked = RunOptions(activation_checkpointing=True)
    assert ignored(asked, Recipe(), (), "ms") == {
        "--activation_checkpointing": "MindSpore frees no memory by it; a smaller batch_size does"}
    assert ignored(asked, Recipe(), (), "tf") == {}


def test_a_run_says_it_on_stderr(tmp_path, stub, capsys):
    canonical.save(tmp_path / "w.safetensors", parameters.initial(VARIANTS["tiny"], 0), VARIANTS["tiny"])
    stub.run(tmp_path / "run", pretrained=tmp_path / "w.safetensors", momentum=0.5, optimizer="adamw")
    err = capsys.readouterr().err
    assert "note: --pretrain_epochs is ignored: --pretrained takes the place of the pretraining\n" in err
    assert 'note: momentum is ignored: it is for optimizer "sgd" or "muon", and optimizer is "adamw"\n' in err
    assert err.count("ignored") == 2


def test_a_folder_finetuned_from_scratch_needs_no_comparison(tmp_path, stub, capsys, monkeypatch, digits):
    pair = dataclasses.replace(digits, pretrain=None)
    monkeypatch.setattr(image_folder, "load", lambda *_: pair)
    (tmp_path / "data").mkdir()
    stub.run(tmp_path / "run", data="folder", data_dir=tmp_path / "data", compare_scratch=True)
    assert "note: --compare_scratch is ignored: nothing is pretrained" in capsys.readouterr().err
    assert [stage.name for stage, _ in stub.given] == ["scratch"]


def test_bad_input_is_one_line_all_the_same(tmp_path, stub, capsys, refused):
    with refused("no such file"):
        stub.run(tmp_path / "run", pretrained=tmp_path / "none", momentum=0.5, optimizer="adamw")
    assert capsys.readouterr().err == ""


def test_one_worker_reduces_nothing():
    asked = RunOptions(reduce="fast", dist_timeout=60)
    assert ignored(asked, Recipe(), ()) == {"--reduce": "one worker has nothing to add",
                                            "--dist_timeout": "one worker waits for none"}
    assert ignored(asked, Recipe(), (), "torch", 2) == ignored(RunOptions(), Recipe(), ()) == {}
