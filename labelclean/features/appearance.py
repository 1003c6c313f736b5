"""What a picture is like before anybody looks at what it shows: brightness, contrast, size, kind of file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labelclean.arrays import Float32Array
from labelclean.features.decode import decoded_pixels
from labelclean.features.pixels import PixelArray

if TYPE_CHECKING:
    from labelclean.config import DecodeConfig


MOST_PIXELS = 512
"""About so many pixels a side tell brightness and contrast."""
LOOKS = ("light", "contrast", "sharpness", "area", "aspect", "depth", "is_blank")
"""What `measured_looks` measures: all but the last as logarithms, so that differences are ratios."""
BLUR_PIXELS = 4
"""Over so many pixels a blurred picture changes as many times as much as from one to the next, a sharp one hardly more."""


@dataclass(frozen=True)
class Appearance:
    """Properties of a picture.

    Attributes:
        brightness: Mean pixel value as a share of what its numbers can hold, 0..1.
        contrast: Standard deviation of the pixel values, in the same unit.
        image_size: Width x height in pixels.
        file_type: Kind of file and of pixels, such as `PNG I;16`.
        file_bytes: Size of the file.
    """

    brightness: float
    contrast: float
    image_size: str
    file_type: str
    file_bytes: float


def picture_appearance(data: bytes, policy: DecodeConfig) -> Appearance:
    """Return what a picture is like.

    Args:
        data: A PNG, JPEG, BMP, TIFF or WebP file.
        policy: The decode policy.

    Returns:
        Its properties.

    Raises:
        ImageReject: If the file is refused.
    """
    values, _ = decoded_pixels(data, policy)  # refuses what PIL should not open
    with Image.open(io.BytesIO(data)) as image:
        file_type, (width, height) = f"{image.format} {image.mode}", image.size
    full = float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0
    thinned = values[tuple(slice(None, None, max(1, side // MOST_PIXELS)) for side in values.shape[:2])]
    brightness, contrast = float(thinned.mean() / full), float(thinned.std() / full)
    return Appearance(brightness, contrast, f"{width} x {height}", file_type, float(len(data)))


def measured_looks(values: PixelArray, size: tuple[int, int], bits: int) -> Float32Array:
    """Return what a picture is like as numbers that can be compared with those of other pictures.

    Large pictures are measured at 512 to 1023 pixels on their longer side, where noise of the camera no longer hides blur.

    Args:
        values: Pixel values as decoded, any number type, shape (H, W, C).
        size: Width and height in the file.
        bits: Bits per value in the file.

    Returns:
        float32, shape (7,), finite, by `LOOKS`: log odds of the mean (for floats its logarithm), standard deviation, change
        from one pixel to the next as a share of the change over four, width x height, width / height, bits per pixel; and
        1 where all pixels are the same, give or take one step of the file's grey scale, else 0.
    """
    is_whole = values.dtype.kind in "iu"
    full = float(np.iinfo(values.dtype).max) if is_whole else 1.0
    small, step = _reduced(values) / np.float32(full), 1.0 / full if is_whole else 1e-6
    mean, contrast = float(small.mean(dtype=np.float64)), float(small.std(dtype=np.float64))
    light = np.log(max(mean, 0.0) + step) - (np.log(max(1.0 - mean, 0.0) + step) if is_whole else 0.0)
    sharpness = np.log((_change(small, 1) + step / 100) / (_change(small, BLUR_PIXELS) + step / 100))
    height, width, channels = values.shape
    is_blank = float(values.max()) - float(values.min()) <= (1.0 if is_whole else 0.0)
    return np.array(
        [
            light,
            np.log(contrast + step),
            sharpness,
            np.log(size[0] * size[1]),
            np.log(width / height),
            np.log(bits * channels),
            is_blank,
        ],
        dtype=np.float32,
    )


def _reduced(values: PixelArray) -> Float32Array:
    """Grey values, float32, shape (h, w), a whole number of times smaller: at most 1,023 on the longer side."""
    factor = max(1, max(values.shape[:2]) // MOST_PIXELS)
    planes = []
    for channel in range(values.shape[2]):
        plane = np.ascontiguousarray(values[..., channel])
        if factor == 1:
            planes.append(plane.astype(np.float32))
        else:
            image = Image.fromarray(plane if plane.dtype == np.uint8 else plane.astype(np.float32))
            planes.append(np.asarray(image.reduce(factor), dtype=np.float32))
    return np.asarray(sum(planes) / np.float32(len(planes)), dtype=np.float32)


def _change(grey: Float32Array, lag: int) -> float:
    """Mean difference between pixels so many apart, down and across; the side's length where it is shorter."""
    height, width = grey.shape
    down, across = min(lag, height - 1), min(lag, width - 1)
    changes = [np.abs(grey[down:] - grey[: height - down]), np.abs(grey[:, across:] - grey[:, : width - across])]
    return float(sum(one.mean(dtype=np.float64) for one in changes))
