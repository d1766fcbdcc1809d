"""The training run's spec: its defaults are the apphub's, what it refuses it names, and old names are understood."""
import dataclasses
import math

import pytest

from vit.model.config import VARIANTS
from vit.model.parameters import shapes
from vit.training.recipe import Recipe

REFUSED = {
    "batch_size": (0, -1, 2.5, "16", True),
    "mae_epochs": (-1, 1.5, "1", True),
    "mae_mask_ratio": (0.0, 1.0, -0.1, math.nan, "0.75"),
    "mae_decoder_depth": (0, -1, 1.5, "1", True, 1 << 32),
    "mae_decoder_width": (0, -1, 1.5, "1", True, 1 << 32),
    "mae_decoder_heads": (0, -1, 1.5, "1", True, 1 << 32),
    "pretrain_epochs": (0, -1, 1.5, "1", True),
    "finetune_epochs": (0, -1, 1.5, "1", True),
    "train_steps_per_epoch": (0, -1, 1.5, "1", True),
    "eval_steps_per_epoch": (0, -1, 1.5, "1", True),
    "val_fraction": (-0.1, 1.0, math.nan, "0.1"),
    "early_stopping_patience": (-1, 1.5, "1", True),
    "seed": (-1, 1.5, "1", 2**64),
    "optimizer": ("rmsprop", "SGD", "", None),
    "nesterov": (1, "yes", None),
    "beta1": (-0.1, 1.0, math.nan, "0.9"),
    "beta2": (-0.1, 1.0, math.nan, "0.9"),
    "epsilon": (0.0, -1e-8, math.nan, math.inf, "1e-8"),
    "decay_bias_and_norm": (0, "no", None),
    "clip_norm": (-1.0, math.nan, math.inf, "1"),
    "schedule": ("linear", "", None),
    "warmup_steps": (-1, 1.5, "3", True),
    "learning_rate": (-0.1, math.nan, math.inf, "0.1"),
    "momentum": (-0.1, 1.0, math.nan, "0.9"),
    "weight_decay": (-1e-4, math.nan, math.inf, "0"),
    "crop_padding": (-1, 1.5, "4"),
    "hflip_prob": (-0.1, 1.1, math.nan, "0.5"),
    "cutout_size": (-1, 1.5, "8"),
    "image_size": (0, -1, 1.5, "32", True),
    "dropout": (-0.1, 1.0, math.nan, "0.1"),
    "attention_dropout": (-0.1, 1.0, math.nan, "0.1"),
    "drop_path": (-0.1, 1.0, math.nan, "0.1"),
    "patch_dropout": (-0.1, 1.0, math.nan, "0.1"),
    "pool": ("max", "CLS", "", 0),
    "initialization": ("Mimetic", "kaiming", "", None),
    "freeze_encoder": (0, "no", None),
    "precision": ("fp8", "float32", "", None),
    "accumulate_steps": (0, -1, 1.5, "1", True),
    "layer_decay": (0.0, -0.1, 1.1, math.nan, "1"),
    "ema_decay": (-0.1, 1.0, math.nan, "0"),
    "warmup_epochs": (-1.0, math.nan, math.inf, "3"),
    "min_learning_rate": (-1e-5, 0.02, math.nan, "0"),
    "decay_rate": (0.0, 1.1, math.nan, "0.1"),
    "decay_epochs": (0.0, -1.0, math.inf, "30"),
    "label_smoothing": (-0.1, 1.0, math.nan, "0.1"),
    "mixup": (-0.1, math.nan, math.inf, "0.8"),
    "cutmix": (-0.1, math.nan, math.inf, "1"),
    "mixup_prob": (-0.1, 1.1, math.nan, "1"),
    "crop_scale_min": (-0.1, 1.1, math.nan, "0.08"),
    "crop_scale_max": (-0.1, 1.1, math.nan, "1"),
    "augment": ("rand", "AutoAugment", "", None),
    "randaugment_number": (0, 1.5, "2", True),
    "randaugment_magnitude": (-1.0, 10.5, math.nan, "9"),
    "randaugment_std": (-0.5, math.nan, math.inf, "0"),
    "random_erasing_prob": (-0.1, 1.1, math.nan, "0.25"),
    "normalize": ("zero", "", None),
    "eval_crop_pct": (0.0, 1.1, math.nan, "0.875"),
    "loss_scale": (0.0, -1.0, 2.0**25, math.nan, "1024"),
    "eval_every": (0, -1, 1.5, "1", True),
    "eval_offset": (-1, 1.5, "1", True),
    "gradient_centralization": (1, "yes", None),
    "milestones": (3, "3", None),
    "milestone_rates": (0.1, "0.1", None),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in REFUSED.items() for value in values])
