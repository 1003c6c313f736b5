"""Where a box lies in its image: what of the image is cut out around it, and what identifies the piece."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from labelclean.features.image_files import ImageReject, ReasonCode


class Box(NamedTuple):
    """A rectangle in an image that stands upright (EXIF applied), in pixels from its upper left corner."""

    x_px: float
    y_px: float
    width_px: float
    height_px: float


class Cut(NamedTuple):
    """What is cut out of an image: a box, and a margin at each side as a share of the box's width or height.

    Attributes:
        box: The box.
        margin: The margin.
        least_px: Least width and height; people see nothing in ten pixels without what lies around them.
    """

    box: Box
    margin: float
    least_px: int = 0


SHOWN_PX = 64


def check_box(box: Box) -> None:
    """Refuse a box without area.

    Args:
        box: The box; its numbers are finite.

    Raises:
        ImageReject: If it has none.
    """
    if not (box.width_px > 0 and box.height_px > 0):
        raise ImageReject(
            ReasonCode.BOX_EMPTY,
            f"a box must have an area, but is {box.width_px:g} x {box.height_px:g} pixels; draw it again or delete it.",
        )


def cut_window(cut: Cut, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of an image that a box with its margin covers, clipped at the image's edge.

    A box that reaches over the edge by some pixels is a rounding of the tool; one whose middle lies outside was drawn in
    another image, or in this one at another size.

    Args:
        cut: Box and margin.
        height: H.
        width: W.

    Returns:
        Rows and columns, at least one pixel each.

    Raises:
        ImageReject: If the box has no area, or its middle lies outside the image.

    Examples:
        >>> cut_window(Cut(Box(10, 20, 100, 40), 0.1), 80, 105)
        (slice(16, 64, None), slice(0, 105, None))
    """
    box = cut.box
    check_box(box)
    middle = box.x_px + box.width_px / 2, box.y_px + box.height_px / 2
    if not (0 <= middle[0] < width and 0 <= middle[1] < height):
        raise ImageReject(
            ReasonCode.BOX_OUTSIDE,
            f"the middle of a box must lie in its image of {width:,} x {height:,} pixels, but lies at "
            f"({middle[0]:,.0f}, {middle[1]:,.0f}); correct the box or the image.",
        )
    rows = _span(box.y_px, box.height_px, cut, height)
    return rows, _span(box.x_px, box.width_px, cut, width)


def _span(start: float, length: float, cut: Cut, limit: int) -> slice:
    """Whole pixels from a box's one side to the other, the margin at both."""
    around = max(cut.margin * length, (cut.least_px - length) / 2)
    first, last = start - around, start + length + around
    low = min(max(int(first // 1), 0), limit - 1)
    return slice(low, max(min(int(-(-last // 1)), limit), low + 1))


def box_hash(image_hash: str, box: Box) -> str:
    """Return what identifies a piece of an image: equal for the same box in the same file, whatever its margin.

    Args:
        image_hash: SHA-256 of the image file's bytes.
        box: The box.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(" ".join((image_hash, *(repr(float(side)) for side in box))).encode()).hexdigest()
