"""A script's ViT in one's own code: made by name, with initial weights, and told which images it cannot take."""
import numpy as np
import pytest

from vit.backend import load_script, script_of
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS, ViTConfig

CONFIG = ViTConfig(image_size=16, patch_size=8, width=16, depth=1, heads=2, mlp_dim=24, num_classes=5)


def _images(backend, dtype="float32"):
    """Three images in the layout of a framework, as its own tensor."""
    images = np.random.default_rng(0).integers(0, 255, (3, 3, 16, 16)).astype(dtype)
    if backend == "torch":
        import torch
        return torch.from_numpy(images)
    if backend == "tf":
        return images.transpose(0, 2, 3, 1)
    import mindspore
    return mindspore.Tensor(images)


def test_a_variant_is_made_by_its_name(backend):
    script = load_script(backend)
    assert script.ViT("tiny").config == VARIANTS["tiny"]


@pytest.mark.backend("torch")
@pytest.mark.parametrize("config", ["tinny", "", 3, None, {"width": 64}])
def test_what_names_no_model_is_one_line_with_the_names(config):
    with pytest.raises(ValueError, match=r"the name of a variant \(tiny, apphub, .*\), not") as caught:
        load_script("torch").ViT(config)
    assert "\n" not in str(caught.value)


def test_a_bare_model_begins_at_the_initial_weights(backend):
    script = load_script(backend)
    assert parameters.sha256(script.to_numpy(script.ViT(CONFIG))) == parameters.sha256(parameters.initial(CONFIG, 0))


def test_a_model_may_begin_at_given_weights(backend):
    script, weights = load_script(backend), parameters.initial(CONFIG, 5)
    assert parameters.sha256(script.to_numpy(script.ViT(CONFIG, weights=weights))) == parameters.sha256(weights)


def test_an_image_of_whole_numbers_is_refused(backend):
    model = load_script(backend).ViT(CONFIG)
    with pytest.raises(ValueError, match="images must be floating-point, normalized as in training, not whole numbers"):
        model(_images(backend, "uint8"))


def test_an_image_in_the_other_layout_is_refused(backend):
    """The message names both layouts."""
    model, images = load_script(backend).ViT(CONFIG), _images(backend)
    if backend == "tf":
        images = images.transpose(0, 3, 1, 2)
        wanted = r"images \[B, S, S, C\] must be \[B, 16, 16, 3\], not \[3, 3, 16, 16\]"
    else:
        images = images.permute(0, 2, 3, 1)
        wanted = r"images \[B, C, S, S\] must be \[B, 3, 16, 16\], not \[3, 16, 16, 3\]"
    with pytest.raises(ValueError, match=wanted):
        model(images)


@pytest.mark.backend("torch")
def test_a_class_made_from_ours_is_ours():
    script = load_script("torch")

    class Mine(script.ViT):
        """Someone's own."""

    assert script_of(Mine(CONFIG)) is script and script_of(Mine) is None and script_of("tiny") is None


def test_a_run_starts_from_a_model(backend, tmp_path):
    """It leaves the same as a run that starts from the model's file, and can be resumed without the model."""
    script = load_script(backend)
    config = VARIANTS["tiny"].replace(depth=1, num_classes=7)
    weights = parameters.initial(config, 4)
    model = script.ViT(config, weights=weights)
    options = {"data": "digits", "batch_size": 16, "finetune_epochs": 1, "train_steps_per_epoch": 1,
               "eval_steps_per_epoch": 1, "log_steps": 0, "model_dir": tmp_path / "a"}
    results = script.fastestimator_run(pretrained=model, **options)
    start = tmp_path / "a" / "start.safetensors"
    assert results["pretrained_from"] == str(start) and list(results["stages"]) == ["finetune"]
    kept, spec = canonical.load(start)
    assert spec.depth == 1 and all((kept[name] == weights[name]).all() for name in weights if "head" not in name)
    if backend == "torch":
        canonical.save(tmp_path / "file.safetensors", weights, config)
        again = script.fastestimator_run(pretrained=tmp_path / "file.safetensors",
                                         **options | {"model_dir": tmp_path / "b"})
        assert again["weights_sha256"] == results["weights_sha256"]
        more = script.fastestimator_run(resume="auto", model_dir=tmp_path / "a",
                                        resume_override=["finetune_epochs=2"])
        assert more["pretrained_from"] == str(start) and more["weights_sha256"] != results["weights_sha256"]


@pytest.mark.backend("torch", "tf")
def test_a_run_starts_from_a_model_of_another_framework(tmp_path):
    config = VARIANTS["tiny"].replace(depth=1)
    model = load_script("tf").ViT(config, weights=parameters.initial(config, 4))
    results = load_script("torch").fastestimator_run(
        data="digits", pretrained=model, batch_size=16, finetune_epochs=1, train_steps_per_epoch=1,
        eval_steps_per_epoch=1, log_steps=0, model_dir=tmp_path)
    assert results["backend"] == "torch" and results["spec"]["depth"] == 1


@pytest.mark.backend("torch")
def test_the_recipe_may_be_given_by_its_place(tmp_path, refused):
    import vit_torch
    results = vit_torch.fastestimator_run({"data": "digits", "variant": "tiny", "batch_size": 16, "pretrain_epochs": 1,
                                           "finetune_epochs": 1, "train_steps_per_epoch": 1,
                                           "eval_steps_per_epoch": 1}, model_dir=tmp_path, log_steps=0)
    assert results["recipe"]["batch_size"] == 16
    with refused("tiny", "small_data"):
        vit_torch.fastestimator_run("tiny")
