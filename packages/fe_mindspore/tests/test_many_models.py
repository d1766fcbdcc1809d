"""Several models, several losses: each model moves by its own update only, exactly as in torch."""
import fastestimator as fe
import mindspore as ms
import numpy as np
import pytest
from fastestimator.op.tensorop.loss import CrossEntropy, MeanSquaredError
from fastestimator.op.tensorop.model import ModelOp, UpdateOp
from fe_mindspore import UnsupportedError
from fems_helpers import (
    FEATURES,
    MLP,
    assert_same_weights,
    batch,
    build,
    fit,
    moved,
    steps,
    twins,
    weights,
)


def two_classifiers(a, b, update_b=True):
    return fe.Network(ops=[
        ModelOp(model=a, inputs="x", outputs="pred_a"),
        ModelOp(model=b, inputs="x", outputs="pred_b"),
        CrossEntropy(inputs=("pred_a", "y"), outputs="ce_a", from_logits=True),
        CrossEntropy(inputs=("pred_b", "y"), outputs="ce_b", from_logits=True),
        UpdateOp(model=a, loss_name="ce_a"),
        UpdateOp(model=b, loss_name="ce_b") if update_b else None,
    ])


def test_two_models_learn_through_an_estimator():
    # The same parameter names in both: MindSpore would refuse them in one graph.
    a, b = build(name="a"), build(optimizer_fn=lambda params: ms.nn.Adam(params, learning_rate=0.01), name="b")
    history = fit(two_classifiers(a, b), epochs=6)
    for key in ("ce_a", "ce_b"):
        losses = list(history["train"][key].values())
        assert losses[-1] < 0.8 * losses[0], (key, losses)


def test_a_model_moves_by_its_own_update_only():
    a, b = build(name="a"), build(name="b")
    before_a, before_b = weights(a), weights(b)
    steps(two_classifiers(a, b, update_b=False), [batch()])
    assert moved(before_a, a) and not moved(before_b, b)


def adversaries(generator, critic, order="interleaved", **kwargs):
    """A GAN's shape: the generator's loss goes through the critic, which has a loss of its own."""
    make = ModelOp(model=generator, inputs="x", outputs="fake")
    judge_fake = ModelOp(model=critic, inputs="fake", outputs="score_fake")
    judge_real = ModelOp(model=critic, inputs="x", outputs="score_real")
    gloss = CrossEntropy(inputs=("score_fake", "real"), outputs="gloss", from_logits=True)
    dloss = CrossEntropy(inputs=("score_fake", "forged"), outputs="dloss_fake", from_logits=True)
    dloss_real = CrossEntropy(inputs=("score_real", "real"), outputs="dloss_real", from_logits=True)
    update_g = UpdateOp(model=generator, loss_name="gloss", **kwargs)
    updates_d = [UpdateOp(model=critic, loss_name="dloss_fake"), UpdateOp(model=critic, loss_name="dloss_real")]
    if order == "interleaved":  # FastEstimator's DCGAN: the generator is updated before the critic sees the real ones
        ops = [make, judge_fake, gloss, update_g, judge_real, dloss, dloss_real, *updates_d]
    elif order == "critic first":
        ops = [make, judge_fake, judge_real, gloss, dloss, dloss_real, *updates_d, update_g]
    else:
        ops = [make, judge_fake, judge_real, gloss, dloss, dloss_real, update_g, *updates_d]
    return fe.Network(ops=ops)


def adversarial_batches(count=4):
    batches = [batch(dtype=np.float64, seed=seed) for seed in range(count)]
    return [{**one, "real": one["y"] * 0 + 1, "forged": one["y"] * 0} for one in batches]


def adversary_twins():
    generators = twins("generator", dtype=np.float64, outputs=FEATURES, seed=1)
    critics = twins("critic", dtype=np.float64, outputs=2, seed=2)
    return generators, critics


@pytest.mark.parametrize("order, eager", [("interleaved", False), ("interleaved", True), ("critic first", False),
                                          pytest.param("updates last", False, marks=pytest.mark.full)])
def test_adversaries_step_as_in_torch(order, eager):
    generators, critics = adversary_twins()
    start = weights(generators[0]), weights(critics[0])
    results = [steps(adversaries(g, c, order), adversarial_batches(), eager=eager)
               for g, c in zip(generators, critics, strict=True)]
    for ours, theirs in zip(*results, strict=True):
        for key in ("gloss", "dloss_fake", "dloss_real"):
            np.testing.assert_allclose(float(ours[key]), float(theirs[key]), atol=1e-12)
    assert_same_weights(*generators, 1e-12)
    assert_same_weights(*critics, 1e-12)
    assert moved(start[0], generators[0]) and moved(start[1], critics[0])


