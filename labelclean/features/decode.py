"""The only module that decodes images: one policy from any file's pixels to numbers in 0..1.

Every image becomes float values in 0..1 by the decode policy, and no depth is
ever cut: 16-bit colour, which Pillow alone would reduce to 8 bits, is read
whole. An image that cannot be used is refused with a `ReasonCode` and never
stops a run. Decided here, for all images alike:

- alpha is composited over black;
- EXIF orientation is applied;
- palette, CMYK and YCbCr images become RGB, 1-bit images grey;
- colour files whose three channels are equal everywhere count as grey;
- a JPEG file is one image: previews, gain maps and stereo partners that
  cameras append to it are not read;
- JPEG files are decoded for a network at 1/2, 1/4 or 1/8 of their size where that is
  still no smaller than its input (`decode.jpeg`), for people in full. Pixels of both paths differ, so
  the path enters the digest and one feature store never holds both.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageDraw,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from labelclean.arrays import Float32Array
from labelclean.features.boxes import Box, Cut, cut_window
from labelclean.features.image_files import ImageReject, ReasonCode, content_hash
from labelclean.features.pixels import PixelArray, resized_pixels, unit_pixels, window_limits

if TYPE_CHECKING:  # pydantic would cost every decoding process half a second
    from labelclean.config import DecodeConfig

DECODE_VERSION = 2
"""Raised whenever the same file and policy would give other pixels."""


def decode_digest(
    policy: DecodeConfig, input_size: tuple[int, int], resize: str, box_margin: float | None = None
) -> str:
    """Return a digest of everything on the way from file to network input that changes a pixel.

    Args:
        policy: The decode policy; its limits of size and time do not enter.
        input_size: Height and width of the network's input.
        resize: The resize mode.
        box_margin: `data.box_margin` where boxes are cut out; None: images are taken whole.

    Returns:
        64 hexadecimal digits.
    """
    limits = {"max_pixels", "max_bytes", "timeout_s"}
    parts = [DECODE_VERSION, policy.model_dump(mode="json", exclude=limits), list(input_size), resize]
    parts += [] if box_margin is None else [{"box_margin": box_margin}]
    return content_hash(json.dumps(parts, sort_keys=True).encode())


def decode_image(data: bytes, policy: DecodeConfig) -> Float32Array:
    """Return an image's pixels in 0..1 by the decode policy.

    Args:
        data: A PNG, JPEG, BMP, TIFF or WebP file.
        policy: The decode policy.

    Returns:
        float32, in [0, 1], shape (H, W, C) with C = 1 for grey (however it is stored) and C = 3 for colour.

    Raises:
        ImageReject: If the file is refused.
    """
    values, limits = decoded_pixels(data, policy)
    return unit_pixels(values, *limits)


def stored_form(data: bytes) -> tuple[int, int, int]:
    """Return width, height and bits per value of a file that was decoded, from its header."""
    image = _plugin(data)(io.BytesIO(data))
    return *image.size, _bits(image, data)


def preview_image(
    data: bytes,
    policy: DecodeConfig,
    max_side: int,
    file_format: Literal["PNG", "JPEG"] = "PNG",
    cut: Cut | None = None,
) -> bytes:
    """Return an 8-bit picture of an image, or of a box in it, for people, by the same policy as the features.

    Args:
        data: A PNG, JPEG, BMP, TIFF or WebP file.
        policy: The decode policy.
        max_side: Longest side in pixels; smaller images keep their size.
        file_format: PNG, or JPEG for small thumbnails.
        cut: Only this box with its margin; None: the whole image.

    Returns:
        The file's bytes.

    Raises:
        ImageReject: If the file or the box is refused.
    """
    values, limits = decoded_pixels(data, policy)
    if cut is not None:
        values = values[cut_window(cut, *values.shape[:2])]
    return _saved(_picture(values, limits, max_side), file_format)


def place_image(data: bytes, policy: DecodeConfig, max_side: int, box: Box) -> bytes:
    """Return a small picture of a whole image in which a box is framed.

    Args:
        data: A PNG, JPEG, BMP, TIFF or WebP file.
        policy: The decode policy.
        max_side: Longest side in pixels.
        box: The box.

    Returns:
        A JPEG file's bytes.

    Raises:
        ImageReject: If the file is refused.
    """
    values, limits = decoded_pixels(data, policy)
    picture = _picture(values, limits, max_side).convert("RGB")
    across, down = picture.width / values.shape[1], picture.height / values.shape[0]
    left, right = (across * side for side in (box.x_px, box.x_px + box.width_px))
    top, bottom = (down * side for side in (box.y_px, box.y_px + box.height_px))
    pen = ImageDraw.Draw(picture)
    for grown, width, colour in (
        (4, 4, "black"),
        (3, 2, "#ffc400"),
    ):  # a bright line with dark rims shows on every ground
        pen.rectangle((left - grown, top - grown, right + grown, bottom + grown), outline=colour, width=width)
    return _saved(picture, "JPEG")


def _picture(values: PixelArray, limits: tuple[float, float], max_side: int) -> Image.Image:
    """Pixels as 8 bits, no side longer than asked."""
    scale = min(1.0, max_side / max(values.shape[:2]))
    size = (max(1, round(values.shape[0] * scale)), max(1, round(values.shape[1] * scale)))
    picture = np.rint(resized_pixels(values, limits, size) * 255.0).astype(np.uint8)
    return Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0).copy())


def _saved(picture: Image.Image, file_format: str) -> bytes:
    file = io.BytesIO()
    # a photograph as PNG: level 1 takes an eighth of the time of level 6 and a sixth more bytes
    picture.save(file, file_format, **({"compress_level": 1} if file_format == "PNG" else {}))
    return file.getvalue()


def image_size(file: IO[bytes], policy: DecodeConfig) -> tuple[int, int]:
    """Return an image's height and width as it stands upright; only its header is read.

    Args:
        file: A PNG, JPEG, BMP, TIFF or WebP file, at its start.
        policy: Gives the size limit.

    Returns:
        Height and width in pixels.

    Raises:
        ImageReject: If the header is refused.
    """
    plugin = _plugin(file.read(12))
    file.seek(0)
    try:
        image = plugin(file)
        _check_size(image, policy)
        width, height = image.size
        is_lying = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except ImageReject:
        raise
    except Exception as fault:  # as below
        raise _decoder_reject(plugin, fault) from fault
    return (width, height) if is_lying else (height, width)


def decoded_pixels(
    data: bytes, policy: DecodeConfig, wanted: tuple[int, int] | None = None
) -> tuple[PixelArray, tuple[float, float]]:
    """Return an image's pixel values as stored, and the limits that the policy maps to 0 and 1.

    Args:
        data: A PNG, JPEG, BMP, TIFF or WebP file.
        policy: The decode policy.
        wanted: Height and width that the pixels will be resized to: a larger JPEG file may be decoded at a reduced
            size with at least as many rows and columns; None: in full.

    Returns:
        Values, uint8, uint16, uint32, int32 or float32, shape (H, W, C) with C in {1, 3}; and
        (low, high).

    Raises:
        ImageReject: If the file is refused.
        ValueError: If Pillow's `LOAD_TRUNCATED_IMAGES` is set, which would fill missing pixels
            with grey.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES must be False, but this process set it to True, so half-written "
            "images would be completed with grey; remove that setting."
        )
    plugin = _plugin(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata; what concerns pixels is an error
            values, depth = _stored_pixels(plugin, data, policy, wanted)
    except ImageReject:
        raise
    except MemoryError:
        raise ImageReject(ReasonCode.OUT_OF_MEMORY, "decoding needs more memory than there is; give more.") from None
    except Exception as fault:  # hostile bytes make decoders raise anything, and one image may not stop a run
        raise _compression_reject(data, fault) or _decoder_reject(plugin, fault) from fault
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ImageReject(
            ReasonCode.NOT_FINITE,
            f"pixel values must be finite, but {count:,} of {values.size:,} are NaN or infinite; "
            "write the file again with numbers in their place.",
        )
    try:
        return values, window_limits(values, depth, policy)
    except ValueError as fault:
        raise ImageReject(ReasonCode.OUT_OF_RANGE, f"{fault}.") from None


_Plugin = type[ImageFile.ImageFile]
# One plugin is chosen by the first bytes and called directly: no other decoder ever sees the
# file, and the size limit is the policy's, not Pillow's process-wide one.
_PLUGINS: tuple[tuple[bytes, _Plugin], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"II+\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0+", TiffImagePlugin.TiffImageFile),
)
_EIGHT_BIT_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}
_TIFF_STARTS = tuple(start for start, plugin in _PLUGINS if plugin is TiffImagePlugin.TiffImageFile)
_ALWAYS_DECODED = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}  # none, fax, LZW, JPEG (not the old one), Deflate, PackBits
# Pillow unpacks 16-bit colour to the high byte. Asked for the other byte order, it gives the low one.
_OTHER_BYTE = {
    f"{layout};16{order}": f"{layout};16{other}"
    for layout in ("RGB", "RGBX", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}


def _plugin(data: bytes) -> _Plugin:
    """The one decoder for a file, by its first bytes."""
    for start, plugin in _PLUGINS:
        if data.startswith(start):
            return plugin
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if not data:
        raise ImageReject(ReasonCode.EMPTY, "the image must hold data, but has 0 bytes; copy it again.")
    raise ImageReject(
        ReasonCode.NOT_AN_IMAGE,
        f"the file must be BMP, JPEG, PNG, TIFF or WebP, but begins with {data[:12]!r}; "
        "convert it or correct image_path.",
    )


def _stored_pixels(
    plugin: _Plugin, data: bytes, policy: DecodeConfig, wanted: tuple[int, int] | None
) -> tuple[PixelArray, int]:
    """Pixel values as stored, (H, W, 1 or 3), and their depth in bits (0 for floats)."""
    image = plugin(io.BytesIO(data))
    _check_size(image, policy)
    if policy.page == "refuse" and getattr(image, "n_frames", 1) > 1:
        raise ImageReject(
            ReasonCode.SEVERAL_PAGES,
            f"the file must hold one image, but holds {getattr(image, 'n_frames', 1)} pages or frames; "
            "split it, or set decode.page to 'first'.",
        )
    bits = _bits(image, data)
    if wanted is not None and policy.jpeg == "scaled" and isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(image.mode, (max(wanted), max(wanted)))  # the larger of both: the camera may have been turned
    if bits > 8:
        values, depth = _deep_pixels(image, plugin, data, bits)
    else:
        values, depth = _shallow_pixels(image), 8
    values = values[..., None] if values.ndim == 2 else values
    orientation = image.getexif().get(0x0112, 1)  # Pillow turns TIFF files itself and says 1
    return np.ascontiguousarray(_upright(_without_grey_copies(_without_alpha(values)), orientation)), depth


def _check_size(image: ImageFile.ImageFile, policy: DecodeConfig) -> None:
    width, height = image.size
    if width * height > policy.max_pixels:
        raise ImageReject(
            ReasonCode.TOO_MANY_PIXELS,
            f"an image may have {policy.max_pixels:,} pixels (decode.max_pixels), but its header says "
            f"{width:,} x {height:,}; raise the limit if such images are meant.",
        )
    if min(width, height) < 1:
        raise ImageReject(
            ReasonCode.DAMAGED, f"the image must have pixels, but its header says {width} x {height}; copy it again."
        )


def _bits(image: ImageFile.ImageFile, data: bytes) -> int:
    """Bits per value in the file, before Pillow reduces them."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(258, (1,))))
    return data[24] if isinstance(image, PngImagePlugin.PngImageFile) else 8


def _shallow_pixels(image: ImageFile.ImageFile) -> PixelArray:
    """uint8 pixels of a file with at most 8 bits, (H, W) or (H, W, 2..4)."""
    target = _EIGHT_BIT_MODES.get(image.mode)
    if target is None or _sample_format(image) != 1:
        raise _unsupported(image, 8)
    if target in ("L", "RGB") and image.has_transparency_data:
        target = {"L": "LA", "RGB": "RGBA"}[target]
    return np.asarray(image if image.mode == target else image.convert(target))


def _deep_pixels(image: ImageFile.ImageFile, plugin: _Plugin, data: bytes, bits: int) -> tuple[PixelArray, int]:
    """Pixels of a file with more than 8 bits, and the bits of its largest value."""
    is_inverted = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0
    if "transparency" in image.info:
        raise _unsupported(image, bits)
    if image.mode in ("RGB", "RGBA") and bits == 16:
        return _deep_colour(image, plugin, data), bits
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        return (np.uint16(2**bits - 1) - values if is_inverted else values), bits  # Pillow leaves white at 0
    if is_inverted or image.mode not in ("I", "F"):
        raise _unsupported(image, bits)
    values = np.asarray(image)
    if image.mode == "F":
        return values.astype(np.float32), 0
    if _sample_format(image) == 2:
        return values, bits - 1
    return values.view(np.uint32), bits  # Pillow lets large unsigned values turn negative


def _deep_colour(image: ImageFile.ImageFile, plugin: _Plugin, data: bytes) -> PixelArray:
    """uint16 pixels of a 16-bit colour or grey-and-alpha file, (H, W, 2..4): Pillow's two bytes, joined."""
    if image.tile and _raw_mode(image.tile[0]) == "LA;16B":  # two 16-bit values are as wide as four of 8
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        return np.ascontiguousarray(np.asarray(image)).view(">u2").astype(np.uint16)
    low = plugin(io.BytesIO(data))
    if not low.tile or any(_raw_mode(tile) not in _OTHER_BYTE for tile in low.tile):
        raise _unsupported(image, 16)
    low.tile = [_with_raw_mode(tile, _OTHER_BYTE[_raw_mode(tile)]) for tile in low.tile]
    high = np.asarray(image).astype(np.uint16)
    return np.asarray((high << 8) | np.asarray(low))


def _raw_mode(tile: Any) -> str:
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    return tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)


