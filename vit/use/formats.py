"""The forms in which a model can be exported, what each needs, and what an exported file says of itself."""
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

from vit.backend import SCRIPTS
from vit.errors import UserError, one_line
from vit.files import canonical, usage
from vit.files.usage import Usage
from vit.model.config import ViTConfig

KIND = "vit-export-1"
_MOST = 16 << 20


@dataclass(frozen=True)
class Format:
    """A form of exported models.

    Args:
        title: Its name, as people write it.
        backend: The framework that exports it.
        suffix: How the file's name ends; "" for a folder.
        writes: Packages that the export needs beside the framework.
        runs: Packages that run it; empty where the framework itself does.
        channels_first: Whether normalized images are [B, C, S, S], and not [B, S, S, C].
        opens: Whether files that others may have written are opened.
    """
    title: str
    backend: str
    suffix: str
    writes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    channels_first: bool = True
    opens: bool = True


FORMATS = {
    "onnx": Format("ONNX", "torch", ".onnx", ("onnx", "onnxscript"), ("onnxruntime",)),
    "savedmodel": Format("SavedModel", "tf", "", channels_first=False),
    "mindir": Format("MINDIR", "ms", ".mindir"),
    # PyTorch unpickles parts of such a file.
    "torch_export": Format("torch.export", "torch", ".pt2", opens=False),
    "litert": Format("LiteRT", "tf", ".tflite", (), ("ai_edge_litert",), channels_first=False),
    "openvino": Format("OpenVINO", "torch", "", ("openvino",), ("openvino",)),
}
# What `vit evaluate` and `vit predict` run.
BACKENDS = (*SCRIPTS, *(name for name, form in FORMATS.items() if form.opens))
# What pip calls the packages that have another name there.
_PROJECTS = {"ai_edge_litert": "ai-edge-litert"}


def require(kind: str, *modules: str) -> None:
    """Make sure that what a form needs is installed.

    Args:
        kind: One of `FORMATS`.
        modules: The packages.

    Raises:
        UserError: One is not; the message says what to install.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{FORMATS[kind].title} needs {' and '.join(_PROJECTS.get(name, name) for name in missing)}: "
                        f"pip install {' '.join(_PROJECTS.get(name, name) for name in missing)}")


def kind_of(path: str | os.PathLike) -> str | None:
    """Tell by its name, or by what is in the folder, in which form a file is exported; None if it is none."""
    path = Path(path)
    if path.is_dir():
        return {(True, False): "savedmodel", (False, True): "openvino"}.get(
            ((path / "saved_model.pb").is_file(), (path / "openvino_model.xml").is_file()))
    return next((name for name, form in FORMATS.items() if form.suffix and path.suffix == form.suffix), None)


@dataclass(frozen=True)
class Manifest:
    """What an exported file says of itself.

    Args:
        config: The model's spec.
        usage: The names of its classes, and what becomes of an image before it.
        batch: Images that it takes at a time; None for any number.
        preprocess: Whether it takes pixels, uint8 [B, S, S, 3], and gives probabilities. Otherwise it takes normalized
            images, float32, and gives logits.
        quantized: "int8" where the weights are; None where they are float32.
    """
    config: ViTConfig
    usage: Usage
    batch: int | None
    preprocess: bool
    quantized: str | None = None

    def to_json(self) -> str:
        """Give it as a file carries it."""
        return json.dumps({"format": KIND, "spec": self.config.to_dict(), "usage": json.loads(self.usage.to_json()),
                           "batch": self.batch, "preprocess": self.preprocess, "quantized": self.quantized})


def parse(path: str | os.PathLike, text: str | None) -> Manifest:
    """Read what `Manifest.to_json` gave.

    Args:
        path: The file that carries it, for the message.
        text: The JSON; None where the file has none.

    Raises:
        UserError: It is something else.
    """
    if text is None:
        raise UserError(f"{path}: does not say how it is used; only what `vit export` has written does")
    try:
        if len(text) > _MOST:
            raise ValueError("too long")
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.get("format") != KIND or set(fields) != {
                "format", "spec", "usage", "batch", "preprocess", "quantized"}:
            raise ValueError(f"no {KIND}")
        config = canonical.parse_spec(path, json.dumps(fields["spec"]))
        use, batch = usage.parse(path, json.dumps(fields["usage"])), fields["batch"]
        if not (batch is None or (type(batch) is int and batch > 0)) or type(fields["preprocess"]) is not bool:
            raise ValueError("batch must be a number or null, and preprocess true or false")
        if fields["quantized"] not in (None, "int8"):
            raise ValueError("quantized must be null or int8")
        if not use.fits(config.num_classes):
            raise ValueError(f"{len(use.classes)} names for {config.num_classes} classes")
        return Manifest(config, use, batch, fields["preprocess"], fields["quantized"])
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its manifest is of no exported model ({one_line(error)})") from None
