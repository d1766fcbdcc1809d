"""Compiled graphs that are kept between processes: the same numbers, whatever is in the folder."""
import json
import os

import pytest

PROGRAM = """
import hashlib, json, os, sys
from fe_mindspore import graph_cache
sys.path.insert(0, os.environ["HELPERS"])
import fe_mindspore, fastestimator as fe, mindspore as ms, numpy as np
from fems_helpers import MLP, classifier, sgd, steps

loaded = []
if "CACHE" in os.environ:
    graph_cache.keep(os.environ["CACHE"], os.environ.get("KEY", "one"))
    place = graph_cache._GraphCache.place
    graph_cache._GraphCache.place = lambda cache, path: loaded.append(place(cache, path)) or loaded[-1]
ms.set_seed(int(os.environ.get("SEED", 0)))
rate, width = float(os.environ.get("RATE", 0.1)), int(os.environ.get("WIDTH", 8))
model = fe.build(model_fn=lambda: MLP(inputs=width), optimizer_fn=sgd(rate, momentum=0.9), model_name="model")
network = classifier(model)
rng = np.random.default_rng(0)
losses = []
for mode, size in (("train", 4), ("train", 4), ("train", 3), ("eval", 4), ("train", 4)):
    batch = {"x": rng.normal(size=(size, width)).astype("float32"), "y": rng.integers(0, 3, size).astype("int32")}
    if mode == "eval":
        network.transform(batch, os.environ.get("UNCOMPILED", mode))
    losses.append(float(steps(network, [batch], mode)[0]["ce"]))
weights = b"".join(one.asnumpy().tobytes() for one in model.get_parameters())
print(json.dumps([losses + [hashlib.sha256(weights).hexdigest()], loaded]))
"""


@pytest.fixture
def train(run_python, request):
    """A function that trains in a process of its own: what came of it, and of each graph whether it was loaded."""

    def run(**environment):
        done = run_python("-c", PROGRAM, HELPERS=str(request.path.parent), **environment)
        assert done.returncode == 0, done.stderr
        assert "compil" not in done.stderr or "UNCOMPILED" in environment, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_graph_that_is_loaded_computes_what_it_was_compiled_to(train, tmp_path):
    """With other weights and another rate too: they are the parameters of the process that loads it.

    And nothing is left behind, neither in the working folder nor in that for temporary files; what is not whole is not
    read, and replaced.
    """
    (tmp_path / "tmp").mkdir()
    cache = {"CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp")}
    plain = train()[0]
    assert train(**cache) == [plain, [False] * 3]
    files = list((tmp_path / "cache").glob("*/*"))
    assert len(files) == 3
    assert not list((tmp_path / "tmp").glob("graphs-*")) and not (tmp_path / "rank_0").exists()
    for path in files:
        path.write_bytes(b"")
    assert train(**cache) == [plain, [False] * 3]
    assert train(**cache) == [plain, [True] * 3]
    other = {"SEED": "1", "RATE": "0.3"}
    assert train(**cache, **other) == [train(**other)[0], [True] * 3] != [plain, [True] * 3]


@pytest.mark.full
def test_what_is_not_the_same_is_compiled(train, tmp_path):
    cache = {"CACHE": str(tmp_path / "cache")}
    train(**cache)
    assert train(**cache, KEY="another")[1] == [False] * 3
    assert train(**cache, WIDTH="6") == [train(WIDTH="6")[0], [False] * 3]
    assert train(**cache, MS_DEV_SOMETHING="1")[1] == [False] * 3


@pytest.mark.full
def test_what_else_is_compiled_in_between_takes_no_file_of_ours(train, tmp_path):
    """An optimizer compiles itself where the step is not compiled, and MindSpore counts that graph too."""
    cache, other = {"CACHE": str(tmp_path / "cache")}, {"UNCOMPILED": "train"}
    plain, ours = train(**other)[0], train(**cache)[0]
    assert [train(**cache, **other)[0] for _ in range(2)] == [plain, plain]
    cold = {"CACHE": str(tmp_path / "cold")}
    assert [train(**cold, **other)[0] for _ in range(2)] == [plain, plain]
    assert train(**cold)[0] == ours


@pytest.mark.full
def test_a_file_that_was_changed_is_not_read_and_is_replaced(train, tmp_path):
    cache = {"CACHE": str(tmp_path / "cache")}
    good = train(**cache)[0]
    for path in (tmp_path / "cache").glob("*/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    assert train(**cache) == [good, [False] * 3]
    assert train(**cache) == [good, [True] * 3]


def test_a_folder_that_cannot_be_written_is_no_error(train, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert train(CACHE=str(tmp_path / "file"))[1] == [False] * 3


def test_mindspores_own_setting_counts(train, tmp_path):
    assert train(CACHE=str(tmp_path / "cache"), MS_COMPILER_CACHE_ENABLE="0")[1] == []
    assert not (tmp_path / "cache").exists()


def test_the_oldest_keys_make_way(tmp_path):
    from fe_mindspore import graph_cache
    for number in range(graph_cache.MOST + 2):
        (tmp_path / f"{number}").mkdir()
        os.utime(tmp_path / f"{number}", (number, number))
    graph_cache._prune(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {str(n) for n in range(2, graph_cache.MOST + 2)}
