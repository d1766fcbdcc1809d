"""A checkpoint that an older version wrote: its recipe and its options have the names of then."""
import pytest

from tests.checkpoints.test_serialization import make
from vit import checkpoints
from vit.training import resume
from vit.training.options import RunOptions
from vit.training.recipe import Recipe

RECIPE = Recipe(data="digits", variant="tiny", batch_size=16)


@pytest.fixture
def stopped(tmp_path):
    """A function from a recipe's and a run's plain values to the folder of a run that was stopped."""

    def save(recipe, **options):
        (tmp_path / "checkpoints").mkdir()
        checkpoints.save(tmp_path / "checkpoints" / "pretrain-00000004.safetensors", make(
            stage="pretrain", step=4, recipe=recipe, options=options))
        return str(tmp_path)

    return save


def test_old_names_and_absent_fields_are_understood(stopped, capsys, forget_notes, refused):
    recipe = RECIPE.to_dict()
    recipe |= {"pad": recipe.pop("crop_padding"), "mirror_rate": recipe.pop("hflip_prob"), "hole": 5}
    del recipe["cutout_size"], recipe["clip_norm"]
    folder = stopped(recipe, pretrained=None, skip_bad_pictures=True)
    found = resume.find(RunOptions(resume="auto", model_dir=folder, resume_override=["pad=2"]), {"cutout_size": 5})
    assert found.recipe == RECIPE.to_dict() | {"cutout_size": 5, "crop_padding": 2}
    assert found.options.skip_bad_images is True
    err = capsys.readouterr().err
    assert "hole is now cutout_size" in err and "skip_bad_pictures is now skip_bad_images" in err
    with refused("cutout_size is 5 there and 8 here"):
        resume.find(RunOptions(resume="auto", model_dir=folder), {"cutout_size": 8})


def test_an_override_by_two_names_is_refused(stopped, refused):
    folder = stopped(RECIPE.to_dict())
    with refused("pad and crop_padding", "give one of them"):
        resume.find(RunOptions(resume="auto", model_dir=folder, resume_override=["pad=2", "crop_padding=2"]), {})


def test_a_field_that_is_unknown_is_refused_with_the_folder(stopped, refused):
    folder = stopped(RECIPE.to_dict() | {"of_tomorrow": 1})
    with refused(f"{folder}/checkpoints", "its recipe cannot be read", "'of_tomorrow'"):
        resume.find(RunOptions(resume="auto", model_dir=folder), {})
