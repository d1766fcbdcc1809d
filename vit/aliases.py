"""The names of options: today's, the older ones that are still understood, and what to say of a wrong one."""
import dataclasses
import difflib
import reprlib
import sys
from collections.abc import Mapping

from vit.errors import UserError

_told: set[str] = set()  # the old names that a note was printed for: one note per process


def names_of(*specs: type) -> dict[str, str]:
    """Map every name that the fields of some dataclasses answer to, old ones included, to the name of today."""
    fields = [field for spec in specs for field in dataclasses.fields(spec)]
    return {name: field.name for field in fields for name in (field.name, *field.metadata.get("aliases", ()))}


def nearest(name: object, names: Mapping[str, str]) -> str:
    """Give the hint to a wrong name: " (did you mean 'mixup'?)", or nothing if none is near.

    Args:
        name: What was given.
        names: What was possible, to what should be written instead.
    """
    near = difflib.get_close_matches(str(name), names, 1)
    return f" (did you mean {names[near[0]]!r}?)" if near else ""


def resolve(given: Mapping, names: Mapping[str, str], noun: str, ending: str) -> dict:
    """Put today's names in the place of old ones, with a note on stderr the first time that one is seen.

    Args:
        given: Values by name.
        names: What `names_of` returns.
        noun: What an unknown name is called in the message: "key".
        ending: What the message ends with: where all names are to be found.

    Raises:
        UserError: A name is unknown, or both an old name and today's are given.
    """
    written = {}
    for key in given:
        if key not in names:
            raise UserError(f"unknown {noun} {reprlib.repr(key)}{nearest(key, names)}; {ending}")
        other = written.setdefault(names[key], key)
        if other != key:
            raise UserError(f"{other} and {key} are two names of one {noun}: give one of them")
    old = [key for name, key in written.items() if key != name and key not in _told]
    if old:
        _told.update(old)
        print(f"note: renamed: {', '.join(f'{key} is now {names[key]}' for key in old)}", file=sys.stderr, flush=True)
    return {name: given[key] for name, key in written.items()}
