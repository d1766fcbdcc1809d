"""The model's spec: what it refuses, what its variants are, and that it survives JSON."""
import dataclasses
import json
import math

import pytest

from vit.model.config import VARIANTS, ViTConfig, stage_names
from vit.model.parameters import shapes

INTS = ("image_size", "patch_size", "in_channels", "width", "depth", "heads", "mlp_dim", "num_classes")
RATES = ("dropout", "attention_dropout", "drop_path", "patch_dropout")
EPSILONS = ("block_norm_eps", "final_norm_eps")
BOOLS = ("patch_bias", "qkv_bias", "class_token", "fc_norm")
CHOICES = ("activation", "norm_order", "pool")

REFUSED = {
    **dict.fromkeys(INTS, (0, -4, "4", 4.0, True, None)),
    **dict.fromkeys(RATES, (-0.1, 1.0, 1, 1.5, math.nan, math.inf, "0.1", True, None)),
    **dict.fromkeys(EPSILONS, (0.0, 0, 1.0, -1e-6, math.nan, math.inf, "1e-6", True, None)),
    **dict.fromkeys(BOOLS, (0, 1, "yes", None)),
    "activation": ("GELU", "swish", "", 1, None),
    "norm_order": ("Pre", "none", "", 1, None),
    "pool": ("max", "CLS", "", 0, None),
    "decoder_depth": (-1, "4", 4.0, True, None),
    "decoder_width": (0, -4, "4", 4.0, True, None),
    "decoder_heads": (0, -4, "4", 4.0, True, None),
}


def test_every_field_has_values_that_are_tried():
    assert set(REFUSED) == {field.name for field in dataclasses.fields(ViTConfig)}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in REFUSED.items() for value in values])
def test_impossible_value_is_refused_by_name(field, value):
    with pytest.raises(ValueError) as caught:
        ViTConfig(**{field: value})
    shown = str(float(value)) if field in RATES + EPSILONS and type(value) is int else repr(value)
    assert field in str(caught.value)
    assert shown in str(caught.value)


@pytest.mark.parametrize(("changes", "fragments"), [
    ({"image_size": 32, "patch_size": 5}, ("image_size 32", "patch_size 5")),
    ({"image_size": 32, "patch_size": 64}, ("image_size 32", "patch_size 64")),
    ({"width": 100, "heads": 8}, ("width 100", "heads 8")),
    ({"pool": "cls", "class_token": False}, ("pool", "cls", "class_token", "False")),
    ({"pool": "cls", "fc_norm": True}, ("fc_norm", "pool", "cls")),
    ({"decoder_depth": 1, "patch_dropout": 0.5, "decoder_width": 100, "decoder_heads": 8},
     ("decoder_width 100", "decoder_heads 8")),
    ({"decoder_depth": 1, "patch_dropout": 0.5, "pool": "mean", "fc_norm": True}, ("fc_norm", "decoder")),
    ({"decoder_depth": 1, "patch_dropout": 0.005}, ("patch_dropout 0.005", "64 patches")),
])
def test_values_that_do_not_go_together_are_all_named(changes, fragments):
    with pytest.raises(ValueError) as caught:
        ViTConfig(**changes)
    assert all(fragment in str(caught.value) for fragment in fragments)


def test_replace_validates_again():
    with pytest.raises(ValueError, match="heads 7"):
        VARIANTS["tiny"].replace(heads=7)


def test_a_whole_number_serves_as_a_rate():
    assert type(ViTConfig(dropout=0).dropout) is float


def test_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        VARIANTS["tiny"].width = 8


# Those of up to 32 pixels are worked out by hand; the others are the counts that timm and torchvision publish.
@pytest.mark.parametrize(("variant", "count"), {
    "tiny": 154_020,
    "apphub": 3_218_020,
    "small_data": 2_714_980,
    "compact": 3_744_868,
    "vit_ti_16_224": 5_717_416,
    "vit_s_16_224": 22_050_664,
    "vit_b_16_224": 86_567_656,
    "vit_b_16_384": 86_859_496,
    "vit_b_32_224": 88_224_232,
    "vit_b_32_384": 88_297_192,
    "vit_l_16_224": 304_326_632,
    "vit_l_16_384": 304_715_752,
    "vit_l_32_224": 306_535_400,
}.items())
def test_parameter_count(variant, count):
    assert sum(math.prod(shape) for shape in shapes(VARIANTS[variant]).values()) == count


