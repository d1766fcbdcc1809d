"""What an evaluation counts, beside scikit-learn's and figures made by hand."""
import numpy as np
import pytest
from sklearn import metrics as theirs

from vit.use.classifier import probabilities
from vit.use.metrics import Metrics


@pytest.fixture(scope="module")
def some():
    rng = np.random.default_rng(0)
    return rng.normal(size=(100, 8)).astype(np.float32), rng.integers(0, 8, 100)


def _counted(logits, labels, batch=30):
    found = Metrics(logits.shape[1])
    for start in range(0, len(labels), batch):
        found.add(logits[start:start + batch], labels[start:start + batch])
    return found


def test_figures_are_scikit_learns(some):
    logits, labels = some
    found, p = _counted(*some), probabilities(logits)
    result = found.result()
    assert result["images"] == 100
    assert result["top1"] == pytest.approx(theirs.accuracy_score(labels, logits.argmax(axis=1)), abs=1e-12)
    assert result["top5"] == pytest.approx(theirs.top_k_accuracy_score(labels, logits, k=5), abs=1e-12)
    assert result["loss"] == pytest.approx(theirs.log_loss(labels, p), rel=1e-9)
    assert (found.confusion == theirs.confusion_matrix(labels, logits.argmax(axis=1))).all()


def test_rows_are_scikit_learns(some):
    logits, labels = some
    rows = _counted(*some).per_class(tuple("abcdefgh"))
    recall, precision = (score(labels, logits.argmax(axis=1), average=None) for score in (
        theirs.recall_score, theirs.precision_score))
    np.testing.assert_allclose([row["recall"] for row in rows], recall)
    np.testing.assert_allclose([row["precision"] for row in rows], precision)
    assert [row["class"] for row in rows] == list("abcdefgh") and sum(row["images"] for row in rows) == 100


def test_a_class_without_images_has_no_recall():
    rows = _counted(np.array([[1.0, 0.0, 0.0]]), np.array([0])).per_class(("a", "b", "c"))
    assert [(row["recall"], row["precision"]) for row in rows] == [(1.0, 1.0), (None, None), (None, None)]


def test_calibration_is_the_distance_of_confidence_from_accuracy():
    """Ten images, all sure to 0.8, six of them right."""
    logits = np.log(np.tile([0.8, 0.2], (10, 1)))
    labels = np.array([0] * 6 + [1] * 4)
    assert _counted(logits, labels).result()["calibration_error"] == pytest.approx(0.2, abs=1e-9)
    labels[:] = 0
    assert _counted(logits, labels).result()["calibration_error"] == pytest.approx(0.2, abs=1e-9)
