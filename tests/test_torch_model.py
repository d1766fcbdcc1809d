"""vit_torch.ViT against the numpy oracle, stage by stage; its dropout; its weights in and out."""
import cv2
import numpy as np
import pytest
import torch

import vit_torch
from vit.model.config import VARIANTS, ViTConfig, stage_names
from vit.model.oracle import forward
from vit.model.parameters import shapes

BASE = ViTConfig(patch_size=8, width=48, depth=3, heads=3, mlp_dim=40, num_classes=11)
CASES = {
    "tiny": VARIANTS["tiny"],
    "apphub": VARIANTS["apphub"],
    "pre": BASE,
    "post": BASE.replace(norm_order="post"),
    "mean": BASE.replace(pool="mean"),
    "no class token": BASE.replace(pool="mean", class_token=False),
    "no patch bias": BASE.replace(patch_bias=False),
    "no qkv bias": BASE.replace(qkv_bias=False),
    "48 pixels": BASE.replace(image_size=48),
    "two epsilons": BASE.replace(block_norm_eps=0.3, final_norm_eps=0.6),
    "post, two epsilons": BASE.replace(norm_order="post", block_norm_eps=0.3, final_norm_eps=0.6),
    "rates do nothing": BASE.replace(dropout=0.5, attention_dropout=0.5, drop_path=0.5),
}
BARS = {"float64": 1e-12, "float32": 1e-5}


@pytest.fixture(scope="module")
def sample_images(digits):
    """A function: real images of a size, normalized, channels last."""

    def make(size, count=3):
        images = digits.pretrain.test.images[100::617][:count]
        images = np.stack([cv2.resize(image, (size, size)) for image in images])
        return (images / 255 - digits.mean) / digits.std

    return make


def _model(config, weights, dtype="float64"):
    return vit_torch.from_numpy(vit_torch.ViT(config, dtype), weights).eval()


def _tensor(images, dtype="float64"):
    return torch.tensor(images, dtype=getattr(torch, dtype)).permute(0, 3, 1, 2)


def _differing(model, config, weights, images, dtype):
    """Stages that are further from the oracle than the bar allows, in order."""
    with torch.no_grad():
        stages = model.stages(_tensor(images, dtype))
    names, bar = [], BARS[dtype]
    for (name, theirs), ours in zip(forward(config, weights, images).items(), stages, strict=True):
        assert ours.dtype == getattr(torch, dtype)
        assert tuple(ours.shape) == theirs.shape, name
        if not np.abs(ours.numpy() - theirs).max() <= bar * max(1, np.abs(theirs).max()):
            names.append(name)
    return names


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("case", CASES)
def test_every_stage_equals_the_oracle(case, dtype, random_weights, sample_images):
    config = CASES[case]
    weights = {name: value.astype(dtype) for name, value in random_weights(config).items()}
    images = sample_images(config.image_size).astype(dtype)
    assert _differing(_model(config, weights, dtype), config, weights, images, dtype) == []


@pytest.mark.parametrize(("name", "first"), [
    ("cls_token", "tokens"), ("pos_embed", "tokens"), ("patch_embed.proj.weight", "tokens"),
    ("patch_embed.proj.bias", "tokens"), ("blocks.0.norm1.bias", "blocks.0.attn"),
    ("blocks.1.attn.qkv.weight", "blocks.1.attn"), ("blocks.1.attn.qkv.bias", "blocks.1.attn"),
    ("blocks.1.attn.proj.bias", "blocks.1.attn"), ("blocks.2.norm2.weight", "blocks.2.mlp"),
    ("blocks.2.mlp.fc1.bias", "blocks.2.mlp"), ("blocks.2.mlp.fc2.weight", "blocks.2.mlp"), ("norm.bias", "norm"),
    ("head.weight", "logits"), ("head.bias", "logits"),
])
def test_a_wrong_value_shows_first_where_it_is_used(name, first, random_weights, sample_images):
    weights = random_weights(BASE)
    wrong = {key: value.copy() for key, value in weights.items()}
    wrong[name].flat[-1] += 1e-6
    differing = _differing(_model(BASE, wrong), BASE, weights, sample_images(32), "float64")
    assert differing[0] == first
    assert differing == stage_names(BASE)[stage_names(BASE).index(first):]


