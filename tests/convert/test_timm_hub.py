"""timm's hub folders: what their `config.json` says is read as timm reads it, and written so that timm builds it."""
import json

import numpy as np
import pytest

from tests.convert.conftest import convert_command
from vit import convert
from vit.convert import timm_hub
from vit.files import canonical
from vit.files.safetensors import write_tensors
from vit.files.usage import Preprocessing, Usage
from vit.model import parameters
from vit.model.config import VARIANTS

CONFIG = VARIANTS["tiny"].replace(num_classes=3)
CLASSES = ("tench", "goldfish", "great white shark")
# As timm's `save_for_hf` writes them.
PRETRAINED = {"tag": "augreg", "custom_load": False, "input_size": [3, 32, 32], "fixed_input_size": True,
              "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": [0.5, 0.5, 0.5],
              "std": [0.25, 0.5, 0.5], "num_classes": 3, "pool_size": None, "first_conv": "patch_embed.proj",
              "classifier": "head", "license": "apache-2.0"}
TIMMS = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "num_features": 64, "global_pool": "token",
         "label_names": list(CLASSES), "label_descriptions": {"tench": "a fish"},
         "model_args": {"num_heads": 4, "img_size": 32}, "pretrained_cfg": PRETRAINED}
READ = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.5, 0.5), 0.9, "bicubic")


@pytest.fixture
def folder(tmp_path):
    """A function from settings to a folder with them and weights without a manifest, as timm writes it."""

    def make(settings, **config):
        (tmp_path / "hub").mkdir(exist_ok=True)
        spec = CONFIG.replace(**config)
        with open(tmp_path / "hub/model.safetensors", "wb") as file:
            write_tensors(file, parameters.perturbed(spec, 0), {"format": "pt"})
        text = settings if isinstance(settings, str) else json.dumps(settings)
        (tmp_path / "hub/config.json").write_text(text)
        return tmp_path / "hub"

    return make


def test_names_and_preprocessing_are_read(folder):
    _, config, report = convert.read(folder(TIMMS))
    assert report.usage == Usage(CLASSES, READ)
    assert config == CONFIG.replace(block_norm_eps=1e-6, final_norm_eps=1e-6)


@pytest.mark.parametrize(("change", "expected"), [
    ({"label_names": {"0": "a", "2": "c", "1": "b"}}, ("a", "b", "c")), ({"label_names": {"0": "a", "7": "b"}}, None),
    ({"label_names": None}, None),
    ({"label_names": None, "pretrained_cfg": {"label_names": ["x", "y", "z"]}}, ("x", "y", "z")),
])
def test_names_come_in_several_ways(folder, change, expected):
    assert convert.read(folder(TIMMS | change))[2].usage.classes == expected


def test_the_older_form_is_one_dict(folder):
    settings = PRETRAINED | {"architecture": "vit_small_patch16_224", "labels": list(CLASSES)}
    found = convert.read(folder(settings), heads=4)[2].usage
    assert found == Usage(CLASSES, READ)


@pytest.mark.parametrize(("change", "expected"), [
    ({"crop_pct": None}, Preprocessing(READ.mean, READ.std, 0.875)),
    ({"interpolation": None, "crop_mode": None}, READ),
    ({"mean": None, "std": None}, Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.9)),
    ({"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"},
     Preprocessing(READ.mean, READ.std, None, "bilinear")),
    (dict.fromkeys(("mean", "std", "interpolation", "crop_pct", "crop_mode")), None)])
def test_what_is_left_out_is_timms_default(folder, change, expected):
    assert convert.read(folder(TIMMS | {"pretrained_cfg": PRETRAINED | change}))[2].usage.preprocessing == expected


@pytest.mark.parametrize(("change", "fragment"), [
    ({"crop_mode": "border"}, "crop_mode 'border'"), ({"crop_mode": "squash"}, "crop_mode 'squash' with crop_pct 0.9"),
    ({"interpolation": "lanczos"}, "interpolation"), ({"mean": 0.5}, "iterable"), ({"std": [0, 0, 0]}, "std"),
    ({"mean": [10**400] * 3}, ""), ({"crop_pct": 2}, "crop_pct")])
def test_images_that_cannot_be_expressed_are_noted(folder, change, fragment):
    report = convert.read(folder(TIMMS | {"pretrained_cfg": PRETRAINED | change}))[2]
    assert report.usage == Usage(CLASSES, None)
    assert [note for note in report.notes if "what config.json says of images" in note and fragment in note]


