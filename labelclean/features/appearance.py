"""What a picture is like before anybody looks at what it shows: brightness, contrast, size, kind of file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labelclean.features.decode import decoded_pixels

if TYPE_CHECKING:
    from labelclean.config import DecodeConfig


MOST_PIXELS = 512
"""About so many pixels a side tell brightness and contrast."""


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
    some = values[tuple(slice(None, None, max(1, side // MOST_PIXELS)) for side in values.shape[:2])]
    brightness, contrast = float(some.mean() / full), float(some.std() / full)
    return Appearance(brightness, contrast, f"{width} x {height}", file_type, float(len(data)))
