"""Which weights are shown the test images where the best epoch was chosen by others."""
from types import SimpleNamespace

import pytest

from vit.files import canonical
from vit.files.usage import Usage
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training import testing
from vit.training.report import results
from vit.training.workers import ALONE


@pytest.mark.parametrize(("accuracies", "chosen"), [
    ((0.5, 0.4), True), ((0.5, None, float("nan")), True),
    ((0.5, 0.6), False),  # the second's could not be written
    ((0.4, 0.3), False)])  # of a training that the run has gone back before
def test_they_are_the_best_epochs_or_the_last_ones(tmp_path, capsys, accuracies, chosen):
    config, last = VARIANTS["tiny"], parameters.initial(VARIANTS["tiny"], 1)
    kept, place = parameters.initial(config, 0), "best/scratch_best_accuracy.safetensors"
    (tmp_path / "best").mkdir()
    canonical.save(tmp_path / place, kept, config, Usage(provenance={"epochs": 1, "accuracy": 0.5}))
    epochs = [{"epoch": number} | ({} if one is None else {"accuracy": one})
              for number, one in enumerate(accuracies, 1)]
    job = SimpleNamespace(world=ALONE, model_dir=tmp_path, shown=str)
    file, epoch, weights = testing._best(SimpleNamespace(job=job, name="scratch", config=config, weights=last,
                                                         history=SimpleNamespace(epochs=epochs)))
    assert (file, epoch) == ((place, 1) if chosen else ("the last epoch's", len(accuracies)))
    assert parameters.sha256(weights) == parameters.sha256(kept if chosen else last)
    warning = "scratch_best_accuracy.safetensors is not of scratch's best epoch, so the last epoch's weights are tested"
    assert (warning in capsys.readouterr().err) == (not chosen)


@pytest.mark.parametrize(("weights", "head"), [("best/scratch_best_accuracy.safetensors", "best, on test"),
                                               ("the last epoch's", "on test")])
def test_the_table_says_whose_they_are(tmp_path, weights, head):
    stage = {"data": "digits", "epochs": [{"accuracy": 0.25}], "epochs_evaluated_on": "validation",
             "test": {"weights": weights, "accuracy": 0.5}}
    text = results.table({"backend": "torch", "stages": {"scratch": stage}, "images_per_second": None, "seconds": 1.0},
                         tmp_path)
    assert text.splitlines()[2].split("  ")[-1].strip() == head and "50.0%" in text