def _sample_format(image: ImageFile.ImageFile) -> int:
    """TIFF's SampleFormat: 1 unsigned, 2 signed, 3 floating point."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    formats = image.tag_v2.get(339, (1,))
    return int(max(formats) if isinstance(formats, tuple) else formats)


def _without_alpha(values: PixelArray) -> PixelArray:
    """Composite over black; without alpha the values come back unchanged."""
    if values.shape[2] not in (2, 4):
        return values
    colour, alpha = values[..., :-1], values[..., -1:]
    opaque = np.iinfo(values.dtype).max
    if alpha.min() == opaque:
        return colour
    if not alpha.any():
        raise ImageReject(
            ReasonCode.TRANSPARENT,
            "some pixel must be opaque, but all have an alpha of 0 and nothing of the image is to be seen; write the file again "
            "without alpha.",
        )
    product = colour.astype(np.uint32) * alpha
    return ((product + opaque // 2) // opaque).astype(values.dtype)


def _without_grey_copies(values: PixelArray) -> PixelArray:
    """One channel where three hold the same."""
    if values.shape[2] == 3:
        first = values[..., 0]
        if np.array_equal(first, values[..., 1]) and np.array_equal(first, values[..., 2]):
            return values[..., :1]
    return values


def _upright(values: PixelArray, orientation: object) -> PixelArray:
    """Undo the camera's rotation and mirroring (EXIF 1 to 8; anything else means upright)."""
    if orientation in (5, 6, 7, 8):
        values = values.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _unsupported(image: ImageFile.ImageFile, bits: int) -> ImageReject:
    return ImageReject(
        ReasonCode.UNSUPPORTED_MODE,
        f"pixels must be grey or colour of 1 to 16 bits, or grey integers or floats of 32, but this "
        f"{image.format} of {bits} bits (Pillow mode {image.mode!r}) cannot be read without loss; convert it.",
    )


