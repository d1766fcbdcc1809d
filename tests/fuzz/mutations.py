"""Changes to what is whole: values of JSON, names, bytes and archives, drawn by hypothesis, which shrinks them."""
import io
import json
import math
import pickletools
import struct
import warnings
import zipfile

from hypothesis import strategies as st

NAMES = ("", " ", ".", "..", "../../x", "/etc/passwd", "a/b", "a\nb", "a\r\nerror: b", "\x1b[31mred\x1b[0m", "\x00",
         "\x7f", "\u202egnp.exe", "\ud800", "\U0001f600", "\uff41", "e\u0301", "n" * 300, "x" * 5000, "__class__",
         "None", "-1", "%s%n", "{0}", "$HOME", "\u2028", "\ufeff", "true", "nan")
_NUMBERS = (0, -1, 1, 2, 7, 255, 65536, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63),
            10**30, 10**400, 0.5, -0.0, 1e-320, 1e-8, 1e308, math.inf, -math.inf, math.nan)
INTEGERS = st.one_of(st.sampled_from([value for value in _NUMBERS if isinstance(value, int)]), st.integers(-9, 300))
numbers = st.one_of(st.sampled_from(_NUMBERS), st.integers(-9, 300), st.floats())
texts = st.one_of(st.sampled_from(NAMES), st.text(max_size=12))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)


def encodable(text: str) -> str:
    """A text that UTF-8 has: a "?" for each half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def nested(depth: int):
    """A list in a list, `depth` times."""
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


_many = st.sampled_from([10_000, 200_000]).map(lambda count: [0] * count)
odd_values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(texts, scalars, max_size=3),
                       st.sampled_from([50, 500]).map(nested), _many)


def _places(value, path=()) -> list[tuple]:
    """The paths of all values within a value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items)[:60]:
        found += _places(inner, (*path, key))
    return found


@st.composite
def changed_json(draw, whole, most: int = 3):
    """A value of JSON in which a few places were changed, taken away, wrapped, renamed or added."""
    value = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, most))):
        places = _places(value)
        if not places:
            return draw(odd_values)
        *path, key = draw(st.sampled_from(places))
        holder = value
        for step in path:
            holder = holder[step]
        how = draw(st.sampled_from(["odd", "number", "odd", "near", "remove", "wrap", "swap", "rename", "add"]))
        own = holder[key]
        if how == "odd":
            holder[key] = draw(odd_values)
        elif how == "number":
            holder[key] = draw(numbers)
        elif how == "near":
            holder[key] = _near(draw, own)
        elif how == "remove":
            del holder[key]
        elif how == "wrap":
            holder[key] = draw(st.sampled_from([[own], {"x": own}, [own, own], str(own), {str(key): own}]))
        elif how == "swap":
            holder[key] = json.loads(json.dumps(_at(value, draw(st.sampled_from(places)))))
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(texts)] = holder.pop(key)
        elif isinstance(holder, dict):
            holder[draw(texts)] = draw(odd_values)
        else:
            holder.append(draw(odd_values))
    return value


def _at(value, path: tuple):
    """The value at a path, or None where a change has taken it away."""
    for step in path:
        try:
            value = value[step]
        except (IndexError, KeyError, TypeError):
            return None
    return value


def _near(draw, value):
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + draw(st.sampled_from([-1, 1, 1000, 10**6]))
    if isinstance(value, float):
        return value * draw(st.sampled_from([-1.0, 1e3, 1e300]))
    if isinstance(value, str):
        at = draw(st.integers(0, len(value)))
        return value[:at] + draw(texts) + value[at:]
    if isinstance(value, list):
        return draw(st.sampled_from([value[:-1], value + value[:1], value[::-1], value * 2]))
    return draw(odd_values)


@st.composite
def json_text(draw, whole, most: int = 3) -> bytes:
    """Changed JSON as text, of which a piece may be written twice or cut."""
    text = json.dumps(draw(changed_json(whole, most)))
    how = draw(st.sampled_from(["plain"] * 8 + ["twice", "cut", "space"]))
    if how == "twice" and text.startswith("{") and len(text) > 2:
        text = "{" + text[1:-1] + ", " + text[1:]
    elif how == "cut":
        text = text[:draw(st.integers(0, len(text)))]
    elif how == "space":
        text = text + " " * draw(st.sampled_from([7, 100_000]))
    return text.encode("utf-8", "surrogatepass")


