"""The norm after pooling: MAE's finetuned names, and timm's and MindCV's, in and out with the same logits."""
import numpy as np
import pytest
import torch

from tests.convert.conftest import BACKENDS, convert_command, converted, difference, logits, random_images, randomize
from tests.convert.originals import MaeFinetuned
from vit import convert
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS

CONFIG = VARIANTS["tiny"].replace(num_classes=7, pool="mean", fc_norm=True)


@pytest.fixture
def mae(tmp_path):
    """MAE's model with random values in float64, and its file."""
    model = randomize(MaeFinetuned().double().eval())
    torch.save({"model": model.state_dict()}, tmp_path / "finetuned.pth")
    return model, tmp_path / "finetuned.pth"


def _their_logits(model, images):
    with torch.no_grad():
        return model(torch.tensor(images).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("backend", (*BACKENDS, "numpy"))
def test_logits_are_maes(mae, tmp_path, backend, bars):
    model, path = mae
    values, config, out = converted(path, tmp_path, "--heads", "6")
    assert (config.fc_norm, config.pool, config.class_token) == (True, "mean", True)
    assert "fc_norm" in out and "norm.weight" not in values
    images = random_images(config, "float64")
    assert difference(logits(backend, config, values, images), _their_logits(model, images)) < bars["float64"]


def test_a_norm_before_the_pooling_is_seen(mae, bars):
    model, path = mae
    values, config, _ = convert.read(path, heads=6)
    images = random_images(config, "float64")
    moved = {name.replace("fc_norm.", "norm."): value for name, value in values.items()}
    wrong = logits("numpy", config.replace(fc_norm=False), moved, images)
    assert difference(wrong, _their_logits(model, images)) > 10 * bars["float64"]


def test_maes_own_model_loads_what_is_written_for_timm(mae, tmp_path, bars):
    """MAE reads torch files, and timm's default for its pooling is this norm; a torch file has no room for a spec."""
    model, path = mae
    values, config, _ = convert.read(path, heads=6)
    convert.write(tmp_path / "ours.safetensors", values, config, "timm")
    again, spec, _ = convert.read(tmp_path / "ours.safetensors")
    assert spec == config and parameters.sha256(again) == parameters.sha256(values)
    other = MaeFinetuned().double().eval()
    other.load_state_dict({name: torch.tensor(value) for name, value in again.items()})
    images = random_images(config, "float64")
    assert difference(_their_logits(other, images), _their_logits(model, images)) < bars["float64"]


def test_mindcv_builds_it_as_the_note_says(tmp_path, random_weights, bars):
    import mindspore as ms
    from mindcv.models.vit import VisionTransformer
    config = CONFIG.replace(activation="gelu_tanh", block_norm_eps=1e-7, final_norm_eps=1e-7)
    values = {name: value.astype(np.float32) for name, value in random_weights(config).items()}
    canonical.save(tmp_path / "ours.safetensors", values, config)
    status, out, _ = convert_command(tmp_path / "ours.safetensors", tmp_path / "m.ckpt", "--to", "mindspore")
    assert status == 0 and "class_token=True, global_pool='avg', fc_norm=True" in out
    model = VisionTransformer(image_size=32, patch_size=8, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0,
                              num_classes=7, class_token=True, global_pool="avg", fc_norm=True).set_train(False)
    missing, unexpected = ms.load_param_into_net(model, ms.load_checkpoint(str(tmp_path / "m.ckpt")))
    assert missing == [] and set(unexpected) <= {"vit_spec"}
    images = random_images(config)
    theirs = model(ms.Tensor(images.transpose(0, 3, 1, 2))).asnumpy()
    assert difference(theirs, logits("numpy", config, values, images)) < bars["float32"]
    again, spec, _ = converted(tmp_path / "m.ckpt", tmp_path)
    assert spec == config and parameters.sha256(again) == parameters.sha256(values)


@pytest.mark.parametrize(("to", "what"), [("hf", "pool 'mean'"), ("npz", "fc_norm")])
def test_who_cannot_express_it_says_so(tmp_path, refused, random_weights, to, what):
    with refused(what):
        convert.write(tmp_path / "out", random_weights(CONFIG), CONFIG, to)
    assert list(tmp_path.iterdir()) == []


def test_both_norms_in_one_file_are_refused(tmp_path, refused):
    values = parameters.perturbed(CONFIG, 1) | {"norm.weight": np.ones(64, np.float32)}
    torch.save({name: torch.tensor(value) for name, value in values.items()}, tmp_path / "m.pt")
    with refused("unexpected norm.weight"):
        convert.read(tmp_path / "m.pt")
