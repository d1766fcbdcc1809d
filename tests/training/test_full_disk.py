"""A disk that is full, whichever file of a run is written then: one line that names the file, and no part of it."""
import errno
import os
from pathlib import Path

import pytest

from tests.training.test_run_order import Stub
from vit.cli.endings import report_errors
from vit.training import train
from vit.training.report import figures, predictions


def _draw(stage, path):
    from matplotlib.figure import Figure
    figures.save(Figure(), path, dpi=10)


@pytest.mark.parametrize("name", ["recipe.yaml", "classes.json", "pretrained.safetensors", "finetuned.safetensors",
                                  "scratch.safetensors", "history.csv", "times.csv", "curves.png", "predictions.png",
                                  "results.json"])
def test_the_file_is_named_and_not_begun(tmp_path, monkeypatch, capsys, name):
    stub, flush = Stub(), os.fsync

    def fsync(handle):
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name.startswith(f".{name}."):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # without a name, as the kernel gives it
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(train, "fit", stub.fit)
    monkeypatch.setattr(predictions, "draw", _draw)
    assert report_errors(lambda: stub.run(tmp_path / "run", compare_scratch=True)) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'run' / name}: No space left on device\n"
    assert [path.name for path in (tmp_path / "run").iterdir() if name in path.name] == []
