"""What every container is read into: tensors whose names, types and shapes are known before any of them is loaded."""
import os
from dataclasses import dataclass, field
from pathlib import Path

from vit.errors import UserError
from vit.files.lazy_tensor import LazyTensor
from vit.files.untrusted import MAX_NAMES, max_tensor_bytes
from vit.files.usage import Usage


@dataclass
class Source:
    """An opened file of weights.

    Args:
        path: The file.
        container: What kind of file it is, in words.
        tensors: By the names that the file gives them.
        spec: This project's manifest, where the file carries one (JSON).
        usage: How the model is used, where the file says it.
        settings: The `config.json` beside a Hugging Face file, where there is one.
        notes: Lines about the file for the report.

    Raises:
        UserError: It claims more names, or larger tensors, than a file of its size can hold.
    """
    path: Path
    container: str
    tensors: dict[str, LazyTensor]
    spec: str | None = None
    settings: dict | None = None
    notes: list[str] = field(default_factory=list)
    usage: Usage | None = None

    def __post_init__(self) -> None:
        if len(self.tensors) > MAX_NAMES:
            raise UserError(f"{self.path}: holds {len(self.tensors):,} names, which no ViT has")
        claimed = sum(tensor.nbytes for tensor in self.tensors.values())
        if claimed > max_tensor_bytes(self.path):
            raise UserError(f"{self.path}: {os.path.getsize(self.path):,} bytes that claim to hold tensors of "
                            f"{claimed:,} bytes")
