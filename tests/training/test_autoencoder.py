"""A run that begins with a masked autoencoder: its stages, what it leaves, and how it goes on."""
import contextlib
import io
import json
import re

import numpy as np
import pytest

from vit import checkpoints
from vit.data import load
from vit.files.model_check import check_tensors
from vit.model import dropout, parameters
from vit.model.config import VARIANTS
from vit.training import pipeline
from vit.training.recipe import Recipe

pytestmark = pytest.mark.backend("torch")
OPTIONS = {"data": "digits", "variant": "tiny", "batch_size": 16, "mae_epochs": 2, "mae_decoder_width": 32,
           "pretrain_epochs": 1, "finetune_epochs": 1, "train_steps_per_epoch": 3, "eval_steps_per_epoch": 2, "seed": 7,
           "log_steps": 0, "early_stopping_patience": 1, "val_fraction": 0.1}


def _train(folder, **options):
    import vit_torch
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        results = vit_torch.fastestimator_run(**OPTIONS | {"model_dir": str(folder)} | options)
    return folder, results, out.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return _train(tmp_path_factory.mktemp("whole"))


def test_it_is_a_stage_with_a_loss_and_no_accuracy(whole):
    folder, results, out = whole
    assert list(results["stages"]) == ["mae", "pretrain", "finetune"]
    mae = results["stages"]["mae"]
    assert [set(epoch) & {"eval_loss", "accuracy", "top5"} for epoch in mae["epochs"]] == [{"eval_loss"}] * 2
    assert mae["test"] is None and not mae["stopped_early"] and results["stages"]["pretrain"]["test"] is not None
    assert re.search(r"masked autoencoder +digits100 +2 +- +- +-", out)
    assert out.count("encoder copied: 54 tensors") == 2
    assert sorted(path.name for path in folder.glob("*/mae*")) == ["mae-00000003.safetensors",
                                                                   "mae-00000006.safetensors"]
    assert sorted(path.name for path in folder.glob("*.safetensors")) == ["finetuned.safetensors",
                                                                          "pretrained.safetensors"]
    graph = json.loads((folder / "graph.json").read_text())
    assert "CrossEntropy" in json.dumps(graph["pretrain"]) and "CrossEntropy" not in json.dumps(graph["mae"])


def test_the_pretraining_begins_with_its_last_encoder(whole, monkeypatch, tmp_path):
    from vit.training import train
    begun, fit = {}, train.fit
    monkeypatch.setattr(train, "fit", lambda stage, weights: begun.setdefault(stage.name, weights) and fit(
        stage, weights))
    _, results, _ = _train(tmp_path)
    last = checkpoints.load(whole[0] / "checkpoints" / "mae-00000006.safetensors")
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    initial = parameters.initial(checkpoints.load(whole[0] / "checkpoints" / "pretrain-00000003.safetensors").config, 7)
    for name, value in begun["pretrain"].items():
        np.testing.assert_array_equal(value, (initial if name.startswith("head.") else last.weights)[name])


def test_a_run_that_is_stopped_in_it_goes_on_to_the_same_weights(whole, tmp_path, monkeypatch):
    from vit.training import train
    fit = train.fit
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", lambda stage, weights: fit(stage, weights) if stage.name == "mae" else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _train(tmp_path)
    (tmp_path / "checkpoints" / "mae-00000006.safetensors").unlink()
    _, results, out = _train(tmp_path, resume="auto")
    assert "mae: epoch 2/2" in out and "mae: epoch 1/2" not in out
    assert results["weights_sha256"] == whole[1]["weights_sha256"]


def test_every_evaluation_hides_the_same_patches_and_every_epoch_others():
    pair, recipe = load("digits"), Recipe(data="digits", batch_size=16, seed=7)
    config = recipe.autoencoder(recipe.model(10, 32))
    line = pipeline.build(pair.finetune.train, pair.finetune.test, pair, recipe.unmixed(), True, config=config)
    keys = {}
    for mode in ("train", "eval"):
        for epoch in (1, 2):
            with line(mode=mode, epoch=epoch) as loader:
                keys[mode, epoch] = next(iter(loader))["key"].numpy()
    np.testing.assert_array_equal(keys["eval", 1], dropout.keys(7, 0, 0, np.arange(16)))
    np.testing.assert_array_equal(keys["eval", 1], keys["eval", 2])
    assert (keys["train", 1] != keys["train", 2]).any()


def test_images_are_cropped_and_flipped_and_nothing_else(tmp_path, monkeypatch):
    recipe = Recipe(mixup=0.8, cutmix=1.0, label_smoothing=0.1, augment="randaugment", random_erasing_prob=0.25,
                    crop_scale_min=0.5, crop_padding=0)
    plain = Recipe(cutout_size=0, crop_scale_min=0.5, crop_padding=0)
    assert recipe.unmixed() == plain
    asked, build = [], pipeline.build
    monkeypatch.setattr(pipeline, "build", lambda *given, **more: asked.append(given[3]) or build(*given, **more))
    _train(tmp_path, mixup=0.8, mae_epochs=1, val_fraction=0.0)
    assert [(one.mixup, one.cutout_size) for one in asked[:3]] == [(0.0, 0), (0.8, 8), (0.8, 8)]


@pytest.mark.parametrize(("options", "words"), [
    ({"mae_decoder_heads": 5}, ("mae_epochs", "decoder_width 32", "decoder_heads 5")),
    ({"mae_mask_ratio": 0.01}, ("mae_epochs", "patch_dropout 0.01", "16 patches")),
    ({"accumulate_steps": 7}, ("accumulate_steps", "at most"))])
def test_what_cannot_be_is_refused_before_a_folder_is_made(tmp_path, refused, options, words):
    with refused(*words):
        _train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_file_that_claims_billions_of_its_blocks_is_refused_at_once(refused):
    config = Recipe().autoencoder(VARIANTS["tiny"])
    with refused(f"0 tensors for {4 + (1 << 30)} blocks"):
        check_tensors({}, config.replace(decoder_depth=1 << 30))


def test_its_checkpoint_is_no_classifier(whole, refused):
    from vit import convert
    with refused("mae-00000006.safetensors", "masked autoencoder", "later stage"):
        convert.read(whole[0] / "checkpoints" / "mae-00000006.safetensors")


@pytest.mark.parametrize("changes", [["mae_epochs=0"], ["mae_mask_ratio=0.5"], ["mae_decoder_depth=1"]])
def test_what_it_was_trained_with_stays(whole, refused, changes):
    with refused(changes[0].partition("=")[0], "the run to resume", "begin a new run"):
        _train(whole[0], resume="auto", resume_override=changes)


def test_none_is_put_before_what_has_been_trained(tmp_path, refused):
    _train(tmp_path, mae_epochs=0)
    with refused("mae_epochs is 0 in the run to resume", "begin a new run"):
        _train(tmp_path, mae_epochs=0, resume="auto", resume_override=["mae_epochs=3"])


def test_more_epochs_of_it_train_anew_what_came_of_it(whole, tmp_path):
    import shutil
    shutil.copytree(whole[0], tmp_path / "run")
    _, results, out = _train(tmp_path / "run", resume="auto", resume_override=["mae_epochs=3"])
    _, afresh, _ = _train(tmp_path / "afresh", mae_epochs=3)
    assert "mae: epoch 3/3" in out and results["weights_sha256"] == afresh["weights_sha256"]
