"""Files that hurt: each ends in one line, exit status 2 and no file, in bounded time and memory."""
import io
import json
import os
import pickle
import struct
import time
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.convert.conftest import convert_command
from vit import convert
from vit.convert import protobuf
from vit.convert.layouts import HF_KERAS
from vit.convert.state_dict import LEGACY_MAGIC
from vit.files import canonical
from vit.model import parameters
from vit.model.config import ViTConfig

CONFIG = ViTConfig(image_size=16, patch_size=8, width=16, depth=2, heads=2, mlp_dim=24, num_classes=3)
VALUES = parameters.perturbed(CONFIG, 0)
KINDS = ("canonical", "timm", "npz", "mindspore", "torch", "legacy", "plain")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One whole file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    state = {name: torch.tensor(value) for name, value in VALUES.items()}
    for kind in KINDS[:4]:
        convert.write(folder / kind, VALUES, CONFIG, kind)
    torch.save(state, folder / "torch")
    torch.save(state, folder / "legacy", _use_new_zipfile_serialization=False)
    safetensors.numpy.save_file(VALUES, folder / "plain")
    return folder


def refused(path, tmp_path, *fragments, limit=10):
    """The command says one line about the file, leaves nothing behind, and is quick."""
    begin = time.monotonic()
    status, out, err = convert_command(path, tmp_path / "result.safetensors", "--heads", "2")
    assert time.monotonic() - begin < limit
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert not (tmp_path / "result.safetensors").exists()
    assert [fragment for fragment in fragments if fragment not in err] == [], err
    return err


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_convert(files, tmp_path, kind):
    status, _, err = convert_command(files / kind, tmp_path / "result.safetensors", "--heads", "2")
    assert (status, err) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_files(files, tmp_path, kind, data):
    """Never a traceback, never half a model, never other values without a word where there is a checksum."""
    whole = bytearray((files / kind).read_bytes())
    if data.draw(st.booleans(), "cut"):
        changed = whole[:data.draw(st.integers(0, len(whole) - 1), "keep")]
    else:
        changed = whole
        offsets = st.one_of(st.integers(0, min(4000, len(whole) - 1)), st.integers(0, len(whole) - 1),
                            st.integers(max(0, len(whole) - 3000), len(whole) - 1))
        for offset, value in data.draw(st.lists(st.tuples(offsets, st.integers(0, 255)), min_size=1, max_size=8)):
            changed[offset] = value
    path = tmp_path / "changed"
    path.write_bytes(changed)
    (tmp_path / "result.safetensors").unlink(missing_ok=True)
    status, out, err = convert_command(path, tmp_path / "result.safetensors", "--heads", "2")
    if status:
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert not (tmp_path / "result.safetensors").exists()
        return
    values, config = canonical.load(tmp_path / "result.safetensors")
    parameters.check(values, config)
    assert all(np.isfinite(value).all() for value in values.values())
    assert "recognised" in out
    if kind in ("canonical", "timm", "torch"):  # the others have no checksum, or only one over the values
        assert parameters.sha256(values) == parameters.sha256(VALUES)


@pytest.mark.parametrize("kind", ["canonical", "timm", "npz", "torch"])
def test_a_flipped_bit_of_a_value_is_noticed_where_there_is_a_checksum(files, tmp_path, kind):
    data = bytearray((files / kind).read_bytes())
    at = data.index(VALUES["blocks.1.mlp.fc2.bias"].tobytes())
    data[at] ^= 1
    (tmp_path / "flipped").write_bytes(data)
    refused(tmp_path / "flipped", tmp_path, "flipped")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused_by_name(tmp_path, kind, value, monkeypatch):
    monkeypatch.setattr(canonical, "not_finite", lambda weights: [])  # our own writer would refuse to write it
    values = {name: array.copy() for name, array in VALUES.items()}
    values["blocks.1.mlp.fc1.bias"][3] = value
    path = tmp_path / "m"
    if kind in KINDS[:4]:
        convert.write(path, values, CONFIG, kind)
    elif kind == "plain":
        safetensors.numpy.save_file(values, path)
    else:
        torch.save({name: torch.tensor(array) for name, array in values.items()}, path,
                   _use_new_zipfile_serialization=kind == "torch")
    refused(path, tmp_path, "not finite", "MlpBlock_3/Dense_0/bias" if kind == "npz" else "mlp.fc1.bias")


