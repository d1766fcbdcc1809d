"""Export from TensorFlow: SavedModel, LiteRT."""
import zipfile

import fe_compat

from vit.backend.exporter.quiet import quiet
from vit.files.atomic import write_whole

tf = fe_compat.legacy_tensorflow()


def write_savedmodel(model, path, image, batch, manifest):
    """Write a SavedModel.

    Args:
        model: A script's ViT, or one that is Served.
        path: The folder.
        image: An image that it takes, in numpy.
        batch: Images that the folder takes at a time; None for any number.
        manifest: What the folder carries of itself.
    """
    function, module = _function(model, image, batch)
    with quiet():
        tf.saved_model.save(module, path, signatures={"serving_default": function})
    write_whole(path / "vit.json", manifest.encode())


def write_litert(model, path, image, batch, manifest):
    """Write a LiteRT (TensorFlow Lite) file; the arguments are those of `write_savedmodel`."""
    function, module = _function(model, image, batch)
    with quiet():
        content = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module).convert()
    write_whole(path, content)
    with zipfile.ZipFile(path, "a") as archive:  # behind the model, as LiteRT's own metadata have it
        archive.writestr("vit.json", manifest)


def _function(model, image, batch):
    """The model's graph, and a module that has its variables: Keras would save each layer's calls beside it."""
    signature = [tf.TensorSpec((batch, *image.shape), tf.as_dtype(image.dtype), name="images")]
    module = tf.Module()
    module.kept = model.variables
    return tf.function(lambda images: {"scores": model(images)}, input_signature=signature), module
