"""Small models, their torch twins, and data for the tests of the MindSpore backend."""
import fastestimator as fe
import mindspore as ms
import numpy as np
import torch
from fastestimator.dataset.numpy_dataset import NumpyDataset
from fastestimator.op.tensorop.loss import CrossEntropy
from fastestimator.op.tensorop.model import ModelOp, UpdateOp
from fastestimator.trace.trace import Trace
from mindspore import nn, ops

FEATURES, CLASSES = 8, 3


class MLP(nn.Cell):
    """[B, 8] -> [B, 3]."""

    def __init__(self, inputs=FEATURES, outputs=CLASSES, dropout=0.0):
        super().__init__()
        self.fc1 = nn.Dense(inputs, 16)
        self.drop = nn.Dropout(p=dropout) if dropout else nn.Identity()
        self.fc2 = nn.Dense(16, outputs)

    def construct(self, x):
        return self.fc2(self.drop(ops.relu(self.fc1(x))))


class TorchMLP(torch.nn.Module):

    def __init__(self, inputs=FEATURES, outputs=CLASSES):
        super().__init__()
        self.fc1 = torch.nn.Linear(inputs, 16)
        self.fc2 = torch.nn.Linear(16, outputs)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


class LeNet(nn.Cell):
    """[B, 1, 8, 8] -> [B, 10]."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, pad_mode="same", has_bias=True)
        self.conv2 = nn.Conv2d(8, 16, 3, pad_mode="same", has_bias=True)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Dense(64, 32)
        self.fc2 = nn.Dense(32, 10)

    def construct(self, x):
        x = self.pool(ops.relu(self.conv1(x)))
        x = self.pool(ops.relu(self.conv2(x)))
        return self.fc2(ops.relu(self.fc1(x.reshape(x.shape[0], -1))))


def sgd(lr=0.1, momentum=0.0, weight_decay=0.0):
    return lambda params: nn.SGD(params, learning_rate=lr, momentum=momentum, weight_decay=weight_decay)


class PlainSGD(nn.Optimizer):
    """p -= lr * g in the dtype of the weights, its learning rate too."""

    def __init__(self, params, lr):
        super().__init__(lr, params)
        self.learning_rate = ms.Parameter(ms.Tensor(lr, params[0].dtype), name="learning_rate")

    def construct(self, gradients):
        for index in range(len(self.parameters)):
            parameter = self.parameters[index]
            ops.assign(parameter, parameter - self.learning_rate * gradients[index])
        return True


def build(model_fn=MLP, optimizer_fn=None, name="model", **kwargs):
    return fe.build(model_fn=model_fn, optimizer_fn=optimizer_fn or sgd(), model_name=name, **kwargs)


def weights(model):
    """{name: copy of the weights}, of a MindSpore or a torch model."""
    if isinstance(model, nn.Cell):
        return {name: np.array(p.asnumpy()) for name, p in model.parameters_and_names()}
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def twins(name="model", lr=0.1, dtype=np.float32, inputs=FEATURES, outputs=CLASSES, seed=0):
    """A MindSpore and a torch MLP with equal weights, each with plain SGD."""
    rng = np.random.default_rng(seed)
    torch_model = TorchMLP(inputs, outputs).to(torch.from_numpy(np.zeros(1, dtype)).dtype)
    ms_model = MLP(inputs, outputs)
    for (_, p), q in zip(ms_model.parameters_and_names(), torch_model.parameters(), strict=True):
        values = (rng.normal(size=tuple(q.shape)) * 0.3).astype(dtype)
        p.set_dtype(ms.Tensor(values).dtype)
        p.set_data(ms.Tensor(values))
        q.data = torch.from_numpy(values.copy())
    return (fe.build(lambda: ms_model, lambda params: PlainSGD(params, lr), model_name=name),
            fe.build(lambda: torch_model, lambda params: torch.optim.SGD(params, lr=lr), model_name=name))


def assert_same_weights(ms_model, torch_model, tolerance):
    ours, theirs = weights(ms_model), weights(torch_model)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=tolerance, err_msg=name)


def moved(before, model):
    """Whether any weight differs from what `weights` gave before."""
    return any((before[name] != array).any() for name, array in weights(model).items())


def data(size=96, dtype=np.float32, seed=0):
    """Separable classes: x [size, 8], y [size]."""
    rng = np.random.default_rng(seed)
    y = np.arange(size) % CLASSES
    centres = np.random.default_rng(7).normal(size=(CLASSES, FEATURES)) * 2
    return {"x": (centres[y] + rng.normal(size=(size, FEATURES))).astype(dtype), "y": y.astype(np.int64)}


def batch(size=32, dtype=np.float32, seed=0):
    return {key: torch.from_numpy(value) for key, value in data(size, dtype, seed).items()}


def pipeline(train=96, evaluate=48, test=0, batch_size=32, seed=0, **kwargs):
    """A pipeline over `data` in this process, so that nothing forks."""
    sets = {"train_data": train, "eval_data": evaluate, "test_data": test}
    sets = {name: NumpyDataset(data(size, seed=seed + index))
            for index, (name, size) in enumerate(sets.items()) if size}
    return fe.Pipeline(**sets, batch_size=batch_size, num_process=0, **kwargs)


def classifier(model, **kwargs):
    """The op graph as the README spells it."""
    return fe.Network(ops=[
        ModelOp(model=model, inputs="x", outputs="y_pred"),
        CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
        UpdateOp(model=model, loss_name="ce"),
    ], **kwargs)


def steps(network, batches, mode="train", epoch=1, eager=False, warmup=False):
    """Run steps of a network without an Estimator; returns each step's results."""
    results = []
    with network(mode=mode, epoch=epoch, ds_id="", eager=eager, warmup=warmup):
        for one in batches:
            results.append({**network.run_step(dict(one))})
    return results


def fit(network, traces=(), epochs=2, pipe=None, log_steps=1, **kwargs):
    """Run an Estimator; returns its history {mode: {key: {step: value}}}."""
    estimator = fe.Estimator(pipeline=pipe or pipeline(), network=network, epochs=epochs, traces=list(traces),
                             log_steps=log_steps)
    return estimator.fit(summary="test", **kwargs).history


class Recorder(Trace):
    """Calls a function at the end of each training batch, and keeps what it returns."""

    def __init__(self, function, mode="train"):
        super().__init__(mode=mode)
        self.function, self.seen = function, []

    def on_batch_end(self, data):
        self.seen.append(self.function(data))


def count_compilations(monkeypatch):
    from mindspore.graph import api
    original, compiled = api._check_recompile, []

    def check(*args):
        compiled.append(args)
        return original(*args)

    monkeypatch.setattr(api, "_check_recompile", check)
    return compiled