@pytest.mark.parametrize("claim", [1 << 24, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_header_that_claims_a_huge_size(tmp_path, claim):
    (tmp_path / "m").write_bytes(struct.pack("<Q", claim) + b'{"a":' + b" " * 1000)
    refused(tmp_path / "m", tmp_path, "claims", limit=1)


@pytest.mark.parametrize("shape", [[1 << 40], [1 << 20, 1 << 20], [1 << 62, 1 << 62]])
def test_tensors_that_claim_a_huge_size(tmp_path, shape):
    header = {"cls_token": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (tmp_path / "m").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    refused(tmp_path / "m", tmp_path, limit=1)


def test_an_npz_that_claims_a_huge_size(tmp_path):
    begin = io.BytesIO()
    np.lib.format.write_array_header_1_0(begin, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 20)})
    with zipfile.ZipFile(tmp_path / "m", "w") as archive:
        archive.writestr("cls.npy", begin.getvalue())
    refused(tmp_path / "m", tmp_path, "claim", limit=1)


def test_an_archive_that_inflates(tmp_path):
    with zipfile.ZipFile(tmp_path / "m", "w", zipfile.ZIP_DEFLATED) as archive, \
            archive.open("cls.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 26, )})
        for _ in range(256):
            member.write(bytes(1 << 20))
    assert os.path.getsize(tmp_path / "m") < 1 << 20
    refused(tmp_path / "m", tmp_path, "claim", limit=1)


def test_an_old_pickle_asks_for_no_more_than_there_is(tmp_path):
    """It says that a terabyte follows; nobody takes memory for that."""
    (tmp_path / "m").write_bytes(LEGACY_MAGIC + b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"1234.")
    refused(tmp_path / "m", tmp_path, "not a whole torch file (expected 1099511627776 bytes in a bytearray8")


@pytest.mark.parametrize("kind", ["zip", "safetensors", "mindspore", "torch"])
def test_a_bomb_of_names(tmp_path, kind):
    path, count = tmp_path / "m", 100_000
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for i in range(count):
                archive.writestr(f"blocks.{i}.npy", b"")
    elif kind == "safetensors":
        text = json.dumps({f"blocks.{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                           for i in range(count)}).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text)
    elif kind == "mindspore":
        with open(path, "wb") as file:
            protobuf.write(file, {f"blocks.{i}": np.zeros(1, np.float32) for i in range(count)}, {})
    else:
        one = torch.zeros(1)
        torch.save({f"blocks.{i}": one for i in range(count)}, path)
    refused(path, tmp_path)


class Code:
    """A pickle of it runs a command."""

    def __reduce__(self):
        return os.system, (f"touch {self.path}", )


@pytest.mark.parametrize("kind", ["pickle", "torch", "legacy", "npz", "npy"])
def test_a_pickle_with_code_is_not_run(tmp_path, kind):
    code, path = Code(), tmp_path / "m"
    code.path = tmp_path / "ran"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(code))
    elif kind == "npz":
        with open(path, "wb") as file:
            np.savez(file, cls=np.array([code], dtype=object))
    elif kind == "npy":
        with open(path, "wb") as file:
            np.save(file, np.array([code], dtype=object))
    else:
        torch.save({"model": code}, path, _use_new_zipfile_serialization=kind == "torch")
    err = refused(path, tmp_path)
    assert not (tmp_path / "ran").exists()
    if kind in ("torch", "legacy"):
        assert "posix.system" in err
    elif kind != "npy":
        assert "run code" in err


def test_a_model_pickled_whole_is_refused_by_its_class(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m")
    refused(tmp_path / "m", tmp_path, "torch.nn.modules.linear.Linear", "state_dict()")


def test_a_small_storage_that_is_viewed_as_a_huge_tensor(tmp_path):
    torch.save({"cls_token": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "m")
    refused(tmp_path / "m", tmp_path, "larger than what is stored", limit=3)


def test_two_tensors_of_one_name(tmp_path):
    header = json.dumps({name: {"dtype": "F32", "shape": list(value.shape), "data_offsets": [0, 0]}
                         for name, value in VALUES.items()})
    text = (header[:-1] + ',"cls_token":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}').encode()
    (tmp_path / "m").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    refused(tmp_path / "m", tmp_path, "twice: cls_token")


def test_two_members_of_one_name(tmp_path):
    data = io.BytesIO()
    np.save(data, np.zeros((1, 1, 16), np.float32))
    with zipfile.ZipFile(tmp_path / "m", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("cls.npy", data.getvalue())
    refused(tmp_path / "m", tmp_path, "twice: cls.npy")


def test_two_entries_of_one_name(tmp_path):
    with open(tmp_path / "m", "wb") as file:
        protobuf.write(file, VALUES, {})
        protobuf.write(file, {"cls_token": VALUES["cls_token"]}, {})
    refused(tmp_path / "m", tmp_path, "twice: cls_token")


def test_two_names_that_mean_one_tensor(tmp_path):
    state = {name: torch.tensor(value) for name, value in VALUES.items()}
    torch.save(state | {"module.cls_token": state["cls_token"]}, tmp_path / "m")
    refused(tmp_path / "m", tmp_path, "two tensors for each of cls_token")


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("kind", ["safetensors", "npz", "torch"])
def test_a_tensor_that_is_no_real_number_is_refused_by_name(tmp_path, kind, dtype):
    values = VALUES | {"norm.bias": np.zeros(16, dtype)}
    if kind == "safetensors":
        safetensors.numpy.save_file(values, tmp_path / "m")
    elif kind == "npz":
        with open(tmp_path / "m", "wb") as file:
            np.savez(file, **values)
    else:
        torch.save({name: torch.tensor(value) for name, value in values.items()}, tmp_path / "m")
    refused(tmp_path / "m", tmp_path, "norm.bias")


@pytest.mark.parametrize("name", ["x\ny", "\x1b[31mred", "n" * 3000])
def test_names_that_would_break_a_line(tmp_path, name):
    safetensors.numpy.save_file(VALUES | {name: np.zeros(1, np.float32)}, tmp_path / "m")
    err = refused(tmp_path / "m", tmp_path, "unexpected")
    assert err.strip().isprintable() and len(err) < 1000


@pytest.mark.parametrize("content", [b"", b"\n", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x02}q\x00.", b"hello",
                                     b"\n" * 99,
                                     b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b'12345678{"a":1}', b"\xff" * 64])
def test_files_that_only_begin_well(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    refused(tmp_path / "m", tmp_path)


def test_what_is_not_there(tmp_path):
    refused(tmp_path / "m", tmp_path, "no such file")
    refused(tmp_path, tmp_path, "a folder without model.safetensors")


def test_a_block_far_away(tmp_path):
    safetensors.numpy.save_file(VALUES | {"blocks.99999.norm1.weight": np.zeros(16, np.float32)}, tmp_path / "m")
    refused(tmp_path / "m", tmp_path, limit=1)


@pytest.mark.parametrize("damage", ["cut", "loop", "text"])
def test_damaged_hdf5(tmp_path, damage):
    with h5py.File(tmp_path / "m", "w") as file:
        file.attrs["layer_names"] = [b"a"] * (1 if damage != "text" else 2)
        file.create_group("a").attrs["weight_names"] = [b"a"]
        file["a/a"] = file["a"] if damage == "loop" else np.array([b"text"])
    if damage == "cut":
        (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:-100])
    refused(tmp_path / "m", tmp_path)


@pytest.mark.parametrize("seed", range(10))
def test_mutated_hdf5(tmp_path, seed):
    """Some of these crash the HDF5 library, or make it ask for gigabytes; its process is not this one."""
    tensors = {f"vit/{name}:0": part for canonical, value in VALUES.items()
               for name, part in HF_KERAS.split(canonical, value, CONFIG).items()}
    with h5py.File(tmp_path / "m", "w") as file:
        file.attrs["layer_names"] = [b"vit"]
        file.create_group("vit").attrs["weight_names"] = [name.encode() for name in tensors]
        for name, value in tensors.items():
            file["vit"][name] = value
    if not seed:
        assert convert_command(tmp_path / "m", tmp_path / "result.safetensors", "--heads", "2")[0] == 0
        return
    rng = np.random.default_rng(seed)
    data = bytearray((tmp_path / "m").read_bytes())
    for offset in rng.integers(0, min(len(data), 8000), 2**(seed % 7)):
        data[offset] = rng.integers(256)
    (tmp_path / "m").write_bytes(data)
    status, out, err = convert_command(tmp_path / "m", tmp_path / "result.safetensors", "--heads", "2")
    assert (status, out, err.count("\n")) == (2, "", 1) or (status == 0 and "recognised" in out)
    assert (tmp_path / "result.safetensors").exists() == (status == 0)


def test_an_hdf5_library_that_crashes_is_one_line(tmp_path, monkeypatch):
    from vit.convert import keras
    with h5py.File(tmp_path / "m", "w"):
        pass
    monkeypatch.setattr(keras.sys, "executable", "/bin/false")
    refused(tmp_path / "m", tmp_path, "gave up")
