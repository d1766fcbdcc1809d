"""MINDIR files, run by MindSpore."""
import mindspore as ms
from mindspore import nn
from mindspore.train.mind_ir_pb2 import ModelProto

TITLE = f"mindspore {ms.__version__}"


class Runtime:
    """A MINDIR file that is ready to run.

    Args:
        path: The file.

    Attributes:
        manifest: What the file says of itself; None where it says nothing.
    """

    def __init__(self, path):
        self.manifest = ModelProto.FromString(path.read_bytes()).user_info.get("vit")
        if self.manifest is not None:  # MindSpore prints lines about what is no model
            self.model = nn.GraphCell(ms.load(str(path)))

    def run(self, images):
        """From images in numpy, as the file takes them, to its scores in numpy [B, classes]."""
        return self.model(ms.Tensor(images)).asnumpy()
