"""Names in UTF-8 under a locale that knows ASCII only (`LANG=C`, as in a small container): they are what they are."""
import json

import numpy as np
import pytest
from PIL import Image

# A run that trains nothing, and what it leaves of the names.
PROGRAM = """
import json, sys
import pytest
from tests.training.test_run_order import Stub
from vit import start
from vit.data import fingerprint, load
from vit.training import train
from vit.training.report import predictions
start.begin()
stub, patch = Stub(), pytest.MonkeyPatch()
patch.setattr(train, "fit", stub.fit)
patch.setattr(predictions, "draw", lambda stage, path: None)
stub.run(sys.argv[2], data="folder", data_dir=sys.argv[1], recipe=sys.argv[3], pretrain_epochs=100)
print(sys.getfilesystemencoding())
print(json.dumps(fingerprint.fingerprint(load("folder", sys.argv[1]))))
"""


@pytest.fixture
def folder(tmp_path):
    """Images of two classes, in a folder whose names are in UTF-8."""
    for part in ("train", "val"):
        for i, name in enumerate(("grün", "日本")):
            (tmp_path / "bïlder" / part / name).mkdir(parents=True)
            Image.fromarray(np.full((8, 8, 3), 100 * i, np.uint8)).save(tmp_path / "bïlder" / part / name / "ä.png")
    (tmp_path / "rezept_ü.yaml").write_text("# grün\nseed: 3\n", encoding="utf-8")
    return tmp_path


def test_names_are_the_same_as_under_utf8(folder, run_python):
    found = []
    for name, variables in (("ascii", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
                            ("utf-8", {"LC_ALL": "C", "PYTHONUTF8": "1"})):
        target = folder / f"läuf-{name}"
        done = run_python("-c", PROGRAM, folder / "bïlder", target, folder / "rezept_ü.yaml", **variables)
        assert done.returncode == 0, done.stderr
        encoding, fingerprint = done.stdout.splitlines()[-2:]
        assert encoding == name
        assert json.loads((target / "classes.json").read_text(encoding="utf-8")) == ["grün", "日本"]
        results = json.loads((target / "results.json").read_text(encoding="utf-8"))
        assert results["stages"]["scratch"]["data"] == "bïlder" and results["recipe"]["seed"] == 7
        found.append(json.loads(fingerprint))
    assert found[0] == found[1] and found[0]["finetune"]["classes"] == ["grün", "日本"]
