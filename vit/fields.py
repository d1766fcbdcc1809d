"""The types of a spec's fields, checked: a frozen dataclass by itself takes anything."""
import dataclasses
import math
import reprlib

MOST = 2**32 - 1  # of a whole number: no count is as high, and no library's integer overflows


def check_types(spec) -> None:
    """Hold each field of a dataclass to its type; a whole number becomes a float where one is meant.

    Raises:
        ValueError: A field is of another type, or not finite; the message names it and the value.
    """
    for field in dataclasses.fields(spec):
        value, kind = getattr(spec, field.name), field.type
        kinds = getattr(kind, "__args__", None) or (kind,)  # of `float | None`, the two
        if type(value) is int and abs(value) > MOST:
            raise ValueError(f"{field.name} must be at most {MOST} in size, not {reprlib.repr(value)}")
        if float in kinds and type(value) is int:
            object.__setattr__(spec, field.name, float(value))
        elif type(value) not in kinds:
            wanted = getattr(kind, "__name__", kind)
            raise ValueError(f"{field.name} must be of type {wanted}, not {reprlib.repr(value)}")
        elif type(value) is float and not math.isfinite(value):
            raise ValueError(f"{field.name} must be finite, not {value}")
