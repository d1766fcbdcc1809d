"""Hugging Face's ViT, in torch and in TensorFlow: its files in, ours out to it, the same logits."""
import json

import numpy as np
import pytest
import torch
from fe_compat import legacy_tensorflow
from PIL import Image

from tests.convert.conftest import BACKENDS, convert_command, converted, difference, logits, random_images, randomize
from vit import convert, hub
from vit.data import load
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS, ViTConfig

legacy_tensorflow()  # before transformers imports it
import transformers

SIZE = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 80,
        "image_size": 32, "patch_size": 8, "num_labels": 7}


def build(folder, dtype=torch.float64, cls=transformers.ViTForImageClassification, **settings):
    model = randomize(cls(transformers.ViTConfig(**SIZE | settings)).to(dtype).eval())
    model.save_pretrained(folder)
    return model


def their_logits(model, images):
    with torch.no_grad():
        return model(torch.tensor(images).permute(0, 3, 1, 2)).logits.numpy()


@pytest.fixture(scope="module", params=["float64", "float32"])
def original(request, tmp_path_factory):
    """Their model's folder, its type, images and logits; ours, converted."""
    folder = tmp_path_factory.mktemp(request.param)
    model = build(folder / "hf", getattr(torch, request.param))
    values, config, _ = converted(folder / "hf", folder)
    images = random_images(config, request.param)
    return request.param, values, config, images, their_logits(model, images)


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_theirs(original, backend, bars):
    dtype, values, config, images, theirs = original
    assert difference(logits(backend, config, values, images), theirs) < bars[dtype]


def test_the_spec_is_theirs(original):
    _, _, config, _, _ = original
    assert config == ViTConfig(image_size=32, patch_size=8, width=48, depth=3, heads=6, mlp_dim=80, num_classes=7,
                               block_norm_eps=1e-12, final_norm_eps=1e-12)


@pytest.mark.parametrize("original", ["float64"], indirect=True)  # float32 would not show an epsilon
@pytest.mark.parametrize("defect", [
    lambda w, c: (w, c.replace(block_norm_eps=1e-6)),
    lambda w, c: (w, c.replace(final_norm_eps=1e-6)),
    lambda w, c: (w, c.replace(activation="gelu_tanh")),
    lambda w, c: (w, c.replace(heads=3)),
    lambda w, c: (w | {"blocks.1.attn.qkv.weight": np.roll(w["blocks.1.attn.qkv.weight"], 48, 0)}, c),
    lambda w, c: (w | {"blocks.1.attn.qkv.bias": np.roll(w["blocks.1.attn.qkv.bias"], 48)}, c),
    lambda w, c: (w | {"pos_embed": np.roll(w["pos_embed"], 1, 1)}, c),
    lambda w, c: (w | {"patch_embed.proj.weight": w["patch_embed.proj.weight"].transpose(0, 1, 3, 2)}, c),
    lambda w, c: (w | {"blocks.0.attn.proj.weight": w["blocks.0.attn.proj.weight"].T}, c),
], ids=["block eps", "final eps", "gelu", "heads", "q for k", "bias of q for k", "positions", "patch", "transposed"])
def test_a_planted_defect_is_seen(original, defect, bars):
    dtype, values, config, images, theirs = original
    values, config = defect(values, config)
    assert difference(logits("torch", config, values, images), theirs) > 10 * bars[dtype]


@pytest.mark.parametrize(("settings", "expected"), [
    ({"hidden_act": "gelu_new"}, {"activation": "gelu_tanh"}),
    ({"hidden_act": "gelu_pytorch_tanh"}, {"activation": "gelu_tanh"}),
    ({"hidden_act": "gelu_fast"}, {"activation": "gelu_tanh"}),
    ({"hidden_act": "relu"}, {"activation": "relu"}),
    ({"layer_norm_eps": 1e-3}, {"block_norm_eps": 1e-3, "final_norm_eps": 1e-3}),
    ({"qkv_bias": False}, {"qkv_bias": False}),
    ({"num_channels": 1}, {"in_channels": 1}),
])
def test_settings_are_heeded(tmp_path, settings, expected, bars):
    model = build(tmp_path / "hf", **settings)
    values, config, _ = converted(tmp_path / "hf", tmp_path)
    assert {name: getattr(config, name) for name in expected} == expected
    images = random_images(config, "float64")
    assert difference(logits("torch", config, values, images), their_logits(model, images)) < bars["float64"]


