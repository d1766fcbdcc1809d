"""MindCV's ViT, and checkpoints that MindSpore itself writes and reads."""
import functools

import mindspore as ms
import ml_dtypes
import numpy as np
import pytest
from mindcv.models.vit import VisionTransformer

from tests.convert.conftest import BACKENDS, convert_command, converted, difference, logits, random_images
from vit import convert
from vit.files import canonical
from vit.files.safetensors import open_tensors, write_tensors
from vit.model import parameters
from vit.model.config import VARIANTS, ViTConfig

SIZE = {"image_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0,
        "num_classes": 7}


def build(**settings):
    return VisionTransformer(**SIZE | settings).set_train(False)


def their_logits(model, images):
    return model(ms.Tensor(images.transpose(0, 3, 1, 2))).asnumpy()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Their file, ours, images and logits. (MindCV computes its softmax in float32 whatever the type.)"""
    folder = tmp_path_factory.mktemp("mindcv")
    model, rng = build(), np.random.default_rng(2)
    for name, value in model.parameters_dict().items():
        noise = rng.normal(size=value.shape) * (1 / np.sqrt(value[0].size) if value.ndim > 1 else 0.3)
        value.set_data(ms.Tensor((noise + name.endswith("gamma")).astype(np.float32)))
    ms.save_checkpoint(model, str(folder / "m.ckpt"), append_dict={"epoch_num": 3})
    values, config, out = converted(folder / "m.ckpt", folder)
    assert "MindCV" in out and "dropped  epoch_num" in out
    images = random_images(config)
    return values, config, images, their_logits(model, images)


def test_the_spec_is_theirs(original):
    assert original[1] == ViTConfig(image_size=32, patch_size=8, width=64, depth=4, heads=4, mlp_dim=128,
                                    num_classes=7, activation="gelu_tanh", block_norm_eps=1e-7, final_norm_eps=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_theirs(original, backend, bars):
    values, config, images, theirs = original
    assert difference(logits(backend, config, values, images), theirs) < bars["float32"]


@pytest.mark.parametrize("defect", [{"activation": "gelu"}, {"heads": 2}, {"block_norm_eps": 1e-3}])
def test_a_planted_defect_is_seen(original, defect, bars):
    values, config, images, theirs = original
    assert difference(logits("numpy", config.replace(**defect), values, images), theirs) > 5 * bars["float32"]


@pytest.mark.parametrize("exact", [False, True])
def test_they_load_what_is_written_for_them(tmp_path, random_weights, exact, bars):
    config = VARIANTS["tiny"].replace(num_classes=7, **({} if exact else {
        "activation": "gelu_tanh", "block_norm_eps": 1e-7, "final_norm_eps": 1e-7}))
    values = {name: value.astype(np.float32) for name, value in random_weights(config).items()}
    canonical.save(tmp_path / "ours.safetensors", values, config)
    status, out, _ = convert_command(tmp_path / "ours.safetensors", tmp_path / "m.ckpt", "--to", "mindspore")
    assert status == 0
    assert ("approximate=False" in out and "epsilon=1e-06" in out) == exact
    model = build(**({"act_layer": functools.partial(ms.nn.GELU, approximate=False),
                      "norm_layer": functools.partial(ms.nn.LayerNorm, epsilon=1e-6)} if exact else {}))
    missing, unexpected = ms.load_param_into_net(model, ms.load_checkpoint(str(tmp_path / "m.ckpt")))
    assert missing == []
    assert set(unexpected) <= {"vit_spec"}
    images = random_images(config)
    assert difference(their_logits(model, images), logits("numpy", config, values, images)) < bars["float32"]
    again, spec, _ = converted(tmp_path / "m.ckpt", tmp_path)
    assert spec == config
    assert parameters.sha256(again) == parameters.sha256(values)


@pytest.mark.parametrize("options", [{"crc_check": True}, {"append_dict": {"loss": 0.5, "note": "text"}}])
def test_what_mindspore_can_add_to_a_checkpoint(tmp_path, refused, options):
    config = VARIANTS["tiny"]
    values = parameters.perturbed(config, 1)
    names = {name: name.replace("weight", "gamma").replace("bias", "beta") if "norm" in name else name
             for name in values}
    ms.save_checkpoint([{"name": names[name], "data": ms.Tensor(value)} for name, value in values.items()],
                       str(tmp_path / "m.ckpt"), **options)
    if "append_dict" in options:
        with refused("unexpected loss"):
            convert.read(tmp_path / "m.ckpt")
        return
    again, _, _ = convert.read(tmp_path / "m.ckpt")
    assert parameters.sha256(again) == parameters.sha256(values)
    data = bytearray((tmp_path / "m.ckpt").read_bytes())
    data[5000] ^= 1
    (tmp_path / "m.ckpt").write_bytes(data)
    with refused("checksum"):
        convert.read(tmp_path / "m.ckpt")


@pytest.mark.full
@pytest.mark.parametrize("variant", ["vit_b_32_224"])
def test_base_size(tmp_path, variant, bars):
    import mindcv
    model = mindcv.create_model(variant)
    ms.save_checkpoint(model, str(tmp_path / "m.ckpt"))
    values, config, _ = converted(tmp_path / "m.ckpt", tmp_path)
    assert config == VARIANTS[variant].replace(activation="gelu_tanh", block_norm_eps=1e-7, final_norm_eps=1e-7)
    images = random_images(config, count=1)
    assert difference(logits("torch", config, values, images),
                      their_logits(model.set_train(False), images)) < bars["float32"]


def test_bfloat16_stays_ml_dtypes_where_mindspore_has_its_own(tmp_path):
    """safetensors asks NumPy for "bfloat16", and MindSpore puts its own type under that name when it is imported."""
    assert np.dtype("bfloat16") != ml_dtypes.bfloat16
    values = {"a": np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3)}
    with open(tmp_path / "w", "wb") as file:
        write_tensors(file, values, {})
    again = open_tensors(tmp_path / "w")[0]["a"].load()
    assert again.dtype == ml_dtypes.bfloat16 and np.array_equal(again, values["a"])
