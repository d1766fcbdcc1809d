"""Every level of sameness and its bar: shapes, batches, forward, gradient, step, trajectory, files."""
import functools
import tempfile

import ml_dtypes
import numpy as np
import pytest

from tests.parity.conftest import CONFIGS, RECIPES, WITH_DROPOUT, dropped_stages, gradients, stages, start, trained
from vit.backend import load_script
from vit.files import canonical
from vit.model import muon, parameters
from vit.model.config import VARIANTS, stage_names
from vit.parity import differences, levels, pairs, trajectories
from vit.training import run
from vit.training.options import split

full = pytest.mark.full


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_has_its_canonical_name_and_shape(backend, variant):
    config = VARIANTS[variant].replace(depth=1)  # blocks are all alike; the counts at full depth are in test_config.py
    script = load_script(backend)
    model = script.ViT(config)
    assert {name: value.shape for name, value in script.to_numpy(model).items()} == parameters.shapes(config)
    trainable = {"torch": lambda: model.parameters(), "tf": lambda: model.trainable_variables,
                 "ms": lambda: model.trainable_params()}[backend]()
    count = sum(int(np.prod(parameter.shape)) for parameter in trainable)
    assert count == sum(int(np.prod(shape)) for shape in parameters.shapes(config).values())


@pytest.mark.parametrize("name", CONFIGS)
def test_every_stage_has_the_oracles_shape(backend, name):
    ours, oracle = stages(backend, name, "float32"), stages("numpy", name, "float32")
    assert [stage.shape for stage in ours] == [stage.shape for stage in oracle]
    assert len(ours) == len(stage_names(CONFIGS[name]))


@functools.cache
def _batches(backend):
    """What reaches a network in two epochs of training and evaluation: images [B, S, S, C] and labels."""
    script = load_script(backend)
    script.backend.load_fastestimator()
    from fastestimator.trace.trace import Trace

    from vit.training import traces
    seen, build = [], traces.build

    class Spy(Trace):

        def on_batch_end(self, data):
            x, y = (np.asarray(data[key]) for key in ("x", "y"))
            seen.append((np.ascontiguousarray(x if backend == "tf" else x.transpose(0, 2, 3, 1)), y))

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "build", lambda stage, model: [*build(stage, model), Spy(inputs=["x", "y"])])
        patch.setitem(VARIANTS, "tiny", VARIANTS["tiny"].replace(depth=1))  # whatever the network
        run.pretrain(run.prepare(script, *split({
            "data": "digits", "variant": "tiny", "batch_size": 16, "pretrain_epochs": 2, "train_steps_per_epoch": 3,
            "eval_steps_per_epoch": 2, "model_dir": folder})))
    return seen


def test_batches_that_reach_the_networks_are_the_same_bytes(pair):
    ours, theirs = map(_batches, pair)
    assert len(ours) == len(theirs) == 2 * (3 + 2)
    for (x, y), (other_x, other_y) in zip(ours, theirs, strict=True):
        assert x.dtype == other_x.dtype == np.float32
        assert x.tobytes() == other_x.tobytes()
        assert y.tobytes() == other_y.tobytes()


