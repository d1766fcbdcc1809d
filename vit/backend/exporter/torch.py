"""Export from PyTorch: ONNX, torch.export's own format, OpenVINO."""
import contextlib
import io
import sys
import warnings

import torch

from vit.backend.exporter.quiet import quiet
from vit.files.atomic import write_whole


def write_onnx(model, path, image, batch, manifest):
    """Write an ONNX file.

    Args:
        model: A script's ViT, or one that is Served.
        path: The file.
        image: An image that it takes, in numpy.
        batch: Images that the file takes at a time; None for any number.
        manifest: What the file carries of itself.
    """
    with _quiet():
        program = torch.onnx.export(_program(model, image, batch), input_names=["images"], output_names=["scores"],
                                    verbose=False)
        for node in program.model.graph:
            node.metadata_props.clear()  # the places in the source, with this machine's folders
        program.model.metadata_props["vit"] = manifest
        program.save(path, external_data=False)


def write_torch_export(model, path, image, batch, manifest):
    """Write a file for torch.export.load; the arguments are those of `write_onnx`."""
    content = io.BytesIO()  # PyTorch itself ends the process where a disk is full
    with _quiet():
        torch.export.save(_program(model, image, batch), content, extra_files={"vit.json": manifest})
    write_whole(path, content.getbuffer())


def write_openvino(model, path, image, batch, manifest):
    """Write a folder with OpenVINO's two files; the arguments are those of `write_onnx`."""
    from vit.backend.runtime.openvino import FILE, openvino
    with _quiet():
        converted = openvino.convert_model(_program(model, image, batch))
        converted.set_rt_info(manifest, ["vit"])
        openvino.save_model(converted, path / FILE, compress_to_fp16=False)


def _program(model, image, batch):
    """The model's graph."""
    images = torch.tensor(image)[None].repeat(batch or 2, *[1] * image.ndim)  # of 1 the exporter makes a constant
    dynamic = None if batch else ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model.eval().cpu(), (images,), dynamic_shapes=dynamic)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # as above
    return program


@contextlib.contextmanager
def _quiet():
    """Leave out what PyTorch's exporters say while all is well, which is warnings as well, and prints."""
    with quiet(), warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
