"""A large image as overlapping tiles of the network's own input size: what is small stays visible, and one row tells of all.

A scratch of 20 pixels in a picture of 4,000 is one pixel of 224. Seen in tiles it is as large as it was, and the maximum
over the tiles keeps what only one of them shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil

import numpy as np

from labelclean.arrays import Float32Array
from labelclean.features.pixels import Uint16Array

OVERLAP = 0.25  # what is no larger than a quarter of a tile lies in one of them whole
MOST_SHRINK = 2.0  # a line of two pixels is still one
MOST_TILES = 32  # what took minutes takes an hour or two; more is for people to ask for
Grid = tuple[int, int]
WHOLE: Grid = (1, 1)


def auto_grid(size: tuple[int, int], input_size: tuple[int, int]) -> Grid:
    """Return the fewest tiles that shrink an image to no less than half, or as little as `MOST_TILES` tiles can.

    Args:
        size: Height and width of the image, pixels.
        input_size: Height and width of the network's input.

    Returns:
        Rows and columns; (1, 1) for an image up to twice the input's size.

    Examples:
        >>> auto_grid((300, 448), (224, 224)), auto_grid((1500, 2000), (224, 224)), auto_grid((3000, 4000), (224, 224))
        ((1, 1), (5, 6), (5, 6))
    """
    shrink = MOST_SHRINK
    while True:
        rows, columns = (
            1 + max(0, ceil((side / shrink - tile) / _stride(tile)))
            for side, tile in zip(size, input_size, strict=True)
        )
        if rows * columns <= MOST_TILES:
            return rows, columns
        shrink *= 1.02


def canvas_size(size: tuple[int, int], input_size: tuple[int, int], grid: Grid) -> tuple[int, int]:
    """Return the size at which an image is cut into tiles.

    A side keeps its pixels where the grid covers them all; its tiles overlap the more, the smaller it is. A longer side
    is shrunk to what the grid covers with an overlap of a quarter; one that is smaller than a tile is enlarged to it.

    Args:
        size: Height and width of the image, pixels.
        input_size: Height and width of the network's input.
        grid: Rows and columns.

    Returns:
        Height and width; the network's own input for one tile, whatever the image.

    Examples:
        >>> canvas_size((1500, 300), (224, 224), (2, 3)), canvas_size((100, 9000), (224, 224), (2, 3))
        ((392, 300), (224, 560))
    """
    height, width = (
        min(max(side, tile), most)
        for side, tile, most in zip(size, input_size, largest_canvas(input_size, grid), strict=True)
    )
    return height, width


def largest_canvas(input_size: tuple[int, int], grid: Grid) -> tuple[int, int]:
    """Return the height and width that a grid covers with tiles that overlap by a quarter."""
    height, width = (tile + (count - 1) * _stride(tile) for tile, count in zip(input_size, grid, strict=True))
    return height, width


def _stride(tile: int) -> int:
    return tile - int(OVERLAP * tile)


def tiles_of(canvas: Uint16Array, input_size: tuple[int, int], grid: Grid) -> Iterator[Uint16Array]:
    """Yield the tiles of an image, row by row from the upper left corner, evenly spread from edge to edge.

    Args:
        canvas: The image at its `canvas_size`, shape (C, H, W).
        input_size: Height and width of a tile.
        grid: Rows and columns.

    Yields:
        Views, each of shape (C, *input_size).
    """
    height, width = input_size
    tops, lefts = (
        np.rint(np.linspace(0, side - tile, count)).astype(int).tolist()
        for side, tile, count in zip(canvas.shape[1:], input_size, grid, strict=True)
    )
    for top in tops:
        for left in lefts:
            yield canvas[:, top : top + height, left : left + width]


def pooled(rows: Float32Array) -> Float32Array:
    """Return what all tiles of an image tell: the mean over them and the maximum, each of unit length, side by side.

    Args:
        rows: The features of its tiles, float32, shape (T, D).

    Returns:
        float32, shape (2 D,); shape (D,) and as it was for one tile.

    Examples:
        >>> pooled(np.array([[0, 8], [6, 0]], dtype=np.float32))
        array([0.6, 0.8, 0.6, 0.8], dtype=float32)
    """
    if len(rows) == 1:
        return np.asarray(rows[0])
    parts = (rows.mean(axis=0), rows.max(axis=0))
    return np.concatenate([part / max(float(np.linalg.norm(part)), 1e-12) for part in parts]).astype(np.float32)


def num_pooled(num_features: int, grid: Grid) -> int:
    """Return how many numbers `pooled` makes of so many per tile."""
    return num_features if grid == WHOLE else 2 * num_features


def pooled_images(batches: Iterable[Float32Array], num_tiles: int) -> Iterator[Float32Array]:
    """Yield the rows of images whose tiles come in batches of any size; never holds more than a batch and an image.

    Args:
        batches: Features of tiles, float32, shape (B, D), the tiles of one image after those of the one before.
        num_tiles: T of each image.

    Yields:
        float32, shape (images that the batch completes, 2 D), also for none; the batch itself for one tile.
    """
    if num_tiles == 1:
        yield from batches
        return
    left: Sequence[Float32Array] = ()
    for batch in batches:
        rows = np.concatenate([*left, batch])
        whole = len(rows) // num_tiles
        yield (
            np.stack([pooled(rows[at * num_tiles : (at + 1) * num_tiles]) for at in range(whole)])
            if whole
            else (np.empty((0, 2 * rows.shape[1]), dtype=np.float32))
        )
        left = (rows[whole * num_tiles :],)
