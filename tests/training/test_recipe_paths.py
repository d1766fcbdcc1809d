"""A recipe is found by its path, and a shipped one by its name from any folder."""
import pytest

from vit.training import recipe_file
from vit.training.recipe_paths import find_recipe, shipped_names


@pytest.mark.parametrize("name", ["small_data", "small_data.yaml"])
def test_a_shipped_recipe_is_found_by_its_name_from_any_folder(name, repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name) == repo / "recipes" / "small_data.yaml"


def test_a_folder_of_that_name_is_no_recipe(repo, tmp_path, monkeypatch):
    (tmp_path / "apphub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_recipe("apphub") == repo / "recipes" / "apphub.yaml"


def test_a_file_here_comes_before_a_shipped_recipe(tmp_path, monkeypatch):
    (tmp_path / "small_data.yaml").write_text("seed: 1")
    monkeypatch.chdir(tmp_path)
    assert recipe_file.build(find_recipe("small_data.yaml")).seed == 1


@pytest.mark.parametrize("path", ["no/such.yaml", "./small_data", "/dev/fd/63"])
def test_a_path_is_taken_as_it_is(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(find_recipe(path)) == path.removeprefix("./")


def test_an_unknown_name_is_one_line_that_names_the_shipped_ones(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("smal_data: there is no recipe of that name", *shipped_names()):
        find_recipe("smal_data")


def test_all_recipes_of_the_checkout_are_shipped(repo):
    assert shipped_names() == sorted(path.stem for path in (repo / "recipes").iterdir())
    assert len(shipped_names()) >= 4
