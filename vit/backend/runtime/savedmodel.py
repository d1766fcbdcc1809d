"""SavedModels, run by TensorFlow."""
import fe_compat

tf = fe_compat.legacy_tensorflow()

TITLE = f"tensorflow {tf.__version__}"


class Runtime:
    """A SavedModel that is ready to run.

    Args:
        path: The folder.

    Attributes:
        manifest: What the folder says of itself; None where it says nothing.
    """

    def __init__(self, path):
        file = path / "vit.json"
        self.manifest = file.read_text() if file.is_file() else None
        self.loaded = tf.saved_model.load(str(path))  # kept: it has the variables
        self.function = self.loaded.signatures["serving_default"]

    def run(self, images):
        """From images in numpy, as the folder takes them, to its scores in numpy [B, classes]."""
        return self.function(images=tf.constant(images))["scores"].numpy()
