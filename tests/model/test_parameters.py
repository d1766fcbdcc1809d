"""Canonical weights: initial values, files that survive, files that are refused, and the copy of an encoder."""
import errno
import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy

from vit import errors
from vit.files.canonical import FORMAT, load, save
from vit.model.config import VARIANTS
from vit.model.parameters import check, copy_encoder, initial, sha256, shapes


@pytest.fixture
def saved(tmp_path, small, random_weights):
    """A file, what is in it, and its model."""
    weights = {name: value.astype(np.float32) for name, value in random_weights(small).items()}
    path = tmp_path / "weights.safetensors"
    save(path, weights, small)
    return path, weights, small


def _parts(path):
    raw = path.read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:end]), raw[end:]


def _write(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def _same(left, right):
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and left[name].tobytes() == right[name].tobytes() for name in left)


# Initial values.

def test_initial_values_have_the_canonical_names_and_shapes():
    config = VARIANTS["tiny"]
    weights = initial(config, 3)
    assert {name: value.shape for name, value in weights.items()} == shapes(config)
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("change", [{"num_classes": 10}, {"depth": 2}, {"dropout": 0.5}, {"norm_order": "post"}])
def test_initial_value_depends_on_seed_and_name_alone(change):
    before, after = initial(VARIANTS["tiny"], 3), initial(VARIANTS["tiny"].replace(**change), 3)
    shared = [name for name in after if after[name].shape == before[name].shape]
    assert len(shared) >= len(after) - 2
    assert [name for name in shared if before[name].tobytes() != after[name].tobytes()] == []


def test_another_seed_draws_every_matrix_anew():
    before, after = initial(VARIANTS["tiny"], 3), initial(VARIANTS["tiny"], 4)
    drawn = [name for name in before if np.ptp(before[name])]
    assert {"cls_token", "pos_embed", "head.weight", "patch_embed.proj.weight"} < set(drawn)
    assert [name for name in drawn if np.any(before[name] == after[name])] == []


def test_tensors_of_one_shape_start_differently():
    weights = initial(VARIANTS["tiny"], 3)
    for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        assert not np.any(weights[f"blocks.0.{layer}.weight"] == weights[f"blocks.1.{layer}.weight"])


def test_scales_and_shifts_start_neutral():
    for name, value in initial(VARIANTS["tiny"], 3).items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif "norm" in name:
            assert (value == 1).all(), name


@pytest.mark.parametrize(("name", "fans"), [
    ("patch_embed.proj.weight", 64 + 3 * 8 * 8),
    ("blocks.0.attn.qkv.weight", 64 + 64),  # q, k and v are matrices of their own
    ("blocks.3.attn.proj.weight", 64 + 64),
    ("blocks.1.mlp.fc1.weight", 64 + 128),
    ("blocks.2.mlp.fc2.weight", 64 + 128),
])
def test_matrices_are_xavier_uniform(name, fans):
    values = initial(VARIANTS["tiny"], 3)[name]
    limit = np.sqrt(6 / fans)
    assert 0.99 * limit < values.max() <= limit * 1.000001
    assert -limit * 1.000001 <= values.min() < -0.99 * limit
    assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.03)


@pytest.mark.parametrize("name", ["cls_token", "pos_embed", "head.weight"])
def test_tokens_and_head_are_normal(name):
    values = initial(VARIANTS["vit_b_32_224"].replace(depth=1), 3)[name]
    assert values.std() == pytest.approx(0.02, rel=0.08)
    assert abs(values.mean()) < 0.002
    assert np.abs(values).max() > 0.05


def test_initial_values_stay_what_they_were():
    weights = initial(VARIANTS["tiny"], 0)
    assert weights["cls_token"][0, 0, :3] == pytest.approx([-0.0098416, -0.01653673, -0.01149877], abs=1e-7)
    assert weights["blocks.0.attn.qkv.weight"][0, :2] == pytest.approx([-0.15634751, -0.02938213], abs=1e-7)


# Files.

@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_file_brings_back_every_bit(tmp_path, small, random_weights, dtype):
    weights = {name: value.astype(dtype) for name, value in random_weights(small).items()}
    weights["norm.bias"][:3] = [-0.0, np.nan, np.finfo(dtype).tiny / 4]
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
            again, theirs = load(path, like=config)
        except errors.UserError as error:
            assert "\n" not in str(error)
            continue
        assert all((again[name] == value).all() for name, value in weights.items())
        free = ("num_classes", "dropout", "attention_dropout", "drop_path")
        assert theirs.replace(**{name: getattr(config, name) for name in free}) == config


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
    safetensors.numpy.save_file(weights, path, {"format": FORMAT} | ({} if spec is None else {"spec": spec}))
    with refused(path, "manifest"):
        load(path)


@pytest.mark.parametrize("field", ["width", "norm_order", "depth"])
def test_manifest_with_an_impossible_value_is_refused(saved, refused, field):
    path, weights, config = saved
    spec = json.dumps(config.to_dict() | {field: "x"})
    safetensors.numpy.save_file(weights, path, {"format": FORMAT, "spec": spec})
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
    safetensors.numpy.save_file(weights, path, {"format": FORMAT, "spec": spec})
    with refused(path, fault):
        load(path)


