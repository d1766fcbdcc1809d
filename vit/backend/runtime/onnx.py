"""ONNX files, run by onnxruntime on the CPU."""
import onnxruntime

TITLE = f"onnxruntime {onnxruntime.__version__}"


class Runtime:
    """An ONNX file that is ready to run.

    Args:
        path: The file.

    Attributes:
        manifest: What the file says of itself; None where it says nothing.
    """

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # a damaged file is one line, which is ours
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.manifest = self.session.get_modelmeta().custom_metadata_map.get("vit")

    def run(self, images):
        """From images in numpy, as the file takes them, to its scores in numpy [B, classes]."""
        return self.session.run(None, {self.session.get_inputs()[0].name: images})[0]