@pytest.mark.parametrize(("settings", "fragment"), [
    (TIMMS | {"label_names": "abc"}, "label_names"), (TIMMS | {"label_names": [1, 2, 3]}, "names"),
    (TIMMS | {"label_names": ["one"]}, "names 1 classes"), (TIMMS | {"pretrained_cfg": []}, "objects"),
    (TIMMS | {"model_args": 3}, "objects"), (TIMMS | {"model_args": {"num_heads": "4"}}, "heads"),
    (TIMMS | {"model_args": {"global_pool": "map"}}, "map"), (TIMMS | {"model_args": {"act_layer": "swish"}}, "swish"),
    (TIMMS | {"global_pool": [1]}, "global_pool"), ("{", "config.json"), ("[]", "config.json")])
def test_what_cannot_be_is_one_line(folder, settings, fragment, refused):
    with refused(fragment):
        convert.read(folder(settings))


def test_settings_of_another_project_say_nothing(folder):
    assert convert.read(folder({"model_type": "mae"}), heads=4)[2].usage == Usage()


def test_pool_and_activation_are_read(folder):
    settings = TIMMS | {"model_args": {"num_heads": 4, "global_pool": "avg", "act_layer": "gelu_tanh"}}
    config = convert.read(folder(settings))[1]
    assert (config.pool, config.activation, config.class_token) == ("mean", "gelu_tanh", True)


@pytest.mark.parametrize(("changes", "arguments"), [
    ({}, {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0}),
    ({"width": 28, "mlp_dim": 61, "heads": 4}, {"mlp_ratio": 61.5 / 28}),  # 61 / 28 * 28 is less than 61
    ({"pool": "mean", "fc_norm": True, "class_token": False},
     {"global_pool": "avg", "fc_norm": True, "class_token": False}),
    ({"pool": "mean"}, {"global_pool": "avg", "fc_norm": False}),
    ({"activation": "relu", "qkv_bias": False}, {"act_layer": "relu", "qkv_bias": False})])
def test_it_is_written_with_the_arguments_that_differ(tmp_path, changes, arguments):
    config = CONFIG.replace(**{"mlp_dim": 128} | changes)
    canonical.save(tmp_path / "own", parameters.initial(config, 0), config, Usage(CLASSES, READ))
    status, out, _ = convert_command(tmp_path / "own", tmp_path / "hub", "--to", "timm_hub")
    written = json.loads((tmp_path / "hub/config.json").read_text())
    assert status == 0 and "build it with" not in out
    assert written["model_args"].items() >= arguments.items()
    assert int(written["model_args"].get("embed_dim", 768) * written["model_args"]["mlp_ratio"]) == config.mlp_dim
    assert (written["architecture"], written["num_classes"], written["label_names"]) == (
        "vit_base_patch16_224", 3, list(CLASSES))
    assert written["pretrained_cfg"].items() >= {
        "input_size": [3, 32, 32], "num_classes": 3, "crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5]}.items()
    weights, read, report = convert.read(tmp_path / "hub")
    assert read == config and report.usage == Usage(CLASSES, READ)
    assert all(np.array_equal(weights[name], value) for name, value in parameters.initial(config, 0).items())


def test_a_published_size_has_its_name():
    config = VARIANTS["vit_ti_16_224"].replace(num_classes=1000)
    written = timm_hub.settings(config, Usage())
    assert written["architecture"] == "vit_tiny_patch16_224" and "model_args" not in written
    assert "label_names" not in written and "mean" not in written["pretrained_cfg"]


def test_a_stretched_image_is_squashed():
    written = timm_hub.settings(CONFIG, Usage(None, Preprocessing((0.5,) * 3, (0.5,) * 3, None)))["pretrained_cfg"]
    assert (written["crop_mode"], written["crop_pct"]) == ("squash", 1.0)


def test_an_epsilon_that_settings_cannot_say_is_noted(tmp_path):
    config = CONFIG.replace(block_norm_eps=1e-5, final_norm_eps=1e-5)
    canonical.save(tmp_path / "own", parameters.initial(config, 0), config)
    status, out, _ = convert_command(tmp_path / "own", tmp_path / "hub", "--to", "timm_hub")
    assert status == 0 and "norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-05)" in out
    assert convert.read(tmp_path / "hub")[1] == config