def test_a_teacher_and_a_student():
    """The student's loss looks at the teacher, and must not move it."""
    pairs = twins("teacher", dtype=np.float64, seed=1), twins("student", dtype=np.float64, seed=2)
    for teacher, student in zip(*pairs, strict=True):
        network = fe.Network(ops=[
            ModelOp(model=teacher, inputs="x", outputs="t"),
            ModelOp(model=student, inputs="x", outputs="s"),
            CrossEntropy(inputs=("t", "y"), outputs="ce", from_logits=True),
            MeanSquaredError(inputs=("s", "t"), outputs="distance"),
            UpdateOp(model=teacher, loss_name="ce"),
            UpdateOp(model=student, loss_name="distance"),
        ])
        steps(network, [batch(dtype=np.float64, seed=seed) for seed in range(4)])
    for pair in pairs:
        assert_same_weights(*pair, 1e-12)


@pytest.mark.parametrize("frozen", [True, False], ids=["gradients=False", "gradients=True"])
def test_one_loss_through_two_models(frozen):
    """An encoder and a head share a loss; with gradients=False on the head nothing reaches the encoder."""
    pairs = twins("encoder", dtype=np.float64, outputs=FEATURES, seed=1), twins("head", dtype=np.float64, seed=2)
    start = weights(pairs[0][0])
    for encoder, head in zip(*pairs, strict=True):
        network = fe.Network(ops=[
            ModelOp(model=encoder, inputs="x", outputs="code", trainable=not frozen, gradients=not frozen),
            ModelOp(model=head, inputs="code", outputs="y_pred"),
            CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
            None if frozen else UpdateOp(model=encoder, loss_name="ce"),
            UpdateOp(model=head, loss_name="ce"),
        ])
        steps(network, [batch(dtype=np.float64, seed=seed) for seed in range(4)])
    for pair in pairs:
        assert_same_weights(*pair, 1e-12)
    assert moved(start, pairs[0][0]) != frozen


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
def test_what_follows_an_update_sees_it(eager):
    pair = twins(dtype=np.float64)
    results = []
    for model in pair:
        network = fe.Network(ops=[
            ModelOp(model=model, inputs="x", outputs="before"),
            CrossEntropy(inputs=("before", "y"), outputs="ce", from_logits=True),
            UpdateOp(model=model, loss_name="ce"),
            ModelOp(model=model, inputs="x", outputs="after"),
        ])
        results.append(steps(network, [batch(dtype=np.float64, seed=seed) for seed in range(2)], eager=eager))
    for ours, theirs in zip(*results, strict=True):
        assert abs(ours["after"] - ours["before"]).max() > 1e-3
        for key in ("before", "after"):
            np.testing.assert_allclose(ours[key].numpy(), theirs[key].numpy(), atol=1e-12)


def test_dropout_cannot_run_twice_in_a_step():
    generator = build(lambda: MLP(outputs=FEATURES), name="generator")
    critic = build(lambda: MLP(outputs=2, dropout=0.5), name="critic")
    with pytest.raises(UnsupportedError, match=r"critic.*holds a Dropout.*its own ModelOp"):
        steps(adversaries(generator, critic), [{**batch(), "real": batch()["y"] * 0, "forged": batch()["y"] * 0}])


def test_a_gradient_that_needs_overwritten_weights_is_refused():
    """As in torch: the critic moves before the generator's gradient is taken through it."""
    generators, critics = adversary_twins()
    network = fe.Network(ops=[
        ModelOp(model=generators[0], inputs="x", outputs="fake"),
        ModelOp(model=critics[0], inputs="fake", outputs="score"),
        CrossEntropy(inputs=("score", "forged"), outputs="dloss", from_logits=True),
        UpdateOp(model=critics[0], loss_name="dloss"),
        CrossEntropy(inputs=("score", "real"), outputs="gloss", from_logits=True),
        UpdateOp(model=generators[0], loss_name="gloss"),
    ])
    with pytest.raises(RuntimeError, match=r"'generator' need the weights that 'critic' had.*defer=True"):
        steps(network, adversarial_batches(1))


def test_defer_keeps_those_weights():
    generators, critics = adversary_twins()
    for generator, critic in zip(generators, critics, strict=True):
        network = fe.Network(ops=[
            ModelOp(model=generator, inputs="x", outputs="fake"),
            ModelOp(model=critic, inputs="fake", outputs="score"),
            CrossEntropy(inputs=("score", "forged"), outputs="dloss", from_logits=True),
            UpdateOp(model=critic, loss_name="dloss", defer=True),
            CrossEntropy(inputs=("score", "real"), outputs="gloss", from_logits=True),
            UpdateOp(model=generator, loss_name="gloss"),
        ])
        steps(network, adversarial_batches(3))
    assert_same_weights(*generators, 1e-12)
    assert_same_weights(*critics, 1e-12)


def test_one_name_for_two_models_is_refused():
    with pytest.raises(ValueError, match="unique names"):
        two_classifiers(build(name="same"), build(name="Same"))


def test_frameworks_do_not_mix():
    ours, theirs = twins("ours")[0], twins("theirs")[1]
    with pytest.raises(ValueError, match=r"one framework, but only \['ours'\]"):
        two_classifiers(ours, theirs)