def test_every_variant_has_a_known_parameter_count():
    counted = next(mark for mark in test_parameter_count.pytestmark if mark.name == "parametrize").args[1]
    assert {variant for variant, _ in counted} == set(VARIANTS)


@pytest.mark.parametrize(("variant", "tokens"), [("tiny", 17), ("apphub", 65), ("small_data", 65),
                                                 ("vit_ti_16_224", 197), ("vit_s_16_224", 197),
                                                 ("vit_b_16_224", 197), ("vit_b_16_384", 577), ("vit_b_32_224", 50),
                                                 ("vit_b_32_384", 145), ("vit_l_16_224", 197), ("vit_l_16_384", 577),
                                                 ("vit_l_32_224", 50)])
def test_token_count(variant, tokens):
    assert VARIANTS[variant].tokens == tokens
    assert VARIANTS[variant].patches == tokens - 1


@pytest.mark.parametrize(("rate", "patches"), [(0, 64), (0.25, 48), (0.5, 32), (0.51, 31), (0.999, 1)])
def test_trained_patches(rate, patches):
    config = VARIANTS["apphub"].replace(patch_dropout=rate)
    assert (config.trained_patches, config.trained_tokens, config.tokens) == (patches, patches + 1, 65)


def test_apphub_is_what_its_source_says():
    assert VARIANTS["apphub"].to_dict() == {
        "image_size": 32, "patch_size": 4, "in_channels": 3, "width": 256, "depth": 6, "heads": 8, "mlp_dim": 512,
        "activation": "gelu", "num_classes": 100, "norm_order": "post", "patch_bias": False, "qkv_bias": True,
        "block_norm_eps": 1e-5, "final_norm_eps": 1e-6, "dropout": 0.1, "attention_dropout": 0.1, "drop_path": 0.0,
        "patch_dropout": 0.0, "pool": "cls", "class_token": True, "fc_norm": False, "decoder_depth": 0,
        "decoder_width": 128, "decoder_heads": 4}


@pytest.mark.parametrize("config", [
    *VARIANTS.values(),
    ViTConfig(norm_order="post", pool="mean", class_token=False, patch_bias=False, qkv_bias=False, dropout=0.25,
              attention_dropout=0.125, drop_path=0.5, patch_dropout=0.5, fc_norm=True, block_norm_eps=1e-5,
              final_norm_eps=1e-12, in_channels=1),
    ViTConfig(patch_dropout=0.75, decoder_depth=2, decoder_width=48, decoder_heads=3),
])
def test_survives_json(config):
    again = ViTConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert set(config.to_dict()) == set(REFUSED)


@pytest.mark.parametrize("change", [{"colour": "red"}, {"width": None}])
def test_from_dict_names_unknown_fields_and_missing_sizes(change):
    fields = VARIANTS["tiny"].to_dict() | change
    fields = {name: value for name, value in fields.items() if value is not None}
    with pytest.raises(ValueError, match="unknown: .'colour'" if "colour" in change else "missing: width$"):
        ViTConfig.from_dict(fields)


def test_a_field_that_came_later_takes_its_default():
    sizes = {name: getattr(VARIANTS["tiny"], name) for name in INTS}
    assert ViTConfig.from_dict(sizes) == VARIANTS["tiny"]
    assert ViTConfig.from_dict(sizes | {"pool": "mean"}) == VARIANTS["tiny"].replace(pool="mean")


@pytest.mark.parametrize("fields", [None, [], 1, "width"])
def test_from_dict_takes_nothing_but_an_object(fields):
    with pytest.raises(ValueError, match="an object of fields"):
        ViTConfig.from_dict(fields)


def test_stage_names():
    assert stage_names(ViTConfig(depth=2)) == ["tokens", "blocks.0.attn", "blocks.0.mlp", "blocks.1.attn",
                                               "blocks.1.mlp", "norm", "logits"]


@pytest.mark.parametrize(("pool", "class_token", "pooled"), [("cls", True, [0]), ("mean", True, [1, 2, 3, 4]),
                                                             ("mean", False, [0, 1, 2, 3])])
def test_pooled_tokens(pool, class_token, pooled):
    config = ViTConfig(image_size=8, patch_size=4, pool=pool, class_token=class_token)
    assert list(range(config.tokens))[config.pooled] == pooled


def test_stochastic_depth_grows_from_nothing():
    config = ViTConfig(depth=5, drop_path=0.4)
    assert [config.drop_path_rate(i) for i in range(5)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert ViTConfig(depth=1, drop_path=0.4).drop_path_rate(0) == 0