def test_logits_are_the_last_stage(random_weights, sample_images):
    model, images = _model(BASE, random_weights(BASE)), _tensor(sample_images(32))
    assert torch.equal(model(images), model.stages(images)[-1])


def test_an_image_does_not_see_its_batch(random_weights, sample_images):
    model, images = _model(BASE, random_weights(BASE)), _tensor(sample_images(32))
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3, 64, 64), (4, 3, 16, 16), (4, 6, 32, 32), (4, 3, 32, 64), (4, 32, 32, 3),
                                   (4, 3, 33, 33)])
def test_images_of_another_shape_are_refused(random_weights, shape):
    model = _model(BASE, random_weights(BASE))
    with pytest.raises((RuntimeError, ValueError)):
        model(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_the_canonical_ones(variant):
    with torch.device("meta"):
        model = vit_torch.ViT(VARIANTS[variant])
    parameters, canonical = vit_torch.parameters(model), shapes(VARIANTS[variant])
    assert list(parameters) == list(canonical)
    flat = {"patch_embed.proj.weight": (canonical["patch_embed.proj.weight"][0],
                                        np.prod(canonical["patch_embed.proj.weight"][1:]))}
    assert {name: tuple(parameter.shape) for name, parameter in parameters.items()} == canonical | flat
    assert {id(parameter) for parameter in parameters.values()} == {id(parameter) for parameter in model.parameters()}
    assert set(model.state_dict()) == set(canonical), "what dropout hashes is a constant, and in no file"


# Weights in and out.

@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("case", ["tiny", "apphub", "no class token", "no qkv bias"])
def test_weights_go_in_and_come_out_bit_for_bit(case, dtype, random_weights):
    weights = {name: value.astype(dtype) for name, value in random_weights(CASES[case]).items()}
    again = vit_torch.to_numpy(_model(CASES[case], weights, dtype))
    assert set(again) == set(weights)
    for name, value in weights.items():
        assert (again[name].dtype, again[name].shape) == (value.dtype, value.shape), name
        assert again[name].tobytes() == value.tobytes(), name


def test_weights_are_copies_on_both_ways(random_weights):
    weights = random_weights(BASE)
    model = _model(BASE, weights)
    out = vit_torch.to_numpy(model)
    for value in (*weights.values(), *out.values()):
        value += 1
    again = vit_torch.to_numpy(model)
    assert all(np.allclose(again[name] + 1, weights[name]) for name in weights)


@pytest.mark.parametrize(("change", "fault"), [
    (lambda w: w.pop("norm.bias"), "missing norm.bias"),
    (lambda w: w.update(extra=np.zeros(1)), "unexpected extra"),
    (lambda w: w.update({"head.bias": np.zeros(12)}), "head.bias is [12], not [11]"),
    (lambda w: w.update({"blocks.0.mlp.fc1.weight": w["blocks.0.mlp.fc1.weight"].T}), "blocks.0.mlp.fc1.weight"),
    (lambda w: w.update({"patch_embed.proj.weight": w["patch_embed.proj.weight"].reshape(48, -1)}), "patch_embed"),
], ids=["missing", "extra", "misshaped", "transposed", "flattened"])
def test_weights_of_another_model_change_nothing(change, fault, random_weights, refused):
    model = vit_torch.ViT(BASE)
    before = vit_torch.to_numpy(model)
    weights = random_weights(BASE)
    change(weights)
    with refused(fault):
        vit_torch.from_numpy(model, weights)
    after = vit_torch.to_numpy(model)
    assert all((after[name] == before[name]).all() for name in before)


# Imports.

def test_importing_the_model_imports_no_other_framework(run_python):
    done = run_python("-c", "import sys, vit_torch; vit_torch.ViT(vit_torch.ViTConfig(depth=1)); "
                      "print({'tensorflow', 'keras', 'tf_keras', 'fastestimator', 'mindspore'} & set(sys.modules))")
    assert done.stdout == "set()\n", done.stderr