def test_impossible_value_is_refused_by_name(field, value):
    with pytest.raises(ValueError) as caught:
        Recipe(**{field: value})
    assert field in str(caught.value)
    assert str(value) in str(caught.value)


# Names that the fields had in commit 7d1c055.
RENAMED = {"pad": "crop_padding", "hole": "cutout_size", "mirror_rate": "hflip_prob", "mix_rate": "mixup_prob",
           "erasing_rate": "random_erasing_prob", "crop_min": "crop_scale_min", "crop_max": "crop_scale_max",
           "eval_crop": "eval_crop_pct", "min_rate": "min_learning_rate", "decay_all": "decay_bias_and_norm"}


def test_every_number_has_values_that_are_tried():
    assert set(REFUSED) == {field.name for field in dataclasses.fields(Recipe)} - {"data", "variant"}


def test_defaults_are_the_apphub_job():
    job = {
        "data": "cifar", "variant": "apphub", "batch_size": 128, "pretrain_epochs": 100, "finetune_epochs": 1,
        "train_steps_per_epoch": None, "eval_steps_per_epoch": None, "seed": 0, "learning_rate": 0.01, "momentum": 0.9,
        "weight_decay": 1e-4, "optimizer": "sgd", "nesterov": False, "decay_bias_and_norm": True, "clip_norm": 0.0,
        "schedule": "constant", "warmup_steps": 0, "crop_padding": 4, "hflip_prob": 0.5, "cutout_size": 8}
    assert Recipe().to_dict() | job == Recipe().to_dict()


@pytest.mark.parametrize("edge", [{"batch_size": 1}, {"seed": 0}, {"seed": 2**32 - 1}, {"crop_padding": 0},
                                  {"cutout_size": 0}, {"hflip_prob": 0.0}, {"hflip_prob": 1.0}, {"momentum": 0.0},
                                  {"learning_rate": 0.0}, {"train_steps_per_epoch": 1}])
def test_edges_are_allowed(edge):
    assert Recipe(**edge).to_dict() == Recipe().to_dict() | edge


@pytest.mark.parametrize(("field", "value", "message"), [
    ("batch_size", 0, "batch_size must be at least 1, not 0"),
    ("momentum", 1, "momentum must be in [0, 1), not 1.0"),
    ("epsilon", 0, "epsilon must be above 0, not 0.0"),
    ("layer_decay", 0, "layer_decay must be in (0, 1], not 0.0"),
    ("decay_epochs", 0, "decay_epochs must be in [1e-06, 1000000], not 0.0"),
    ("optimizer", "rmsprop", 'optimizer must be one of "sgd", "adam", "adamw", "muon", not \'rmsprop\''),
    ("data", "mnist", 'data must be one of "digits", "cifar", "cifair", "folder", "arrays", not \'mnist\''),
    ("batch_size", 1.5, "batch_size must be of type int, not 1.5"),
    ("dropout", "x", "dropout must be of type float | None, not 'x'")])
def test_messages_name_the_field_what_is_allowed_and_the_value(field, value, message):
    with pytest.raises(ValueError) as caught:
        Recipe(**{field: value})
    assert str(caught.value) == message


def test_a_variant_that_is_added_later_may_be_chosen(monkeypatch):
    monkeypatch.setitem(VARIANTS, "mine", VARIANTS["tiny"])
    assert Recipe(variant="mine").model(10, 32).depth == VARIANTS["tiny"].depth


def test_an_absent_field_takes_its_default():
    assert Recipe.from_dict({}) == Recipe()
    assert Recipe.from_dict({"mixup": 1, "seed": 3}) == Recipe(mixup=1.0, seed=3)
    assert Recipe.from_dict(Recipe(dropout=0.1).to_dict()) == Recipe(dropout=0.1)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_names_are_understood_with_one_note(old, new, capsys, forget_notes):
    value = False if old == "decay_all" else 0.9 if old in ("crop_max", "eval_crop") else 0
    assert Recipe.from_dict({old: value}) == Recipe(**{new: value})
    assert capsys.readouterr() == ("", f"note: renamed: {old} is now {new}\n")
    Recipe.from_dict({old: value})
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_beside_todays_is_refused(old, new, reverse, refused):
    given = {old: Recipe().to_dict()[new], new: Recipe().to_dict()[new]}
    with refused(old, new, "two names of one key", "give one of them"):
        Recipe.from_dict(dict(reversed(given.items())) if reverse else given)