@pytest.mark.parametrize("settings", [{}, {"activation": "gelu_tanh"}, {"activation": "relu"}, {"qkv_bias": False},
                                      {"patch_bias": False}, {"block_norm_eps": 1e-3, "final_norm_eps": 1e-3}])
def test_they_load_what_is_written_for_them(tmp_path, random_weights, settings, bars):
    config = VARIANTS["tiny"].replace(num_classes=7, **settings)
    values = random_weights(config)
    canonical.save(tmp_path / "ours.safetensors", values, config)
    assert convert_command(tmp_path / "ours.safetensors", tmp_path / "hf", "--to", "hf")[0] == 0
    model, info = transformers.ViTForImageClassification.from_pretrained(tmp_path / "hf", torch_dtype=torch.float64,
                                                                         output_loading_info=True)
    assert not any(info.values()), info
    images = random_images(config, "float64")
    ours = logits("torch", config, values, images)
    assert difference(their_logits(model.eval(), images), ours) < bars["float64"]
    again, spec, _ = converted(tmp_path / "hf", tmp_path)
    assert spec == config.replace(patch_bias=True)
    assert all(np.array_equal(again[name], value) for name, value in values.items())


@pytest.mark.backend("torch")
def test_predictions_are_those_of_their_pipeline(tmp_path):
    folder, names = str(tmp_path / "hf"), dict(enumerate(["cat", "dog", "ship", "ox", "tree", "lamp", "road"]))
    build(folder, torch.float32, id2label=names, label2id={name: index for index, name in names.items()})
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4] * 3).save_pretrained(folder)
    photos = [Image.fromarray(image).resize((120, 90), Image.Resampling.BICUBIC)
              for image in load("digits").finetune.test.images[:3]]
    theirs = transformers.pipeline("image-classification", folder, framework="pt")(photos, top_k=5)
    ours = hub.pipeline("image_classification", folder, "torch")(photos, top_k=5)
    assert [[row["label"] for row in rows] for rows in ours] == [[row["label"] for row in rows] for rows in theirs]
    assert len({rows[0]["score"] for rows in ours}) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert [row["score"] for row in one] == pytest.approx([row["score"] for row in other], abs=1e-5)


@pytest.mark.parametrize(("settings", "named"), [
    ({"norm_order": "post"}, "norm_order 'post'"), ({"pool": "mean"}, "pool 'mean'"),
    ({"pool": "mean", "class_token": False}, "pool 'mean'"),
    ({"block_norm_eps": 1e-5}, "final_norm_eps"),
])
def test_what_they_cannot_express_is_refused_by_name(tmp_path, small, random_weights, settings, named):
    config = small.replace(**settings)
    canonical.save(tmp_path / "ours.safetensors", random_weights(config), config)
    status, out, err = convert_command(tmp_path / "ours.safetensors", tmp_path / "hf", "--to", "hf")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert named in err
    assert not (tmp_path / "hf").exists()


def test_a_model_without_a_head_gets_a_new_one_and_its_pooler_is_dropped(tmp_path):
    model = build(tmp_path / "hf", cls=transformers.ViTModel)
    values, config, out = converted(tmp_path / "hf", tmp_path, "--num_classes", "4")
    assert config.num_classes == 4
    assert values["head.weight"].shape == (4, 48)
    assert "dropped  pooler.dense.weight" in out and "new      head.weight" in out and "has no head" in out
    images = random_images(config, "float64")
    with torch.no_grad():
        features = model(torch.tensor(images).permute(0, 3, 1, 2)).last_hidden_state[:, 0].numpy()
    expected = features @ values["head.weight"].T + values["head.bias"]
    assert difference(logits("torch", config, values, images), expected) < 1e-10


