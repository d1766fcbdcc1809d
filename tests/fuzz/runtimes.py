"""Entries that need the small runtimes of exported models: `vit evaluate` and `vit predict`."""
import sklearn.datasets  # noqa: F401
from PIL import Image

from tests.fuzz.commands import vit  # noqa: F401
from vit.backend.runtime import onnx, openvino  # noqa: F401
from vit.cli import evaluate, predict  # noqa: F401
from vit.data import image_folder  # noqa: F401
from vit.training.report import figures, folder  # noqa: F401
from vit.use import evaluation, exported, images  # noqa: F401

Image.init()
