"""The numpy oracle against two formulations that share no code with it: PyTorch's own layers, and plain loops."""
import math

import numpy as np
import pytest
import torch
from torch import nn

from vit.model.config import ViTConfig, stage_names
from vit.model.oracle import forward, gelu, layer_norm

BASE = ViTConfig(image_size=24, patch_size=8, in_channels=3, width=48, depth=3, heads=3, mlp_dim=40, num_classes=7)
CASES = {
    "pre": BASE,
    "post": BASE.replace(norm_order="post"),
    "mean": BASE.replace(pool="mean"),
    "no class token": BASE.replace(pool="mean", class_token=False),
    "no biases": BASE.replace(patch_bias=False, qkv_bias=False),
    "wide epsilons": BASE.replace(block_norm_eps=0.3, final_norm_eps=0.6),
    "post, wide epsilons": BASE.replace(norm_order="post", block_norm_eps=0.3, final_norm_eps=0.6),
    "one grey channel": BASE.replace(in_channels=1),
}


@pytest.fixture(params=CASES)
def case(request, random_weights):
    """A model, its weights, and images."""
    config = CASES[request.param]
    side = config.image_size
    images = np.random.default_rng(5).normal(size=(2, side, side, config.in_channels))
    return config, random_weights(config), images


def _close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, np.abs(theirs).max()))


def _block(config, w, i):
    """PyTorch's own encoder layer with the weights of a block."""
    layer = nn.TransformerEncoderLayer(config.width, config.heads, config.mlp_dim, dropout=0.0,
                                       activation=nn.functional.gelu, layer_norm_eps=config.block_norm_eps,
                                       batch_first=True, norm_first=config.norm_order == "pre", dtype=torch.float64)
    names = {"self_attn.in_proj_weight": "attn.qkv.weight", "self_attn.in_proj_bias": "attn.qkv.bias",
             "self_attn.out_proj.weight": "attn.proj.weight", "self_attn.out_proj.bias": "attn.proj.bias",
             "linear1.weight": "mlp.fc1.weight", "linear1.bias": "mlp.fc1.bias",
             "linear2.weight": "mlp.fc2.weight", "linear2.bias": "mlp.fc2.bias",
             "norm1.weight": "norm1.weight", "norm1.bias": "norm1.bias",
             "norm2.weight": "norm2.weight", "norm2.bias": "norm2.bias"}
    absent = torch.zeros(3 * config.width, dtype=torch.float64)
    layer.load_state_dict({theirs: w.get(f"blocks.{i}.{ours}", absent) for theirs, ours in names.items()})
    return layer  # in training mode, with no dropout: PyTorch's fused path for evaluation stays out of it


def _attn_half(config, layer, x):
    """The first half of a block, from the layer's parts."""
    if config.norm_order == "pre":
        y = layer.norm1(x)
        return x + layer.self_attn(y, y, y)[0]
    return layer.norm1(x + layer.self_attn(x, x, x)[0])


def _torch_forward(config, weights, images):
    w = {name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items()}
    x = torch.nn.functional.conv2d(torch.tensor(images).permute(0, 3, 1, 2), w["patch_embed.proj.weight"],
                                   w.get("patch_embed.proj.bias"), stride=config.patch_size)
    x = x.flatten(2).transpose(1, 2)
    if config.class_token:
        x = torch.cat([w["cls_token"].repeat(len(x), 1, 1), x], dim=1)
    x = x + w["pos_embed"]
    stages = [x]
    for i in range(config.depth):
        layer = _block(config, w, i)
        stages.append(_attn_half(config, layer, x))
        x = layer(x)
        stages.append(x)
    x = torch.nn.functional.layer_norm(x, (config.width, ), w["norm.weight"], w["norm.bias"], config.final_norm_eps)
    x = x[:, 0] if config.pool == "cls" else x[:, int(config.class_token):].mean(dim=1)
    stages += [x, x @ w["head.weight"].T + w["head.bias"]]
    return [stage.detach().numpy() for stage in stages]


def test_every_stage_equals_pytorchs_own_layers(case):
    ours = forward(*case)
    assert list(ours) == stage_names(case[0])
    for name, theirs in zip(ours, _torch_forward(*case), strict=True):
        assert ours[name].dtype == np.float64
        assert ours[name].shape == theirs.shape, name
        _close(ours[name], theirs)


def test_attention_maps_are_pytorchs_and_sum_to_one(case):
    config, weights, images = case
    maps = []
    stages = forward(config, weights, images, maps)
    w = {name: torch.tensor(value) for name, value in weights.items()}
    assert len(maps) == config.depth
    for i, ours in enumerate(maps):
        assert ours.shape == (2, config.heads, config.tokens, config.tokens)
        assert (ours > 0).all() and ours.std() > 1e-3
        _close(ours.sum(axis=-1), 1.0)
        layer = _block(config, w, i)
        x = torch.tensor(stages["tokens" if i == 0 else f"blocks.{i - 1}.mlp"])
        x = layer.norm1(x) if config.norm_order == "pre" else x
        _close(ours, layer.self_attn(x, x, x, average_attn_weights=False)[1].detach().numpy())


