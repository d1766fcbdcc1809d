"""The training run's spec: its defaults are the apphub's, and what it refuses it names."""
import dataclasses
import math

import pytest

from vit.recipe import Recipe

REFUSED = {
    "batch_size": (0, -1, 2.5, "16", True),
    "pretrain_epochs": (0, -1, 1.5, "1", True),
    "finetune_epochs": (0, -1, 1.5, "1", True),
    "train_steps_per_epoch": (0, -1, 1.5, "1", True),
    "eval_steps_per_epoch": (0, -1, 1.5, "1", True),
    "seed": (-1, 1.5, "1", 2**64),
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
        "weight_decay": 1e-4, "pad": 4, "mirror_rate": 0.5, "hole": 8}
    assert Recipe().to_dict() | job == Recipe().to_dict()


@pytest.mark.parametrize("edge", [{"batch_size": 1}, {"seed": 0}, {"seed": 2**32 - 1}, {"pad": 0}, {"hole": 0},
                                  {"mirror_rate": 0.0}, {"mirror_rate": 1.0}, {"momentum": 0.0},
                                  {"learning_rate": 0.0}, {"train_steps_per_epoch": 1}])
def test_edges_are_allowed(edge):
    assert Recipe(**edge).to_dict() == Recipe().to_dict() | edge
