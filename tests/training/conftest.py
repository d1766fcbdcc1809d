"""What the tests of runs share."""
import pytest

from tests.training.test_run_order import Stub
from vit.training import train
from vit.training.report import predictions


@pytest.fixture
def stub(monkeypatch):
    """A stub in the place of a script, which trains nothing; without a model, nothing can be predicted."""
    stub = Stub()
    monkeypatch.setattr(train, "fit", stub.fit)
    monkeypatch.setattr(predictions, "draw", lambda stage, path: None)
    return stub
