"""The report's charts and the graph that a run writes down for it."""
import json
import re
from importlib.resources import files
from types import SimpleNamespace

import pytest

from vit.training import op_graph
from vit.training.report.page import charts
from vit.training.report.page.charts import Line, chart


def _marks(drawn):
    return [tuple(map(float, found)) for found in re.findall(r"translate\(([-\d.]+) ([-\d.]+)\) scale", drawn)]


def test_each_curve_has_a_colour_and_a_marker_of_its_own():
    assert len(set(charts.MARKERS)) == 7
    assert len({(charts.style(number), charts.marker(number)) for number in range(49)}) == 49
    css = files("vit.training.report.page").joinpath("page.css").read_text()
    colours = re.findall(r"\.(k\d) { --k: (.*?); }", css.partition("@media (prefers-color-scheme: dark) { .k0")[0])
    assert [name for name, _ in colours] == [charts.style(number) for number in range(7)]
    assert {"#0072b2", "#d55e00", "#009e73"} < {colour for _, colour in colours} and len(set(colours)) == 7


def test_points_lie_where_their_values_are():
    drawn = chart("t", "u", [Line("a", 0, [(1, 0.0), (2, 0.5), (3, 1.0)])], percent=True)
    (x1, bottom), (x2, middle), (x3, top) = _marks(drawn)
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.11) and middle == pytest.approx((top + bottom) / 2, abs=0.1)
    assert (bottom, top) == (charts.HEIGHT - 42, 12)
    assert all(f">{label}</text>" in drawn for label in (0, 20, 100, 1, 2, 3)) and "stroke-dasharray" not in drawn


def test_a_single_epoch_is_a_large_point_and_a_gap_parts_a_line():
    [alone] = re.findall(r"scale\((.*?)\)", chart("t", "u", [Line("a", 0, [(1, 2.0)])]))
    assert float(alone) > 1
    drawn = chart("t", "u", [Line("a", 0, [(1, 2.0), (2, None), (3, 1.0), (4, 1.5)], dashed=True)])
    assert len(_marks(drawn)) == 3 and 'class="k0 dashed"' in drawn
    [path] = re.findall(r'class="line" d="(.*?)"', drawn)
    assert (path.count("M"), path.count("L")) == (2, 1)


@pytest.mark.parametrize("points", [[], [(1, None)], [(1, 0.0)], [(1, 1e30), (2, 1e-30)], [(10**8, 3.0)],
                                    [(number, 1 / number) for number in range(1, 3000)]])
def test_any_values_can_be_drawn(points):
    drawn = chart("t", "u", [Line("a", 8, points)])
    assert len(_marks(drawn)) <= 17 and drawn.count("<text") < 30
    assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in _marks(drawn))


def test_a_graph_is_written_stage_by_stage(tmp_path):
    class Op:
        def __init__(self, inputs, outputs, mode=None):
            self.inputs, self.outputs, self.mode = inputs, outputs, mode

    lambda_op = Op(["a"], ["b"], {"train", "eval"})
    lambda_op.fn = test_any_values_can_be_drawn
    pipeline = SimpleNamespace(data={"train": {"": 1.5}}, ops=[Op([], [])])
    for name in ("pretrain", "finetune"):
        stage = SimpleNamespace(name=name, job=SimpleNamespace(model_dir=tmp_path))
        op_graph.write(stage, pipeline, SimpleNamespace(ops=[lambda_op]), [Op(["*"], [], {"eval"})])
    written = json.loads((tmp_path / "graph.json").read_text())
    assert list(written) == ["pretrain", "finetune"] and written["pretrain"] == written["finetune"] == {
        "pipeline": [{"op": "float", "mode": ["train"], "inputs": [], "outputs": []},
                     {"op": "Op", "mode": None, "inputs": [], "outputs": []}],
        "network": [{"op": "Op(test_any_values_can_be_drawn)", "mode": ["eval", "train"], "inputs": ["a"],
                     "outputs": ["b"]}],
        "traces": [{"op": "Op", "mode": ["eval"], "inputs": ["*"], "outputs": []}]}
    (tmp_path / "graph.json").write_text("[damaged")
    op_graph.write(stage, pipeline, SimpleNamespace(ops=[]), [])
    assert list(json.loads((tmp_path / "graph.json").read_text())) == ["finetune"]
