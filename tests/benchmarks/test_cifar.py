"""What the benchmark of the whole of CIFAR keeps of a run, and that it passes signals on and goes on."""
import hashlib
import json
import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from benchmarks import cifar
from vit.errors import UserError
from vit.training.history import log_line

RUN = cifar.Run("apphub", "torch", "fp32", 0, 100)


def _row(epoch, accuracy):
    return {"epoch": epoch, "train_seconds": 700.04, "step_seconds": 1.7, "images_per_second": 75.2,
            "learning_rate": 0.01, "train_loss": 3.9, "eval_loss": 3.8288, "accuracy": accuracy, "top5": 0.3,
            "eval_seconds": 50.0}


def _lines(*accuracies, stage="pretrain", first=1):
    return "".join(f"note: x\n{log_line(_row(epoch, accuracy), f'{stage}: epoch', 100)}\n"
                   for epoch, accuracy in enumerate(accuracies, first))


def test_epochs_are_read_from_the_lines_that_a_run_prints():
    scaled = _row(3, 0.2) | {"images_per_second": None, "loss_scale": 1024.0, "skipped_steps": 1}
    text = _lines(0.1, 0.1224) + log_line(scaled, "pretrain: epoch", 100) + "\n" + _lines(0.7426, stage="finetune")
    found = cifar.epochs_in(text)
    assert [(row["epoch"], row["accuracy"]) for row in found["pretrain"]] == [(1, 0.1), (2, 0.1224), (3, 0.2)]
    assert found["pretrain"][1] == {"epoch": 2, "images_per_second": 75.0, "learning_rate": 0.01, "train_loss": 3.9,
                                    "eval_loss": 3.8288, "accuracy": 0.1224, "top5": 0.3}
    assert "images_per_second" not in found["pretrain"][2]
    assert [row["accuracy"] for row in found["finetune"]] == [0.7426]


def test_an_epoch_that_was_not_evaluated_takes_nothing_from_the_next():
    first = _lines(0.1).split(" | test")[0]
    assert [row["epoch"] for row in cifar.epochs_in(first + "\n" + _lines(0.2, first=2))["pretrain"]] == [2]


def test_an_epoch_that_was_trained_again_counts_once():
    found = cifar.epochs_in(_lines(0.1, 0.2) + _lines(0.2, 0.3, first=2))
    assert [row["accuracy"] for row in found["pretrain"]] == [0.1, 0.2, 0.3]


def test_the_record_keeps_runs_and_says_what_was_measured(tmp_path):
    record = cifar.Record(tmp_path)
    record.begin(RUN, "the published files")
    record.note(RUN, cifar.epochs_in(_lines(0.1088, 0.1581)))
    record = cifar.Record(tmp_path)  # as after an interruption
    other = RUN._replace(seed=1)
    for run in (RUN, other):
        record.begin(run, "the published files")
    record.note(other, cifar.epochs_in(_lines(0.1288)))
    record.note(RUN, cifar.epochs_in(_lines(0.5, stage="finetune")), "2 epochs")
    page = (tmp_path / "cifar.md").read_text()
    assert "| epoch | FastEstimator, published | PyTorch, fp32 |" in page
    assert "| 1 | 10.88 | 11.88 ± 1.41 |\n| 2 | 15.80 | 15.81 |\n" in page
    assert "| `apphub`, PyTorch, fp32, seed 0 | 2 epochs | 50.00 | - |" in page
    assert "| 3 |" not in page
    kept = json.loads((tmp_path / "cifar.json").read_text())
    assert len(kept[RUN.name]["stretches"]) == 1
    assert cifar.Run.of(kept[RUN.name]["run"]) == RUN
    assert (tmp_path / "cifar.png").stat().st_size > 10_000


def test_a_run_keeps_what_another_process_has_written_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "draw", lambda runs, path: None)
    other = RUN._replace(backend="tf")
    records = {run: cifar.Record(tmp_path) for run in (RUN, other)}
    for run, record in records.items():
        record.note(run, cifar.epochs_in(_lines(0.1)))
    records[RUN].note(RUN, cifar.epochs_in(_lines(0.1, 0.2)))
    kept = json.loads((tmp_path / "cifar.json").read_text())
    assert {name: len(found["pretrain"]) for name, found in kept.items()} == {RUN.name: 2, other.name: 1}
    assert "| 2 | 15.80 | 20.00 | - |" in (tmp_path / "cifar.md").read_text()


