"""Read the pickles of CIFAR's python version without Python's unpickler, which builds whatever a file asks for.

Here the few opcodes of those files become dicts, lists, texts and numbers, and an array is its bytes until its type and
its shape are known to be sound. The official files are of Python 2, in protocol 2; files that Python 3 wrote may be in
protocol 2, 3 or 4. Opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
"""
import itertools
import math
import pickle
import pickletools
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from vit.errors import UserError, one_line
from vit.files.untrusted import listed

# CIFAR-100's 50,000 training images take 200,000 opcodes, and in Python 3's protocol 2 550,000.
_MAX_OPCODES, _MAX_SIZE = 2_000_000, 1 << 32


def load(data: bytes, source: str) -> dict[str, Any]:
    """Read one file of CIFAR's python version.

    Args:
        data: The file's bytes.
        source: The name of the file, for messages.

    Returns:
        The dict that the file holds, with str keys. Its arrays of uint8 are NumPy's; one of any other kind, or whose
        bytes are not as many as its shape says, is a `PickledArray`.

    Raises:
        UserError: The file is damaged, holds no dict, or asks for anything but arrays.
    """
    try:
        content = _Reader(data).read()
    except (IndexError, KeyError, TypeError, struct.error):
        fault = "its pickle is damaged"
    except ValueError as error:
        fault = one_line(error)
    else:
        if isinstance(content, dict):
            return {key.decode("latin1") if isinstance(key, bytes) else str(key):
                    value.to_numpy() if isinstance(value, PickledArray) else value for key, value in content.items()}
        raise UserError(f"{source}: not a CIFAR file (it holds a {type(content).__name__}, not a dict)")
    asked = _asked_for(data)
    if asked is not None:
        fault = f"it asks for {listed([asked])}, which no CIFAR file holds"
    raise UserError(f"{source}: not a CIFAR file ({fault}); get the archive again")


@dataclass
class PickledArray:
    """An array as a pickle describes it. Nothing of it has been checked.

    Args:
        shape: Its shape.
        dtype: NumPy's code of its type, such as "u1".
        fortran: Whether its first axis varies fastest.
        content: Its bytes.
    """
    shape: object = None
    dtype: object = None
    fortran: object = False
    content: object = None

    def to_numpy(self) -> "np.ndarray | PickledArray":
        """Return the array if it is one of uint8 with as many bytes as its shape says, and else this description."""
        if not (self.dtype in ("u1", b"u1") and isinstance(self.content, bytes) and isinstance(self.shape, tuple)
                and len(self.shape) <= 4 and all(type(size) is int and 0 <= size <= _MAX_SIZE for size in self.shape)
                and math.prod(self.shape) == len(self.content)):
            return self
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order="F" if self.fortran is True else "C")


@dataclass
class _Type:
    """A type as a pickle describes it, by NumPy's code."""
    code: object


@dataclass(frozen=True)
class _Name:
    """One of the names that an array's pickle asks for. It stands for nothing that can be called."""
    name: str