def test_patches_are_row_major_and_channels_come_first_inside_one():
    config = ViTConfig(image_size=4, patch_size=2, in_channels=3, width=12, depth=1, heads=1, mlp_dim=1, num_classes=1,
                       class_token=False, pool="mean", patch_bias=False)
    from vit.model.parameters import shapes
    weights = {name: np.zeros(shape) for name, shape in shapes(config).items()}
    weights["patch_embed.proj.weight"] = np.eye(12).reshape(12, 3, 2, 2)
    images = np.arange(4 * 4 * 3).reshape(1, 4, 4, 3)
    tokens = forward(config, weights, images)["tokens"]
    for patch, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        window = images[0, row:row + 2, column:column + 2]
        assert tokens[0, patch].tolist() == [window[r, c, channel] for channel in range(3)
                                             for r in range(2) for c in range(2)]


def test_class_token_comes_first_and_every_token_has_its_position(random_weights):
    config = CASES["pre"]
    weights = random_weights(config)
    blank = forward(config, weights, np.zeros((1, 24, 24, 3)))["tokens"][0]
    expected = weights["pos_embed"][0] + weights["patch_embed.proj.bias"]
    expected[0] = weights["pos_embed"][0, 0] + weights["cls_token"][0, 0]
    _close(blank, expected)


def _norm(values, scale, shift, eps):
    mean = sum(values) / len(values)
    variance = sum((value - mean)**2 for value in values) / len(values)
    return [(v - mean) / math.sqrt(variance + eps) * a + b for v, a, b in zip(values, scale, shift, strict=True)]


def _dense(values, weight, bias):
    return [sum(w * v for w, v in zip(row, values, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def test_one_block_by_hand(random_weights):
    """Two grey pixels a side, one pixel a patch, two heads of width 1: small enough for plain loops over floats."""
    config = ViTConfig(image_size=2, patch_size=1, in_channels=1, width=2, depth=1, heads=2, mlp_dim=3, num_classes=2,
                       block_norm_eps=0.01, final_norm_eps=0.02)
    arrays = random_weights(config)
    w = {name: value.tolist() for name, value in arrays.items()}
    pixels = [0.3, -1.2, 2.0, 0.7]
    patch = [row[0][0][0] for row in w["patch_embed.proj.weight"]]
    tokens = [w["cls_token"][0][0]] + [[pixel * patch[d] + w["patch_embed.proj.bias"][d] for d in range(2)]
                                       for pixel in pixels]
    x = [[a + b for a, b in zip(token, position, strict=True)]
         for token, position in zip(tokens, w["pos_embed"][0], strict=True)]

    b = "blocks.0."
    qkv = [_dense(_norm(t, w[b + "norm1.weight"], w[b + "norm1.bias"], 0.01), w[b + "attn.qkv.weight"],
                  w[b + "attn.qkv.bias"]) for t in x]
    for n, token in enumerate(x):
        mixed = []
        for head in range(2):
            scores = [math.exp(qkv[n][head] * other[2 + head]) for other in qkv]  # a head is 1 wide: scale 1
            mixed.append(sum(s * other[4 + head] for s, other in zip(scores, qkv, strict=True)) / sum(scores))
        x[n] = [a + c for a, c in zip(token, _dense(mixed, w[b + "attn.proj.weight"], w[b + "attn.proj.bias"]),
                                      strict=True)]
    for n, token in enumerate(x):
        hidden = _dense(_norm(token, w[b + "norm2.weight"], w[b + "norm2.bias"], 0.01), w[b + "mlp.fc1.weight"],
                        w[b + "mlp.fc1.bias"])
        hidden = [h * (1 + math.erf(h / math.sqrt(2))) / 2 for h in hidden]
        x[n] = [a + c for a, c in zip(token, _dense(hidden, w[b + "mlp.fc2.weight"], w[b + "mlp.fc2.bias"]),
                                      strict=True)]
    final = _norm(x[0], w["norm.weight"], w["norm.bias"], 0.02)

    stages = forward(config, arrays, np.reshape(pixels, (1, 2, 2, 1)))
    _close(stages["blocks.0.mlp"][0], np.array(x))
    _close(stages["norm"][0], np.array(final))
    _close(stages["logits"][0], np.array(_dense(final, w["head.weight"], w["head.bias"])))


def test_gelu_is_the_exact_one():
    x = np.linspace(-6, 6, 41)
    _close(gelu(x), torch.nn.functional.gelu(torch.tensor(x), approximate="none").numpy())
    assert np.abs(gelu(x) - torch.nn.functional.gelu(torch.tensor(x), approximate="tanh").numpy()).max() > 1e-4


def test_layer_norm_uses_the_biased_variance():
    assert layer_norm(np.array([[1.0, -1.0]]), np.ones(2), np.zeros(2), 1e-15)[0].tolist() == pytest.approx([1, -1])


def test_large_scores_do_not_overflow(random_weights):
    config = CASES["pre"]
    weights = random_weights(config)
    weights["blocks.0.attn.qkv.weight"] *= 1e4
    assert np.isfinite(forward(config, weights, np.ones((1, 24, 24, 3)))["logits"]).all()
