"""Classes and preprocessing go with the weights: from Hugging Face's folders, to them, and out of checkpoints."""
import json

import numpy as np
import pytest

from tests.checkpoints.test_serialization import EPOCH, make
from tests.convert.conftest import convert_command
from tests.fixtures import COMMIT_7D1C055
from vit import checkpoints, convert
from vit.data import DataPair, Dataset, Images, fingerprint
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model import parameters

CLASSES = tuple(f"kind {i}" for i in range(10))
PREPROCESSING = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), None, "bilinear")
USAGE = Usage(CLASSES, PREPROCESSING, {"data": "cifar"})


@pytest.fixture
def file(tmp_path, small):
    canonical.save(tmp_path / "own", parameters.initial(small, 0), small, USAGE)
    return tmp_path / "own"


def test_they_go_to_hugging_face_and_come_back(file, tmp_path):
    assert convert_command(file, tmp_path / "hf", "--to", "hf")[0] == 0
    usage = convert.read(tmp_path / "hf")[2].usage
    assert (usage.classes, usage.preprocessing) == (CLASSES, PREPROCESSING)
    assert convert_command(tmp_path / "hf", tmp_path / "back")[0] == 0
    assert convert.read(tmp_path / "back")[2].usage == usage


def test_hugging_faces_own_classes_read_what_is_written(file, tmp_path):
    import transformers
    convert_command(file, tmp_path / "hf", "--to", "hf")
    assert transformers.ViTConfig.from_pretrained(tmp_path / "hf").id2label == dict(enumerate(CLASSES))
    processor = transformers.ViTImageProcessor.from_pretrained(tmp_path / "hf")
    assert (processor.image_mean, processor.image_std, processor.resample) == (
        list(PREPROCESSING.mean), list(PREPROCESSING.std), 2)


def test_a_crop_that_hugging_face_does_not_know_is_noted(tmp_path, small):
    canonical.save(tmp_path / "own", parameters.initial(small, 0), small,
                   Usage(None, Preprocessing((0.5, ) * 3, (0.5, ) * 3, 0.875)))
    status, out, _ = convert_command(tmp_path / "own", tmp_path / "hf", "--to", "hf")
    assert status == 0 and "stretches" in out


def test_a_new_head_has_no_names(file, tmp_path):
    assert convert.read(file, num_classes=3)[2].usage == Usage(None, PREPROCESSING, USAGE.provenance)


def test_names_that_stand_for_none_are_none(tmp_path, small):
    canonical.save(tmp_path / "own", parameters.initial(small, 0), small)
    convert_command(tmp_path / "own", tmp_path / "hf", "--to", "hf")
    assert convert.read(tmp_path / "hf")[2].usage == Usage()


def test_more_names_than_classes_are_refused(tmp_path, small, refused):
    canonical.save(tmp_path / "own", parameters.initial(small, 0), small, Usage((*CLASSES, "one more")))
    with refused("names 11 classes", "has 10"):
        convert.read(tmp_path / "own")


@pytest.mark.parametrize(("fields", "fragment"), [
    ({"do_resize": False}, "do_resize"), ({"do_center_crop": True}, "stretch"),
    ({"size": {"shortest_edge": 32}}, "stretch"),
    ({"size": {"shortest_edge": 32}, "do_center_crop": True}, "crops None out of 32 pixels"),
    ({"size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": 31}, "the model sees 16"),
    ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
    ({"resample": 1}, "one of"), ({"image_mean": 0.5}, "iterable"), ({"image_std": [0, 0, 0]}, "std")])
def test_a_processor_that_cannot_be_expressed_is_noted(file, tmp_path, fields, fragment):
    convert_command(file, tmp_path / "hf", "--to", "hf")
    path = tmp_path / "hf/preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    report = convert.read(tmp_path / "hf")[2]
    assert report.usage.preprocessing is None
    assert [note for note in report.notes if "preprocessor_config.json" in note and fragment in note]


def test_the_middle_of_an_image_that_keeps_its_shape_is_a_crop(file, tmp_path, small):
    convert_command(file, tmp_path / "hf", "--to", "hf")
    path = tmp_path / "hf/preprocessor_config.json"
    size = small.image_size
    path.write_text(json.dumps(json.loads(path.read_text()) | {
        "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": size * 8 // 7}, "do_center_crop": True,
        "crop_size": {"height": size, "width": size}}))
    found = convert.read(tmp_path / "hf")[2].usage.preprocessing
    assert found.crop_pct == size / (size * 8 // 7) and found.mean == PREPROCESSING.mean


@pytest.mark.parametrize("to", ["timm", "mindspore", "npz"])
def test_where_there_is_no_place_for_them_a_note_says_so(file, tmp_path, to):
    status, out, _ = convert_command(file, tmp_path / "theirs", "--to", to)
    assert status == 0 and f"{to} has no place for the names of the classes" in out


def test_a_checkpoint_knows_its_recipe_and_its_classes(tmp_path):
    images = Images(np.zeros((3, 8, 8, 3), np.uint8), np.arange(3))
    pair = DataPair(None, Dataset("three", ("a", "b", "c"), images, images), (0.5, ) * 3, (0.5, ) * 3, True)
    path = tmp_path / "finetune-00000007.safetensors"
    checkpoints.save(path, make(stage="finetune", step=7, data=fingerprint.fingerprint(pair),
                                recipe={"data": "digits", "normalize": "data"}))
    usage = convert.read(path)[2].usage
    assert (usage.classes, usage.provenance["data"]) == (("a", "b", "c"), "three")
    assert usage.preprocessing == Preprocessing((0.2288, ) * 3, (0.3084, ) * 3)


@pytest.mark.parametrize(("phase", "accuracy"), [("training", None), ("trained", None), ("evaluated", 0.25),
                                                 ("finished", 0.25)])
def test_a_checkpoint_knows_the_accuracy_of_its_own_weights_alone(tmp_path, phase, accuracy):
    path = tmp_path / "finetune-00000007.safetensors"
    history = make().history | {"epochs": [EPOCH, EPOCH | {"epoch": 2}]}
    checkpoints.save(path, make(stage="finetune", phase=phase, history=history))
    assert convert.read(path)[2].usage.provenance["accuracy"] == accuracy


def test_an_older_checkpoint_knows_no_classes():
    usage = convert.read(COMMIT_7D1C055 / "run")[2].usage
    assert (usage.classes, usage.preprocessing.mean) == (None, (0.2288, 0.2288, 0.2288))


@pytest.mark.parametrize("fields", [{"eval_crop_pct": 7}, {"eval_crop_pct": "all"}])
def test_a_checkpoint_with_an_impossible_recipe_is_refused(tmp_path, refused, fields):
    path = tmp_path / "finetune-00000007.safetensors"
    checkpoints.save(path, make(stage="finetune", step=7, recipe={"data": "folder", "normalize": "half"} | fields))
    with refused(path, "crop_pct"):
        convert.read(path)