_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE = map(_Name, ("_reconstruct", "ndarray", "dtype", "encode"))
_NAMES = {("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
          ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,  # as NumPy 2 calls it
          ("numpy", "ndarray"): _NDARRAY, ("numpy", "dtype"): _DTYPE, ("_codecs", "encode"): _ENCODE}


class _Reader:
    """The stack machine that a pickle is a program of, with the opcodes of CIFAR's files alone.

    Args:
        data: The pickle.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def read(self) -> object:
        """Run the pickle and return what it leaves.

        Raises:
            ValueError: An opcode does not occur in CIFAR's files, or a length or a value is impossible.
            IndexError, KeyError, TypeError: The pickle is damaged.
        """
        for _ in range(_MAX_OPCODES):
            code = self.byte()
            if code == pickle.STOP[0]:
                return self.stack.pop()
            action = _ACTIONS.get(code)
            if action is None:
                raise ValueError(f"byte {self.at - 1} is an opcode that does not occur in one")
            action(self)
        raise ValueError(f"more than {_MAX_OPCODES:,} opcodes")

    def byte(self) -> int:
        """Take a number of one byte."""
        self.at += 1
        return self.data[self.at - 1]

    def number(self, size: int, signed: bool = False) -> int:
        """Take a number of some bytes, the lowest first."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def take(self, size: int) -> bytes:
        """Take the next bytes."""
        taken = self.data[self.at:self.at + size]
        if len(taken) < size:
            raise ValueError("cut off")
        self.at += size
        return taken

    def line(self) -> str:
        """Take the rest of a line."""
        end = self.data.index(b"\n", self.at)
        text = self.data[self.at:end].decode()
        self.at = end + 1
        return text

    def since_mark(self) -> list:
        """Pop everything that came after the last mark."""
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def push_name(self, module: object, name: object) -> None:
        """Push one of the names that arrays need."""
        if not (isinstance(module, str) and isinstance(name, str) and (module, name) in _NAMES):
            raise ValueError("it asks for a name that no CIFAR file holds")
        self.stack.append(_NAMES[module, name])

    def append(self, items: list) -> None:
        """Put items behind the list on top of the stack."""
        if type(self.stack[-1]) is not list:
            raise ValueError("items for what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list) -> None:
        """Put keys and values, in turn, into the dict on top of the stack."""
        keys, values = items[::2], items[1::2]
        if type(self.stack[-1]) is not dict or len(keys) != len(values):
            raise ValueError("items for what is no dict")
        if not all(isinstance(key, str | bytes | int) for key in keys):
            raise ValueError("a key that is neither text nor number")
        self.stack[-1].update(zip(keys, values, strict=True))

    def memoize(self, key: int) -> None:
        """Remember what is on top of the stack."""
        self.memo[key] = self.stack[-1]

    def reduce(self) -> None:
        """Pop a name and its arguments, and push what they describe."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise ValueError("it calls what no CIFAR file calls")
        if name is _RECONSTRUCT and arguments[0] is _NDARRAY:
            self.stack.append(PickledArray())
        elif name is _DTYPE:
            self.stack.append(_Type(arguments[0]))
        elif name is _ENCODE:  # what Python 3 does to write bytes in protocol 2
            text, encoding = arguments
            if not isinstance(text, str) or not isinstance(encoding, str):
                raise ValueError("it encodes what is no text")
            if encoding != "latin1":
                raise ValueError(f"encoding {listed([encoding])} does not occur in one")
            self.stack.append(text.encode("latin1"))
        else:
            raise ValueError(f"it calls {name.name}, which no CIFAR file does")

    def build(self) -> None:
        """Pop a state, and put it into the array on top of the stack; a type's state says nothing about uint8."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, PickledArray):
            if not isinstance(state, tuple) or len(state) != 5:
                raise ValueError("an array of another form")
            _, target.shape, dtype, target.fortran, target.content = state
            target.dtype = dtype.code if isinstance(dtype, _Type) else None
        elif not isinstance(target, _Type):
            raise ValueError("a state for what is no array")

    def push_tuple(self, size: int) -> None:
        """Make a tuple of the topmost values."""
        items = [self.stack.pop() for _ in range(size)]
        self.stack.append(tuple(reversed(items)))


_ACTIONS = {code[0]: action for code, action in {
    pickle.PROTO: lambda r: r.take(1),
    pickle.FRAME: lambda r: r.take(8),
    pickle.MARK: lambda r: r.marks.append(len(r.stack)),
    pickle.BINPUT: lambda r: r.memoize(r.byte()),
    pickle.LONG_BINPUT: lambda r: r.memoize(r.number(4)),
    pickle.MEMOIZE: lambda r: r.memoize(len(r.memo)),
    pickle.BINGET: lambda r: r.stack.append(r.memo[r.byte()]),
    pickle.LONG_BINGET: lambda r: r.stack.append(r.memo[r.number(4)]),
    pickle.NONE: lambda r: r.stack.append(None),
    pickle.NEWTRUE: lambda r: r.stack.append(True),
    pickle.NEWFALSE: lambda r: r.stack.append(False),
    pickle.BININT1: lambda r: r.stack.append(r.byte()),
    pickle.BININT2: lambda r: r.stack.append(r.number(2)),
    pickle.BININT: lambda r: r.stack.append(r.number(4, signed=True)),
    pickle.LONG1: lambda r: r.stack.append(r.number(r.byte(), signed=True)),
    pickle.BINFLOAT: lambda r: r.stack.append(struct.unpack(">d", r.take(8))[0]),
    # Python 2 had one type for texts and bytes.
    pickle.SHORT_BINSTRING: lambda r: r.stack.append(r.take(r.byte())),
    pickle.BINSTRING: lambda r: r.stack.append(r.take(r.number(4))),
    pickle.SHORT_BINBYTES: lambda r: r.stack.append(r.take(r.byte())),
    pickle.BINBYTES: lambda r: r.stack.append(r.take(r.number(4))),
    pickle.BINBYTES8: lambda r: r.stack.append(r.take(r.number(8))),
    pickle.SHORT_BINUNICODE: lambda r: r.stack.append(r.take(r.byte()).decode()),
    pickle.BINUNICODE: lambda r: r.stack.append(r.take(r.number(4)).decode()),
    pickle.EMPTY_LIST: lambda r: r.stack.append([]),
    pickle.APPEND: lambda r: r.append([r.stack.pop()]),
    pickle.APPENDS: lambda r: r.append(r.since_mark()),
    pickle.EMPTY_DICT: lambda r: r.stack.append({}),
    pickle.SETITEM: lambda r: r.set_items([r.stack.pop(), r.stack.pop()][::-1]),
    pickle.SETITEMS: lambda r: r.set_items(r.since_mark()),
    pickle.EMPTY_TUPLE: lambda r: r.push_tuple(0),
    pickle.TUPLE1: lambda r: r.push_tuple(1),
    pickle.TUPLE2: lambda r: r.push_tuple(2),
    pickle.TUPLE3: lambda r: r.push_tuple(3),
    pickle.TUPLE: lambda r: r.stack.append(tuple(r.since_mark())),
    pickle.GLOBAL: lambda r: r.push_name(r.line(), r.line()),
    pickle.STACK_GLOBAL: lambda r: r.push_name(*[r.stack.pop(), r.stack.pop()][::-1]),
    pickle.REDUCE: _Reader.reduce,
    pickle.BUILD: _Reader.build,
}.items()}


def _asked_for(data: bytes) -> str | None:
    """The first name that a refused pickle asks for and no CIFAR file holds, for the message; None if there is none."""
    texts = ["", ""]
    try:
        for opcode, argument, _ in itertools.islice(pickletools.genops(data), _MAX_OPCODES // 20):
            if opcode.name in ("GLOBAL", "INST"):
                pair = tuple(argument.split(" ", 1))
            elif opcode.name == "STACK_GLOBAL":
                pair = tuple(texts[-2:])
            else:
                texts = [texts[-1], argument] if isinstance(argument, str) else texts
                continue
            if pair not in _NAMES:
                return ".".join(pair)
    except Exception:  # of a damaged pickle, whatever comes
        return None
    return None
