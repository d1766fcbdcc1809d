"""`python -m vit recipe`: what a file says, and every field explained."""
import dataclasses

import pytest
import yaml

from vit.cli.commands import main
from vit.training import recipe_file
from vit.training.recipe import Recipe


@pytest.fixture
def file(tmp_path):
    """A function from text to a recipe file that holds it."""

    def write(text):
        path = tmp_path / "some.yaml"
        path.write_text(text)
        return path

    return write


def test_check_prints_every_field(file, capsys):
    path = file("mixup: 0.8")
    assert main(["recipe", "check", str(path)]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == Recipe(mixup=0.8).to_dict()


def test_check_says_what_is_wrong_and_ends_with_two(file, capsys):
    path = file("mixup: -1")
    assert main(["recipe", "check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: {path}: mixup must be at least 0, not -1.0\n"


def test_check_prints_todays_names_of_old_ones(file, capsys, forget_notes):
    assert main(["recipe", "check", str(file("pad: 2\nhole: 3\n"))]) == 0
    out, err = capsys.readouterr()
    assert yaml.safe_load(out) == Recipe(crop_padding=2, cutout_size=3).to_dict()
    assert err == "note: renamed: pad is now crop_padding, hole is now cutout_size\n"


def test_fields_are_a_recipe_of_the_defaults(file, capsys):
    assert main(["recipe", "fields"]) == 0
    out, _ = capsys.readouterr()
    assert yaml.safe_load(out) == Recipe().to_dict()
    assert recipe_file.build(file(out)) == Recipe()


def test_fields_are_explained_with_what_they_take(capsys):
    main(["recipe", "fields"])
    out, _ = capsys.readouterr()
    entries = {entry.splitlines()[-1].partition(":")[0]: entry for entry in out.rstrip().split("\n\n")}
    assert list(entries) == [field.name for field in dataclasses.fields(Recipe)]
    assert entries["momentum"] == "# Momentum of SGD and Muon.\n# Takes a number, in [0, 1).\nmomentum: 0.9"
    for field in dataclasses.fields(Recipe):
        text = " ".join(line.removeprefix("#").strip() for line in entries[field.name].splitlines())
        words = " ".join(text.split())
        assert " ".join(field.metadata["text"].split()) in words  # the whole text
    for name, words in {"image_size": "a whole number, in [1, 16384], or null", "nesterov": "true or false",
                        "optimizer": "one of sgd, adam, adamw, muon", "epsilon": "a number, above 0"}.items():
        assert f"# Takes {words}." in entries[name]


def test_fields_fit_a_narrow_terminal_and_formulas_keep_their_lines(capsys):
    main(["recipe", "fields"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "#     v = beta2 * v + (1 - beta2) * g**2" in lines
    assert "#     exponential   learning_rate * decay_rate**(e / decay_epochs)" in lines


def test_single_fields_are_explained(capsys, forget_notes):
    assert main(["recipe", "fields", "beta1", "hole"]) == 0
    out, err = capsys.readouterr()
    assert yaml.safe_load(out) == {"beta1": 0.9, "cutout_size": 8}
    assert "hole is now cutout_size" in err


def test_an_unknown_field_is_one_line(capsys):
    assert main(["recipe", "fields", "momentun"]) == 2
    assert "error: unknown key 'momentun' (did you mean 'momentum'?)" in capsys.readouterr().err
