"""Recipes: YAML that is nearly a recipe, and `--set`."""
import dataclasses
import json
import math

import yaml
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.mutations import changed_bytes, changed_json, encodable, odd_values, texts
from vit.fields import MOST, kinds
from vit.training.recipe import Recipe
from vit.training.recipe_file import FIELDS
from vit.training.recipe_paths import SHIPPED

_WHOLE = Recipe(data="digits", variant="tiny", pretrain_epochs=1, train_steps_per_epoch=1, batch_size=2).to_dict()
_SETTINGS = [field for field in dataclasses.fields(Recipe) if field.name not in ("data", "variant")]
_FILES = sorted(path.read_bytes() for path in SHIPPED.glob("*.yaml"))
# What YAML has beside `field: value`.
_SNIPPETS = ("&a", "*a", "<<: *a", "!!python/object/apply:os.system [ls]", "!!binary AAAA", "!!timestamp 2001-01-01",
             "!!set {a}", "!!int x", "!!float nope", "!!null 1", "? [a]\n: 1", "---", "...", "%YAML 9.9", "%TAG ! x",
             "\t", "|", ">", "'", '"', "{", "[", "}", "]", "#", ":", "- ", "? ", "!", "!!", "!<>", "@", "`", "\x00",
             "\x85", "\ufeff", "\u2028", "\r", "0x1F", "0b1", "1_000", "1:30", "~", ".inf", "-.INF", ".NaN", "9" * 500,
             "1e999",
             "yes", '"\\x"', '"\\ud800"', '"\\U00110000"', "seed: 1", "batch_size: 1", "=", "[" * 200, "{a: " * 500,
             "- " * 500, "? " * 300)


@st.composite
def _text(draw) -> bytes:
    how = draw(st.sampled_from(["fields", "json", "snippets", "bytes"]))
    if how == "bytes":
        return draw(changed_bytes(draw(st.sampled_from(_FILES))))
    fields = draw(changed_json({name: _WHOLE[name] for name in draw(st.sets(st.sampled_from(FIELDS), min_size=1))}))
    if how == "json":
        return json.dumps(fields).encode()
    try:
        text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=draw(st.booleans()), width=1 << 16)
    except (yaml.YAMLError, RecursionError):
        text = repr(fields)
    if how == "snippets":
        for _ in range(draw(st.integers(1, 3))):
            places = [0, len(text), *(at + 1 for at, letter in enumerate(text) if letter in "\n :")]
            at = draw(st.sampled_from(places))
            text = text[:at] + draw(st.sampled_from(_SNIPPETS)) + draw(st.sampled_from(["", "\n", " "])) + text[at:]
    return text.encode("utf-8", "surrogatepass")


@st.composite
def _check(draw) -> Case:
    name = draw(st.sampled_from(["r.yaml"] * 6 + ["nothing.yaml", "in", "fifo", "link", ".", "/dev/null", "no\nname",
                                                  "\x1b[1m", "n" * 300]))
    files = {"r.yaml": draw(_text()), "fifo": "fifo", "link": "-> link", "in/x": b""}
    return Case("commands.vit", ("recipe", "check", name), files, (name,) if name == "r.yaml" else ())


@st.composite
def _set(draw) -> Case:
    texts_of_fields = []
    for field in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3)):
        value = draw(st.one_of(odd_values.map(_short), st.sampled_from(_SNIPPETS), st.just(str(_WHOLE[field]))))
        texts_of_fields.append(draw(st.sampled_from(["{}={}", "{}={}", "{}={}", "{}", "{} = {}", "{}={}={}x"])).replace(
            "{}", field, 1).replace("{}", value))
    flag = draw(st.sampled_from(["--set", "--set", "--set", "--resume_override"]))
    arguments = [part for text in texts_of_fields for part in (flag, text.replace("\0", ""))]
    return Case("script.prepare", ("--data", "digits", "--variant", "tiny", "--model_dir", "out", *arguments))


@st.composite
def _edges(draw) -> Case:
    """A recipe that is allowed, at the edges of what is allowed."""
    arguments = []
    for field in draw(st.lists(st.sampled_from(_SETTINGS), min_size=1, max_size=4, unique=True)):
        arguments += ["--set", f"{field.name}={draw(st.sampled_from(allowed(field)))}"]
    if not any("batch_size=" in text for text in arguments):
        arguments += ["--batch_size", "4"]
    return Case("script.prepare", ("--data", "digits", "--variant", "tiny", "--model_dir", "out", *arguments))


def allowed(field: dataclasses.Field) -> list[str]:
    """Texts of values that a field takes, most of them at the edges of what it takes."""
    limits, choices, types = field.metadata["limits"], field.metadata["choices"], kinds(field.type)
    if field.name == "image_size":
        return ["8", "16", "32", "40", "64", "16384"]
    if field.name == "batch_size":  # one of a whole set is slow, and no more than that
        return ["1", "2", "64"]
    values = [*(choices or ()), *(["true", "false"] if bool in types else ()),
              *(["null"] if type(None) in types else ())]
    if limits is not None:
        numbers = [0, 1, 2, 3, MOST - 1, MOST, limits.low, min(limits.high, MOST)]
        if float in types or tuple in types:
            numbers += [0.5, 0.999999, 1e-320, 1e-9, 1e300, math.nextafter(limits.low, 1),
                        math.nextafter(limits.high, 0)]
        values += [repr(int(number) if int in types else float(number)) for number in numbers if number in limits]
    return [value for text in values for value in (f"[{text}]", f"[{text},{text}]")] if tuple in types else values


def _short(value: object) -> str:
    try:
        return encodable(value if isinstance(value, str) else json.dumps(value))[:3000]
    except ValueError:
        return "{"


@st.composite
def _fields(draw) -> Case:
    names = draw(st.lists(st.one_of(st.sampled_from(FIELDS), texts), max_size=3))
    return Case("commands.vit", ("recipe", "fields", *(_short(name).replace("\0", "") for name in names)))


cases = st.one_of(_check(), _check(), _check(), _set(), _edges(), _fields())
