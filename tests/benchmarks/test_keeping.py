"""Results that a file keeps while several processes add theirs."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import keeping

REPO = Path(__file__).resolve().parents[2]
ADD = """
import sys
from pathlib import Path
from benchmarks import keeping
for number in range(20):
    with keeping.changed(Path(sys.argv[1])) as content:
        content[sys.argv[2] + str(number)] = number
"""


def test_what_several_processes_add_is_all_there(tmp_path):
    path = tmp_path / "kept.json"
    adding = [subprocess.Popen([sys.executable, "-c", ADD, str(path), name], cwd=REPO) for name in "bac"]
    assert [process.wait(120) for process in adding] == [0, 0, 0]
    names = list(json.loads(path.read_text()))
    assert names == sorted(f"{name}{number}" for name in "abc" for number in range(20))
    assert keeping.read(path)["a19"] == 19
    assert {file.name for file in tmp_path.iterdir()} == {"kept.json", ".kept.json.lock"}


def test_a_block_that_fails_changes_nothing_and_lets_the_next_one_in(tmp_path):
    path = tmp_path / "kept.json"
    assert keeping.read(path) == {}
    with pytest.raises(ZeroDivisionError), keeping.changed(path) as content:
        content["a"] = 1 / 0
    with keeping.changed(path) as content:
        content["b"] = 2
    assert keeping.read(path) == {"b": 2}
