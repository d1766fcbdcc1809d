"""Folders of images: trees of odd names, and PNG, JPEG, GIF, TIFF, BMP and WebP that are damaged, odd or huge."""
import functools
import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.case import Case
from tests.fuzz.mutations import NAMES, changed_bytes

_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"), "JPEG": ("L", "RGB", "CMYK"), "GIF": ("L", "P", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I", "F", "I;16"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"), "WEBP": ("RGB", "RGBA")}
_ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}
_SIZES = ((8, 8), (1, 1), (3, 7), (1, 300), (300, 1), (40, 33))


@functools.cache
def _image(kind: str, mode: str, size: tuple[int, int], more: str) -> bytes:
    """A whole image of noise."""
    rng = np.random.default_rng(0)
    if mode in ("I", "F", "I;16"):
        dtype = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        image = Image.fromarray(rng.integers(0, 60_000, size[::-1]).astype(dtype))
    else:
        image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).convert(
            {"LAB": "RGB"}.get(mode, mode))
    file, how = io.BytesIO(), {}
    if more == "exif":
        how["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    elif more == "several" and kind in ("GIF", "TIFF", "WEBP", "PNG"):
        how |= {"save_all": True, "append_images": [image, image]}
    elif more == "transparent" and mode in ("P", "L", "RGB") and kind in ("PNG", "GIF"):
        how["transparency"] = (1, 2, 3) if mode == "RGB" else 1
    elif more == "compressed" and kind == "TIFF":
        how["compression"] = "tiff_lzw" if mode == "1" else "tiff_adobe_deflate"
    elif more == "progressive" and kind == "JPEG":
        how["progressive"] = True
    try:
        image.save(file, kind, **how)
    except (OSError, ValueError):  # not all of these go together
        file = io.BytesIO()
        image.convert("RGB").save(file, kind)
    return file.getvalue()


def _huge_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and has the rows of a small one."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def _huge_bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


_CLAIMS = st.sampled_from([(1 << 31) - 1, 100_000, 20_000, 9_000, 1, 0])


@st.composite
def _bytes(draw, kind: str) -> bytes:
    how = draw(st.sampled_from(["whole", "changed", "changed", "changed", "odd", "huge"]))
    if how == "odd":
        return draw(st.sampled_from([b"", b"\0", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM",
                                     b"II*\0", b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"%PDF-1.4", b"P6 99999 99999 255\n"]))
    if how == "huge":
        return draw(st.sampled_from([_huge_png, _huge_bmp]))(draw(_CLAIMS), draw(_CLAIMS))
    whole = _image(kind, draw(st.sampled_from(_MODES[kind])), draw(st.sampled_from(_SIZES)), draw(st.sampled_from(
        ["", "", "exif", "several", "transparent", "compressed", "progressive"])))
    return whole if how == "whole" else draw(changed_bytes(whole, 120))


def _file_name(text: str) -> str:
    text = text.replace("/", "_").replace("\0", "0").encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    return text[:60]


@st.composite
def _cases(draw) -> Case:
    files: dict[str, bytes | str] = {}
    good = _image("PNG", "RGB", (8, 8), "")
    for part in ("train", "val"):
        for name in ("a", "b"):
            files[f"in/{part}/{name}/0.png"] = good
    names = [_file_name(name) for name in NAMES if name not in ("", ".", "..")]
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(sorted(_MODES)))
        part = draw(st.sampled_from(["train", "train", "val"]))
        folder = draw(st.sampled_from(["a", "b", "a", "b", *names]))
        stem = draw(st.one_of(st.just(str(number + 1)), st.sampled_from(names)))
        ending = draw(st.sampled_from([_ENDINGS[kind]] * 4 + [".png", ".JPG", ".txt", ""]))
        content = draw(st.one_of(_bytes(kind), _bytes(kind), _bytes(kind), st.sampled_from(
            ["fifo", "-> 0.png", "-> nothing", "-> /dev/zero", "-> .", f"-> {stem}{ending}"])))
        place = f"in/{part}/{folder}/{stem}{ending}"
        if not any(other.startswith(f"{place}/") or place.startswith(f"{other}/") for other in files):
            files[place] = content
    if draw(st.integers(0, 5)) == 0:
        for name in draw(st.sets(st.sampled_from(sorted(files)), max_size=3)):
            del files[name]
    if not files:
        files["in/train/x.png"] = good
    more = draw(st.sampled_from([(), ("--skip_bad_images",), ("--set", "crop_scale_min=0.1", "--set", "crop_padding=0"),
                                 ("--set", "augment=randaugment"), ("--set", "mixup=0.5")]))
    arguments = ("--data", "folder", "--data_dir", "in", "--variant", "tiny", "--image_size", "32",
                 "--batch_size", "8", "--model_dir", "out", *more)
    return Case("script.prepare", arguments, files, ("in",))


cases = _cases()