def _compression_reject(data: bytes, fault: Exception) -> ImageReject | None:
    """The refusal of a TIFF file for its compression, where that is not one that is always built in."""
    if not data.startswith(_TIFF_STARTS):
        return None
    try:
        file = io.BytesIO(data)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if data[2:3] == b"+" or data[3:4] == b"+" else 8))
        file.seek(tags.next)
        tags.load(file)
        number = int(tags.get(259, 1))
    except Exception:  # as above: then it is damage
        return None
    if number in _ALWAYS_DECODED or "truncated" in str(fault).lower():
        return None
    name = TiffImagePlugin.COMPRESSION_INFO.get(number, "unknown here")
    return ImageReject(
        ReasonCode.UNSUPPORTED_MODE,
        f"the TIFF file must have a compression that can be decoded here, but has number {number} ({name}); write it again "
        "with LZW, Deflate or none.",
    )


def _decoder_reject(plugin: _Plugin, fault: Exception) -> ImageReject:
    """The refusal for whatever a decoder raised."""
    text = " ".join(str(fault).split()) or type(fault).__name__
    if "truncated" in text.lower() or isinstance(fault, EOFError):
        code, action = ReasonCode.TRUNCATED, "copy it again"
    elif "unknown pixel mode" in text or "cannot handle" in text:
        code, action = ReasonCode.UNSUPPORTED_MODE, "convert it"
    else:
        code, action = ReasonCode.DAMAGED, "copy it again or open it in a viewer"
    return ImageReject(code, f"the {plugin.format} file must decode, but: {text[:200]}; {action}.")
