"""A checkpoint from elsewhere: each field is held to what it must be before anything is used."""
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.checkpoints.test_serialization import CONFIG, DATA, EPOCH, PART, STRETCH, _with_state, make
from vit.aliases import names_of
from vit.checkpoints import Checkpoint, load, save, schema
from vit.errors import UserError
from vit.training import resume
from vit.training.history import History
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.resume import STARTED_WITH

TRAINED = list(EPOCH)[:6]  # what is known of an epoch that is not evaluated


def _history(**changes):
    return {"history": make().history | changes}


def test_every_field_of_a_checkpoint_is_held_to_something():
    plain = {field.name for field in dataclasses.fields(Checkpoint)} - {
        "config", "weights", "moment1", "moment2", "ema", "numbers"}
    assert set(schema.FIELDS) == plain
    assert set(schema.OPTIONS) == set(STARTED_WITH)
    old = {name: today for name, today in names_of(RunOptions).items() if today in schema.OPTIONS and name != today}
    assert old == schema.OLD_OPTIONS
    assert set(schema.RECORDS) == {field.name for field in dataclasses.fields(History)}


@pytest.mark.parametrize("changes", [
    {"stage": "../../elsewhere"}, {"stage": "a\nb"}, {"stage": "x" * 101}, {"stage": None},
    {"phase": None}, {"phase": ["training"]},
    {"epoch": -1}, {"epoch": 1 << 32}, {"epoch": True}, {"epoch": None},
    {"batch": 8}, {"batch": 1 << 40}, {"batch": [3]}, {"optimizer_steps": 8}, {"optimizer_steps": 7.0},
    {"metric": "0.25"}, {"metric": True}, {"metric": [0.5]}, {"metric": 1 << 64},
    {"best": {}}, {"best": [1]}, {"best": ["a", "b"]}, {"best": [0.5, 1]}, {"best": [0.5, "../x.safetensors"]},
    {"best": [[], None]}, {"best": [0.5, None, None]},
    {"recipe": {"seed": [[1]]}}, {"recipe": {"seed": ["a"]}}, {"recipe": {"seed": [1] * 1001}},
    {"recipe": {"seed": {"a": 1}}}, {"recipe": {"data": "x" * 5000}}, {"recipe": None},
    {"options": {"tensorboard": "/elsewhere"}}, {"options": {"model_dir": "/other"}}, {"options": {"resume": "auto"}},
    {"options": {"data_dir": 5}}, {"options": {"data_dir": ["a"]}}, {"options": {"data_dir": "a\0b"}},
    {"options": {"data_dir": ""}}, {"options": {"data_dir": "x" * 5000}}, {"options": {"pretrained": True}},
    {"options": {"skip_bad_images": "yes"}}, {"options": {"compare_scratch": 1}}, {"options": []},
    {"traces": []}, {"traces": {"EarlyStopping": {}}}, {"traces": {"0.EarlyStopping": []}},
    {"traces": {"0.EarlyStopping": {"wait": [1]}}}, {"traces": {"0.EarlyStopping": {"__class__": 1}}},
    {"traces": {"0.EarlyStopping": {"a b": 1}}}, {"traces": {"0.EarlyStopping": {"wait": "x" * 5000}}},
    {"loss_scale": {"scale": float("inf"), "good_steps": 3, "skipped": 1}},
    {"loss_scale": {"scale": 2.0, "good_steps": 1 << 40, "skipped": 1}},
    {"backend": 1}, {"backend": "a\x1b[31m"},
    {"data": []}, {"data": {}}, {"data": {"finetune": None, "pretrain": None}},
    {"stretches": {}}, {"stretches": [1]}, {"stretches": [{}]}, {"stretches": [STRETCH | {"more": 1}]},
    {"stretches": [STRETCH | {"step": -1}]}, {"stretches": [STRETCH | {"recipe": [1]}]},
    {"stretches": [STRETCH | {"host": "a\x1b[31m"}]}, {"stretches": [STRETCH | {"num_workers": "2"}]},
    {"stretches": [STRETCH | {"world_size": -1}]},
    {"data": DATA | {"pretrain": DATA["finetune"] | {"train": PART | {"counts": [1]}}}},
], ids=str)
def test_fields_that_are_impossible(tmp_path, refused, changes):
    path = _with_state(tmp_path, **changes)
    with refused(path, "makes no sense", next(iter(changes))):
        load(path)


@pytest.mark.parametrize("changes", [
    _history(epochs={}), _history(epochs=None), _history(epochs=[1]), _history(epochs=[[]]), _history(epochs=[{}]),
    _history(epochs=[EPOCH, EPOCH]), _history(epochs=[EPOCH | {"epoch": 2}]),
    _history(epochs=[EPOCH | {"epoch": None}]),
    _history(epochs=[EPOCH | {"accuracy": "all"}]), _history(epochs=[EPOCH | {"accuracy": None}]),
    _history(epochs=[EPOCH | {"more": [1]}]), _history(epochs=[EPOCH | {"accuracy": 10**400}]),
    *(_history(epochs=[{name: value for name, value in EPOCH.items() if name != lost}]) for lost in EPOCH),
    _history(epochs=[EPOCH | {"epoch": number} for number in (1, 2, 3)]),
    {"phase": "evaluated", **_history(epochs=[EPOCH, dict.fromkeys(TRAINED, 2)])},
    _history(step_sizes=[16] * 6), _history(step_sizes=[16] * 6 + [0]), _history(step_sizes=[16] * 6 + ["a"]),
    _history(first_steps=[0, 8]), _history(first_steps=[0, 4, 5]), _history(first_steps=[4, 0]),
    _history(first_steps=[-1]), _history(first_steps=[0.0, 4.0]), _history(first_steps=[0, 0]),
    _history(step_losses=[1.0] * 7), _history(mean_loss=[1]), _history(__class__=[]),
    {"history": {}}, {"history": {"epochs": [EPOCH]}}, {"history": []},
], ids=range(39))
def test_records_with_which_no_training_can_go_on(tmp_path, refused, changes):
    path = _with_state(tmp_path, **changes)
    with refused(path, "makes no sense"):
        load(path)


