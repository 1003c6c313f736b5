"""Makes image files by hand: odd depths that Pillow cannot write, and files that mean harm.

The bytes are laid out here from the PNG and TIFF specifications, so that they
are an outside truth for the decoder.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int, depth: int, colour: int) -> bytes:
    """Signature and IHDR; colour is 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png(values: Array, colour: int, extra: bytes = b"") -> bytes:
    """A PNG of uint8 or uint16 values, (H, W) or (H, W, C), all rows unfiltered."""
    depth = values.dtype.itemsize * 8
    rows = values.astype(values.dtype.newbyteorder(">"))
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return (
        png_header(values.shape[1], values.shape[0], depth, colour) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def packed_png(rows: list[bytes], width: int, depth: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits from rows packed by hand."""
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return png_header(width, len(rows), depth, 0) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(
    values: Array,
    *,
    order: Literal["<", ">"] = "<",
    photometric: int | None = None,
    bits: int | None = None,
    packed: bytes | None = None,
) -> bytes:
    """An uncompressed one-strip TIFF of any number type, (H, W) or (H, W, C), in either byte order.

    Photometric 0 means white is 0, 1 black is 0, 2 RGB, 5 CMYK. `bits` and `packed` give a depth
    that numpy has no type for.
    """
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    body = values.astype(values.dtype.newbyteorder(order)).tobytes() if packed is None else packed
    bits = bits or values.dtype.itemsize * 8
    if photometric is None:
        photometric = {1: 1, 2: 1, 3: 2, 4: 2}[samples]
    extra_start = 8 + 2 + 12 * 10 + 4
    extra = struct.pack(f"{order}{samples}H", *[bits] * samples) + struct.pack(f"{order}{samples}H", *[kind] * samples)
    short, long = 3, 4

    def entry(tag: int, type_: int, count: int, value: int) -> bytes:
        inline = (
            struct.pack(f"{order}HH", value, value)
            if type_ == short and count <= 2
            else struct.pack(f"{order}I", value)
        )
        return struct.pack(f"{order}HHI", tag, type_, count) + inline

    entries = [
        entry(256, long, 1, width),
        entry(257, long, 1, height),
        entry(258, short, samples, bits if samples <= 2 else extra_start),
        entry(259, short, 1, 1),
        entry(262, short, 1, photometric),
        entry(273, long, 1, extra_start + len(extra)),
        entry(277, short, 1, samples),
        entry(278, long, 1, height),
        entry(279, long, 1, len(body)),
        entry(339, short, samples, kind if samples <= 2 else extra_start + 2 * samples),
    ]
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return start + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + b"\0" * 4 + extra + body


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """What Pillow writes."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def photo(file_format: str = "JPEG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A harmless colour picture with some texture."""
    rng = np.random.default_rng(7)
    return saved(Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)), file_format)


def bomb() -> bytes:
    """A tiny PNG whose header claims 60,000 x 60,000 pixels."""
    return png_header(60_000, 60_000, 8, 2) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def pages(file_format: str) -> bytes:
    """Two pages or frames of 4 x 4 pixels, the first white."""
    white, black = Image.new("L", (4, 4), 255), Image.new("L", (4, 4), 0)
    return saved(white, file_format, save_all=True, append_images=[black])


TEXTS: tuple[str, ...] = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(A1)",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}{% raw %}",
    "'; DROP TABLE decisions;--",
    "!!python/object/apply:os.system [id]",
    "&lt;&#0;]]>",
    "../../etc/passwd",
    "/etc/passwd",
    "\\\\server\\share\\a.png",
    "C:\\Windows\\win.ini",
    "file:///etc/passwd",
    "%s%n%x {0} ${HOME} `id`",
    "a\0b",
    "a\nb\r\nc",
    "\x1b[2J\x1b]0;owned\x07",
    "傷_0017 ひび割れ.png",
    "\u202egnp.exe",
    "e\u0301\u200b\ufeff",
    "\ud800",
    "\uffff\U0010ffff",
    " ",
    "",
    "n" * 255,
    "長" * 5000,
    "NULL",
    "nan",
    "1e309",
)
"""What people and programs write into names, ids, paths and classes; one is no valid Unicode."""

NO_IMAGES: dict[str, bytes] = {
    "text": b"no picture here\n",
    "html": b"<!doctype html><script>alert(1)</script>",
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "pdf": b"%PDF-1.7\n1 0 obj",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (r) file",
    "zip": b"PK\x03\x04" + b"\0" * 40,
    "gif": b"GIF89a" + b"\0" * 40,
    "pickle": b"\x80\x04\x95\x10",
    "pnm": b"P5 2 2 255\n\0\1\2\3",
    "one byte": b"\x89",
}


WHOLE: dict[str, Callable[[], bytes]] = {
    "png": lambda: photo("PNG"),
    "png16": lambda: png(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100, 0),
    "jpeg": lambda: photo("JPEG"),
    "bmp": lambda: photo("BMP"),
    "webp": lambda: photo("WEBP"),
    "tiff": lambda: photo("TIFF"),
    "tiff16": lambda: tiff(np.arange(1800, dtype=np.uint16).reshape(20, 30, 3) * 30),
}
