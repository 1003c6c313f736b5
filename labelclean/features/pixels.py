"""Turns pixel values of any depth into 0..1 by the decode policy, and into the network's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelclean.arrays import Float32Array

if TYPE_CHECKING:  # pydantic would cost every decoding process half a second
    from labelclean.config import DecodeConfig

PixelArray = npt.NDArray[Any]
Uint16Array = npt.NDArray[np.uint16]
ResizeMode = Literal["squash", "pad", "crop"]


def window_limits(values: PixelArray, depth: int, policy: DecodeConfig) -> tuple[float, float]:
    """Return the pixel values that become 0 and 1 under the policy.

    A percentile is the smallest value that at least that share of the pixels does not exceed,
    over all channels together, so that a colour image keeps its hue. An image without contrast
    between its percentiles gets a window of one grey step (1 for integers and floats alike).

    Args:
        values: Pixel values, uint8, uint16, uint32, int32 or float32, shape (H, W, C), finite.
        depth: Value bits of the file; 0 for floating point, whose full range is 0..1.
        policy: The decode policy.

    Returns:
        Low and high, low < high.

    Raises:
        ValueError: If values lie outside of the full range, where scaling would clip them.

    Examples:
        >>> from labelclean.config import DecodeConfig
        >>> window_limits(np.array([[[10], [4000]]], dtype=np.uint16), 12, DecodeConfig(window="full_range"))
        (0.0, 4095.0)
    """
    window = policy.window
    if window == "auto":
        window = "full_range" if depth == 8 else "percentile"
    if window == "fixed" and policy.low is not None and policy.high is not None:
        return policy.low, policy.high
    if window == "percentile":
        low, high = (_percentile(values, percent) for percent in policy.percentiles)
        return low, max(high, low + 1.0) if high <= low else high
    bits = policy.bit_depth if policy.bit_depth is not None and depth > 8 else depth
    high = float(2**bits - 1) if depth else 1.0
    least, most = float(values.min()), float(values.max())
    if least < 0 or most > high:
        raise ValueError(
            f"under decode.window 'full_range' pixel values must lie in 0..{high:g} "
            f"({f'{bits} bits' if depth else 'floating point'}), but they lie in {least:g}..{most:g}; "
            "set decode.bit_depth to the camera's true depth, or decode.window to 'percentile' or 'fixed'"
        )
    return 0.0, high


def unit_pixels(values: PixelArray, low: float, high: float) -> Float32Array:
    """Return pixel values mapped from low..high to 0..1, clipped to it.

    Args:
        values: Pixel values, any number type, any shape.
        low: What becomes 0.
        high: What becomes 1.

    Returns:
        float32, in [0, 1], same shape.

    Examples:
        >>> unit_pixels(np.array([5, 10, 20], dtype=np.uint8), 0.0, 10.0)
        array([0.5, 1. , 1. ], dtype=float32)
    """
    wide = values.dtype.kind in "iu" and values.dtype.itemsize >= 4  # 32-bit integers do not fit float32
    unit: npt.NDArray[np.floating] = values.astype(np.float64 if wide else np.float32)
    if low:
        np.subtract(unit, low, out=unit)
    np.divide(unit, high - low, out=unit)
    np.clip(unit, 0.0, 1.0, out=unit)
    return unit.astype(np.float32, copy=False)


def resized_pixels(
    values: PixelArray, limits: tuple[float, float], size: tuple[int, int], mode: ResizeMode = "squash"
) -> Float32Array:
    """Return an image in 0..1 at another size, by antialiased bilinear interpolation in float.

    Each channel is windowed first and resized then, one at a time to bound memory; where the window clips nothing of
    8 bits, the other way round, which is the same and faster. `squash`
    takes the whole image to the size, `pad` keeps its shape and surrounds it with black,
    `crop` keeps its shape and takes the largest central part that fills the size.

    Args:
        values: Pixel values, any number type, shape (H, W, C).
        limits: What becomes 0 and what becomes 1.
        size: Height and width wanted.
        mode: How a different shape is met.

    Returns:
        float32, in [0, 1], shape (C, size[0], size[1]).

    Examples:
        >>> resized_pixels(np.array([[[0], [10]], [[20], [30]]], dtype=np.uint8), (0.0, 30.0), (1, 1))
        array([[[0.5]]], dtype=float32)
    """
    rows, columns = values.shape[:2]
    inner = size
    box = (0.0, 0.0, float(columns), float(rows))
    if mode == "pad":
        scale = min(size[0] / rows, size[1] / columns)
        inner = (max(1, round(rows * scale)), max(1, round(columns * scale)))
    elif mode == "crop":
        scale = min(rows / size[0], columns / size[1])
        height, width = size[0] * scale, size[1] * scale
        left, top = (columns - width) / 2, (rows - height) / 2
        box = (left, top, min(left + width, columns), min(top + height, rows))
    top_row, left_column = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    resized = np.zeros((values.shape[2], *size), dtype=np.float32)
    clips_nothing = values.dtype == np.uint8 and limits[0] <= 0 and limits[1] >= 255
    for channel in range(values.shape[2]):
        plane = np.ascontiguousarray(values[..., channel])
        image = Image.fromarray(plane).convert("F") if clips_nothing else Image.fromarray(unit_pixels(plane, *limits))
        image = image.resize((inner[1], inner[0]), Image.Resampling.BILINEAR, box=box)
        pixels = unit_pixels(np.asarray(image), *limits) if clips_nothing else np.asarray(image)
        resized[channel, top_row : top_row + inner[0], left_column : left_column + inner[1]] = pixels
    return np.clip(resized, 0.0, 1.0, out=resized)


def quantised(unit: Float32Array) -> Uint16Array:
    """Return values of 0..1 as 16-bit integers, finer than any camera's depth.

    float16 would be as small but steps by 1/2048 near white, coarser than 12 bits.

    Args:
        unit: float32, in [0, 1], any shape.

    Returns:
        uint16, 0..65535 for 0..1, same shape.

    Examples:
        >>> quantised(np.array([0.0, 0.5, 1.0], dtype=np.float32))
        array([    0, 32768, 65535], dtype=uint16)
    """
    scaled: Float32Array = unit * np.float32(65535.0)
    scaled += np.float32(0.5)
    return scaled.astype(np.uint16)


def _percentile(values: PixelArray, percent: float) -> float:
    """Smallest value that at least `percent` of the pixels do not exceed."""
    if values.dtype in (np.uint8, np.uint16):  # counting beats sorting on images of many megapixels
        reached = np.cumsum(np.bincount(values.reshape(-1)))
        wanted = max(1, int(np.ceil(percent / 100.0 * values.size - 1e-9)))
        return float(np.searchsorted(reached, wanted))
    return float(np.percentile(values, percent, method="inverted_cdf"))
