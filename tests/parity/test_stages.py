"""The stages are there for whoever asks: eagerly, in a compiled graph, and in FastEstimator's op graph."""
import numpy as np
import pytest

from tests.parity.conftest import CONFIGS, stages, start
from vit.backend import load_script
from vit.model.config import stage_names
from vit.parity import differences, levels

NAME = "one_head_48"
CONFIG = CONFIGS[NAME]


def _model(backend):
    script = load_script(backend)
    return script, script.from_numpy(script.ViT(CONFIG), start(NAME, "float32"))


@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.backend(name)) for name in ("tf", "ms")])
def test_a_compiled_graph_gives_the_same_stages(backend):
    script, model = _model(backend)
    images = levels.sample_images(CONFIG, 4, "float32")[0]
    if backend == "tf":
        compiled = [stage.numpy() for stage in script.tf.function(model.stages)(script.tf.constant(images))]
    else:
        model.set_train(False)
        compiled = script.ms.jit(model.stages)(script.ms.Tensor(images.transpose(0, 3, 1, 2).copy()))
        compiled = [stage.asnumpy() for stage in compiled]
    rows = levels.forward_rows(CONFIG, compiled, stages("numpy", NAME, "float32"), 1e-5)
    assert not any(row.over for row in rows), differences.report(rows)


def test_without_being_asked_only_the_logits_are_kept(backend):
    script, model = _model(backend)
    images = levels.sample_images(CONFIG, 2, "float32")[0]
    x = {"torch": lambda: script.torch.tensor(images).permute(0, 3, 1, 2), "tf": lambda: script.tf.constant(images),
         "ms": lambda: script.ms.Tensor(images.transpose(0, 3, 1, 2).copy())}[backend]()
    assert len(model.stages(x, keep=False)) == 1
    assert len(model.stages(x)) == len(stage_names(CONFIG))


def test_an_op_graph_of_fastestimator_can_ask_for_them(backend):
    script, model = _model(backend)
    fe = script.backend.load_fastestimator()
    from fastestimator.op.tensorop.model import ModelOp
    from fastestimator.op.tensorop.tensorop import LambdaOp
    model = fe.build(model_fn=lambda: model, optimizer_fn=None, model_name=f"stages_{backend}")
    network = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y_pred"),
                              LambdaOp(fn=model.stages, inputs="x", outputs=stage_names(CONFIG))])
    images = levels.sample_images(CONFIG, 4, "float32")[0]
    x = images if backend == "tf" else images.transpose(0, 3, 1, 2).copy()
    batch = network.transform({"x": x}, mode="eval")
    seen = [np.asarray(batch[name]) for name in stage_names(CONFIG)]
    rows = levels.forward_rows(CONFIG, seen, stages("numpy", NAME, "float32"), 1e-5)
    assert not any(row.over for row in rows), differences.report(rows)
    np.testing.assert_array_equal(np.asarray(batch["y_pred"]), seen[-1])
