"""The stretches of a run: who trained what, from which step on, with which recipe."""
from types import SimpleNamespace

import pytest

from tests.checkpoints.test_serialization import STRETCH, make
from vit.training import stretches
from vit.training.job import Job, Stage
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.workers import World

RECIPE = Recipe(data="digits", variant="tiny")


def _job(**checkpoints):
    script = SimpleNamespace(backend=SimpleNamespace(NAME="tf"))
    return Job(script, RECIPE, None, None, RunOptions(num_workers=3), checkpoints=checkpoints, world=World(1, 2))


def _stage(job, name):
    return Stage(job, name, None, 1, None)


def test_a_new_run_has_one_stretch_of_all_stages():
    job = _job()
    for name in ("pretrain", "finetune", "scratch"):
        stretches.begin(_stage(job, name))
    [only] = job.stretches
    assert (only["stage"], only["step"], only["backend"]) == ("pretrain", 0, "tf")
    assert (only["num_workers"], only["world_size"]) == (3, 2)
    assert only["recipe"] == RECIPE.to_dict() and only["versions"]["numpy"] and only["host"]


def test_a_resumed_run_goes_on_from_its_checkpoint():
    job = _job(pretrain=make(step=7, stretches=[STRETCH]))
    stretches.begin(_stage(job, "pretrain"))
    assert job.stretches[0] == STRETCH
    assert (job.stretches[1]["stage"], job.stretches[1]["step"]) == ("pretrain", 7)


def test_a_stage_that_had_not_begun_begins_after_the_one_before():
    job = _job(pretrain=make(step=7, phase="finished", stretches=[STRETCH]))
    stretches.begin(_stage(job, "finetune"))
    assert [(one["stage"], one["step"]) for one in job.stretches] == [("pretrain", 0), ("finetune", 0)]


def test_of_a_stretch_of_an_older_version_the_number_of_workers_is_not_known():
    older = {name: value for name, value in STRETCH.items() if name != "world_size"}
    job = _job(pretrain=make(step=7, stretches=[older]))
    stretches.begin(_stage(job, "pretrain"))
    assert [one["world_size"] for one in job.stretches] == [None, 2] and job.stretches[0].items() >= older.items()


@pytest.mark.parametrize("recipe", [{"seed": 7}, {"pad": 4, "seed": 7}])
def test_of_a_checkpoint_of_an_older_version_little_is_known(recipe):
    job = _job(pretrain=make(stretches=[], recipe=recipe))
    stretches.begin(_stage(job, "pretrain"))
    first, second = stretches.told(job)
    assert (first["step"], first["versions"], first["backend"]) == (None, None, "torch") and first["recipe"] == recipe
    assert second["step"] == 7 and "seed" in second["recipe"]  # 7 there, 0 here


def test_only_what_changed_in_the_recipe_is_told_again():
    job = _job(pretrain=make(stretches=[STRETCH | {"recipe": RECIPE.to_dict() | {"seed": 5, "learning_rate": 3.0}}]))
    stretches.begin(_stage(job, "pretrain"))
    assert stretches.told(job)[1]["recipe"] == {"seed": RECIPE.seed, "learning_rate": RECIPE.learning_rate}
