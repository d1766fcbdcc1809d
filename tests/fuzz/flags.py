"""Flags: command lines of the scripts and of `vit`, right up to where a training would begin."""
import dataclasses

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.mutations import scalars, texts
from tests.fuzz.recipes import allowed
from vit.fields import kinds
from vit.training.options import RunOptions
from vit.training.recipe import Recipe
from vit.training.recipe_file import FIELDS

_FIELDS = {field.name: field for field in (*dataclasses.fields(RunOptions), *dataclasses.fields(Recipe))
           if field.metadata["flag"]}
_PATHS = ("in", "in/file", "in/link", "in/loop", "in/fifo", "in/dangling", "nothing", "nothing/below", ".", "..", "/",
          "/dev/null", "/dev/full", "/dev/stdout", "/proc/self/mem", "/dev/fd/9", "", " ", "-", "~", "out", "out/below",
          "in/file/below", "n" * 300, "a\nb", "\x1b[31m", "\udcff", "auto", "file://x", "C:\\x")
_FILES = {"in/file": b"hello\n", "in/link": "-> file", "in/loop": "-> loop", "in/fifo": "fifo",
          "in/dangling": "-> nothing"}
# Nothing is to be written into the system's own folders, or into the one that it runs in.
_WRITES = {"model_dir": ("out", "out", "out", "out/below", "in/file", "in/file/below", "/dev/null", "in/loop",
                         "in/fifo", "out/" + "n" * 300, "/proc/x", ""),
           "tensorboard": ("out", "out/tb", "in/file", "/dev/null", "", "in/loop", "/proc/x")}


_NUMBERS = ("1", "0", "-1", "1e3", "0x10", "1_000", "\u0661", "nan", "inf", "1e-3", "9" * 20, "4294967295",
            " 1", "1.5", "1e400", "--1")
_odd = st.one_of(scalars.map(str), texts, st.sampled_from(_PATHS), st.sampled_from(_NUMBERS))


@st.composite
def _value(draw, name: str) -> str:
    if name in _WRITES:
        return draw(st.sampled_from(_WRITES[name]))
    good = [text for text in allowed(_FIELDS[name]) if text != "null"]
    return draw(st.sampled_from(good)) if good and draw(st.integers(0, 3)) else draw(_odd)


@st.composite
def _script(draw) -> Case:
    arguments = ["--data", draw(st.sampled_from(["digits"] * 9 + ["folder", "cifar", "cifair"])),
                 "--variant", "tiny", "--model_dir", "out", "--batch_size", "4"]
    for name in draw(st.lists(st.sampled_from(sorted(_FIELDS)), min_size=1, max_size=4)):
        flag = draw(st.sampled_from([f"--{name}"] * 12 + [f"--{name[:-1]}", f"-{name}", f"--{name}x",
                                                          f"--{name.upper()}"]))
        if bool in kinds(_FIELDS[name].type):
            arguments.append(flag)
        elif draw(st.booleans()):
            arguments.append(f"{flag}={_clean(draw(_value(name)))}")
        else:
            arguments += [flag, _clean(draw(_value(name)))]
    if draw(st.integers(0, 5)) == 0:
        arguments.insert(draw(st.integers(0, len(arguments))), _clean(draw(texts)))
    return Case("script.prepare", tuple(arguments), _FILES)


@st.composite
def _tool(draw) -> Case:
    words = st.one_of(
        st.sampled_from(["list", "convert", "checkpoints", "recipe", "check", "fields", "--to", "hf", "npz", "timm",
                         "--image_size", "--num_classes", "--heads", "--grid", "14x14", "0x0", "1", "0", "-1",
                         "--quiet", "99999999999999999999999", "--help", "--", "-h", *FIELDS[:3]]),
        st.sampled_from(_PATHS[:-4]), texts)
    command = draw(st.sampled_from(["list", "convert", "checkpoints", "recipe", "compare"]))
    return Case("commands.vit", (command, *(_clean(word) for word in draw(st.lists(words, max_size=5)))), _FILES)


def _clean(text: str) -> str:
    """A text as a command line can hold it."""
    return text.replace("\0", "").encode("utf-8", "surrogateescape" if "\udcff" in text else "replace").decode(
        "utf-8", "surrogateescape")


cases = st.one_of(_script(), _script(), _tool())