@pytest.mark.parametrize("numbers", [
    {"step_losses": np.ones(6), "gradient_norms": np.ones(7)}, {"step_losses": np.ones(7)}, {},
    {"step_losses": np.ones(7), "gradient_norms": np.ones(7), "more": np.ones(7)},
    {"step_losses": np.ones(7), "gradient_norms": np.ones(7), "epochs": np.ones(0)},
    {"step_losses": np.ones((7, 1)), "gradient_norms": np.ones(7)},
    {"step_losses": np.ones(7, np.float32), "gradient_norms": np.ones(7)},
], ids=range(7))
def test_numbers_with_which_no_training_can_go_on(tmp_path, refused, numbers):
    path = _with_state(tmp_path, numbers)
    with refused(path, "makes no sense"):
        load(path)


@pytest.mark.parametrize("changes", [
    {"metric": float("nan")}, {"metric": 1}, {"best": [0.5, None]}, {"options": {}}, {"recipe": {"pad": 4}},
    {"options": {"skip_bad_pictures": True, "data_dir": "a", "pretrained": None, "compare_scratch": False}},
    {"phase": "trained", **_history(epochs=[EPOCH, dict.fromkeys(TRAINED, 2)])},
    {"phase": "evaluated", **_history(epochs=[dict.fromkeys(TRAINED, 1), EPOCH | {"epoch": 2}])},
    _history(epochs=[dict.fromkeys(TRAINED, 1)]), {"recipe": {"milestones": [], "milestone_rates": [0.1, 2]}},
    _history(epochs=[EPOCH | {"loss_scale": 1024.0, "skipped_steps": 2}]), _history(first_steps=[0, 7]),
    _history(epochs=[EPOCH | {"eval_loss": float("nan"), "train_loss": float("inf")}]),
    {"traces": {"3.Own": {"a": None, "b": True, "c": "text", "d": float("-inf")}}},
    {"data": {"pretrain": DATA["finetune"], "finetune": DATA["finetune"]}},
    {"stretches": []}, {"stretches": [STRETCH, STRETCH | dict.fromkeys(("step", "versions", "host", "num_workers"))]},
    {"stretches": [{name: value for name, value in STRETCH.items() if name != "world_size"}]},  # of an older version
], ids=range(18))
def test_fields_that_are_possible(tmp_path, changes):
    loaded = load(_with_state(tmp_path, **changes))
    assert json.dumps(getattr(loaded, next(iter(changes)))) == json.dumps(next(iter(changes.values())))


def test_a_training_without_records_needs_none(tmp_path):
    loaded = load(_with_state(tmp_path, {}, history={}))
    assert (loaded.history, loaded.numbers) == ({}, {})


def test_the_first_step_of_a_run_has_no_epoch_behind_it(tmp_path):
    """An empty list is one of numbers, whatever it will hold."""
    records = {"step_sizes": [16] * 7, "first_steps": [0]}
    numbers = {"epochs": np.ones(0), "step_losses": np.ones(7), "gradient_norms": np.ones(7)}
    loaded = load(_with_state(tmp_path, numbers, history=records, epoch=1, batch=7))
    history = History()
    loaded.refill(history)
    assert history.epochs == [] and history.step_losses == [1.0] * 7 and history.first_steps == [0]


def test_records_go_into_lists_alone(tmp_path, refused):
    class Own:
        def __init__(self):
            self.step_sizes, self.epochs = [], "text"

    with refused("records of 'epochs'"):
        load(_with_state(tmp_path)).refill(Own())


JSON = st.recursive(st.none() | st.booleans() | st.integers(-2, 1 << 70) | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
                    max_leaves=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*schema.FIELDS, "config"]), value=JSON)
def test_any_value_of_a_field_is_taken_or_one_line(tmp_path, name, value):
    path = _with_state(tmp_path, **{name: value})
    try:
        loaded = load(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and str(error).isprintable() and len(str(error)) < 1000
        return
    loaded.refill(History())
    assert loaded.config == CONFIG
    assert set(loaded.options) <= set(STARTED_WITH)


@pytest.mark.parametrize(("name", "value"), [("tensorboard", "/elsewhere"), ("model_dir", "/elsewhere"),
                                             ("batch_size", "many"), ("seed", 1.5)])
def test_a_recipe_steers_nothing_but_the_training(tmp_path, refused, name, value):
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "pretrain-00000007.safetensors"
    save(path, make(recipe=Recipe().to_dict() | {name: value}))
    with refused(path, "its recipe cannot be read", name):
        resume.find(RunOptions(resume=path), {})
