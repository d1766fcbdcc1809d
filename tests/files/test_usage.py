"""What a weights file says of how its model is used: it comes back as it was, and nothing else is taken for it."""
import json

import pytest

from vit.files import canonical
from vit.files.safetensors import open_tensors
from vit.files.usage import Preprocessing, Usage, finite, parse
from vit.model import parameters

USAGE = Usage(("a cat", "été 夏"), Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 1.0), 0.875),
              {"data": "folder", "accuracy": 0.5, "seed": 3, "note": None})


def test_it_comes_back_as_it_was(tmp_path, small):
    config = small.replace(num_classes=2)
    canonical.save(tmp_path / "w", parameters.initial(config, 0), config, USAGE)
    metadata = open_tensors(tmp_path / "w")[1]
    assert parse("w", metadata["usage"]) == USAGE
    assert canonical.load(tmp_path / "w")[1] == config


def test_what_is_not_known_is_none(tmp_path, small):
    canonical.save(tmp_path / "w", parameters.initial(small, 0), small)
    assert parse("w", open_tensors(tmp_path / "w")[1].get("usage")) is None
    assert parse("w", Usage().to_json()) == Usage()
    assert finite(float("nan")) is finite(None) is None and finite(0.5) == 0.5


def _changed(**fields):
    return json.dumps(json.loads(USAGE.to_json()) | fields)


def _preprocessed(**fields):
    return _changed(preprocessing=USAGE.preprocessing.to_dict() | fields)


@pytest.mark.parametrize(("text", "fragment"), [
    ("", "line 1"), ("[]", "must have"), ("{}", "must have"), ("[" * 100_000, "recursion"),
    (_changed(classes="cats"), "a list"), (_changed(classes=[1, 2]), "names"),
    (_changed(classes=["x" * 1001]), "names"),
    (_changed(provenance=[]), "plain values"), (_changed(provenance={"a": [1]}), "plain values"),
    (_changed(preprocessing={"mean": [0, 0, 0]}), "preprocessing must have"),
    (_preprocessed(mean=[0, 0]), "mean"), (_preprocessed(mean=3), "mean"), (_preprocessed(mean=[0, 0, True]), "mean"),
    (_preprocessed(std=[1, 1, 0]), "std"), (_preprocessed(std=[1, 1, 1e400]), "std"),
    (_preprocessed(crop_pct=0), "crop_pct"), (_preprocessed(crop_pct=1.5), "crop_pct"),
    (_preprocessed(crop_pct="all"), "crop_pct"), (_preprocessed(interpolation="lanczos"), "bicubic"),
    (_preprocessed(interpolation=["bicubic"]), "bicubic"),
    ('{"classes": null, "preprocessing": null, "provenance": {"a": "' + "x" * (4 << 20) + '"}}', "too long")],
    ids=lambda value: str(value)[:40])
def test_anything_else_is_refused_in_a_line(refused, text, fragment):
    with refused("w", "how it is used", fragment):
        parse("w", text)
