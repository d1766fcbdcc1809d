"""Options as fields of a dataclass: intervals, types, limits, choices, and the words that are made of them."""
import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vit.fields import Interval, check, check_types, first_sentence, kinds, option, takes

GROWING = {"a": 1}


@dataclass(frozen=True)
class Spec:
    count: int = option(3, "How many. More text.", limits="[1, inf)")
    share: float = option(0.5, "How much.", limits="[0, 1)")
    maybe: float | None = option(None, "How much, if any.", limits="(0, 1]")
    word: str = option("x", "Which.", choices=("x", "y"))
    grown: str = option("a", "Which of a growing dict.", choices=GROWING)
    every: int | str = option("epoch", "How often.", limits="[1, inf)", choices=("epoch",))
    on: bool = option(False, "Whether.")
    path: str | os.PathLike | None = option(None, "Where.")
    texts: tuple[str, ...] = option((), "What else.")
    numbers: tuple[float, ...] = option((), "Which numbers.", limits="[0, 9)")
    plain: int = 0

    def __post_init__(self):
        check(self)


FIELDS = {field.name: field for field in dataclasses.fields(Spec)}


# Intervals.

@pytest.mark.parametrize(("text", "inside", "outside"), [
    ("[0, 1)", (0, 0.5, 1 - 1e-15), (-1e-15, 1, 2)),
    ("(0, 1]", (1e-15, 1), (0, 1 + 1e-15)),
    ("[1, inf)", (1, 10**300), (0, 0.999)),
    ("(0, inf)", (5e-324, ), (0, -1)),
    ("[1e-06, 1000000]", (1e-6, 1, 10**6), (9e-7, 10**6 + 1)),
    ("(-1, 1)", (0, ), (-1, 1)),
    ("(-inf, 0]", (-10**300, 0), (1, ))])
def test_an_interval_holds_what_its_brackets_say(text, inside, outside):
    interval = Interval.parse(text)
    assert [value for value in inside if value not in interval] == []
    assert [value for value in outside if value in interval] == []
    assert math.nan not in interval


@pytest.mark.parametrize("text", ["", "0, 1", "[0 1]", "[0,1]", "[0, 1", "0, 1]", "[0, 1] ", "{0, 1}", "[a, 1]",
                                  "[0, ]", "[nan, 1]", "[0, nan)", "[1, 0]", "[0, 0]", "[0, inf]", "[-inf, 0]",
                                  "(0, 1, 2)"])
def test_limits_that_are_no_interval_are_refused_where_they_are_declared(text):
    with pytest.raises(ValueError) as caught:
        option(0, "How many.", limits=text)
    assert repr(text) in str(caught.value) and "[0, 1)" in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("[1, inf)", "at least 1"), ("(0, inf)", "above 0"),
                                             ("[0, 1)", "in [0, 1)"), ("[1e-06, 1000000]", "in [1e-06, 1000000]")])
def test_an_interval_in_words(text, words):
    assert str(Interval.parse(text)) == words


# A spec is held to its fields.

@pytest.mark.parametrize(("field", "value", "message"), [
    ("count", 0, "count must be at least 1, not 0"),
    ("count", 1.5, "count must be of type int, not 1.5"),
    ("count", True, "count must be of type int, not True"),
    ("count", None, "count must be of type int, not None"),
    ("count", 2**32, "count must be at most 4294967295 in size, not 4294967296"),
    ("share", 1, "share must be in [0, 1), not 1.0"),
    ("share", math.nan, "share must be finite, not nan"),
    ("share", "0.5", "share must be of type float, not '0.5'"),
    ("maybe", 0.0, "maybe must be in (0, 1], not 0.0"),
    ("maybe", "x", "maybe must be of type float | None, not 'x'"),
    ("word", "z", "word must be one of \"x\", \"y\", not 'z'"),
    ("word", 3, "word must be of type str, not 3"),
    ("grown", "b", "grown must be \"a\", not 'b'"),
    ("every", 0, 'every must be at least 1, or "epoch", not 0'),
    ("every", "hour", "every must be at least 1, or \"epoch\", not 'hour'"),
    ("every", 1.0, "every must be of type int | str, not 1.0"),
    ("on", 1, "on must be of type bool, not 1"),
    ("texts", "ab", "texts must be of type tuple, not 'ab'"),
    ("texts", ["a", 1], "each of texts must be of type str, not 1"),
    ("numbers", 3, "numbers must be of type tuple, not 3"),
    ("numbers", [1, "2"], "each of numbers must be of type float, not '2'"),
    ("numbers", (1, 9), "each of numbers must be in [0, 9), not 9.0"),
    ("numbers", [math.inf], "each of numbers must be finite, not inf"),
    ("numbers", [0] * 1001, "numbers must have at most 1000 values, not 1001"),
    ("plain", "x", "plain must be of type int, not 'x'")])