def test_torch_file_beside_its_settings(tmp_path):
    model = build(tmp_path / "hf")
    model.save_pretrained(tmp_path / "bin", safe_serialization=False)
    first, _, _ = convert.read(tmp_path / "hf")
    second, config, report = convert.read(tmp_path / "bin" / "pytorch_model.bin")
    assert parameters.sha256(first) == parameters.sha256(second)
    assert config.block_norm_eps == 1e-12
    assert "torch state dict" in report.recognised


def test_a_file_without_settings_needs_its_heads(tmp_path, refused):
    build(tmp_path / "hf")
    (tmp_path / "hf" / "config.json").unlink()
    with refused("heads", "--heads"):
        convert.read(tmp_path / "hf")
    _, config, report = convert.read(tmp_path / "hf", heads=6)
    assert config.heads == 6
    assert any("1e-12" in note for note in report.notes)


@pytest.mark.parametrize(("change", "named"), [
    ({"hidden_act": "quick_gelu"}, "quick_gelu"), ({"model_type": "deit"}, "deit"), ({"hidden_act": 3}, "3"),
    ({"num_attention_heads": 5}, "heads 5"), ({"num_attention_heads": "6"}, "heads"), ({"layer_norm_eps": "x"}, "eps"),
    ({"image_size": 40}, "positions"), ({"image_size": "32"}, "image_size"), ({"layer_norm_eps": -1}, "eps"),
])
def test_settings_that_cannot_be_heeded_are_named(tmp_path, refused, change, named):
    build(tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with refused(named):
        convert.read(tmp_path / "hf")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\xff"])
def test_damaged_settings_are_refused(tmp_path, refused, text):
    build(tmp_path / "hf")
    (tmp_path / "hf" / "config.json").write_text(text)
    with refused("config.json"):
        convert.read(tmp_path / "hf")


def test_positions_of_a_wide_image_need_a_size(tmp_path, refused):
    build(tmp_path / "hf", image_size=(32, 48))
    with refused("4 x 6", "--image_size"):
        convert.read(tmp_path / "hf")
    _, config, report = convert.read(tmp_path / "hf", image_size=48)
    assert config.image_size == 48
    assert report.rows[1][:3] == ("resized", "pos_embed", (1, 37, 48))


@pytest.fixture(scope="module", params=["h5", "safetensors"])
def keras_original(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model = build(folder / "torch", torch.float32)
    model = transformers.TFViTForImageClassification.from_pretrained(folder / "torch", from_pt=True)
    model.save_pretrained(folder / "tf", safe_serialization=request.param == "safetensors")
    values, config, out = converted(folder / "tf", folder)
    assert "TensorFlow" in out
    images = random_images(config)
    return values, config, images, model(images.transpose(0, 3, 1, 2)).logits.numpy()


@pytest.mark.parametrize("backend", ["numpy", pytest.param("tf", marks=pytest.mark.backend("tf"))])
def test_logits_are_those_of_their_tensorflow_model(keras_original, backend, bars):
    values, config, images, theirs = keras_original
    assert difference(logits(backend, config, values, images), theirs) < bars["float32"]


@pytest.mark.full
@pytest.mark.parametrize("backend", BACKENDS)
def test_base_size(tmp_path, backend, bars):
    model = build(tmp_path / "hf", torch.float32, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
                  intermediate_size=3072, image_size=224, patch_size=16, num_labels=1000)
    values, config, _ = converted(tmp_path / "hf", tmp_path)
    assert config == VARIANTS["vit_b_16_224"].replace(block_norm_eps=1e-12, final_norm_eps=1e-12)
    images = random_images(config, count=1)
    assert difference(logits(backend, config, values, images), their_logits(model, images)) < bars["float32"]
