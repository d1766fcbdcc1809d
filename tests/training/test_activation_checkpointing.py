"""`--activation_checkpointing`: the same training in less memory."""
import numpy as np
import pytest

from vit.backend import load_script
from vit.data import load
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training.job import Job
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.train import fit

CONFIG = VARIANTS["tiny"].replace(depth=2, dropout=0.1, attention_dropout=0.1, num_classes=10)
BACKENDS = [pytest.param(name, marks=pytest.mark.backend(name)) for name in ("torch", "tf")]

# A gradient of a deep model: what it takes beyond what a gradient of a small one took.
STEP = """
import sys
import numpy as np
from vit import memory
from vit.backend import load_script
from vit.model.config import VARIANTS

script, asked = load_script(sys.argv[1]), sys.argv[2] == "True"

def gradients(depth, batch_size):
    model = script.ViT(VARIANTS["tiny"].replace(image_size=32, patch_size=4, depth=depth, width=96))
    if asked:
        script.backend.recompute(model.blocks)
    images, labels = np.zeros((batch_size, 32, 32, 3), np.float32), np.zeros(batch_size, np.int64)
    if sys.argv[1] == "torch":
        return script.backend.loss_gradients(model, script.parameters(model), images, labels)

    def step():
        with script.tf.GradientTape() as tape:
            loss = script.tf.reduce_sum(model(images))
        return tape.gradient(loss, model.trainable_variables)

    return script.tf.function(step)()

gradients(1, 2)
before = memory.peak()
gradients(24, 64) if sys.argv[1] == "torch" else gradients(8, 128)  # a deep graph takes long to make
print(memory.peak() - before)
"""


@pytest.mark.parametrize("backend", [pytest.param("torch", marks=pytest.mark.backend("torch")),
                                     pytest.param("tf", marks=[pytest.mark.backend("tf"), pytest.mark.full])])
def test_it_takes_less_memory(backend, run_python):
    taken = []
    for asked in (True, False):
        done = run_python("-c", STEP, backend, asked, OMP_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")
        assert done.returncode == 0, done.stderr[-2000:]
        taken.append(int(done.stdout))
    assert taken[0] < 0.6 * taken[1], taken


def trained(backend, folder, asked):
    """The losses of a few steps, and the weights that they end with."""
    script, pair = load_script(backend), load("digits")
    recipe = Recipe(data="digits", variant="tiny", batch_size=64, learning_rate=0.1, train_steps_per_epoch=4,
                    accumulate_steps=2, ema_decay=0.5)
    job = Job(script, recipe, pair, folder, RunOptions(log_steps=0, activation_checkpointing=asked), base=CONFIG)
    stage = job.stage("finetune", pair.finetune, 1)
    weights = fit(stage, parameters.initial(stage.config, 1))
    return np.array(stage.history.step_losses), weights


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_gets_the_same_numbers(backend, tmp_path, monkeypatch):
    """In TensorFlow to rounding: its graph's optimizer multiplies dropout's scale in where it likes to."""
    script, seen = load_script(backend), []
    recompute = script.backend.recompute
    monkeypatch.setattr(script.backend, "recompute", lambda layers: seen.append(len(layers)) or recompute(layers))
    losses, weights = trained(backend, tmp_path / "a", True)
    assert seen == [CONFIG.depth], "fit recomputes the model's blocks"
    plain_losses, plain_weights = trained(backend, tmp_path / "b", False)
    assert len(seen) == 1 and len(losses) == 4 and plain_losses.std() > 1e-3
    bar = 0 if backend == "torch" else 1e-5
    np.testing.assert_allclose(losses, plain_losses, rtol=0, atol=bar)
    for name, value in plain_weights.items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=bar, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_have_the_same_bits(backend):
    """Without dropout, in both; and each block is computed twice."""
    script = load_script(backend)
    images, labels = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32), np.arange(4)
    config = CONFIG.replace(image_size=32, dropout=0.0, attention_dropout=0.0)
    found, calls = [], []
    for asked in (False, True):
        model = script.ViT(config, weights=parameters.initial(config, 1))
        mlp, call = model.blocks[0].mlp, "forward" if backend == "torch" else "call"
        forward = getattr(mlp, call)
        setattr(mlp, call, lambda x, key, forward=forward: calls.append(1) or forward(x, key))
        if asked:
            script.backend.recompute(model.blocks)
        calls.clear()
        found.append(script.backend.loss_gradients(model, script.parameters(model), images, labels))
        assert len(calls) == 1 + asked
    assert found[0][0] == found[1][0]
    for name, value in script.to_numpy(model, found[0][1]).items():
        np.testing.assert_array_equal(script.to_numpy(model, found[1][1])[name], value, err_msg=name)