def test_tensors_that_are_not_real_numbers_are_refused(saved, refused):
    path, _, _ = saved
    header, body = _parts(path)
    header["norm.bias"]["dtype"] = "I32"
    _write(path, header, body)
    with refused(path, "norm.bias"):
        load(path)


@pytest.mark.parametrize(("change", "shown"), [
    ({"norm_order": "post"}, "norm_order 'pre' (wanted 'post')"),
    ({"heads": 4}, "heads 2 (wanted 4)"),
    ({"block_norm_eps": 1e-5}, "block_norm_eps 1e-06 (wanted 1e-05)"),
    ({"final_norm_eps": 1e-5}, "final_norm_eps 1e-06 (wanted 1e-05)"),
    ({"pool": "mean"}, "pool 'cls' (wanted 'mean')"),
    ({"image_size": 32, "patch_size": 16}, "image_size 16 (wanted 32), patch_size 8 (wanted 16)"),
    ({"width": 32}, "width 16 (wanted 32)"),
    ({"depth": 1}, "depth 2 (wanted 1)"),
])
def test_another_models_file_is_refused(saved, refused, change, shown):
    path, _, config = saved
    with refused(path, "another model", shown):
        load(path, like=config.replace(**change))


@pytest.mark.parametrize("change", [{"num_classes": 7}, {"dropout": 0.5}, {"attention_dropout": 0.5},
                                    {"drop_path": 0.5}])
def test_head_and_rates_may_differ(saved, change):
    path, weights, config = saved
    again, theirs = load(path, like=config.replace(**change))
    assert theirs == config
    assert sha256(again) == sha256(weights)


def test_saving_another_models_weights_is_refused(tmp_path, small, random_weights, refused):
    with refused("missing blocks.2.norm1.weight"):
        save(tmp_path / "w", random_weights(small), small.replace(depth=3))
    assert list(tmp_path.iterdir()) == []


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


# Checks and fingerprints.

def test_check_lists_every_kind_of_fault(small, random_weights, refused):
    weights = random_weights(small)
    del weights["cls_token"]
    weights["extra"] = np.zeros(1)
    weights["head.bias"] = np.zeros(11)
    with refused("missing cls_token", "unexpected extra", "head.bias is [11], not [10]"):
        check(weights, small)


def test_check_counts_the_faults_that_it_does_not_list(small, refused):
    with refused("missing cls_token", f"and {len(shapes(small)) - 6} more"):
        check({}, small)


@pytest.mark.parametrize("change", [
    lambda w: w["head.bias"].__setitem__(0, np.nextafter(w["head.bias"][0], np.inf)),
    lambda w: w.__setitem__("head.bias", w["head.bias"].view(np.int64)),
    lambda w: w.__setitem__("head.bias", w["head.bias"][None]),
    lambda w: w.__setitem__("head.shift", w.pop("head.bias")),
    lambda w: w.pop("head.bias"),
    lambda w: w["pos_embed"].__setitem__(0, w["pos_embed"][0, ::-1].copy()),
], ids=["value", "dtype", "shape", "name", "fewer", "order of values"])
def test_fingerprint_notices(small, random_weights, change):
    weights = random_weights(small)
    before = sha256(weights)
    change(weights)
    assert sha256(weights) != before


def test_fingerprint_ignores_the_order_of_names_and_the_memory_layout(small, random_weights):
    weights = random_weights(small)
    other = {name: np.asfortranarray(weights[name]) for name in reversed(weights)}
    assert sha256(other) == sha256(weights)


# The copy of an encoder.

def test_encoder_is_copied_under_a_new_head(small, random_weights):
    source, target = random_weights(small, 1), random_weights(small.replace(num_classes=3), 2)
    result, report = copy_encoder(source, target)
    assert list(result) == list(target)
    for name, value in result.items():
        assert (value == (target if name.startswith("head.") else source)[name]).all(), name
    encoder = [value for name, value in source.items() if not name.startswith("head.")]
    assert "\n" not in report
    assert f"{len(encoder)} tensors" in report
    assert f"{sum(value.size for value in encoder):,} values" in report
    assert "head.weight [3, 16]" in report and "head.bias [3]" in report


def test_copied_encoder_shares_no_memory(small, random_weights):
    source, target = random_weights(small, 1), random_weights(small, 2)
    result, _ = copy_encoder(source, target)
    assert not any(np.shares_memory(result[name], origin[name]) for origin in (source, target) for name in result)


@pytest.mark.parametrize(("change", "named"), [
    ({"depth": 1}, "blocks.1."),
    ({"mlp_dim": 32}, "blocks.0.mlp.fc1.weight"),
    ({"qkv_bias": False}, "blocks.0.attn.qkv.bias"),
    ({"image_size": 32}, "pos_embed"),
    ({"class_token": False, "pool": "mean"}, "cls_token"),
])
@pytest.mark.parametrize("swap", [False, True])
def test_encoders_that_differ_are_refused(small, random_weights, refused, change, named, swap):
    pair = [random_weights(small), random_weights(small.replace(**change))]
    with refused("encoders differ", named):
        copy_encoder(*(pair[::-1] if swap else pair))