def test_every_old_name_is_tried():
    aliases = {old: field.name for field in dataclasses.fields(Recipe) for old in field.metadata["aliases"]}
    assert aliases == RENAMED


@pytest.mark.parametrize(("key", "hint"), [("learning_rat", "did you mean 'learning_rate'?"), (7, "a recipe has data"),
                                           ("mirror_rat", "did you mean 'hflip_prob'?")])
def test_an_unknown_field_is_refused_with_the_nearest(key, hint, refused):
    with refused("unknown key", repr(key), hint):
        Recipe.from_dict({key: 1})


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


def test_cosine_ends_at_the_lowest_rate():
    recipe = Recipe(learning_rate=0.8, min_learning_rate=0.2, schedule="cosine")
    assert [recipe.rate(step, 4) for step in (1, 3, 5)] == pytest.approx([0.8, 0.5, 0.2])


@pytest.mark.parametrize(("schedule", "wanted"), [
    ("step", [0.4, 0.8] + [0.8] * 8 + [0.2] * 8 + [0.05] * 2),
    ("exponential", [0.4, 0.8] + [0.8 * 0.5**(i / 4) for i in range(18)])])
def test_rate_falls_with_the_epochs_after_the_warm_up(schedule, wanted):
    """Four steps an epoch, half an epoch of warm-up."""
    recipe = Recipe(learning_rate=0.8, warmup_epochs=0.5, schedule=schedule, decay_epochs=2, decay_rate=0.25)
    assert [recipe.rate(step, 20, 4) for step in range(1, 21)] == pytest.approx(wanted)


def test_warm_up_in_epochs_is_the_one_in_steps():
    by_epoch, by_step = Recipe(warmup_epochs=2, schedule="cosine"), Recipe(warmup_steps=10, schedule="cosine")
    assert [by_epoch.rate(step, 40, 5) for step in range(1, 41)] == [by_step.rate(step, 40) for step in range(1, 41)]


def test_rate_changes_at_milestones_after_the_warm_up():
    """Four steps an epoch, half an epoch of warm-up; a milestone may be within an epoch."""
    recipe = Recipe(learning_rate=0.8, warmup_epochs=0.5, schedule="milestones", milestones=(1, 2.25),
                    milestone_rates=[0.9, 0.1])
    assert [recipe.rate(step, 14, 4) for step in range(1, 15)] == [0.4, 0.8] + [0.8] * 4 + [0.9] * 5 + [0.1] * 3
    assert recipe == Recipe.from_dict(recipe.to_dict()) and recipe.to_dict()["milestones"] == [1.0, 2.25]


@pytest.mark.parametrize(("fields", "evaluated"), [
    ({}, [1, 2, 3, 4, 5, 6, 7, 8]), ({"eval_every": 3}, [3, 6, 8]), ({"eval_every": 3, "eval_offset": 2}, [5, 8]),
    ({"eval_offset": 6}, [7, 8]), ({"eval_every": 4}, [4, 8]), ({"eval_every": 100}, [8]), ({"eval_offset": 100}, [8])])
def test_epochs_that_are_evaluated(fields, evaluated):
    assert [epoch for epoch in range(1, 9) if Recipe(**fields).evaluates(epoch, 8)] == evaluated


@pytest.mark.parametrize("fields", [
    {"warmup_epochs": 1}, {"schedule": "step"}, {"schedule": "exponential"},
    {"schedule": "milestones", "milestones": (1,), "milestone_rates": (0.1,)}])
def test_rate_that_counts_in_epochs_needs_their_length(fields):
    with pytest.raises(ValueError, match="steps_per_epoch"):
        Recipe(**fields).rate(1, 10)


