"""What the siblings call differently: a framework's word, and the neutral one that the comparison takes instead."""
WORDS = {
    "torch": {
        "PyTorch": "FRAMEWORK", "vit_torch": "vit_X", "vit/backend/torch.py": "vit/backend/X.py",
        "vit.backend import torch as backend": "vit.backend import X as backend",
        "vit.backend.torch": "vit.backend.X", "vit.backend.dropout.torch": "vit.backend.dropout.X",
        "vit.backend.normalize.torch": "vit.backend.normalize.X",
        "vit.backend.predictor.torch": "vit.backend.predictor.X",
        "vit.backend.workers import torch as workers": "vit.backend.workers import X as workers",
        'require("torch"': 'require("X"', 'NAME = "torch"': 'NAME = "X"',
        "nn.ModuleList": "LAYERS", "nn.Module": "LAYER", "def forward(": "def call(", "[B, C, S, S]": "[IMAGES]",
    },
    "tf": {
        "TensorFlow": "FRAMEWORK", "vit_tf": "vit_X", "vit/backend/tensorflow.py": "vit/backend/X.py",
        "vit.backend import tensorflow as backend": "vit.backend import X as backend",
        "vit.backend.tensorflow": "vit.backend.X", "vit.backend.dropout.tensorflow": "vit.backend.dropout.X",
        "vit.backend.normalize.tensorflow": "vit.backend.normalize.X",
        "vit.backend.predictor.tensorflow": "vit.backend.predictor.X",
        "vit.backend.workers import tensorflow as workers": "vit.backend.workers import X as workers",
        'require("tensorflow"': 'require("X"', 'NAME = "tf"': 'NAME = "X"',
        "nn.Layer)": "LAYER)", "tf.keras.Model": "LAYER", "[B, S, S, C]": "[IMAGES]",
    },
    "ms": {
        "MindSpore": "FRAMEWORK", "vit_ms": "vit_X", "vit/backend/mindspore.py": "vit/backend/X.py",
        "vit.backend import mindspore as backend": "vit.backend import X as backend",
        "vit.backend.mindspore": "vit.backend.X", "vit.backend.dropout.mindspore": "vit.backend.dropout.X",
        "vit.backend.normalize.mindspore": "vit.backend.normalize.X",
        "vit.backend.predictor.mindspore": "vit.backend.predictor.X",
        "vit.backend.workers import mindspore as workers": "vit.backend.workers import X as workers",
        'require("mindspore"': 'require("X"', 'NAME = "ms"': 'NAME = "X"',
        "nn.CellList": "LAYERS", "nn.Cell": "LAYER", "def construct(": "def call(", "[B, C, S, S]": "[IMAGES]",
    },
}
