"""Files of torch.export, run by PyTorch: those that were written here just now. It would unpickle parts of others."""
import torch

TITLE = f"torch {torch.__version__}"


class Runtime:
    """A file of torch.export that is ready to run.

    Args:
        path: The file.

    Attributes:
        manifest: What the file says of itself; None where it says nothing.
    """

    def __init__(self, path):
        extra = {"vit.json": ""}
        self.model = torch.export.load(path, extra_files=extra).module()
        self.manifest = extra["vit.json"] or None

    def run(self, images):
        """From images in numpy, as the file takes them, to its scores in numpy [B, classes]."""
        with torch.inference_mode():
            return self.model(torch.tensor(images)).numpy()
