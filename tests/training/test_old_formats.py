"""A recipe and a stopped run of an older version: the recipe is understood, the run goes on to the same end (torch)."""
import shutil

import numpy as np
import pytest

from tests.fixtures import COMMIT_7D1C055
from vit.backend import load_script
from vit.files import canonical
from vit.training import recipe_file
from vit.training.recipe import Recipe

# What tests/fixtures/7d1c055/recipe.yaml says, in today's words.
RECIPE = Recipe(
    data="digits", batch_size=16, finetune_epochs=2, train_steps_per_epoch=6, eval_steps_per_epoch=4, seed=5,
    optimizer="adamw", learning_rate=0.002, weight_decay=0.05, decay_bias_and_norm=False, layer_decay=0.9,
    ema_decay=0.9, schedule="cosine", warmup_steps=2, min_learning_rate=0.0001, label_smoothing=0.1, mixup=0.2,
    mixup_prob=0.5, crop_padding=2, crop_scale_max=0.9, hflip_prob=0.25, cutout_size=4, random_erasing_prob=0.25,
    eval_crop_pct=0.9)


@pytest.mark.parametrize("path", ["recipe.yaml", "run/recipe.yaml"])
def test_a_recipe_of_7d1c055_is_understood(path):
    assert recipe_file.build(COMMIT_7D1C055 / path) == RECIPE


@pytest.mark.backend("torch")
def test_a_run_of_7d1c055_goes_on_to_the_same_end(tmp_path):
    """Dropout, mixup, the weights' average and the optimizer's moments all have to go on where they stopped."""
    run = tmp_path / "run"
    shutil.copytree(COMMIT_7D1C055 / "run", run)
    results = load_script("torch").fastestimator_run(
        resume="auto", model_dir=str(run), pretrained=str(COMMIT_7D1C055 / "small.safetensors"), log_steps=0)
    assert results["stages"]["finetune"]["epochs"][-1]["epoch"] == 2
    assert recipe_file.build(run / "recipe.yaml") == RECIPE
    ended, config = canonical.load(run / "finetuned.safetensors")
    expected, _ = canonical.load(COMMIT_7D1C055 / "finetuned.safetensors", expected=config)
    for name, value in expected.items():
        # Threads add up float32 in another order, and AdamW enlarges that on the biases of the keys.
        np.testing.assert_allclose(ended[name], value, rtol=0, atol=1e-5, err_msg=name)
