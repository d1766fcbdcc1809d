"""The command: its flags, what it prints, and that every format goes through every other one unchanged."""
from itertools import permutations

import numpy as np
import pytest

from tests.convert.conftest import convert_command
from vit import convert
from vit.convert import positions
from vit.files import canonical
from vit.files.safetensors import write_tensors
from vit.model import parameters
from vit.model.config import VARIANTS

CONFIG = VARIANTS["tiny"].replace(num_classes=5, activation="gelu_tanh")
VALUES = parameters.perturbed(CONFIG, 0)


@pytest.mark.parametrize(("first", "second"), permutations(convert.FORMATS, 2))
def test_formats_go_through_each_other_bit_by_bit(tmp_path, first, second):
    canonical.save(tmp_path / "a", VALUES, CONFIG)
    assert convert_command(tmp_path / "a", tmp_path / "b", "--to", first)[0] == 0
    assert convert_command(tmp_path / "b", tmp_path / "c", "--to", second)[0] == 0
    assert convert_command(tmp_path / "c", tmp_path / "d")[0] == 0
    values, config = canonical.load(tmp_path / "d")
    assert config == CONFIG
    assert parameters.sha256(values) == parameters.sha256(VALUES)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("to", convert.FORMATS)
def test_types_survive(tmp_path, to, dtype):
    values = {name: value.astype(dtype) for name, value in VALUES.items()}
    convert.write(tmp_path / "m", values, CONFIG, to)
    again, _, _ = convert.read(tmp_path / "m")
    assert {value.dtype for value in again.values()} == {np.dtype("float64" if dtype == "float64" else "float32")}
    assert all(np.array_equal(again[name], value) for name, value in values.items())


@pytest.mark.parametrize("to", [to for to in convert.FORMATS if to != "canonical"])
def test_a_post_norm_model_is_refused_by_name(tmp_path, to):
    config = CONFIG.replace(norm_order="post")
    canonical.save(tmp_path / "a", VALUES, config)
    status, out, err = convert_command(tmp_path / "a", tmp_path / "b", "--to", to)
    assert (status, out) == (2, "") and "norm_order 'post'" in err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("options", "named"), [
    (["--image_size", "0"], "image_size"), (["--num_classes", "-1"], "num_classes"), (["--heads", "3"], "heads"),
    (["--grid", "4"], "4"), (["--grid", "3x5"], "3 x 5"), (["--to", "caffe"], "caffe"), (["--image_size", "x"], "x"),
])
def test_flags_that_cannot_be_heeded(tmp_path, options, named):
    canonical.save(tmp_path / "a", VALUES, CONFIG)
    status, out, err = convert_command(tmp_path / "a", tmp_path / "b", *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert named in err
    assert not (tmp_path / "b").exists()


def test_a_path_that_cannot_be_written(tmp_path):
    canonical.save(tmp_path / "a", VALUES, CONFIG)
    for path in (tmp_path / "none" / "b", tmp_path):
        status, _, err = convert_command(tmp_path / "a", path)
        assert (status, err.count("\n")) == (2, 1) and str(path) in err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_converts_onto_itself(tmp_path):
    canonical.save(tmp_path / "a", VALUES, CONFIG)
    assert convert_command(tmp_path / "a", tmp_path / "a", "--num_classes", "3")[0] == 0
    assert canonical.load(tmp_path / "a")[1].num_classes == 3


def test_quiet_leaves_out_the_tensors(tmp_path):
    canonical.save(tmp_path / "a", VALUES, CONFIG)
    _, loud, _ = convert_command(tmp_path / "a", tmp_path / "b")
    _, quiet, _ = convert_command(tmp_path / "a", tmp_path / "b", "--quiet")
    assert len(loud.splitlines()) == len(VALUES) + len(quiet.splitlines())
    assert "with this project's manifest" in quiet and f"{len(VALUES)} read" in quiet


def test_a_grid_that_is_no_square_can_be_given(tmp_path):
    """A file of 2 x 8 positions, which would pass for 4 x 4."""
    with open(tmp_path / "m", "wb") as file:
        write_tensors(file, VALUES, {})
    values, _, report = convert.read(tmp_path / "m", grid=(2, 8), image_size=32)
    expected = positions.resize(VALUES["pos_embed"][0, 1:], (2, 8), 4)
    assert np.array_equal(values["pos_embed"][0, 1:], expected)
    assert any("from 2 x 8 to 4 x 4" in row[3] for row in report.rows)
