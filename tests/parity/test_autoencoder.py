"""The masked autoencoder: its losses are the oracle's, its training is the same in each framework."""
import functools

import numpy as np
import pytest

from tests.parity.conftest import CONFIGS, RECIPES
from vit.backend import load_script
from vit.model import dropout, parameters
from vit.parity import levels, pairs, trajectories
from vit.training.recipe import Recipe

MODELS = {name: Recipe(mae_decoder_width=24, mae_decoder_heads=3).autoencoder(CONFIGS[name].replace(depth=1))
          for name in ("tiny", "one_head_48")}
MODELS["post_mean_48"] = MODELS["one_head_48"].replace(norm_order="post", pool="mean", class_token=False)
KEYS = dropout.keys(5, 1, 0, np.arange(4))
STEPS = 12


@functools.cache
def _stages(backend, name, dtype):
    weights = {key: value.astype(dtype) for key, value in parameters.perturbed(MODELS[name], seed=1).items()}
    return levels.stages(backend, MODELS[name], weights, levels.sample_images(MODELS[name], 4, dtype)[0], KEYS)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_losses_are_the_oracles(backend, name, dtype, hold):
    rows = levels.forward_rows(MODELS[name], _stages(backend, name, dtype), _stages("numpy", name, dtype),
                               pairs.BARS["forward", dtype])
    hold(f"autoencoder, {dtype}", f"{backend} - numpy", rows)


@functools.cache
def _trained(backend):
    config = MODELS["tiny"]
    values = {name: value.astype("float64") for name, value in parameters.initial(config, seed=1).items()}
    return trajectories.train(backend, config, values, RECIPES["adamw"], STEPS, "float64")


@pytest.mark.full
@pytest.mark.parametrize("pair", [pytest.param(("torch", other), marks=pytest.mark.backend("torch", other))
                                  for other in ("tf", "ms")])
def test_trajectory(pair, hold):
    ours, theirs = map(_trained, pair)
    assert len(ours.losses) == STEPS and ours.losses[0] - ours.losses[-1] > 0.05
    hold("12 steps of an autoencoder, float64", " - ".join(pair),
         trajectories.train_rows(ours, theirs, pairs.BARS["train", "float64"]))


def _a_seen_patch_counts(patch):
    from vit_torch import Decoder
    forward = Decoder.forward
    patch(Decoder, "forward", lambda self, x, places, pixels: forward(self, x[:, :-1], places[:, :, :-1], pixels))


def _places_of_another(patch):
    from vit.backend.dropout.torch import PatchDropout
    places = PatchDropout.places
    patch(PatchDropout, "places", lambda self, key, dtype: places(self, key.roll(1, 0), dtype))


def _raw_pixels(patch):
    import vit_torch
    patch(vit_torch, "pixel_errors", lambda x, pixels: ((x - pixels)**2).mean(dim=2))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("plant", [_a_seen_patch_counts, _places_of_another, _raw_pixels])
def test_a_defect_is_named_by_its_stage(plant, monkeypatch):
    load_script("torch")
    plant(monkeypatch.setattr)
    rows = levels.forward_rows(MODELS["tiny"], _stages.__wrapped__("torch", "tiny", "float64"),
                               _stages("numpy", "tiny", "float64"), pairs.BARS["forward", "float64"])
    assert [row.name for row in rows if row.over] == ["losses"]
