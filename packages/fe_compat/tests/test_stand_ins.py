"""What FastEstimator imports in case it is used, is imported when it is used; then nothing shows that it came late."""
import json

import pytest

TRAIN = """
import json, sys
import fe_compat
fe = fe_compat.load_fastestimator()
import numpy as np
from fastestimator.dataset.numpy_dataset import NumpyDataset
from fastestimator.op.tensorop.loss import CrossEntropy
from fastestimator.op.tensorop.model import ModelOp, UpdateOp

def train(model_fn, optimizer_fn, epochs=1):
    data = NumpyDataset({"x": np.eye(4, 3, dtype="float32"), "y": np.array([0, 1, 0, 1])})
    model = fe.build(model_fn=model_fn, optimizer_fn=optimizer_fn)
    network = fe.Network(ops=[ModelOp(model=model, inputs="x", outputs="y_pred"),
                              CrossEntropy(inputs=("y_pred", "y"), outputs="ce", from_logits=True),
                              UpdateOp(model=model, loss_name="ce")])
    pipeline = fe.Pipeline(train_data=data, eval_data=data, batch_size=2)
    fe.Estimator(pipeline=pipeline, network=network, epochs=epochs, log_steps=0).fit()
    return model

def train_torch():
    import torch
    return train(lambda: torch.nn.Linear(3, 2), lambda x: torch.optim.SGD(x, lr=0.1))

def train_tensorflow():
    import tensorflow as tf
    return train(lambda: tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))]),
                 lambda: tf.keras.optimizers.SGD(0.1))

def stand_ins():
    found = []
    for name, module in list(sys.modules.items()):
        if name.startswith("fastestimator"):
            for key, value in vars(module).items():
                held = [value, *vars(value).values()] if isinstance(value, type) else [value]
                held += [one for item in value.items() for one in item] if type(value) is dict else []
                held += list(value) if type(value) is tuple else []
                found += [f"{name}.{key}" for one in held
                          if type(one).__module__ == "fe_compat.stand_ins" and str(one).startswith("tensorflow")]
    return found
"""
NOT_NEEDED = ["tensorflow", "keras", "tf_keras", "tensorflow_probability", "pandas", "sklearn", "matplotlib", "IPython",
              "jax", "mindspore", "fastestimator.summary.logs.log_plot", "fastestimator.trace.io.traceability"]


@pytest.fixture
def last_line(run_python):
    """A function from lines of Python to what the last of them prints, as JSON; `first` comes before all."""

    def run(lines, first=""):
        done = run_python("-c", first + TRAIN + lines, TF_CPP_MIN_LOG_LEVEL="3")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_torch_training_imports_what_it_needs(last_line):
    found = last_line(f"train_torch()\nprint(json.dumps([one for one in {NOT_NEEDED} if one in sys.modules]))")
    assert found == []


def test_a_tensorflow_training_imports_what_it_needs(last_line):
    found = last_line(f"train_tensorflow()\nprint(json.dumps([one for one in {NOT_NEEDED} if one in sys.modules]))")
    assert set(found) <= {"tensorflow", "tf_keras", "pandas", "jax"}, found  # it imports the last two itself


def test_tensorflow_may_come_later(last_line):
    """It is the one with Keras 2, a step is a graph, and torch is trained as before."""
    found = last_line("""
train_torch()
train_tensorflow()
import tensorflow as tf
from fastestimator import network
from fastestimator.util import util
step = network.TFNetwork._forward_step_static
print(json.dumps([tf.keras.Model.__module__.split(".")[0], network.tf is tf, util.STRING_TO_TF_DTYPE["int8"] is tf.int8,
                  util.TENSOR_TO_NP_DTYPE[tf.float32].__name__, hasattr(step, "get_concrete_function"),
                  len(util.TENSOR_TO_NP_DTYPE), stand_ins(), str(type(train_torch()).__name__)]))
""")
    assert found == ["tf_keras", True, True, "float32", True, 28, [], "Linear"]


def test_a_stand_in_says_what_tensorflow_would_say(last_line):
    found = last_line("""
import torch
from fastestimator.types import Array, Model, Tensor
from fastestimator.network import tf
from fastestimator.util.util import to_number
values = [torch.ones(1), np.ones(1), 1.0, torch.nn.Linear(1, 1), "x"]

def answers():
    return [[isinstance(one, kind) for kind in (tf.Tensor, tf.keras.Model, Tensor, Array, Model)]
            + [tf.is_tensor(one), issubclass(type(one), (tf.Variable, torch.Tensor))] for one in values]

before = answers()
loaded = "tensorflow" in sys.modules
import tensorflow
print(json.dumps([before == answers(), loaded, sum(map(sum, before)),
                  [isinstance(tensorflow.ones(1), kind) for kind in (tf.Tensor, tf.keras.Model, Tensor, Array)],
                  float(to_number(tensorflow.ones(())))]))
""")
    assert found == [True, False, 5, [True, False, True, True], 1.0]


def test_what_is_used_is_loaded(last_line):
    found = last_line("""
from fastestimator.backend._to_tensor import to_tensor
before = "tensorflow" in sys.modules
print(json.dumps([before, str(type(to_tensor(np.ones(1), "tf")).__module__).split(".")[0]]))
""")
    assert found == [False, "tensorflow"]


def test_no_one_else_sees_a_stand_in(last_line):
    found = last_line("""
import builtins, tensorflow, pandas
from fastestimator.util import traceability_util
print(json.dumps([type(tensorflow).__module__, type(pandas).__name__, builtins.__import__.__module__,
                  type(traceability_util.pd.DataFrame({"a": [1]})).__name__]))
""")
    assert found == ["builtins", "module", "builtins", "DataFrame"]


def test_mixed_precision_is_tensorflows_too(last_line):
    """Its policy has to be set before the model is made, so it is loaded for that."""
    found = last_line("""
import torch
fe.build(model_fn=lambda: torch.nn.Linear(3, 2), optimizer_fn=None, mixed_precision=True)
import tensorflow as tf
print(json.dumps(tf.keras.mixed_precision.global_policy().name))
""")
    assert found == "mixed_float16"


def test_a_package_that_is_missing_is_missed_when_it_is_used(last_line):
    found = last_line("""
from fe_compat import stand_ins
stand_ins.PACKAGES = ("no_such_package",)
part = stand_ins._import("no_such_package.part", {}, {}, ("name",))
try:
    part.name()
except ImportError as error:
    print(json.dumps([isinstance(1, part.name), error.name]))
""")
    assert found == [False, "no_such_package"]


def test_what_the_extra_torch_does_not_bring_is_not_missed(last_line):
    hidden = ["albumentations", "calibration", "cpuinfo", "docx", "dot2tex", "fastparquet", "gdown", "graphviz", "jax",
              "jaxlib", "jsonpickle", "kaleido", "keras", "nltk", "orjson", "pandas", "pycocotools", "pydot", "skimage",
              "socks", "tensorflow", "tensorflow_probability", "tf_keras", "torchinfo", "torchview", "transformers",
              "wget"]
    found = last_line("train_torch()\nprint(json.dumps(hidden))", f"""
from importlib.machinery import PathFinder
hidden, find = {hidden}, PathFinder.find_spec
PathFinder.find_spec = staticmethod(lambda name, *rest: None if name.partition(".")[0] in hidden else find(name, *rest))
""")
    assert found == hidden
