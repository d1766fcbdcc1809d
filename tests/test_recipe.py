"""The training run's spec: its defaults are the apphub's, and what it refuses it names."""
import dataclasses
import math

import pytest

from vit.config import VARIANTS
from vit.recipe import Recipe
from vit.weights import shapes

REFUSED = {
    "batch_size": (0, -1, 2.5, "16", True),
    "pretrain_epochs": (0, -1, 1.5, "1", True),
    "finetune_epochs": (0, -1, 1.5, "1", True),
    "train_steps_per_epoch": (0, -1, 1.5, "1", True),
    "eval_steps_per_epoch": (0, -1, 1.5, "1", True),
    "seed": (-1, 1.5, "1", 2**64),
    "optimizer": ("adam", "SGD", "", None),
    "nesterov": (1, "yes", None),
    "beta1": (-0.1, 1.0, math.nan, "0.9"),
    "beta2": (-0.1, 1.0, math.nan, "0.9"),
    "epsilon": (0.0, -1e-8, math.nan, math.inf, "1e-8"),
    "decay_all": (0, "no", None),
    "clip_norm": (-1.0, math.nan, math.inf, "1"),
    "schedule": ("linear", "", None),
    "warmup_steps": (-1, 1.5, "3", True),
    "learning_rate": (-0.1, math.nan, math.inf, "0.1"),
    "momentum": (-0.1, 1.0, math.nan, "0.9"),
    "weight_decay": (-1e-4, math.nan, math.inf, "0"),
    "pad": (-1, 1.5, "4"),
    "mirror_rate": (-0.1, 1.1, math.nan, "0.5"),
    "hole": (-1, 1.5, "8"),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in REFUSED.items() for value in values])
def test_impossible_value_is_refused_by_name(field, value):
    with pytest.raises(ValueError) as caught:
        Recipe(**{field: value})
    assert field in str(caught.value)
    assert str(value) in str(caught.value)


def test_every_number_has_values_that_are_tried():
    assert set(REFUSED) == {field.name for field in dataclasses.fields(Recipe)} - {"data", "variant"}


def test_defaults_are_the_apphub_job():
    job = {
        "data": "cifar", "variant": "apphub", "batch_size": 128, "pretrain_epochs": 100, "finetune_epochs": 1,
        "train_steps_per_epoch": None, "eval_steps_per_epoch": None, "seed": 0, "learning_rate": 0.01, "momentum": 0.9,
        "weight_decay": 1e-4, "optimizer": "sgd", "nesterov": False, "decay_all": True, "clip_norm": 0.0,
        "schedule": "constant", "warmup_steps": 0, "pad": 4, "mirror_rate": 0.5, "hole": 8}
    assert Recipe().to_dict() | job == Recipe().to_dict()


@pytest.mark.parametrize("edge", [{"batch_size": 1}, {"seed": 0}, {"seed": 2**32 - 1}, {"pad": 0}, {"hole": 0},
                                  {"mirror_rate": 0.0}, {"mirror_rate": 1.0}, {"momentum": 0.0},
                                  {"learning_rate": 0.0}, {"train_steps_per_epoch": 1}])
def test_edges_are_allowed(edge):
    assert Recipe(**edge).to_dict() == Recipe().to_dict() | edge


def test_rate_warms_up_and_then_stays():
    recipe = Recipe(learning_rate=0.8, warmup_steps=4)
    assert [recipe.rate(step, 6) for step in range(1, 7)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_rate_falls_along_a_cosine_after_the_warm_up():
    recipe = Recipe(learning_rate=0.8, warmup_steps=2, schedule="cosine")
    rates = [recipe.rate(step, 6) for step in range(1, 7)]
    assert rates == pytest.approx([0.4, 0.8] + [0.4 * (1 + math.cos(math.pi * i / 4)) for i in range(4)])


def test_a_stage_shorter_than_its_warm_up_has_a_rate():
    recipe = Recipe(learning_rate=0.8, warmup_steps=10, schedule="cosine")
    assert [recipe.rate(step, 3) for step in (1, 2, 3)] == pytest.approx([0.08, 0.16, 0.24])


@pytest.mark.parametrize("name", shapes(VARIANTS["tiny"]))
def test_only_matrices_decay_unless_all_do(name):
    matrix = name.endswith("weight") and "norm" not in name
    assert Recipe(weight_decay=0.5).decay_of(name) == 0.5
    assert Recipe(weight_decay=0.5, decay_all=False).decay_of(name) == (0.5 if matrix else 0)