@pytest.mark.parametrize(("fields", "fragments"), [
    ({"warmup_steps": 3, "warmup_epochs": 1.0}, ("warmup_steps", "warmup_epochs")),
    ({"crop_scale_min": 0.9, "crop_scale_max": 0.5, "crop_padding": 0}, ("crop_scale_min", "crop_scale_max")),
    ({"crop_scale_min": 0.08}, ("crop_padding must be 0", "crop_scale_min")),
    ({"milestones": (2, 1), "milestone_rates": (0.1, 0.2)}, ("milestones must rise, not be [2.0, 1.0]",)),
    ({"milestones": (1, 1), "milestone_rates": (0.1, 0.2)}, ("milestones must rise",)),
    ({"milestones": (1, 2), "milestone_rates": (0.1,)}, ("milestone_rates must be as many as milestones (2), not 1",)),
    ({"schedule": "milestones"}, ("needs milestones and milestone_rates",)),
    ({"milestones": (-1,), "milestone_rates": (0.1,)}, ("each of milestones must be in [0, 1000000], not -1.0",)),
    ({"milestones": (1,), "milestone_rates": ("a",)}, ("each of milestone_rates must be of type float, not 'a'",))])
def test_fields_that_exclude_each_other_are_refused(fields, fragments):
    with pytest.raises(ValueError) as caught:
        Recipe(**fields)
    assert all(fragment in str(caught.value) for fragment in fragments)


def test_layer_decay_grows_towards_the_head():
    recipe, scale = Recipe(layer_decay=0.5), {}
    for name in shapes(VARIANTS["tiny"]):
        scale.setdefault(name if "blocks" not in name else name.split(".")[1], recipe.layer_scale(name, depth=4))
    assert scale == {"cls_token": 1 / 32, "pos_embed": 1 / 32, "patch_embed.proj.weight": 1 / 32,
                     "patch_embed.proj.bias": 1 / 32, "0": 1 / 16, "1": 1 / 8, "2": 1 / 4, "3": 1 / 2,
                     "norm.weight": 1, "norm.bias": 1, "head.weight": 1, "head.bias": 1}
    assert {Recipe().layer_scale(name, 4) for name in shapes(VARIANTS["tiny"])} == {1.0}


def test_a_model_takes_the_recipes_rates_or_keeps_its_own():
    assert Recipe().model(10, 64) == VARIANTS["apphub"].replace(num_classes=10, image_size=64)
    model = Recipe(dropout=0, attention_dropout=0.2, drop_path=0.3).model(5, 32)
    assert (model.dropout, model.attention_dropout, model.drop_path, model.num_classes) == (0.0, 0.2, 0.3, 5)


@pytest.mark.parametrize("pool", [None, "cls", "mean"])
def test_a_pooling_takes_the_class_token_from_a_variant_and_not_from_a_file(pool):
    model = Recipe(pool=pool, patch_dropout=0.5).model(5, 32)
    assert (model.pool, model.class_token, model.patch_dropout) == (pool or "cls", pool != "mean", 0.5)
    model = Recipe(pool=pool).model(5, None, VARIANTS["vit_b_32_224"])
    assert (model.pool, model.class_token) == (pool or "cls", True)


def test_a_model_without_class_token_cannot_be_pooled_by_it():
    with pytest.raises(ValueError, match="class_token"):
        Recipe(pool="cls").model(5, 32, VARIANTS["compact"])


@pytest.mark.parametrize(("fields", "soft"), [({}, False), ({"label_smoothing": 0.1}, True), ({"mixup": 1.0}, True),
                                              ({"cutmix": 1.0}, True), ({"cutmix": 1.0, "mixup_prob": 0}, False)])
def test_labels_are_soft_where_they_are_smoothed_or_mixed(fields, soft):
    assert Recipe(**fields).soft_labels is soft


@pytest.mark.parametrize("name", shapes(VARIANTS["tiny"]))
def test_only_matrices_decay_unless_all_do_and_only_they_are_centralized(name):
    matrix = name.endswith("weight") and "norm" not in name
    assert Recipe(weight_decay=0.5).decay_of(name) == 0.5
    assert Recipe(weight_decay=0.5, decay_bias_and_norm=False).decay_of(name) == (0.5 if matrix else 0)
    assert Recipe(gradient_centralization=True).centralizes(name) is matrix
    assert not Recipe().centralizes(name)


@pytest.mark.parametrize("name", shapes(VARIANTS["tiny"]))
def test_muon_is_for_the_matrices_of_blocks_and_for_q_k_and_v_apart(name):
    matrices = 3 if name.endswith("qkv.weight") else name.endswith(("proj.weight", "fc1.weight", "fc2.weight"))
    assert Recipe(optimizer="muon").orthogonalizes(name) == (matrices if name.startswith("blocks.") else 0)
    assert Recipe(optimizer="adamw").orthogonalizes(name) == 0
