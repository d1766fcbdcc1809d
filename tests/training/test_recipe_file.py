"""Recipes as YAML: what a file says, what overrides it, and one line for what is wrong with it."""
import os

import pytest
import yaml

from vit.errors import UserError
from vit.training import recipe_file
from vit.training.recipe import Recipe

PUBLISHED = {
    "apphub": {},
    "small_data": {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05, "schedule": "cosine",
                   "warmup_epochs": 30.0, "pretrain_epochs": 300, "label_smoothing": 0.1, "drop_path": 0.1,
                   "augment": "autoaugment_cifar", "random_erasing_prob": 0.25},
    "compact": {"optimizer": "adamw", "learning_rate": 6e-4, "weight_decay": 0.06, "mixup": 0.8, "cutmix": 1.0,
                "mixup_prob": 1.0, "crop_scale_min": 0.8, "random_erasing_prob": 0.25, "pretrain_epochs": 300,
                "augment": "randaugment", "randaugment_std": 0.5, "variant": "compact"},
    "imagenet_vit_b_32": {"optimizer": "adamw", "learning_rate": 0.00355, "weight_decay": 0.05, "warmup_epochs": 40.0,
                          "finetune_epochs": 300, "label_smoothing": 0.1, "mixup": 0.2, "schedule": "cosine",
                          "augment": "autoaugment_imagenet", "data": "folder"},
    "finetune_folder": {"optimizer": "adam", "learning_rate": 5e-5, "schedule": "cosine", "label_smoothing": 0.1,
                        "data": "folder"},
}


@pytest.fixture
def file(tmp_path):
    """A function from text to a recipe file that holds it."""

    def write(text):
        path = tmp_path / "some.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_of_the_project(repo, name):
    recipe = recipe_file.build(repo / "recipes" / f"{name}.yaml")
    assert recipe.to_dict().items() >= PUBLISHED[name].items()
    assert name != "apphub" or recipe == Recipe()
    assert name != "imagenet_vit_b_32" or recipe.batch_size * recipe.accumulate_steps == 4096


def test_every_recipe_of_the_project_is_tried(repo):
    assert {path.stem for path in (repo / "recipes").iterdir()} == set(PUBLISHED)


def test_a_file_names_what_differs_from_the_defaults(file):
    assert recipe_file.build(file("mixup: 0.8\ndrop_path: 0\nimage_size: null\n")) == Recipe(mixup=0.8, drop_path=0.0)


def test_fields_override_a_file(file):
    path = file("batch_size: 16\nmixup: 0.8\n")
    assert recipe_file.build(path, batch_size=4, seed=3) == Recipe(batch_size=4, mixup=0.8, seed=3)


def test_a_recipe_may_be_a_dict_or_a_recipe(refused):
    assert recipe_file.build({"pad": 2, "seed": 3}, seed=4) == Recipe(crop_padding=2, seed=4)
    assert recipe_file.build(Recipe(seed=3), hole=2) == Recipe(cutout_size=2, seed=3)
    with refused("unknown key 'padd'"):
        recipe_file.build({"padd": 2})


def test_a_file_of_commit_7d1c055_means_what_it_meant(repo, capsys, forget_notes):
    path = repo / "tests" / "fixtures" / "7d1c055" / "every_field.yaml"
    assert recipe_file.build(path) == Recipe(
        decay_bias_and_norm=False, min_learning_rate=0.001, mixup=0.2, mixup_prob=0.75, crop_padding=3,
        crop_scale_max=0.9, hflip_prob=0.25, cutout_size=5, random_erasing_prob=0.1, eval_crop_pct=0.9)
    err = capsys.readouterr().err
    assert err.startswith("note: renamed: ") and err.count("\n") == 1 and err.count(" is now ") == 10


def test_an_old_name_in_a_file_may_be_overridden_by_either(file):
    path = file("hole: 4\n")
    assert recipe_file.build(path, hole=2) == recipe_file.build(path, cutout_size=2) == Recipe(cutout_size=2)


@pytest.mark.parametrize("text", ["pad: 1\ncrop_padding: 1\n", "crop_padding: 1\npad: 1\n"])
def test_an_old_name_beside_todays_is_refused(file, text, refused):
    path = file(text)
    with refused(path, "pad", "crop_padding", "give one of them"):
        recipe_file.build(path)
    with refused("pad", "crop_padding", "give one of them"):
        recipe_file.build(pad=1, crop_padding=1)


def test_settings_are_read_as_yaml_by_todays_names():
    assert recipe_file.settings(["mixup=0.8", "hole=4", "drop_path=null", "mixup=1e-1"]) == {
        "mixup": 0.1, "cutout_size": 4, "drop_path": None}


@pytest.mark.parametrize(("texts", "fragments"), [
    (["mixup"], ("--some takes FIELD=VALUE", "'mixup'")), (["mixupp=1"], ("mixupp", "did you mean 'mixup'")),
    (["mixup=[1"], ("--some mixup=[1", )), (["pad=1", "crop_padding=1"], ("pad and crop_padding", "give one of them"))])
def test_settings_that_cannot_be_are_one_line(texts, fragments, refused):
    with refused(*fragments):
        recipe_file.settings(texts, "--some")


def test_a_zero_in_front_means_nothing(file):
    assert recipe_file.build(file("batch_size: 010")).batch_size == 10


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "1.0e-3", "0.001", "+1e-3", ".1e-2", "10e-4", "1.e-3"])
def test_numbers_may_have_an_exponent(file, number):
    assert recipe_file.build(file(f"learning_rate: {number}")).learning_rate == pytest.approx(1e-3)


