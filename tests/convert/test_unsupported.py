"""What cannot be the same model here is refused for what it is, not for a shape that comes of it."""
import numpy as np
import pytest

from tests.convert.test_hostile import CONFIG, VALUES
from vit import convert
from vit.convert.layouts import HF
from vit.files.safetensors import write_tensors


def _file(tmp_path, tensors):
    with open(tmp_path / "m.safetensors", "wb") as file:
        write_tensors(file, tensors, {})
    return tmp_path / "m.safetensors"


def test_deit_distilled_is_told_of_its_distillation_token(tmp_path, refused):
    """Its positions are one more, and form no grid."""
    more = {"pos_embed": np.zeros((1, CONFIG.tokens + 1, 16), np.float32), "dist_token": np.zeros((1, 1, 16), "f4"),
            "head_dist.weight": VALUES["head.weight"], "head_dist.bias": VALUES["head.bias"]}
    path = _file(tmp_path, VALUES | more)
    for options in ({}, {"heads": 2}, {"grid": (2, 2)}):
        with refused(path, "distillation token (dist_token), which cannot be expressed"):
            convert.read(path, **options)


def test_deit_of_hugging_face_is_told_of_it_as_well(tmp_path, refused):
    theirs = {f"deit.{name}": part for canonical, value in VALUES.items() if not canonical.startswith("head.")
              for name, part in HF.split(canonical, value, CONFIG).items()}
    theirs["deit.embeddings.position_embeddings"] = np.zeros((1, CONFIG.tokens + 1, 16), np.float32)
    theirs["deit.embeddings.distillation_token"] = np.zeros((1, 1, 16), np.float32)
    path = _file(tmp_path, theirs)
    with refused(path, "recognised as Hugging Face", "DeiT's distillation token"):
        convert.read(path, heads=2)


@pytest.mark.parametrize("name", ["pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.bias", "head.bias",
                                  "norm.weight", "blocks.1.attn.qkv.weight", "cls_token"])
@pytest.mark.parametrize("axis", [0, -1])
def test_a_tensor_without_values_is_named(tmp_path, refused, name, axis):
    shape = list(VALUES[name].shape)
    shape[axis] = 0
    path = _file(tmp_path, VALUES | {name: np.zeros(shape, np.float32)})
    with refused(path, f"{name} is {shape}"):
        convert.read(path, heads=2)


def test_a_tensor_without_values_is_not_told_of_its_axes(tmp_path, refused):
    path = _file(tmp_path, VALUES | {"pos_embed": np.zeros((1, 0, 16), np.float32)})
    with refused(f"{path}: pos_embed is [1, 0, 16]: it holds no values"):
        convert.read(path, heads=2)
