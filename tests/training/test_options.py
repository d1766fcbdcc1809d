"""The options of a run beside its recipe, how keyword arguments part, and the signature that shows them all."""
import dataclasses
import inspect
import pydoc
from pathlib import Path

import numpy as np
import pytest

from vit.errors import UserError
from vit.fields import first_sentence
from vit.training import recipe_file
from vit.training.options import RunOptions, documented, split
from vit.training.recipe import Recipe

REFUSED = {
    "recipe": (3, ["a"], ""),
    "data_dir": (3, ""),
    "skip_bad_images": (1, "yes", None),
    "num_workers": (-1, 1.5, "2", None, True),
    "quiet": (1, "yes", None), "verbose": (1, "yes", None),
    "train_dataset": (), "eval_dataset": (),  # what they are is for the data to say
    "pretrained": (3, "", {}, 1.5),
    "compile": (1, "yes", None),
    "reduce": ("slow", None, 1),
    "dist_timeout": (0, -1, 1.5, "60", None, True),
    "activation_checkpointing": (1, "yes", None),
    "compare_scratch": (1, "yes", None),
    "device_target": (3, ""),
    "model_dir": (3, ""),
    "checkpoint_every": (0, -1, "hour", "", 1.5, None, True),
    "keep": (0, -1, 1.5, "3", None),
    "on_save_error": ("ignore", "", None),
    "on_nan": ("ignore", "", None),
    "overwrite": (1, "yes", None),
    "resume": (3, ""),
    "resume_override": ("seed=1", {"seed": 1}, None),
    "log_steps": (-1, 1.5, "100", None),
    "tensorboard": (3, ""),
    "profile": (1, "yes", None),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_an_impossible_value_is_one_line_that_names_it(name, value, refused):
    with refused(name, *([repr(value)] if value != "" else [])):
        split({name: value})


def test_every_option_is_tried():
    assert set(REFUSED) == {field.name for field in dataclasses.fields(RunOptions)}


@pytest.mark.parametrize(("name", "value", "message"), [
    ("model_dir", "", "model_dir is empty: name a folder, or leave --model_dir out"),
    ("pretrained", "", "pretrained is empty: name a file, or leave --pretrained out"),
    ("num_workers", -1, "num_workers must be at least 0, not -1"),
    ("keep", 0, "keep must be at least 1, not 0"),
    ("checkpoint_every", 0, 'checkpoint_every must be at least 1, or "epoch", not 0'),
    ("on_save_error", "ask", "on_save_error must be one of \"stop\", \"continue\", not 'ask'")])
def test_messages(name, value, message):
    with pytest.raises(UserError) as caught:
        split({name: value})
    assert str(caught.value) == message


def test_arguments_part_into_options_and_fields(tmp_path):
    options, fields = split({"data": "digits", "keep": 2, "model_dir": tmp_path, "mixup": 0.5,
                             "resume_override": ["seed=1"], "recipe": {"seed": 1}})
    assert options == RunOptions(keep=2, model_dir=str(tmp_path), resume_override=("seed=1", ), recipe={"seed": 1})
    assert fields == {"data": "digits", "mixup": 0.5}
    assert split({}) == (RunOptions(), {})


def test_images_that_are_given_are_the_data(refused):
    options, fields = split({"train_dataset": "x", "eval_dataset": "y"})
    assert (options.train_dataset, options.eval_dataset, fields) == ("x", "y", {"data": "arrays"})
    assert split({"train_dataset": "x", "data": "arrays"})[1] == {"data": "arrays"}
    with refused("train_dataset", "data 'digits'"):
        split({"train_dataset": "x", "data": "digits"})
    with refused("eval_dataset needs train_dataset"):
        split({"eval_dataset": "y"})


def test_fields_are_left_to_the_recipe():
    options, fields = split({"recipe": Recipe(seed=3), "hole": 2, "batch_size": 0})
    assert options.recipe == Recipe(seed=3) and fields == {"cutout_size": 2, "batch_size": 0}
    assert recipe_file.build(options.recipe, cutout_size=2) == Recipe(seed=3, cutout_size=2)


def test_old_names_are_understood_with_one_note(capsys, forget_notes):
    options, fields = split({"skip_bad_pictures": True, "pad": 2})
    assert options.skip_bad_images and fields == {"crop_padding": 2}
    assert capsys.readouterr().err == (
        "note: renamed: skip_bad_pictures is now skip_bad_images, pad is now crop_padding\n")


@pytest.mark.parametrize("given", [{"skip_bad_pictures": True, "skip_bad_images": True},
                                   {"pad": 2, "crop_padding": 2}, {"crop_padding": 2, "pad": 2}])
def test_an_old_name_beside_todays_is_refused(given, refused):
    with refused(" and ".join(given), "two names of one option"):
        split(given)


@pytest.mark.parametrize(("name", "hint"), [
    ("batchsize", "did you mean 'batch_size'?"), ("num_worker", "did you mean 'num_workers'?"),
    ("skip_bad_picture", "did you mean 'skip_bad_images'?"), ("zzz", "--help")])
def test_an_unknown_option_is_refused_with_the_nearest_of_both(name, hint, refused):
    with refused(f"unknown option '{name}'", hint):
        split({name: 1})


def test_options_and_fields_share_no_name():
    names = [name for spec in (RunOptions, Recipe) for field in dataclasses.fields(spec)
             for name in (field.name, *field.metadata["aliases"])]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("field", [*dataclasses.fields(RunOptions), *dataclasses.fields(Recipe)],
                         ids=lambda field: field.name)
def test_the_first_sentence_is_a_short_line(field):
    line = first_sentence(field.metadata["text"])
    assert 10 < len(line) <= 110
    assert line[0].isupper() and not line.endswith("al") and line.count("(") == line.count(")")


# The signature.

@documented
def _run(recipe=None, **options):
    """Pretrain and finetune."""
    return options | {"recipe": recipe}


def test_the_signature_shows_every_option_with_default_and_annotation():
    parameters = inspect.signature(_run).parameters
    fields = (*dataclasses.fields(RunOptions), *dataclasses.fields(Recipe))
    assert list(parameters) == [field.name for field in fields]
    for field in fields:
        parameter = parameters[field.name]
        by_place = field.name == "recipe"
        assert parameter.kind is (parameter.POSITIONAL_OR_KEYWORD if by_place else parameter.KEYWORD_ONLY)
        assert (parameter.default, parameter.annotation) == (field.default, field.type)
    assert inspect.signature(_run).return_annotation is dict
    assert "learning_rate: float = 0.01" in str(inspect.signature(_run))


def test_help_explains_every_option():
    text = pydoc.render_doc(_run, renderer=pydoc.plaintext)
    assert "Pretrain and finetune." in text
    words = " ".join(text.split())
    for field in dataclasses.fields(RunOptions):
        whole = " ".join(field.metadata["text"].split())
        assert f" {field.name}: {whole}" in words
    for field in dataclasses.fields(Recipe):
        assert f" {field.name}: {first_sentence(field.metadata['text'])}." in words
    assert max(map(len, _run.__doc__.splitlines())) <= 100


def test_the_function_is_left_as_it_is():
    assert _run("small_data", keep=2, anything=3) == {"recipe": "small_data", "keep": 2, "anything": 3}


def test_numbers_may_be_numpys():
    options, fields = split({"num_workers": np.int64(2), "log_steps": np.uint8(5), "checkpoint_every": np.int32(7),
                             "skip_bad_images": np.bool_(True), "learning_rate": np.float32(0.5)})
    assert (options.num_workers, options.log_steps, options.checkpoint_every) == (2, 5, 7)
    assert options.skip_bad_images is True and recipe_file.build(None, **fields).learning_rate == 0.5
    assert type(recipe_file.build(None, **fields).learning_rate) is float


def test_paths_may_be_paths(tmp_path):
    options, _ = split({"data_dir": tmp_path, "pretrained": Path("w"), "tensorboard": Path("t")})
    assert (options.data_dir, options.pretrained, options.tensorboard) == (str(tmp_path), "w", "t")