def test_what_is_written_is_read_back_the_same(file):
    recipe = Recipe(epsilon=1e-12, seed=2**32 - 1, drop_path=0.1, weight_decay=1 / 3, schedule="step", mixup=1e-7)
    text = recipe_file.dump(recipe)
    assert recipe_file.build(file(text)) == recipe
    assert yaml.safe_load(text) == recipe.to_dict()
    assert len(text.splitlines()) == len(recipe_file.FIELDS)


BROKEN = {
    "unknown": ("learning_rat: 1", ("learning_rat", "did you mean 'learning_rate'", "random_erasing_prob")),
    "unknown number": ("1: 2", ("1", "a recipe has")),
    "wrong type": ("batch_size: many", ("batch_size", "int", "many")),
    "wrong type of a number": ("batch_size: 1.5", ("batch_size", "int", "1.5")),
    "list": ("mixup: [1, 2]", ("mixup", "float", "[1, 2]")),
    "nothing": ("mixup:", ("mixup", "float", "None")),
    "impossible": ("mixup: -1", ("mixup", "at least 0", "-1")),
    "infinite": ("mixup: .inf", ("mixup", "finite")),
    "no such choice": ("optimizer: rmsprop", ("optimizer", "rmsprop", '"sgd", "adam", "adamw", "muon"')),
    "no such variant": ("variant: huge", ("variant", "huge", "small_data")),
    "no such data": ("data: mnist", ("data", "mnist", "digits")),
    "side that does not fit": ("image_size: 33", ("image_size 33", "patch_size 4")),
    "twice": ("seed: 1\nmixup: 1\nseed: 2\n", ("line 3", "'seed'", "twice")),
    "no mapping": ("- seed", ("field: value", "list")),
    "empty": ("", ("field: value", "nothing", "batch_size")),
    "syntax": ("seed: [1", ("line", "expected")),
    "code": ("seed: !!python/object/apply:os.system [ls]", ("line 1", "python/object/apply:os.system")),
    "not text": (b"\xff\xfe\x00", ("UTF-8", )),
    "zero byte": ("seed: 1\x00", ("YAML", )),
    "deep": ("[" * 5000, ("nested too deep", )),
    "alias": ("seed: &a 1\nbatch_size: *a\n", ("line 2", "no aliases")),
    "many digits": (f"learning_rate: 1{'0' * 400}", ("learning_rate", "float", "000...")),
    "more digits": (f"batch_size: {'1' * 5000}", ("batch_size", "int", "111...")),
    "large": ("learning_rate: 99999999999", ("learning_rate", "at most 4294967295", "99999999999")),
    "large below 0": (f"learning_rate: -1{'0' * 399}", ("learning_rate", "at most 4294967295 in size", "-1000")),
    "large epochs": ("warmup_epochs: 1e308", ("warmup_epochs", "[0, 1000000]")),
    "small epochs": ("schedule: step\ndecay_epochs: 5e-324", ("decay_epochs", "[1e-06, 1000000]")),
    "large side": ("image_size: 80000", ("image_size", "16384")),
    "base 16": ("batch_size: 0x10", ("batch_size", "int", "'0x10'")),
    "base 60": ("batch_size: 1:30", ("batch_size", "int", "'1:30'")),
    "date": ("seed: 2020-13-45", ("seed", "int", "'2020-13-45'")),
    "no truth": ("nesterov: !!bool foo", ("YAML", "foo")),
    "no date": ("seed: !!timestamp abc", ("YAML", )),
    "no number": ("batch_size: !!int ''", ("YAML", )),
    "no map": ("!!map [1, 2]", ("YAML", )),
    "unhashable": ("{a: b}: c", ("line 1", "unhashable")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line_with_file_key_and_what_is_allowed(file, refused, name):
    text, fragments = BROKEN[name]
    path = file(text)
    with refused(path, *fragments):
        recipe_file.build(path)


def test_a_file_that_is_not_there(tmp_path, refused):
    with refused(tmp_path / "none.yaml", "No such file"):
        recipe_file.build(tmp_path / "none.yaml")


@pytest.mark.parametrize("extra", [1, 1 << 22])
def test_a_file_over_a_mebibyte_is_refused_before_it_is_parsed(file, refused, extra):
    whole = "seed: 3\n# " + "é" * ((1 << 19) - 5)
    assert len(whole.encode()) == 1 << 20 and recipe_file.build(file(whole)).seed == 3
    with refused(file(whole + "x" * extra), "more than 1 MiB"):
        recipe_file.build(file(whole + "x" * extra))
    with refused("--set seed: more than 1 MiB"):
        recipe_file.settings(["seed=" + "1" * (1 << 21)])


def test_what_is_no_file_is_refused_without_waiting(tmp_path, monkeypatch, refused):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, kind in ((tmp_path / "pipe.yaml", "a pipe (FIFO)"), ("/dev/zero", "a device"), (tmp_path, "a folder")):
        with refused(path, f"is {kind}, not a file"):
            recipe_file.build(path)
    monkeypatch.chdir(tmp_path)
    with refused("pipe.yaml: is a pipe"):
        recipe_file.build("pipe.yaml")


def test_a_pipe_that_the_shell_has_opened_is_read():
    read, write = os.pipe()
    os.write(write, b"seed: 3")
    os.close(write)
    assert recipe_file.build(f"/dev/fd/{read}").seed == 3
    os.close(read)


def test_a_bad_flag_does_not_blame_the_file(file):
    with pytest.raises(UserError) as caught:
        recipe_file.build(file("seed: 1"), batch_size=0)
    assert str(caught.value) == "batch_size must be at least 1, not 0"
