"""torch's own layers under torchvision's and the apphub's names, and timm's names: files in, the same logits."""
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.convert.conftest import BACKENDS, convert_command, converted, difference, logits, random_images, randomize
from tests.convert.originals import Apphub, Torchvision
from vit import convert
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS

TIMM = json.loads((Path(__file__).parent / "timm_names.json").read_text())
TIMM_VARIANTS = {"vit_tiny_patch16_224": "vit_ti_16_224", "vit_small_patch16_224": "vit_s_16_224",
                 "vit_base_patch16_224": "vit_b_16_224"}


def saved(model, path, dtype=torch.float64, **options):
    """A model with random values, and its state dict in a file."""
    model = randomize(model.to(dtype).eval())
    torch.save(model.state_dict(), path, **options)
    return model


def their_logits(model, images):
    with torch.no_grad():
        return model(torch.tensor(images).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("original", [Torchvision, Apphub])
def test_logits_are_theirs(tmp_path, original, backend, bars):
    model = saved(original(), tmp_path / "m.pt")
    values, config, out = converted(tmp_path / "m.pt", tmp_path, "--heads", "6")
    assert config.norm_order == ("post" if original is Apphub else "pre")
    assert ("apphub" in out) == (original is Apphub)
    images = random_images(config, "float64")
    assert difference(logits(backend, config, values, images), their_logits(model, images)) < bars["float64"]


@pytest.mark.parametrize("original", [Torchvision, Apphub])
def test_logits_are_theirs_in_float32(tmp_path, original, bars):
    model = saved(original(), tmp_path / "m.pt", torch.float32)
    values, config, _ = converted(tmp_path / "m.pt", tmp_path, "--heads", "6")
    images = random_images(config)
    assert difference(logits("torch", config, values, images), their_logits(model, images)) < bars["float32"]


@pytest.mark.parametrize("defect", [{"norm_order": "pre"}, {"block_norm_eps": 1e-6}, {"final_norm_eps": 1e-5},
                                    {"activation": "relu"}, {"heads": 3}])
def test_a_planted_defect_is_seen(tmp_path, defect, bars):
    model = saved(Apphub(), tmp_path / "m.pt")
    values, config, _ = convert.read(tmp_path / "m.pt", heads=6)
    images = random_images(config, "float64")
    wrong = logits("numpy", config.replace(**defect), values, images)
    assert difference(wrong, their_logits(model, images)) > 10 * bars["float64"]


def test_the_apphubs_own_size_needs_no_help(tmp_path):
    saved(Apphub(32, 4, 256, 6, 8, 512, 100), tmp_path / "m.pt", torch.float32)
    _, config, report = convert.read(tmp_path / "m.pt")
    assert config == VARIANTS["apphub"].replace(dropout=0.0, attention_dropout=0.0)
    assert any("heads 8: those of apphub" in note for note in report.notes)


def test_torchvisions_layer_before_the_head_is_refused(tmp_path, refused):
    saved(Torchvision(pre_logits=48), tmp_path / "m.pt")
    with refused("pre_logits"):
        convert.read(tmp_path / "m.pt", heads=6)


def test_torchvisions_old_names_are_known(tmp_path):
    saved(Torchvision(), tmp_path / "m.pt")
    state = torch.load(tmp_path / "m.pt", weights_only=True)
    state = {name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v for name, v in state.items()}
    torch.save(state, tmp_path / "old.pt")
    assert parameters.sha256(convert.read(tmp_path / "m.pt", heads=6)[0]) == \
        parameters.sha256(convert.read(tmp_path / "old.pt", heads=6)[0])


@pytest.mark.parametrize(("name", "variant"), TIMM_VARIANTS.items())
def test_timms_names_and_shapes_are_the_canonical_ones(name, variant):
    assert {key: list(shape) for key, shape in parameters.shapes(VARIANTS[variant]).items()} == TIMM[name]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_timm_files_go_both_ways(tmp_path, suffix):
    """Names, shapes and container of timm's own file; timm itself is not installed."""
    expected = {name: torch.randn(*shape) for name, shape in TIMM["vit_tiny_patch16_224"].items()}
    torch.save(expected, tmp_path / "theirs.pth")
    values, config, report = convert.read(tmp_path / "theirs.pth")
    assert config == VARIANTS["vit_ti_16_224"]
    assert all("heads" in note or "does not say" in note for note in report.notes)
    convert.write(tmp_path / f"ours{suffix}", values, config, "timm")
    path = tmp_path / f"ours{suffix}"
    again = safetensors.torch.load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
    assert set(again) == set(expected)
    assert all(torch.equal(again[name], value) for name, value in expected.items())


def test_a_departure_from_timms_defaults_is_said_and_kept(tmp_path, small, random_weights):
    config = small.replace(block_norm_eps=1e-12, final_norm_eps=1e-12)
    canonical.save(tmp_path / "ours.safetensors", random_weights(config), config)
    status, out, _ = convert_command(tmp_path / "ours.safetensors", tmp_path / "timm.safetensors", "--to", "timm")
    assert status == 0 and "eps=1e-12" in out
    assert convert.read(tmp_path / "timm.safetensors")[1] == config
    status, _, err = convert_command(tmp_path / "ours.safetensors", tmp_path / "timm.pth", "--to", "timm")
    assert status == 2 and "eps=1e-12" in err
    assert not (tmp_path / "timm.pth").exists()


def _timm(changes=(), prefix="", width=64):
    """A small file with timm's names."""
    config = VARIANTS["tiny"].replace(num_classes=5)
    values = {f"{prefix}{name}": torch.tensor(value) for name, value in parameters.perturbed(config, 1).items()}
    return values | {f"{prefix}{name}": torch.zeros(shape) for name, shape in dict(changes).items()}


@pytest.mark.parametrize(("name", "shape", "what"), [
    ("dist_token", (1, 1, 64), "distillation token"), ("head_dist.weight", (5, 64), "distillation head"),
    ("blocks.0.ls1.gamma", (64, ), "layer scale"),
    ("blocks.0.gamma_1", (64, ), "layer scale"), ("blocks.0.attn.q_norm.weight", (16, ), "norms of the queries"),
    ("reg_token", (1, 4, 64), "register tokens"), ("pre_logits.fc.weight", (64, 64), "pre_logits"),
    ("norm_pre.weight", (64, ), "norm before the blocks"),
    ("blocks.0.attn.relative_position_bias_table", (9, 4), "relative positions"),
    ("attn_pool.latent", (1, 1, 64), "attention pooling"),
])
def test_what_cannot_be_expressed_is_refused_by_name(tmp_path, refused, name, shape, what):
    torch.save(_timm({name: shape}), tmp_path / "m.pt")
    with refused(what, name, "timm"):
        convert.read(tmp_path / "m.pt")


def test_maes_decoder_is_dropped_and_said(tmp_path):
    state = _timm({"mask_token": (1, 1, 8), "decoder_blocks.0.norm1.weight": (8, ), "decoder_pos_embed": (1, 17, 8)})
    del state["head.weight"], state["head.bias"]
    torch.save({"model": state}, tmp_path / "m.pt")
    values, config, report = convert.read(tmp_path / "m.pt", num_classes=3)
    assert report.named("dropped") == ["mask_token", "decoder_blocks.0.norm1.weight", "decoder_pos_embed"]
    assert report.named("new") == ["head.weight", "head.bias"]
    assert config.num_classes == 3
    parameters.check(values, config)


@pytest.mark.parametrize("wrap", [lambda s: {"model": s, "epoch": 3, "optimizer": {}}, lambda s: {"state_dict": s},
                                  lambda s: {f"module.{name}": value for name, value in s.items()},
                                  lambda s: {f"module.model.{name}": value for name, value in s.items()}])
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_wrapped_state_dicts(tmp_path, wrap, new):
    torch.save(wrap(_timm()), tmp_path / "m.pt", _use_new_zipfile_serialization=new)
    values, _, _ = convert.read(tmp_path / "m.pt")
    assert all(np.array_equal(values[name], value.numpy()) for name, value in _timm().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_16_bits_are_widened_and_said(tmp_path, dtype, kind):
    state = {name: value.to(dtype) for name, value in _timm().items()}
    save = torch.save if kind == "pt" else safetensors.torch.save_file
    save(state, tmp_path / f"m.{kind}")
    values, _, report = convert.read(tmp_path / f"m.{kind}")
    assert all(np.array_equal(values[name], value.float().numpy()) for name, value in state.items())
    assert any("16 bits" in note for note in report.notes)


def test_missing_and_extra_names_are_listed(tmp_path, refused):
    state = _timm({"colour": (1, )})
    del state["blocks.2.norm1.weight"]
    torch.save(state, tmp_path / "m.pt")
    with refused("missing blocks.2.norm1.weight", "unexpected colour"):
        convert.read(tmp_path / "m.pt")


def test_an_unknown_model_is_refused_with_its_names(tmp_path, refused):
    torch.save({f"layer{i}.conv.weight": torch.zeros(3) for i in range(20)}, tmp_path / "m.pt")
    with refused("no known ViT", "layer0.conv.weight", "14 more"):
        convert.read(tmp_path / "m.pt")


@pytest.mark.parametrize(("classes", "actions"), [(5, set()), (9, {"dropped", "new"})])
def test_a_changed_number_of_classes_gives_a_new_head_and_says_so(tmp_path, classes, actions):
    torch.save(_timm(), tmp_path / "m.pt")
    values, config, out = converted(tmp_path / "m.pt", tmp_path, "--num_classes", classes)
    assert values["head.weight"].shape == (classes, 64) and config.num_classes == classes
    assert {action for action in ("dropped", "new") if f"{action:8} head.weight" in out} == actions
    if actions:
        assert "the file's head has 5 classes" in out


def test_the_report_names_every_tensor_once(tmp_path):
    torch.save(_timm(), tmp_path / "m.pt")
    _, config, report = convert.read(tmp_path / "m.pt", image_size=64, num_classes=2)
    ours = [name for action, name, _, _ in report.rows if action != "dropped"]
    assert sorted(ours) == sorted(parameters.shapes(config))
    assert report.named("resized") == ["pos_embed"]
