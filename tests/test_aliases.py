"""Names of options: old ones are understood with one note, wrong ones get a hint."""
from dataclasses import dataclass

import pytest

from vit.aliases import names_of, nearest, resolve
from vit.fields import option


@dataclass(frozen=True)
class Spec:
    size: int = option(0, "Size.", aliases=("side", "length"))
    color: str = option("red", "Color.")


@dataclass(frozen=True)
class Other:
    plain: int = 0


NAMES = names_of(Spec, Other)


def _resolve(given):
    return resolve(given, NAMES, "word", "all are in the book")


def test_every_name_leads_to_todays():
    assert NAMES == {"size": "size", "side": "size", "length": "size", "color": "color", "plain": "plain"}


def test_todays_names_stay_without_a_note(capsys):
    assert _resolve({"color": "blue", "size": 3}) == {"color": "blue", "size": 3}
    assert _resolve({}) == {}
    assert capsys.readouterr() == ("", "")


def test_each_old_name_is_told_of_once(capsys, forget_notes):
    assert _resolve({"side": 3, "color": "blue"}) == {"size": 3, "color": "blue"}
    assert capsys.readouterr().err == "note: renamed: side is now size\n"
    _resolve({"side": 4})
    assert capsys.readouterr().err == ""
    _resolve({"length": 4})
    assert capsys.readouterr().err == "note: renamed: length is now size\n"


@pytest.mark.parametrize("given", [("size", "side"), ("side", "size"), ("side", "length")])
def test_two_names_of_one_option_are_refused(given, refused):
    with refused(f"{given[0]} and {given[1]} are two names of one word: give one of them"):
        _resolve(dict.fromkeys(given, 1))


@pytest.mark.parametrize(("name", "hint"), [("colour", " (did you mean 'color'?)"),
                                            ("lenght", " (did you mean 'size'?)"), ("zzz", ""), (1, ""), (None, "")])
def test_an_unknown_name_is_refused_with_the_nearest(name, hint, refused):
    assert nearest(name, NAMES) == hint
    with refused(f"unknown word {name!r}{hint}; all are in the book"):
        _resolve({name: 1})


def test_a_long_name_is_shortened(refused):
    with refused("unknown word 'aaa", "...", "aaa'; all"):
        _resolve({"a" * 5000: 1})


def test_nothing_is_said_of_old_names_where_another_is_wrong(capsys, forget_notes, refused):
    with refused("zzz"):
        _resolve({"side": 1, "zzz": 2})
    assert capsys.readouterr().err == ""
