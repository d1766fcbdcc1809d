"""A run's folder in S3: what is there and when, whose it is, and what becomes of it where the server ends."""
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vit.cli.commands import main
from vit.errors import UserError
from vit.remote import transfer
from vit.remote.address import parse
from vit.training import mirror
from vit.training.options import RunOptions

RUN = parse("s3://bucket/runs/one")
FILES = {"results.json": b"{}", "recipe.yaml": b"", "best/a.safetensors": b"best",
         "checkpoints/a-00000002.safetensors": b"2"}


def _staged(**options):
    return mirror.staged(RunOptions(**{"model_dir": str(RUN)} | options))


def _write(copied, files):
    for name, data in files.items():
        (copied.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (copied.folder / name).write_bytes(data)


def _there(address=RUN):
    return list(transfer.names(address))


def _leave(files=FILES):
    """Leave a run there."""
    with _staged() as (_, copied), copied.owned(False, False):
        _write(copied, files)


@pytest.fixture
def lock(s3, tmp_path):
    """A function that leaves the lock of another run there."""

    def leave(process, host):
        (tmp_path / "lock").write_text(f"process {process} on {host}, 12345678")
        transfer.put(tmp_path / "lock", RUN / ".lock")

    return leave


# What is there.

def test_without_an_address_nothing_is_changed(tmp_path):
    options = RunOptions(model_dir=str(tmp_path))
    with mirror.staged(options) as found:
        assert found == (options, None)


def test_files_are_there_at_the_end_and_the_local_ones_are_gone(s3, tmp_path):
    with _staged() as (options, copied), copied.owned(False, False):
        assert options.model_dir == str(copied.folder)
        _write(copied, FILES | {".a.safetensors.1234": b"half"})
        assert _there() == [".lock"]
    assert _there() == sorted(FILES)
    assert list((tmp_path / "cache" / "runs").iterdir()) == []


def test_a_checkpoint_comes_behind_what_it_names_and_results_at_the_end_and_deleting_last(s3, monkeypatch):
    done, put, remove = [], transfer.put, transfer.remove
    monkeypatch.setattr(transfer, "put", lambda path, address, **new: done.append(address.name) or put(path, address,
                                                                                                       **new))
    monkeypatch.setattr(transfer, "remove", lambda address: done.append(f"-{address.name}") or remove(address))
    with _staged() as (_, copied), copied.owned(False, False):
        _write(copied, {"checkpoints/a-00000001.safetensors": b"1"})
        copied.push()
        done.clear()
        (copied.folder / "checkpoints/a-00000001.safetensors").unlink()
        _write(copied, FILES)
    assert done == ["a.safetensors", "recipe.yaml", "a-00000002.safetensors", "results.json",
                    "-a-00000001.safetensors", "-.lock"]


def test_only_what_has_changed_is_sent(s3, monkeypatch):
    sent, put = [], transfer.put
    with _staged() as (_, copied), copied.owned(False, False):
        _write(copied, FILES)
        copied.push()
        monkeypatch.setattr(transfer, "put", lambda path, address: sent.append(address.name) or put(path, address))
        copied.push()
        assert sent == []
        _write(copied, {"recipe.yaml": b"x"})
        checkpoint = copied.folder / "checkpoints/a-00000002.safetensors"
        checkpoint.rename(f"{checkpoint}.superseded")
        copied.push()
        assert sent == ["recipe.yaml", "a-00000002.safetensors.superseded"]
    assert "checkpoints/a-00000002.safetensors" not in _there()


def test_to_go_on_all_of_it_is_read(s3):
    _leave()
    with _staged(resume="auto") as (_, copied):
        assert {str(path.relative_to(copied.folder)): path.read_bytes() for path in copied.folder.rglob("*")
                if path.is_file()} == FILES
        with copied.owned(True, False):
            (copied.folder / "results.json").unlink()
    assert _there() == sorted(set(FILES) - {"results.json"})


def test_where_no_run_lies_nothing_is_read_nor_deleted(s3):
    for key in ("large.bin", "runs/two/results.json", "runs/two/checkpoints/a-00000002.safetensors"):
        s3.bucket().put_object(Key=f"runs/one/{key}", Body=b"x")
    with _staged(resume="auto") as (_, copied), copied.owned(True, False):
        assert [path for path in copied.folder.rglob("*") if path.is_file()] == []
        _write(copied, {"recipe.yaml": b""})
    assert _there() == ["large.bin", "recipe.yaml", "runs/two/checkpoints/a-00000002.safetensors",
                        "runs/two/results.json"]


@pytest.mark.parametrize("key", ["runs/one/../../../outside", "runs/one//tmp/outside", "runs/one/a/./outside"])
def test_objects_whose_names_are_no_files_are_left_out(s3, key, tmp_path):
    _leave()
    s3.bucket().put_object(Key=key, Body=b"x")
    with _staged(resume="auto") as (_, copied):
        assert sorted(copied.there) == sorted(FILES)
        assert list(tmp_path.rglob("outside")) == []


def test_a_checkpoint_is_named_by_its_address(s3):
    _leave()
    last = RUN / "checkpoints/a-00000002.safetensors"
    for model_dir in (None, f"{RUN}/"):
        with _staged(resume=str(last), model_dir=model_dir) as (options, copied):
            assert options.resume == f"{options.model_dir}/checkpoints/a-00000002.safetensors"
            assert Path(options.resume).read_bytes() == b"2"
            assert copied.address == RUN


def test_an_error_names_the_address_and_not_the_local_folder(s3, refused):
    with refused(f"{RUN}/checkpoints: is odd"), _staged() as (options, _):
        raise UserError(f"{options.model_dir}/checkpoints: is odd")


@pytest.mark.parametrize(("options", "fragment"), [
    ({"model_dir": "https://host/runs/one"}, "can be read, and not written"),
    ({"model_dir": "s3://bucket"}, "is a whole bucket; name a folder in it: s3://bucket/NAME"),
    ({"model_dir": "s3://id:geheim@bucket/a"}, "must not hold a name or a password"),
    ({"resume": "s3://bucket/a/a-00000002.safetensors"}, "lies in no folder called checkpoints"),
    ({"resume": "s3://bucket/a/checkpoints/a-00000002.safetensors"}, "goes on in its own folder, s3://bucket/a"),
    ({"model_dir": "s3://no-bucket/a", "resume": "auto"}, "s3://no-bucket/a: there is no such bucket"),
])
def test_what_cannot_be_is_one_line(s3, refused, options, fragment):
    with refused(fragment), _staged(**options):
        pass


def test_the_command_lists_checkpoints_that_are_there(s3, capsys):
    _leave()
    assert main(["checkpoints", str(RUN)]) == 0
    assert "a-00000002.safetensors" in capsys.readouterr().out
    assert main(["checkpoints", f"{RUN}/none"]) == 2
    assert capsys.readouterr().err == f"error: {RUN}/none: holds no checkpoints\n"


# Whose it is.

def test_a_run_is_not_written_over(s3, refused):
    _leave()
    with refused(f"{RUN}: holds checkpoints/a-00000002.safetensors, of another run", "--resume auto", "--overwrite"):
        _leave()
    assert _there() == sorted(FILES)


def test_overwrite_moves_it_aside_whole(s3, capsys):
    for number in range(3):
        with _staged(overwrite=True) as (_, copied), copied.owned(False, True):
            _write(copied, FILES | {"classes.json": b"%d" % number})
    assert f"note: what was in {RUN} is now in {RUN}.old2" in capsys.readouterr().out
    for address in (RUN, parse(f"{RUN}.old"), parse(f"{RUN}.old2")):
        assert _there(address) == sorted([*FILES, "classes.json"])


def test_a_run_that_is_writing_there_keeps_others_out(s3, lock, refused):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        lock(other.pid, socket.gethostname())
        for resume in (None, "auto"):
            with refused(f"{RUN}: another run is writing there (process {other.pid} on"), \
                    _staged(resume=resume) as (_, copied), copied.owned(resume is not None, False):
                pass
    finally:
        other.kill()
        other.wait()
    with _staged() as (_, copied), copied.owned(False, False):  # it has ended without a word
        assert copied._owner().startswith(f"process {os.getpid()} on")
    assert _there() == []


def test_of_a_run_elsewhere_nobody_knows_and_only_one_that_goes_on_takes_its_place(s3, lock, refused, capsys):
    lock(1, "elsewhere")
    with refused("another run is writing there (process 1 on elsewhere, 12345678)", "go on with it (--resume auto)",
                 f"delete {RUN}/.lock"), _staged() as (_, copied), copied.owned(False, False):
        pass
    with _staged(resume="auto") as (_, copied), copied.owned(True, False):
        pass
    assert f"the lock of {RUN} was of process 1 on elsewhere, 12345678, and is taken over" in capsys.readouterr().err


def test_a_run_whose_place_was_taken_writes_nothing_more(s3, lock, refused):
    with refused(f"{RUN}: another run has taken it over (process 1 on elsewhere, 12345678); this one ends"), \
            _staged() as (_, copied), copied.owned(False, False):
        _write(copied, FILES)
        lock(1, "elsewhere")
        copied.push()
    assert _there() == [".lock"]


def test_what_has_changed_since_it_was_read_is_not_gone_on_with(s3, refused, tmp_path):
    _leave()
    with refused(f"{RUN}: has changed since it was read"), _staged(resume="auto") as (_, copied):
        (tmp_path / "late").write_bytes(b"3")
        transfer.put(tmp_path / "late", RUN / "checkpoints/a-00000003.safetensors")
        with copied.owned(True, False):
            pass
    assert "checkpoints/a-00000003.safetensors" in _there()


# Where the server ends.

def test_a_save_that_was_cut_is_made_up_for_by_the_next(s3):
    """What is there in between is what was there before, whole."""
    large = {"checkpoints/a-00000004.safetensors": os.urandom(20_000_000)}
    with _staged() as (_, copied), copied.owned(False, False):
        _write(copied, FILES)
        copied.push()
        _write(copied, large)
        (copied.folder / "checkpoints/a-00000002.safetensors").unlink()
        s3.shut_after("in", 10_000_000)
        with pytest.raises(OSError, match="cannot be reached") as caught:
            copied.push()
        assert caught.value.filename == f"{RUN}/checkpoints/a-00000004.safetensors"
        s3.open()
        assert set(_there()) == {".lock", *FILES}
        copied.push()
        assert set(_there()) == {".lock", *FILES, *large} - {"checkpoints/a-00000002.safetensors"}


def test_what_could_not_be_copied_stays_here(s3, refused, tmp_path):
    with refused(f"{RUN}/", "cannot be reached; what is not there is in", tmp_path / "cache/runs/kept-one-"), \
            _staged() as (_, copied), copied.owned(False, False):
        _write(copied, FILES)
        s3.shut()
    [kept] = (tmp_path / "cache" / "runs").iterdir()
    assert (kept / "results.json").read_bytes() == b"{}"
    with refused("cannot be reached"), _staged(resume="auto"):
        pass
    assert kept.is_dir()


def test_a_lock_that_could_not_be_deleted_is_a_warning(s3, capsys, tmp_path):
    with _staged() as (_, copied), copied.owned(False, False):
        _write(copied, FILES)
        copied.push()
        s3.shut()
    assert f"warning: {RUN}/.lock: cannot be reached; it was to be deleted" in capsys.readouterr().err
    assert list((tmp_path / "cache" / "runs").iterdir()) == []
    s3.open()
    with _staged(resume="auto") as (_, copied), copied.owned(True, False):  # the process is this one
        pass
    assert _there() == sorted(FILES)


def test_a_run_that_fails_says_why_and_then_what_stays_here(s3, refused, capsys):
    with refused("it has diverged"), _staged() as (_, copied), copied.owned(False, False):
        _write(copied, FILES)
        s3.shut()
        raise UserError("it has diverged")
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith(f"warning: {RUN}/")
    assert "what is not there is in" in told[-1]


def test_what_a_killed_run_has_left_here_is_deleted_by_the_next(s3, tmp_path):
    room = tmp_path / "cache" / "runs"
    (room / "old-12345678").mkdir(parents=True)
    (room / "old-12345678.lock").touch()
    with _staged() as (_, one), _staged() as (_, other):
        assert {path.name for path in room.iterdir() if path.is_dir()} == {one.folder.name, other.folder.name}
