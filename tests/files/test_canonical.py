"""Weights files: they bring back every bit, survive a failed write, and are refused by name if they are not whole."""
import errno
import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from vit import errors
from vit.files import canonical
from vit.files.canonical import FORMAT, load, save
from vit.files.lazy_tensor import LazyTensor
from vit.files.safetensors import write_tensors
from vit.model.parameters import sha256


@pytest.fixture
def saved(tmp_path, small, random_weights):
    """A file, what is in it, and its model."""
    weights = {name: value.astype(np.float32) for name, value in random_weights(small).items()}
    path = tmp_path / "weights.safetensors"
    save(path, weights, small)
    return path, weights, small


def _rewrite(path, weights, metadata):
    """Put a file with other metadata, and a right checksum, in the place of another."""
    with open(path, "wb") as file:
        write_tensors(file, weights, metadata)


def _same(left, right):
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and left[name].tobytes() == right[name].tobytes() for name in left)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ml_dtypes.bfloat16])
def test_file_brings_back_every_bit(tmp_path, small, random_weights, dtype):
    weights = {name: value.astype(dtype) for name, value in random_weights(small).items()}
    limits = ml_dtypes.finfo(dtype)
    weights["norm.bias"][:3] = [-0.0, float(limits.max), float(limits.tiny) / 4]
    save(tmp_path / "w", weights, small)
    again, config = load(tmp_path / "w")
    assert config == small
    assert _same(dict(sorted(weights.items())), dict(sorted(again.items())))
    assert sha256(again) == sha256(weights)


def test_file_keeps_the_values_of_arrays_in_any_memory_layout(tmp_path, small, random_weights):
    weights = random_weights(small)
    save(tmp_path / "w", {name: np.asfortranarray(value) for name, value in weights.items()}, small)
    again, _ = load(tmp_path / "w")
    assert all((again[name] == value).all() for name, value in weights.items())


@pytest.mark.parametrize("keep", [0, 4, 8, 9, 300, -4096, -1])
def test_cut_off_file_is_refused(saved, refused, keep):
    path, _, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with refused(path, "safetensors"):
        load(path)


def test_header_with_a_flipped_bit_never_passes_for_another_model(saved):
    path, weights, config = saved
    raw = path.read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    for position in range(end):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 7
        path.write_bytes(damaged)
        try:
            again, theirs = load(path, expected=config)
        except errors.UserError as error:
            assert "\n" not in str(error)
            continue
        assert all((again[name] == value).all() for name, value in weights.items())
        assert theirs == config


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x02}q\x00.", b"<html>not found</html>",
                                     struct.pack("<Q", 2**63) + b"{}", b"\xff" * 64])
def test_file_that_is_not_safetensors_is_refused(tmp_path, refused, content):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with refused(path, "safetensors"):
        load(path)


def test_missing_file_is_refused(tmp_path, refused):
    with refused(tmp_path / "none", "no such"):
        load(tmp_path / "none")


def test_folder_is_refused(tmp_path, refused):
    with refused(tmp_path):
        load(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"spec": "{}"}])
def test_file_without_our_manifest_is_refused(saved, refused, metadata):
    path, weights, _ = saved
    safetensors.numpy.save_file(weights, path, metadata)
    with refused(path, "manifest"):
        load(path)


@pytest.mark.parametrize("spec", [None, "", "{", "null", "1", "[]", "{}", '"a"', "[" * 100_000, '{"width": 16}'])
def test_manifest_that_is_no_spec_is_refused(saved, refused, spec):
    path, weights, _ = saved
    _rewrite(path, weights, {"format": FORMAT} | ({} if spec is None else {"spec": spec}))
    with refused(path, "manifest"):
        load(path)


@pytest.mark.parametrize("field", ["width", "norm_order", "depth"])
def test_manifest_with_an_impossible_value_is_refused(saved, refused, field):
    path, weights, config = saved
    spec = json.dumps(config.to_dict() | {field: "x"})
    _rewrite(path, weights, {"format": FORMAT, "spec": spec})
    with refused(path, "manifest", field):
        load(path)


@pytest.mark.parametrize(("change", "fault"), [
    ({"depth": 3}, "missing blocks.2.norm1.weight"),
    ({"depth": 1}, "unexpected blocks.1."),
    ({"mlp_dim": 32}, "blocks.0.mlp.fc1.weight is [24, 16], not [32, 16]"),
    ({"patch_bias": False}, "unexpected patch_embed.proj.bias"),
    ({"class_token": False, "pool": "mean"}, "unexpected cls_token"),
])
def test_tensors_that_are_not_the_manifests_are_refused(saved, refused, change, fault):
    path, weights, config = saved
    spec = json.dumps(config.replace(**change).to_dict())
    _rewrite(path, weights, {"format": FORMAT, "spec": spec})
    with refused(path, fault):
        load(path)


def test_tensors_that_are_not_real_numbers_are_refused(saved, refused):
    path, weights, config = saved
    wrong = weights | {"norm.bias": np.zeros(16, np.int32)}
    _rewrite(path, wrong, {"format": FORMAT, "spec": json.dumps(config.to_dict())})
    with refused(path, "norm.bias", "int32"):
        load(path)


def test_file_of_a_later_format_is_refused_by_its_number(saved, refused):
    path, weights, config = saved
    _rewrite(path, weights, {"format": "vit-canonical-3", "spec": json.dumps(config.to_dict())})
    with refused(path, "vit-canonical-3", "reads vit-canonical-1 and vit-canonical-2"):
        load(path)