def test_how_far_frameworks_are_apart_is_said_of_the_epochs_that_all_have():
    def run(backend, *accuracies, seed=0):
        return {"run": RUN._replace(backend=backend, seed=seed)._asdict(),
                "pretrain": cifar.epochs_in(_lines(*accuracies))["pretrain"] if accuracies else []}

    assert cifar.apart([run("torch", 0.1), run("tf", 0.2, seed=1), run("ms")]) == []
    found = [run("torch", 0.1, 0.2, 0.3), run("tf", 0.1, 0.2013), run("ms", 0.1002, 0.1998), run("tf", seed=1)]
    assert cifar.apart(found) == ["", "PyTorch, TensorFlow and MindSpore, fp32, seed 0: in epochs 1 to 2 their top-1 "
                                  "is at most 0.15 points apart, their training loss 0.0000."]
    found[1]["pretrain"][0]["train_loss"] += 0.0013
    assert cifar.apart(found)[1].endswith("0.0013.")


def test_who_has_trained_what_is_said_of_all_that_did(tmp_path, monkeypatch):
    record = cifar.Record(tmp_path)
    for accuracy, commit in ((0.1, "0123456789abcdef"), (0.2, "fedcba9876543210+")):
        monkeypatch.setattr(cifar, "git_commit", lambda commit=commit: commit)
        record.begin(RUN, "the published files")
        record.note(RUN, cifar.epochs_in(_lines(accuracy, first=round(10 * accuracy))))
    del record.of(RUN)["stretches"][0]["preloaded"]  # as it was kept before
    monkeypatch.setenv("LD_PRELOAD", "/lib/libother.so:/lib/mkl_avx2.so")
    record.note(RUN, cifar.epochs_in(_lines(0.5, stage="finetune")), "2 epochs", "other images")
    monkeypatch.setattr(cifar, "git_commit", lambda: "of a day when nothing was trained")
    record.note(RUN, cifar.epochs_in(_lines(0.5, stage="finetune")), "2 epochs", "other images")
    record.write()
    page = (tmp_path / "cifar.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if RUN.name in line]
    assert [(row[0], row[1], row[5], row[6]) for row in rows] == [
        (f"| {RUN.name}", "2", "the published files", "0123456789 / fedcba9876+ |"),
        (f"| {RUN.name}, finetune", "1", "other images", "fedcba9876+ |")]
    assert [row[3].partition(" with ")[2] for row in rows] == ["", "libother.so mkl_avx2.so"]
    assert "(mkl_avx2.c) preloaded" in page


ARGUMENTS = {"recipe": "apphub", "backend": "torch", "precision": "fp32", "seed": 0, "epochs": 0, "schedule": None,
             "set": [], "finetune": False, "scratch": False, "train_steps_per_epoch": None,
             "eval_steps_per_epoch": None}


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """A function that measures with a script that takes two seconds an epoch: (**arguments) gives what is kept."""
    monkeypatch.setattr(cifar, "draw", lambda runs, path: None)
    script = tmp_path / "script.py"  # of its own, as the log has the command
    script.write_text(f"""
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
Path(sys.argv[1]).mkdir(exist_ok=True)
for line in {_lines(0.1, 0.2, 0.3)!r}.splitlines():
    print(line, flush=True)
    time.sleep(2 if "epoch" in line else 0)
""")
    monkeypatch.setattr(cifar, "command", lambda run, folder, *_: [sys.executable, str(script), str(folder)])

    def run(**given):
        asked = ARGUMENTS | {"runs": tmp_path / "runs", "out": tmp_path, "data_dir": None} | given
        assert cifar.measure(SimpleNamespace(**asked)) == 0
        place = tmp_path if not asked["train_steps_per_epoch"] else tmp_path / "runs"
        return json.loads((place / "cifar.json").read_text())
    return run


def test_epochs_that_are_there_are_not_said_to_be_todays(measure, monkeypatch):
    first = measure(epochs=1)
    assert [row["accuracy"] for row in first[RUN.name]["pretrain"]] == [0.1]
    monkeypatch.setattr(cifar, "git_commit", lambda: "another")
    assert measure(epochs=1) == first
    more = measure(epochs=2)[RUN.name]
    assert [one["after_epochs"] for one in more["stretches"]] == [0, 1] and more["stretches"][1]["commit"] == "another"


def test_a_run_whose_files_are_gone_is_trained_anew(measure, tmp_path, capsys):
    measure(epochs=2)
    (tmp_path / "runs" / RUN.name).rmdir()
    kept = measure(epochs=3)[RUN.name]
    assert len(kept["pretrain"]) == 3 and [one["after_epochs"] for one in kept["stretches"]] == [0]
    assert "holds no run, so it is trained anew" in capsys.readouterr().out


def test_a_run_that_was_stopped_before_it_had_an_epoch_anew_has_none(measure, tmp_path, monkeypatch):
    measure(epochs=2)
    (tmp_path / "runs" / RUN.name).rmdir()
    monkeypatch.setattr(cifar, "Followed", lambda words, log: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        measure(epochs=3)
    assert RUN.name not in json.loads((tmp_path / "cifar.json").read_text())


def test_shortened_epochs_are_kept_apart_by_their_steps(measure, tmp_path):
    for epochs, steps in ((2, 20), (1, 40)):
        kept = measure(epochs=epochs, train_steps_per_epoch=steps)
    epochs = {name.partition("=")[2]: len(one["pretrain"]) for name, one in kept.items()}
    assert epochs == {"20-seed0": 2, "40-seed0": 1}
    assert not (tmp_path / "cifar.json").exists()


@pytest.mark.parametrize("setting", ["val_fraction=0.1", "eval_every=5", "eval_offset=2"])
def test_an_epoch_that_would_not_be_shown_is_refused(measure, refused, setting):
    with refused("val_fraction, eval_every and eval_offset"):
        measure(epochs=1, set=[setting])


def test_the_published_curve_is_whole():
    curve = cifar.PUBLISHED["pretrain"]["accuracy"]
    assert (len(curve), curve[:5], curve[-1]) == (100, [0.1088, 0.158, 0.1876, 0.225, 0.2515], 0.5154)
    assert cifar.PUBLISHED["finetune"]["accuracy"] == [0.7426]


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: (print("saved", flush=True), sys.exit(143)))
print("began", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_once_it_has_saved(tmp_path, number):
    log = tmp_path / "run.log"
    with cifar.Followed([sys.executable, "-c", SCRIPT], log) as process:
        for text in process.texts():
            if text.endswith("began\n"):
                threading.Thread(target=os.kill, args=(os.getpid(), number)).start()
    assert process.asked == [number]
    assert log.read_text().endswith("began\nsaved\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_has_done_enough_is_stopped_and_one_that_fails_is_told(tmp_path):
    log = tmp_path / "run.log"
    with cifar.Followed([sys.executable, "-c", SCRIPT], log) as process:
        for text in process.texts():
            if text.endswith("began\n"):
                process.stop()
    assert process.asked == []
    with cifar.Followed([sys.executable, "-c", "print('why'); raise SystemExit(2)"], log) as process, \
            pytest.raises(UserError, match=r"(?s)status 2; the end of .*\nwhy"):
        list(process.texts())
    assert "saved" in log.read_text()  # nothing of the earlier output is lost


def test_images_are_named_for_what_they_are(tmp_path, monkeypatch):
    """The published files, others, archives that the run itself checks, or some of the files alone."""
    names = {"cifar-100-python/train": hashlib.md5(b"a").hexdigest(), "cifar-100-python/test": "0" * 32}
    monkeypatch.setattr(cifar.cifar_archives, "PUBLISHED", names)
    assert cifar._data(None) == (None, "the published archives")
    assert cifar._data(tmp_path) == (tmp_path, "the archives")
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train.part00").write_bytes(b"a")
    with pytest.raises(UserError, match="lacks cifar-100-python/test, whole or in parts"):
        cifar._data(tmp_path)
    (tmp_path / "cifar-100-python" / "test").write_bytes(b"b")
    assert cifar._data(tmp_path) == (tmp_path, "other images")
    names["cifar-100-python/test"] = hashlib.md5(b"b").hexdigest()
    assert cifar._data(tmp_path) == (tmp_path, "the published files")


def test_a_finetune_begins_at_the_end_of_the_last_epoch_if_that_was_saved(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds no checkpoint of a pretraining"):
        cifar.encoder(tmp_path, 3)
    (tmp_path / "checkpoints").mkdir()
    phases = {"pretrain-00000012": (3, "evaluated", 4), "pretrain-00000013": (4, "training", 1),
              "finetune-00000099": (1, "finished", 4)}
    for name in phases:
        (tmp_path / "checkpoints" / f"{name}.safetensors").touch()
    monkeypatch.setattr(cifar, "load", lambda path: SimpleNamespace(
        epoch=phases[path.stem][0], phase=phases[path.stem][1], batch=phases[path.stem][2]))
    path, start = cifar.encoder(tmp_path, 3)
    assert (path.stem, start) == ("pretrain-00000012", "3 epochs")
    path.unlink()
    path, start = cifar.encoder(tmp_path, 3)
    assert (path.stem, start) == ("pretrain-00000013", "3 epochs and 1 step")
    phases["pretrain-00000013"] = (4, "training", 3)
    assert cifar.encoder(tmp_path, 3)[1] == "3 epochs and 3 steps"
    phases["pretrain-00000013"] = (4, "evaluated", 4)
    assert cifar.encoder(tmp_path, 3)[1] == "4 epochs"
