"""The three scripts start from other projects' files: their logits, `--pretrained` and `--freeze_encoder`."""
import numpy as np
import pytest

from vit.backend import load_script
from vit.convert import read
from vit.files import canonical
from vit.model import parameters
from vit.parity import levels


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    """A folder that Hugging Face's own model saved, and that model."""
    import transformers
    settings = transformers.ViTConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=64,
                                      image_size=32, patch_size=8, num_labels=7)
    model = transformers.ViTForImageClassification(settings).eval()
    folder = tmp_path_factory.mktemp("hugging_face")
    model.save_pretrained(folder)
    return folder, model


def _options(folder, tmp_path, **more):
    return {"data": "digits", "pretrained": str(folder), "batch_size": 8, "train_steps_per_epoch": 2,
            "eval_steps_per_epoch": 1, "log_steps": 0, "model_dir": str(tmp_path / "run"), **more}


def test_a_foreign_folder_gives_the_sources_logits(backend, hugging_face):
    folder, theirs = hugging_face
    script = load_script(backend)
    weights, config, _ = read(folder)
    model = script.from_numpy(script.ViT(config), weights)
    assert model.config.block_norm_eps == 1e-12
    images = levels.sample_images(model.config, 3, "float32")[0]
    import torch
    with torch.no_grad():
        expected = theirs(torch.tensor(images).permute(0, 3, 1, 2)).logits.numpy()
    ours = script.backend.run_stages(model, images)[-1]
    assert np.abs(ours - expected).max() / np.abs(expected).max() < 1e-5


def test_a_run_starts_from_a_foreign_folder_and_can_train_the_head_alone(backend, hugging_face, tmp_path, capfd):
    folder, _ = hugging_face
    results = load_script(backend).fastestimator_run(
        **_options(folder, tmp_path, freeze_encoder=True, weight_decay=0.1, accumulate_steps=2))
    assert list(results["stages"]) == ["finetune"]
    assert results["spec"]["width"] == 48 and results["spec"]["block_norm_eps"] == 1e-12
    assert "Hugging Face" in capfd.readouterr().out
    before = read(folder)[0]
    after, spec = canonical.load(tmp_path / "run" / "finetuned.safetensors")
    assert spec.num_classes == 10
    fresh = parameters.initial(spec, 0)
    for name, value in after.items():
        if name.startswith("head."):
            assert np.abs(value - fresh[name]).max() > 1e-5, f"{name} is trained"
        else:
            np.testing.assert_array_equal(value, before[name], name)


@pytest.mark.backend("torch")
def test_without_freezing_the_encoder_is_trained(hugging_face, tmp_path):
    folder, _ = hugging_face
    load_script("torch").fastestimator_run(**_options(folder, tmp_path))
    before, after = read(folder)[0], canonical.load(tmp_path / "run" / "finetuned.safetensors")[0]
    assert all(np.abs(after[name] - before[name]).max() > 0 for name in before if not name.startswith("head."))


@pytest.mark.backend("torch")
def test_a_variant_that_is_asked_for_by_name_must_be_the_files(hugging_face, tmp_path, refused):
    folder, _ = hugging_face
    with refused("holds another model", "width 48 (expected 64)", "--variant"):
        load_script("torch").fastestimator_run(**_options(folder, tmp_path, variant="tiny"))
    assert not (tmp_path / "run").exists()