def _hold_forward(hold, a, b, name, dtype):
    rows = levels.forward_rows(CONFIGS[name], stages(a, name, dtype), stages(b, name, dtype),
                               pairs.BARS["forward", dtype])
    hold(f"forward, {dtype}", f"{a} - {b}", rows)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_forward(pair, name, dtype, hold):
    _hold_forward(hold, *pair, name, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_forward_against_the_oracle(backend, name, dtype, hold):
    _hold_forward(hold, backend, "numpy", name, dtype)


def _hold_forward_with_dropout_on(hold, a, b, name, dtype):
    rows = levels.forward_rows(CONFIGS[name], dropped_stages(a, name, dtype), dropped_stages(b, name, dtype),
                               pairs.BARS["forward", dtype])
    hold(f"forward with dropout, {dtype}", f"{a} - {b}", rows)
    assert np.abs(dropped_stages(a, name, dtype)[-1] - stages(a, name, dtype)[-1]).max() > 1e-3, "keys must act"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_forward_with_dropout_on(pair, name, dtype, hold):
    _hold_forward_with_dropout_on(hold, *pair, name, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_forward_with_dropout_on_against_the_oracle(backend, name, dtype, hold):
    _hold_forward_with_dropout_on(hold, backend, "numpy", name, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_gradient(pair, name, dtype, hold):
    ours, theirs = (gradients(backend, name, dtype) for backend in pair)
    hold(f"gradient, {dtype}", " - ".join(pair), levels.gradient_rows(ours, theirs, pairs.BARS["gradient", dtype]))


@pytest.mark.parametrize("recipe", ["sgd", pytest.param("adamw", marks=full), pytest.param("muon once", marks=full)])
def test_weights_and_optimizer_state_after_one_step(pair, recipe, hold):
    ours, theirs = (trained(backend, "one_head_48", recipe, 1, "float64") for backend in pair)
    before = start("one_head_48", "float64")
    rows = [differences.row(name, ours.weights[name] - before[name], theirs.weights[name] - before[name], 1e-10)
            for name in before]
    rows += [differences.row(name, ours.moments[name], value, 1e-10) for name, value in theirs.moments.items()]
    hold(f"step, {recipe}, float64", " - ".join(pair), rows)


@pytest.mark.full_in("ms")
def test_centralized_gradients_are_the_oracles(backend, hold):
    """In the velocity after one step: what the step without centralization has, each output's mean taken off."""
    ours, plain = (trained(backend, "one_head_48", recipe, 1, "float64") for recipe in ("nesterov", "uncentralized"))
    rows = []
    for name, value in plain.moments.items():
        matrix = parameters.row_of(name.partition(".")[2]).decays and name.startswith("moment1")
        flat = value.reshape(len(value), -1) if matrix else value
        expected = flat - flat.mean(axis=1, keepdims=True) if matrix else value
        rows.append(differences.row(name, ours.moments[name], expected.reshape(value.shape), 1e-10))
    hold("step, centralized, float64", f"{backend} - numpy", rows)
    assert plain.norms[0] == ours.norms[0] > 2.0, "clipping must act, or its place says nothing"


@pytest.mark.full_in("ms")
def test_muons_step_is_the_oracles(backend, hold):
    """In the blocks' matrices after one step, from the velocity that it left; what is AdamW's is in its moments."""
    recipe, before = RECIPES["muon once"], start("one_head_48", "float64")
    ours, rows = trained(backend, "one_head_48", "muon once", 1, "float64"), []
    for name, w in before.items():
        v, matrices = ours.moments[f"moment1.{name}"], recipe.orthogonalizes(name)
        if matrices:
            change = recipe.weight_decay * w + muon.direction(v + recipe.momentum * v, matrices)
            assert not ours.moments[f"moment2.{name}"].any()
        else:
            m, squares = v / (1 - recipe.beta1), ours.moments[f"moment2.{name}"] / (1 - recipe.beta2)
            change = recipe.weight_decay * w + m / (np.sqrt(squares) + recipe.epsilon)
        rate = recipe.learning_rate * recipe.layer_scale(name, 1)
        rows.append(differences.row(name, ours.weights[name] - w, -rate * change, 1e-10))
    hold("step, muon, float64", f"{backend} - numpy", rows)


@full
@pytest.mark.parametrize(("name", "recipe"), [*(("tiny", recipe) for recipe in RECIPES
                                                if recipe not in ("uncentralized", "muon once")),
                                              ("post_mean_48", "sgd"),
                                              ("tiny_dropout", "sgd"), ("tiny_dropout", "adamw")])
def test_trajectory_of_100_steps(pair, name, recipe, hold):
    ours, theirs = (trained(backend, name, recipe, 100, "float64") for backend in pair)
    assert len(ours.losses) == 100
    assert np.abs(ours.losses - ours.losses[0]).max() > 0.05, "the curve must move, or agreeing on it says nothing"
    rows = trajectories.train_rows(ours, theirs, pairs.BARS["train", "float64"])
    dropout = ", dropout" if name in WITH_DROPOUT else ""
    hold(f"100 steps, {recipe}{dropout}, float64", " - ".join(pair), rows)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("swapped", [False, True])
def test_weights_and_optimizer_state_travel_there_and_back_bit_exact(pair, swapped, dtype, tmp_path):
    dtype, computed = (ml_dtypes.bfloat16, "float32") if dtype == "bfloat16" else (dtype, dtype)
    config = CONFIGS["post_mean_48"]
    original = {slot: {name: np.random.default_rng([i, j]).normal(size=shape).astype(dtype)
                       for j, (name, shape) in enumerate(parameters.shapes(config).items())}
                for i, slot in enumerate(("weights", "moment1", "moment2"))}
    carried = original
    a, b = reversed(pair) if swapped else pair
    for stop, backend in enumerate((a, b, a)):
        script = load_script(backend)
        model = script.from_numpy(script.ViT(config, computed), carried["weights"])
        optimizer = script.backend.Optimizer(script.parameters(model), RECIPES["adamw"], config.depth)
        slots = dict(zip(("moment1", "moment2"), optimizer.moments(), strict=True))
        for key, tensors in slots.items():
            script.from_numpy(model, carried[key], tensors)
        left = {"weights": script.to_numpy(model), **{key: script.to_numpy(model, slot) for key, slot in slots.items()}}
        for key, value in left.items():
            value = {name: array.astype(dtype) for name, array in value.items()}
            canonical.save(tmp_path / f"{stop}.{key}.safetensors", value, config)
        carried = {key: canonical.load(tmp_path / f"{stop}.{key}.safetensors", expected=config)[0] for key in left}
    assert all(value.dtype == dtype for slot in carried.values() for value in slot.values())
    for key, value in original.items():
        assert parameters.sha256(carried[key]) == parameters.sha256(value), key
