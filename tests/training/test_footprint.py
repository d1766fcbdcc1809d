"""What a training takes at the least: below what it was measured to take; and what cannot be is refused at once."""
import dataclasses
import json

import pytest

from vit import convert, memory
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training import footprint
from vit.training.recipe import Recipe

# Steps as the scripts train, with nothing around them: what FastEstimator takes comes on top.
STEPS = """
import json, sys
import torch, vit_torch
from vit import memory
from vit.model.config import VARIANTS
from vit.training import footprint
from vit.training.recipe import Recipe

def train(config, recipe):
    model = vit_torch.ViT(config)
    optimizer = vit_torch.backend.Optimizer(vit_torch.parameters(model), recipe, config.depth)
    for _ in range(2):
        x = torch.rand(recipe.batch_size, 3, config.image_size, config.image_size)
        loss = torch.nn.functional.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.int64))
        loss.backward()
        optimizer.step()

train(VARIANTS["tiny"], Recipe(batch_size=2))  # what torch itself takes
variant, image_size, batch_size, optimizer = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4]
recipe = Recipe(variant=variant, image_size=image_size, batch_size=batch_size, optimizer=optimizer)
config, before = recipe.model(100, image_size), memory.peak()
config = config.replace(dropout=0.0, attention_dropout=0.0)
train(config, recipe)
print(json.dumps([footprint.step_bytes(config, recipe, batch_size, fused_attention=True), memory.peak() - before]))
"""


@pytest.mark.backend("torch")
@pytest.mark.parametrize("size", [("apphub", 32, 64, "sgd"), ("vit_ti_16_224", 224, 4, "adamw"),
                                  ("vit_b_16_224", 32, 1, "sgd")], ids=lambda size: size[0])
def test_the_estimate_is_below_the_measured_peak(run_python, size):
    """But not far: else it would be of no use."""
    done = run_python("-c", STEPS, *size, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    estimate, peak = json.loads(done.stdout)
    assert peak / 3 < estimate < peak


def test_every_part_counts():
    config, recipe = VARIANTS["apphub"].replace(attention_dropout=0.0), Recipe()

    def needed(config=config, batch_size=8, frozen=False, fused_attention=True, recomputed=False, **fields):
        return footprint.step_bytes(config, dataclasses.replace(recipe, **fields), batch_size, frozen, fused_attention,
                                    recomputed)

    values = sum(value.size for value in parameters.initial(config, 0).values())
    assert needed(optimizer="adamw") - needed() == needed(ema_decay=0.9) - needed() == 4 * values
    assert needed(config.replace(attention_dropout=0.1)) == needed(fused_attention=False) > needed()
    assert needed(fused_attention=False) - needed() == 4 * config.depth * 8 * config.heads * config.tokens**2
    once = 4 * 64 * config.tokens * (5 * config.width + config.mlp_dim)  # what a block holds beside its input
    assert needed(batch_size=64) - needed(batch_size=64, recomputed=True) == (config.depth - 1) * once
    assert footprint.host_bytes(config, 8) < needed(frozen=True) < needed(precision="bf16") < needed()
    assert needed(config.replace(patch_dropout=0.5)) < needed()
    hidden = config.replace(patch_dropout=0.75)
    decoded = hidden.replace(decoder_depth=2, decoder_width=64)
    more = sum(value.size for value in parameters.initial(decoded, 0).values()) - values
    many = [needed(model, batch_size=64) for model in (decoded, hidden)]
    assert many[0] - many[1] == 4 * (2 * more + 2 * 64 * config.tokens * 10 * 64)
    kept = [needed(model, batch_size=64, fused_attention=False) - needed(model, batch_size=64)
            for model in (decoded, hidden)]
    assert kept[0] - kept[1] == 4 * 2 * 64 * decoded.decoder_heads * config.tokens**2
    assert needed(batch_size=1) == footprint.host_bytes(config, 1) + 4 * 2 * values  # here the gradients are more


@pytest.fixture
def stub(stub, monkeypatch):
    """The stub, on a machine with 1 GB and no GPU."""
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    monkeypatch.setattr(memory, "has_accelerator", lambda: False)
    return stub


@pytest.mark.parametrize(("options", "fragments"), [
    ({"image_size": 8192}, ("pretrain", "16 images of 8192 x 8192", "--image_size or --variant")),
    ({"image_size": 256, "batch_size": 1 << 20}, ("images of 256 x 256", "a smaller --batch_size")),
    ({"variant": "vit_l_16_224", "image_size": 32}, ("16 images of 32 x 32", "--image_size or --variant")),
    ({"mae_epochs": 1, "mae_decoder_width": 16384, "mae_decoder_heads": 8},
     ("mae", "--image_size or --variant or mae_decoder_width"))])
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, stub, refused, options, fragments):
    with refused("takes at least", "GB of memory, and there are 1.0 GB", *fragments):
        stub.run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists() and stub.given == []


def test_activation_checkpointing_may_be_the_way_out(tmp_path, stub, monkeypatch, refused):
    monkeypatch.setattr(memory, "available", lambda: 1 << 28)
    asked = {"variant": "vit_ti_16_224", "image_size": 224, "batch_size": 16}
    with refused("16 images of 224 x 224", "a smaller --batch_size, or --activation_checkpointing, needs less"):
        stub.run(tmp_path / "run", **asked)
    stub.run(tmp_path / "other", **asked, activation_checkpointing=True)
    assert len(stub.given) > 0
    stub.backend.NAME = "ms"  # which cannot
    with refused("a smaller --batch_size needs less"):
        stub.run(tmp_path / "third", **asked, activation_checkpointing=True)


def test_what_can_be_is_not(tmp_path, stub, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 8 * 10**9)
    stub.run(tmp_path / "run", batch_size=1 << 20, train_steps_per_epoch=None)  # the set is smaller
    assert [stage.name for stage, _ in stub.given] == ["pretrain", "finetune"]


def test_on_a_gpu_only_what_the_host_holds_counts(tmp_path, stub, monkeypatch, refused):
    monkeypatch.setattr(memory, "has_accelerator", lambda: True)
    stub.run(tmp_path / "run", image_size=512)
    with refused("images of 4096 x 4096", "a smaller --batch_size"):
        stub.run(tmp_path / "other", image_size=4096)
    with refused("images of 512 x 512"):  # which is not the device that is trained on
        stub.run(tmp_path / "cpu", image_size=512, device_target="CPU")


def test_a_file_is_not_resized_beyond_what_there_is(tmp_path, stub, refused):
    config = VARIANTS["tiny"]
    canonical.save(tmp_path / "w.safetensors", parameters.initial(config, 0), config)
    for options, fragment in (({"image_size": 16384}, "images of 16384 x 16384"),
                              ({"num_classes": 1 << 30}, "1073741824 classes")):
        with refused(tmp_path / "w.safetensors", fragment, "GB of memory", "--image_size or --num_classes"):
            convert.read(tmp_path / "w.safetensors", **options)
    with refused(tmp_path / "w.safetensors", "images of 16384 x 16384"):
        stub.run(tmp_path / "run", pretrained=tmp_path / "w.safetensors", image_size=16384)
