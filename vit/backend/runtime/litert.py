"""LiteRT (TensorFlow Lite) files, run by ai-edge-litert on the CPU."""
import os
import zipfile
from importlib.metadata import version

from ai_edge_litert.interpreter import Interpreter

from vit.files.untrusted import MAX_HEADER_BYTES

TITLE = f"ai-edge-litert {version('ai-edge-litert')}"


class Runtime:
    """A LiteRT file that is ready to run.

    Args:
        path: The file.

    Attributes:
        manifest: What the file says of itself; None where it says nothing.
    """

    def __init__(self, path):
        self.manifest = None
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if "vit.json" in archive.namelist():
                    with archive.open("vit.json") as file:  # which may claim to be any size
                        self.manifest = file.read(MAX_HEADER_BYTES).decode()
        self.interpreter = Interpreter(str(path), num_threads=len(os.sched_getaffinity(0)))
        self.images, self.scores = (details[0]["index"] for details in (
            self.interpreter.get_input_details(), self.interpreter.get_output_details()))
        self.batch = None

    def run(self, images):
        """From images in numpy, as the file takes them, to its scores in numpy [B, classes]."""
        if self.batch != len(images):
            self.interpreter.resize_tensor_input(self.images, images.shape)
            self.interpreter.allocate_tensors()
            self.batch = len(images)
        self.interpreter.set_tensor(self.images, images)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.scores)
