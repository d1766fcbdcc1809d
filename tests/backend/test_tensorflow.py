"""What TensorFlow is told, and how one sees that it does it."""
import numpy as np
import pytest

from vit.backend import load_script
from vit.model import parameters
from vit.model.config import VARIANTS

pytestmark = pytest.mark.backend("tf")


def test_two_threads_give_the_same_gradients_again(run_python):
    """They did not: in one of six steps, all gradients below the last attention differed."""
    code = """
import sys
from tests.backend.test_tensorflow import gradients_seen
print(len(gradients_seen(8)))
"""
    done = run_python("-c", code, OMP_NUM_THREADS="", TF_NUM_INTRAOP_THREADS="2", TF_CPP_MIN_LOG_LEVEL="3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"]


def gradients_seen(steps):
    """The different gradients of one batch in some steps, as checksums."""
    script = load_script("tf")
    script.backend.use_device(None)
    config = VARIANTS["small_data"].replace(depth=2, num_classes=10)
    images, labels = np.random.default_rng(0).normal(size=(128, 32, 32, 3)).astype(np.float32), np.arange(128) % 10
    model = script.ViT(config, weights=parameters.initial(config, 1))
    tf, variables = script.tf, list(script.parameters(model).values())

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images)))
        return tape.gradient(loss, variables)

    return {parameters.sha256(script.to_numpy(model, dict(zip(parameters.shapes(config), step(), strict=True))))
            for _ in range(steps)}


def test_steps_are_traced_as_they_are_written():
    load_script("tf").backend.load_fastestimator()
    from fastestimator.network import TFNetwork
    assert hasattr(TFNetwork._forward_step_static, "translated")
