"""OpenVINO's folders, run by OpenVINO on the CPU."""
import sys

sys.modules.setdefault("openvino_telemetry", None)  # as if it were not installed: else an import is told to its makers
import openvino

TITLE = f"openvino {openvino.__version__.partition('-')[0]}"
FILE = "openvino_model.xml"  # as Hugging Face's optimum names it


class Runtime:
    """An OpenVINO folder that is ready to run.

    Args:
        path: The folder.

    Attributes:
        manifest: What the folder says of itself; None where it says nothing.
    """

    def __init__(self, path):
        core = openvino.Core()
        model = core.read_model(path / FILE)
        self.manifest = model.get_rt_info(["vit"]).astype(str) if model.has_rt_info(["vit"]) else None
        # Else it would multiply bfloat16 where the processor does.
        self.model = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(self, images):
        """From images in numpy, as the folder takes them, to its scores in numpy [B, classes]."""
        return self.model(images)[0]