@st.composite
def changed_bytes(draw, whole: bytes, hot: int = 400, most: int = 4) -> bytes:
    """Bytes of which some were flipped, cut, repeated or overwritten, mostly among the first and last `hot` ones."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, most))):
        if not data:
            break
        last = len(data) - 1
        at = draw(st.one_of(st.integers(0, min(hot, last)), st.integers(max(0, last - hot), last),
                            st.integers(0, last)))
        how = draw(st.sampled_from(["bit", "byte", "byte", "word", "cut", "drop", "repeat", "insert"]))
        if how == "bit":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "byte":
            data[at] = draw(st.one_of(st.sampled_from([0, 1, 127, 128, 255]), st.integers(0, 255)))
        elif how == "word":
            size, sign = draw(st.sampled_from(["H", "I", "Q"])), draw(st.sampled_from("<>"))
            word = struct.pack(sign + size, draw(INTEGERS) % (1 << 8 * struct.calcsize(size)))
            data[at:at + len(word)] = word
        elif how == "cut":
            del data[at:]
        else:
            size = draw(st.sampled_from([1, 2, 4, 8, 100, 1000]))
            piece = bytes(data[at:at + size])
            if how == "drop":
                del data[at:at + size]
            elif how == "repeat":
                data[at:at] = piece * draw(st.sampled_from([1, 3, 50]))
            else:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@st.composite
def changed_zip(draw, whole: bytes, members) -> bytes:
    """A zip archive of which members were renamed, doubled, dropped, compressed or changed.

    Args:
        whole: The archive.
        members: A function from a member's name and bytes to a strategy of other bytes for it.
    """
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
        comment = archive.comment
    manifest = json.loads(comment or b"{}")
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, max(0, len(entries) - 1)))
        if not entries:
            break
        name, data = entries[at]
        how = draw(st.sampled_from(["change", "change", "change", "rename", "double", "drop", "add", "comment"]))
        if how == "change":
            entries[at] = name, draw(members(name, data))
        elif how == "rename":
            entries[at] = draw(st.one_of(texts, texts.map(lambda text: f"{text}.npy"))), data
        elif how == "double":
            entries.append((name, data[::-1]))
        elif how == "drop":
            del entries[at]
        elif how == "add":
            entries.append((draw(texts), draw(st.binary(max_size=20))))
        else:
            comment = draw(st.one_of(json_text(manifest), st.binary(max_size=20)))
    file = io.BytesIO()
    method = draw(st.sampled_from([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED]))
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # about two members of one name
        for name, data in entries:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = encodable(name)[:60_000], method
            archive.writestr(info, data)
        archive.comment = comment[:60_000]
    return file.getvalue() if draw(st.integers(0, 4)) else draw(changed_bytes(file.getvalue()))


@st.composite
def changed_pickle(draw, whole: bytes, most: int = 3) -> bytes:
    """A pickle of which some opcodes were dropped, doubled, exchanged or given other arguments."""
    pieces = _opcodes(whole)
    for _ in range(draw(st.integers(1, most))):
        if len(pieces) < 2:
            break
        at, other = draw(st.integers(0, len(pieces) - 1)), draw(st.integers(0, len(pieces) - 1))
        how = draw(st.sampled_from(["argument", "argument", "argument", "drop", "double", "exchange", "insert", "cut"]))
        if how == "argument":
            pieces[at] = draw(_other_argument(pieces[at]))
        elif how == "drop":
            del pieces[at]
        elif how == "double":
            pieces[at:at] = [pieces[other]] * draw(st.sampled_from([1, 2, 1000]))
        elif how == "exchange":
            pieces[at], pieces[other] = pieces[other], pieces[at]
        elif how == "insert":
            pieces.insert(at, draw(st.sampled_from(_PIECES)))
        else:
            del pieces[at:]
    return b"".join(pieces)


# Opcodes with arguments that few pickles hold: code to be called, numbers, texts, references.
_PIECES = (
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\ndtype\n", b"ctorch\nSize\n", b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"R", b"b", b"\x81", b"\x92", b"\x93", b"N", b"}", b"]", b")", b"(", b"0",
    b"2", b"t", b"s", b"u", b"a", b"e", b"Q", b"Pid\n", b"h\xff", b"q\x00", b"j\xff\xff\xff\xff", b"K\xff",
    b"J\xff\xff\xff\x7f", b"J\x00\x00\x00\x80", b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"\x8b\xff\xff\xff\x7f1",
           b"G\x7f\xf8" + bytes(6),
    b"I99\n",
    b"L" + b"9" * 5000 + b"L\n", b"F1e999\n", b"V\\ud800\n", b"X\x03\x00\x00\x00\xed\xa0\x80", b"U\x02\x1b[",
    b"T\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 8, b"\x95" + b"\xff" * 8, b"(" * 2000, b"]" * 2000,
    b"\x85" * 2000)


def _opcodes(data: bytes) -> list[bytes]:
    """The parts of a pickle, one for each opcode with its argument."""
    places = [at for _, _, at in pickletools.genops(data)]
    return [data[begin:end] for begin, end in zip(places, [*places[1:], len(data)], strict=True)]


def _other_argument(piece: bytes):
    code, argument = piece[:1], piece[1:]
    if code in b"KMJ":
        size = {b"K": 1, b"M": 2, b"J": 4}[code]
        return INTEGERS.map(lambda value: code + (value % (1 << 8 * size)).to_bytes(size, "little"))
    if code in b"XTU":
        size = 1 if code == b"U" else 4
        odd = st.one_of(texts, st.sampled_from(["u1", "O8", "f8", "S", "cpu", "FloatStorage"]))
        raw = odd.map(lambda text: text.encode("utf-8", "surrogatepass")[:255])
        return raw.map(lambda data: code + len(data).to_bytes(size, "little") + data)
    if code == b"c":
        return st.sampled_from([piece for piece in _PIECES if piece[:1] == b"c"])
    return changed_bytes(argument or b"\x00", 8, 2).map(lambda data: code + data)
