"""How a model is used: its classes' names, what becomes of an image before it, and where its weights come from.

A weights file carries it beside its spec. Other projects' files say parts of it, or nothing.
"""
import json
import math
import os
from dataclasses import dataclass, field

from vit.errors import UserError, one_line

INTERPOLATIONS = ("bicubic", "bilinear")
_MAX_BYTES = 4 << 20
_MAX_NAME = 1000


@dataclass(frozen=True)
class Preprocessing:
    """What becomes of an RGB image before the model.

    Args:
        mean: Of each channel, of pixels / 255; it is taken off.
        std: Likewise; what is left is divided by it.
        crop_pct: Share of the image's shorter edge in the square that is cut out of its middle and resized. None
            resizes the whole image, which is stretched if it is no square.
        interpolation: The filter of the resizing: "bicubic" or "bilinear", as Pillow has them.

    Raises:
        ValueError: One of them is impossible.
    """
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float | None = 1.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not (isinstance(values, tuple) and len(values) == 3 and all(map(_is_number, values))):
                raise ValueError(f"{name} must be three numbers, one for each channel")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        if self.crop_pct is not None and not (_is_number(self.crop_pct) and 0 < self.crop_pct <= 1):
            raise ValueError("crop_pct must be above 0 and at most 1, or null")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}")

    def to_dict(self) -> dict:
        """Give its fields as JSON has them."""
        return {"mean": list(self.mean), "std": list(self.std), "crop_pct": self.crop_pct,
                "interpolation": self.interpolation}

    @staticmethod
    def from_dict(fields: object) -> "Preprocessing":
        """Take what `to_dict` gave.

        Raises:
            ValueError: It is something else.
        """
        if not isinstance(fields, dict) or set(fields) != {"mean", "std", "crop_pct", "interpolation"}:
            raise ValueError("preprocessing must have mean, std, crop_pct and interpolation")
        mean, std = (tuple(fields[name]) if isinstance(fields[name], list) else None for name in ("mean", "std"))
        return Preprocessing(mean, std, fields["crop_pct"], fields["interpolation"])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def finite(value: float | None) -> float | None:
    """Give a number that JSON can hold: None in the place of one that is not finite."""
    return value if _is_number(value) else None


@dataclass(frozen=True)
class Usage:
    """How a model is used, as far as it is known.

    Args:
        classes: Names of the classes, in the order of the logits; None where they are not known.
        preprocessing: What becomes of an image before the model; None where it is not known.
        provenance: Where the weights come from: plain values by name, such as "data" and "accuracy".

    Raises:
        ValueError: The classes are no names, or the provenance no plain values.
    """
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    provenance: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.classes is not None and not all(type(name) is str and len(name) <= _MAX_NAME for name in self.classes):
            raise ValueError("classes must be names")
        if not (isinstance(self.provenance, dict) and all(
                type(name) is str and (isinstance(value, str | None) or _is_number(value))
                for name, value in self.provenance.items())):
            raise ValueError("provenance must be plain values by name")

    def to_json(self) -> str:
        """Give it as a manifest has it."""
        return json.dumps({"classes": None if self.classes is None else list(self.classes),
                           "preprocessing": self.preprocessing and self.preprocessing.to_dict(),
                           "provenance": self.provenance}, allow_nan=False)

    def fits(self, num_classes: int) -> bool:
        """Tell whether the names, if there are any, are as many as a model has classes."""
        return self.classes is None or len(self.classes) == num_classes


def parse(path: str | os.PathLike, text: str | None) -> Usage | None:
    """Read what `Usage.to_json` gave.

    Args:
        path: The file that carries it, for the message.
        text: The JSON; None where the file has none.

    Raises:
        UserError: It is something else.
    """
    if text is None:
        return None
    try:
        if len(text) > _MAX_BYTES:
            raise ValueError("too long")
        fields = json.loads(text)
        if not isinstance(fields, dict) or set(fields) != {"classes", "preprocessing", "provenance"}:
            raise ValueError("it must have classes, preprocessing and provenance")
        classes, preprocessing = fields["classes"], fields["preprocessing"]
        if not isinstance(classes, list | None):
            raise ValueError("classes must be a list")
        return Usage(None if classes is None else tuple(classes),
                     None if preprocessing is None else Preprocessing.from_dict(preprocessing), fields["provenance"])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its manifest does not say how it is used ({one_line(error)})") from None
