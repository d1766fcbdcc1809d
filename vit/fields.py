"""One line per option: a dataclass field that carries its limits, its choices and its text.

`option` declares such a field, `check` holds a spec to all of its fields. Flags, documentation and error messages are
made from the same line.
"""
import dataclasses
import inspect
import math
import os
import re
import reprlib
import typing
from collections.abc import Collection
from dataclasses import dataclass
from types import UnionType

import numpy as np

MOST = 2**32 - 1  # the largest whole number: no option needs a larger one, and every library's integer holds it
LONGEST = 1000  # values in a list


@dataclass(frozen=True)
class Interval:
    """A range of numbers; a bracket means that the end belongs to it, a parenthesis that it does not."""
    text: str
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Read "[0, 1)", "(0, inf)" and the like.

        Raises:
            ValueError: The text is no interval, or an empty one.
        """
        match = re.fullmatch(r"[\[(](\S+), (\S+)[\])]", text)
        try:
            low, high = float(match[1]), float(match[2])
        except (TypeError, ValueError):
            low = high = math.nan
        endless = (low == -math.inf and text[0] == "[") or (high == math.inf and text[-1] == "]")
        if not low < high or endless:
            raise ValueError(f'an interval is written like "[0, 1)" or "(0, inf)", not {text!r}')
        return cls(text, low, high)

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.text[0] == "[" else value > self.low
        below = value <= self.high if self.text[-1] == "]" else value < self.high
        return above and below

    def __str__(self) -> str:
        """What comes after "must be": "at least 1", "above 0" or "in [0, 1)"."""
        if self.high < math.inf:
            return f"in {self.text}"
        return f"{'at least' if self.text[0] == '[' else 'above'} {self.text[1:].partition(',')[0]}"


def option(default, text: str, *, limits: str | None = None, choices: Collection[str] | None = None,
           flag: str | None = None, metavar: str | None = None, aliases: tuple[str, ...] = ()):
    """Declare a field of a frozen dataclass that describes itself.

    Args:
        default: Its value where none is given.
        text: What it means. The first sentence is its line in `--help`; indented lines are formulas.
        limits: The interval that a number must lie in, such as "[0, 1)" or "(0, inf)".
        choices: What a string must be one of. A dict is looked into at every check, so it may still grow.
        flag: The group of `--help` that shows it as a flag of its own, or None if it has no flag.
        metavar: What `--help` calls the flag's value; None is a word for the type.
        aliases: Names that it had in older versions, which are still understood.

    Returns:
        A `dataclasses.field`, with all but the default in its metadata.

    Raises:
        ValueError: `limits` is no interval.
    """
    return dataclasses.field(default=default, metadata={
        "text": inspect.cleandoc(text), "limits": None if limits is None else Interval.parse(limits),
        "choices": choices, "flag": flag, "metavar": metavar, "aliases": aliases})


def kinds(hint) -> tuple[type, ...]:
    """List the types that an annotation allows: (int, NoneType) for `int | None`, (tuple,) for `tuple[str, ...]`."""
    if isinstance(hint, UnionType):
        return typing.get_args(hint)
    return (typing.get_origin(hint) or hint,)


def check_types(spec) -> None:
    """Hold each field of a dataclass to its type, and put plain values in the place of equivalent ones.

    A whole number becomes a float where one is meant, a numpy scalar the Python number, a path a string, and a list a
    tuple. A field of type `object` takes anything.

    Raises:
        ValueError: A field is of another type, or not finite; the message names it and the value.
    """
    for field in dataclasses.fields(spec):
        given, allowed = getattr(spec, field.name), kinds(field.type)
        if tuple in allowed and isinstance(given, list | tuple):
            if len(given) > LONGEST:
                raise ValueError(f"{field.name} must have at most {LONGEST} values, not {len(given)}")
            one, _ = typing.get_args(field.type)
            value = tuple(_plain(f"each of {field.name}", item, one) for item in given)
        else:
            value = _plain(field.name, given, field.type)
        if value is not given:
            object.__setattr__(spec, field.name, value)


def _plain(name: str, value: object, hint) -> object:
    """Hold one value to a type, and give the plain value in its place."""
    allowed = kinds(hint)
    value = value.item() if isinstance(value, np.generic) else value
    if type(value) is int and abs(value) > MOST:
        raise ValueError(f"{name} must be at most {MOST} in size, not {reprlib.repr(value)}")
    if type(value) is int and float in allowed:
        value = float(value)
    if isinstance(value, os.PathLike) and os.PathLike in allowed:
        value = os.fspath(value)
    if type(value) not in allowed and object not in allowed:
        raise ValueError(f"{name} must be of type {getattr(hint, '__name__', hint)}, not {reprlib.repr(value)}")
    if type(value) is float and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value}")
    return value


def check(spec) -> None:
    """Hold each field of a dataclass to its type, its limits and its choices.

    Limits are for numbers, each of a list's too, and choices for strings; None passes where the type allows it.

    Raises:
        ValueError: A field has an impossible value; the message names it, what is allowed and the value.
    """
    check_types(spec)
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        limits, choices = field.metadata.get("limits"), field.metadata.get("choices")
        if isinstance(value, tuple) and limits is not None:
            if odd := [item for item in value if item not in limits]:
                raise ValueError(f"each of {field.name} must be {limits}, not {odd[0]!r}")
            continue
        if isinstance(value, str) and choices is not None:
            allowed = value in choices
        elif isinstance(value, int | float) and limits is not None:
            allowed = value in limits
        else:
            continue
        if not allowed:
            words = [] if limits is None else [str(limits)]
            if choices is not None:
                words.append("one of " * (len(choices) > 1) + ", ".join(f'"{word}"' for word in choices))
            raise ValueError(f"{field.name} must be {', or '.join(words)}, not {value!r}")


def first_sentence(text: str) -> str:
    """The first sentence of a text, without its full stop."""
    return re.split(r"\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0]


def takes(field: dataclasses.Field) -> str:
    """Say in a few words which values a field takes: "a whole number, at least 1, or null"."""
    limits, choices, allowed = field.metadata["limits"], field.metadata["choices"], kinds(field.type)
    words = []
    if bool in allowed:
        words.append("true or false")
    if int in allowed or float in allowed:
        number = "a whole number" if int in allowed else "a number"
        words.append(f"{number}, {limits}" if limits else number)
    if tuple in allowed:
        words.append(f"a list of numbers, each {limits}" if limits else "a list")
    if choices is not None:
        words.append(f"one of {', '.join(choices)}")
    if type(None) in allowed:
        words.append("null")
    return ", or ".join(words)
