"""The sums of an export: what was changed, cut, lost or added is refused before a runtime sees it."""
import os
import zipfile

import pytest

from vit.use import exported
from vit.use.exported import open_model
from vit.use.seal import SUMS, check, seal


def _file(tmp_path, kind):
    path = tmp_path / f"m.{kind}"
    path.write_bytes(bytes(range(256)) * 20)
    if kind == "litert":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("vit.json", "{}")
    seal(path, kind)
    return path


@pytest.fixture
def folder(tmp_path):
    """A folder with its sums."""
    (tmp_path / "m/variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index"):
        (tmp_path / "m" / name).write_bytes(name.encode())
    seal(tmp_path / "m", "savedmodel")
    return tmp_path / "m"


@pytest.mark.parametrize("kind", ["onnx", "mindir", "litert"])
def test_a_file_of_which_a_bit_is_another_is_refused(kind, tmp_path, refused):
    path = _file(tmp_path, kind)
    check(path, kind, "TITLE")
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
        with refused(f"{path}: is no whole TITLE file of `vit export`: its sum is"):
            check(path, kind, "TITLE")
    for other in (b"", whole[:-1], whole[1:], whole + b"\0", whole[:64], whole[-64:]):
        path.write_bytes(other)
        with refused("is no whole TITLE file"):
            check(path, kind, "TITLE")


def test_a_sum_is_read_as_a_part_of_the_form(tmp_path):
    import onnx
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.set_model_props(model := onnx.ModelProto(ir_version=8), {"vit": "x"}) or model, path)
    seal(path, "onnx")
    assert [entry.key for entry in onnx.load(path).metadata_props] == ["vit", "vit.sha256"]
    path = _file(tmp_path, "litert")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["vit.json"] and archive.comment.startswith(b"sha256:")


def _changed(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(("change", "fragment"), [
    (_changed("saved_model.pb", b"x"), "the sum of 'saved_model.pb' is another"),
    (_changed("saved_model.cpb", b"x"), "'saved_model.cpb' is not in its vit.sha256"),
    (lambda folder: (folder / "variables/variables.index").unlink(), "'variables/variables.index' is not there"),
    (lambda folder: (folder / SUMS).unlink(), "there is no vit.sha256 in it"),
    (_changed(SUMS, b"\xff" * 9), "is not there"), (_changed(SUMS, b"x" * (9 << 20)), "too long"),
    (lambda folder: (folder / "variables").rename(folder / "v") and (folder / "variables").symlink_to("v"),
     "'v/variables.index' is not in its vit.sha256"),
    (lambda folder: (folder / "saved_model.pb").unlink() or os.mkfifo(folder / "saved_model.pb"), "a pipe")])
def test_a_folder_that_is_another_is_refused(folder, change, fragment, refused):
    check(folder, "savedmodel", "TITLE")
    change(folder)
    with refused(fragment):
        check(folder, "savedmodel", "TITLE")


def test_what_file_managers_leave_is_let_be(folder):
    (folder / ".DS_Store").write_bytes(b"x")
    check(folder, "savedmodel", "TITLE")


@pytest.mark.parametrize("name", ["m.onnx", "m.mindir", "m.tflite"])
def test_no_runtime_sees_what_is_damaged(name, tmp_path, monkeypatch, refused):
    monkeypatch.setattr(exported, "load_runtime", pytest.fail)
    (tmp_path / name).write_bytes(b"damaged")
    with refused(f"{tmp_path / name}: is no whole "):
        open_model(tmp_path / name)
