"""An exported model, ready to use in its own runtime; and any file's model, opened by what it is."""
import importlib
import os
from pathlib import Path

import numpy as np

from vit import memory
from vit.backend import SCRIPTS, load_script, script_of
from vit.errors import UserError, printable
from vit.files.kinds import check_file
from vit.files.untrusted import reading
from vit.use import formats
from vit.use.classifier import BATCH_SIZE, Classifier, Model
from vit.use.seal import check


class Exported(Model):
    """A model that `vit export` has written.

    Args:
        path: The file or folder.
        kind: Its form, one of `vit.use.formats.FORMATS`.
        batch_size: Images that are computed at a time, where the file takes any number.

    Attributes:
        manifest: What the file says of itself.
        runtime: The program that runs it, with its version.

    Raises:
        UserError: It is none, or what runs it is not installed.
    """

    def __init__(self, path: str | os.PathLike, kind: str, batch_size: int = BATCH_SIZE) -> None:
        form, path = formats.FORMATS[kind], Path(path)
        if form.suffix:
            check_file(path)
        if not (path.is_file() if form.suffix else path.is_dir()):
            raise UserError(f"{path}: no such {'file' if form.suffix else 'folder'}")
        self._path, self._what = path, f"{form.title} {'file' if form.suffix else 'folder'}"
        if form.opens:
            with reading(path, self._what):
                check(path, kind, form.title)
        runtime = load_runtime(kind)
        with reading(path, self._what):
            self._runtime = runtime.Runtime(path)
        self.manifest = manifest = formats.parse(path, self._runtime.manifest)
        super().__init__(manifest.config, manifest.usage, path, manifest.batch or batch_size)
        size = self.config.image_size
        memory.check_room(15 * self.batch_size * size**2, f"{path}: {self.batch_size} images of {size} x {size}",
                          "a smaller --batch_size may need less")  # 3 channels, uint8 and float32
        self.backend, self.runtime, self._channels_first = kind, runtime.TITLE, form.channels_first

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the logits, float32 [n, classes]; of probabilities their logarithms, which are as good.

        Args:
            pixels: uint8 [n, S, S, 3], of `pixels`.
        """
        scores = self.scores(pixels)
        return np.log(np.maximum(scores, np.finfo(np.float32).tiny)) if self.manifest.preprocess else scores

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        images = pixels if self.manifest.preprocess else self._normalized(pixels)
        if self._channels_first and not self.manifest.preprocess:
            images = images.transpose(0, 3, 1, 2)
        with reading(self._path, self._what):  # whose model may be another than its manifest says
            scores = self._runtime.run(np.ascontiguousarray(images))
            shape = len(pixels), self.config.num_classes
            if scores.shape != shape or scores.dtype != np.float32:
                raise ValueError(f"its scores are {scores.dtype} {list(scores.shape)}, not float32 {list(shape)}")
        return scores


def load_runtime(kind: str):
    """Import what runs a form of exported models.

    Raises:
        UserError: It is not installed.
    """
    form = formats.FORMATS[kind]
    formats.require(kind, *form.runs)
    if not form.runs:
        load_script(form.backend).backend.use_device(None)
    return importlib.import_module(f"vit.backend.runtime.{kind}")


def open_model(path: object, backend: str | None = None, batch_size: int = BATCH_SIZE) -> Model:
    """Open a file of weights in a framework, or an exported model in its runtime.

    Args:
        path: The file or folder; or a ViT of any of the scripts.
        backend: One of `vit.use.formats.BACKENDS`; None for the file's own, which is "torch" for weights, and that of
            the script for a ViT.
        batch_size: Images that are computed at a time.

    Raises:
        UserError: As `Classifier` and `Exported` say.
    """
    script = script_of(path)
    if script is None and not isinstance(path, str | os.PathLike):
        raise UserError(f"a model is a file, a folder, or a ViT of one of the scripts, not {type(path).__name__}")
    kind = None if script else formats.kind_of(path)
    own = next((name for name, module in SCRIPTS.items() if script and module == script.__name__), None)
    backend = backend or kind or own or "torch"
    if backend not in (*SCRIPTS, *formats.FORMATS):
        raise UserError(f"unknown backend {printable(backend)!r}: choose from {', '.join(formats.BACKENDS)}")
    if backend in SCRIPTS:
        if kind is not None:
            raise UserError(f"{path}: is exported ({formats.FORMATS[kind].title}), and {backend} takes weights; "
                            "leave --backend out")
        return Classifier(path, backend, batch_size)
    if backend not in formats.BACKENDS:
        raise UserError(f"{path}: {formats.FORMATS[backend].title}'s files are not opened here: PyTorch would unpickle "
                        "parts of them")
    if script:
        raise UserError(f"a ViT runs in {', '.join(SCRIPTS)}, not in {backend}, which takes what vit export writes")
    if kind != backend:
        title = formats.FORMATS[backend].title
        raise UserError(f"{path}: is no {title} export; write one with: vit export {path} --to {backend} "
                        f"OUT{formats.FORMATS[backend].suffix}")
    return Exported(path, backend, batch_size)
