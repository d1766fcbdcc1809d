"""ONNX files whose weights are whole numbers of 8 bits, by onnxruntime's own tool."""

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from vit.backend.exporter.quiet import quiet


def write(source, path, manifest):
    """Write an ONNX file again, with weights of int8, a scale for each output; activations are scaled as they come.

    Args:
        source: An ONNX file.
        path: The file to write.
        manifest: What it carries of itself.
    """
    with quiet():  # else it advises to run another tool first, whose work the exporter has done
        quantize_dynamic(source, path, per_channel=True, weight_type=QuantType.QInt8)
    model = onnx.load(path)
    del model.metadata_props[:]  # with the sum of the file that was read
    onnx.helper.set_model_props(model, {"vit": manifest})
    onnx.save(model, path)