def test_an_impossible_value_is_refused(field, value, message):
    with pytest.raises(ValueError) as caught:
        Spec(**{field: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(("field", "given", "held"), [
    ("count", np.int64(4), 4), ("count", np.uint8(4), 4), ("share", np.float64(0.25), 0.25), ("share", 0, 0.0),
    ("share", np.float32(0.5), 0.5), ("share", np.int32(0), 0.0), ("maybe", 1, 1.0), ("maybe", None, None),
    ("on", np.bool_(True), True), ("word", np.str_("y"), "y"), ("every", 7, 7), ("every", "epoch", "epoch"),
    ("path", Path("a") / "b", "a/b"), ("path", "c", "c"), ("texts", ("a", ), ("a", )),
    ("texts", ["a"], ("a", )), ("numbers", [1, np.float64(0.5)], (1.0, 0.5)), ("numbers", [], ())])
def test_equivalent_values_become_plain_ones(field, given, held):
    value = getattr(Spec(**{field: given}), field)
    assert (value, type(value)) == (held, type(held))


@pytest.mark.parametrize("value", [np.int64(0), np.float64(2), np.array(3), np.bool_(True)])
def test_a_numpy_value_is_held_to_the_field_as_well(value):
    with pytest.raises(ValueError, match="count"):
        Spec(count=value)


def test_choices_of_a_dict_may_grow(monkeypatch):
    monkeypatch.setitem(GROWING, "b", 2)
    assert Spec(grown="b").grown == "b"


def test_types_alone_can_be_checked_without_options():
    @dataclass(frozen=True)
    class Plain:
        width: int = 1
        rate: float = 0.0

    spec = Plain(rate=1)
    check_types(spec)
    assert type(spec.rate) is float
    with pytest.raises(ValueError, match="width must be of type int, not 'a'"):
        check_types(Plain(width="a"))


# The words.

@pytest.mark.parametrize(("text", "sentence"), [
    ("One.", "One"), ("One. Two.", "One"), ("One\n  line. Two.", "One line"), ("Of 0.5 or a.b.", "Of 0.5 or a.b"),
    ("None at the end", "None at the end")])
def test_the_first_sentence(text, sentence):
    assert first_sentence(text) == sentence


@pytest.mark.parametrize(("field", "words"), [
    ("count", "a whole number, at least 1"), ("share", "a number, in [0, 1)"),
    ("maybe", "a number, in (0, 1], or null"), ("word", "one of x, y"), ("on", "true or false"),
    ("every", "a whole number, at least 1, or one of epoch"), ("numbers", "a list of numbers, each in [0, 9)"),
    ("texts", "a list")])
def test_what_a_field_takes(field, words):
    assert takes(FIELDS[field]) == words


def test_a_field_keeps_its_text_with_the_indentation_of_formulas():
    field = option(0, """First.

        As in

            a = b
              + c""")
    assert field.metadata["text"] == "First.\n\nAs in\n\n    a = b\n      + c"


def test_kinds_of_annotations():
    assert kinds(int | None) == (int, type(None))
    assert kinds(str) == (str, )
    assert kinds(tuple[str, ...]) == (tuple, )