def test_file_that_lost_its_checksum_is_refused(saved, refused):
    path, weights, config = saved
    safetensors.numpy.save_file(weights, path, {"format": FORMAT, "spec": json.dumps(config.to_dict())})
    with refused(path, "checksum is missing"):
        load(path)


def test_spec_without_a_field_that_came_later_takes_its_default(saved):
    path, weights, config = saved
    spec = {name: value for name, value in config.to_dict().items() if name != "class_token"}
    _rewrite(path, weights, {"format": FORMAT, "spec": json.dumps(spec)})
    again, theirs = load(path)
    assert theirs == config and sha256(again) == sha256(weights)


def test_spec_with_an_unknown_field_is_refused_by_its_name(saved, refused):
    path, weights, config = saved
    _rewrite(path, weights, {"format": FORMAT, "spec": json.dumps(config.to_dict() | {"registers": 4})})
    with refused(path, "manifest", "registers"):
        load(path)


@pytest.mark.parametrize(("change", "shown"), [
    ({"norm_order": "post"}, "norm_order 'pre' (expected 'post')"),
    ({"heads": 4}, "heads 2 (expected 4)"),
    ({"block_norm_eps": 1e-5}, "block_norm_eps 1e-06 (expected 1e-05)"),
    ({"final_norm_eps": 1e-5}, "final_norm_eps 1e-06 (expected 1e-05)"),
    ({"pool": "mean"}, "pool 'cls' (expected 'mean')"),
    ({"image_size": 32, "patch_size": 16}, "image_size 16 (expected 32), patch_size 8 (expected 16)"),
    ({"width": 32}, "width 16 (expected 32)"),
    ({"depth": 1}, "depth 2 (expected 1)"),
])
def test_another_models_file_is_refused(saved, refused, change, shown):
    path, _, config = saved
    with refused(path, "another model", shown):
        load(path, expected=config.replace(**change))


@pytest.mark.parametrize("change", [{"num_classes": 7}, {"dropout": 0.5}, {"attention_dropout": 0.5},
                                    {"drop_path": 0.5}])
def test_head_and_rates_may_differ(saved, change):
    path, weights, config = saved
    again, theirs = load(path, expected=config.replace(**change))
    assert theirs == config
    assert sha256(again) == sha256(weights)


def test_saving_another_models_weights_is_refused(tmp_path, small, random_weights, refused):
    with refused("missing blocks.2.norm1.weight"):
        save(tmp_path / "w", random_weights(small), small.replace(depth=3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_not_saved(saved, refused, dtype, value):
    path, weights, config = saved
    before = path.read_bytes()
    weights = {name: array.astype(dtype) for name, array in weights.items()}
    weights["norm.bias"][3] = value
    with refused(path, "not written", f"1 of its {len(weights)} tensors", "not finite: norm.bias"):
        save(path, weights, config)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_tensors_of_another_shape_are_refused_before_they_are_loaded(saved, refused, monkeypatch):
    """A file may be as long as it likes without taking any room on the disk."""
    path, weights, config = saved
    _rewrite(path, weights | {"norm.bias": np.zeros(17, np.float32)},
             {"format": FORMAT, "spec": json.dumps(config.to_dict())})
    opened = canonical.open_tensors

    def open_tensors(path):
        tensors, metadata = opened(path)
        return {name: LazyTensor(tensor.dtype, tensor.shape, None) for name, tensor in tensors.items()}, metadata

    monkeypatch.setattr(canonical, "open_tensors", open_tensors)
    with refused(path, "norm.bias is [17], not [16]"):
        load(path)


def test_a_spec_of_a_billion_blocks_is_refused_at_once(saved, refused):
    path, weights, config = saved
    _rewrite(path, weights, {"format": FORMAT, "spec": json.dumps(config.to_dict() | {"depth": 1 << 30})})
    with refused(path, f"{len(weights)} tensors for {1 << 30} blocks"):
        load(path)


def test_a_shape_that_numpy_has_not_is_refused(saved, refused):
    path, weights, config = saved
    _rewrite(path, weights | {"norm.bias": np.zeros(0, np.float32)},
             {"format": "vit-canonical-1", "spec": json.dumps(config.to_dict())})
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    del header["__metadata__"]["checksum"]
    header["norm.bias"]["shape"] = [0, 1 << 62]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[end:])
    with refused(path, "do not fit the model"):
        load(path)


@pytest.mark.parametrize(("kind", "named"), [("fifo", "a pipe (FIFO)"), ("device", "a device"), ("folder", "a folder")])
def test_what_is_no_file_is_not_waited_for(tmp_path, refused, kind, named):
    path = tmp_path / "w"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with refused(path, f"is {named}, not a file"):
        load(path)


def test_failed_rename_leaves_the_old_file_alone(saved, monkeypatch):
    path, weights, config = saved
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.EACCES, "denied")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="denied"):
        save(path, {name: value + 1 for name, value in weights.items()}, config)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_full_disk_leaves_the_old_file_alone(saved, monkeypatch):
    path, weights, config = saved
    before = path.read_bytes()
    opened = os.fdopen

    def half_full(handle, mode):
        file = opened(handle, mode, buffering=0)

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                file.write(data[:len(data) // 2])
                raise OSError(errno.ENOSPC, "no space left")

        return Full()

    monkeypatch.setattr(os, "fdopen", half_full)
    with pytest.raises(OSError, match="no space left"):
        save(path, {name: value + 1 for name, value in weights.items()}, config)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before
