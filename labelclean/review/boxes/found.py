"""What is found of boxes in files, and putting pieces of a file anew."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, AnyStr

from labelclean.errors import TableError, listed
from labelclean.features.boxes import Box

Place = tuple[str | int, ...]
Files = Mapping[str, bytes]
"""Name of each file below its folder -> its bytes; of a single file the name is empty."""
SEVERAL_CLASSES = "boxes with several classes"
NO_CLASS = "boxes without a class"


@dataclass(frozen=True)
class FoundBox:
    """One box.

    Attributes:
        sample_id: The annotation's own id; where the format has none, its image or file and its corners as they are
            written, so that it stays when boxes come and go beside it.
        image: The image as the file names it.
        label: Its class.
        box: Where it lies, in pixels; in YOLO in shares of the image.
        place: Where its class stands: file, and what leads there inside.
    """

    sample_id: str
    image: str
    label: str
    box: Box
    place: Place


@dataclass(frozen=True)
class FoundBoxes:
    """The boxes of some files.

    Attributes:
        boxes: In the order of the files.
        unknown: Boxes whose class the file does not name: id, image and class.
        left_out: What is no box -> names of images.
        num_images: Images, those without boxes too.
    """

    boxes: tuple[FoundBox, ...]
    unknown: tuple[tuple[str, str, str], ...] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    num_images: int = 0


def numbers(values: Sequence[Any]) -> list[float] | None:
    """Return finite numbers, None where one is none.

    Examples:
        >>> numbers([1, "2.5"]), numbers([1, None]), numbers(["nan"]), numbers([True])
        ([1.0, 2.5], None, None, None)
    """
    try:
        numbers = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == len(values) and all(map(math.isfinite, numbers)) else None


def check_faults(faults: Sequence[str], what: str, origin: Path) -> None:
    """Refuse files of which some boxes cannot be read; all faults in one letter.

    Args:
        faults: Which box, and what is wrong with it.
        what: What every box must have.
        origin: The file or folder.

    Raises:
        TableError: If there are faults.
    """
    if faults:
        raise TableError(
            f"{origin}: every box must have {what}, but {len(faults):,} do not: {'; '.join(faults[:20])}"
            f"{'; ...' if len(faults) > 20 else ''}. Correct the file; nothing was written."
        )


def with_own_ids(boxes: Iterable[FoundBox]) -> tuple[FoundBox, ...]:
    """Return the boxes with distinct ids: the second of a name is called NAME (2), and so on."""
    seen: Counter[str] = Counter()
    usable = []
    for box in boxes:
        seen[box.sample_id] += 1
        number = seen[box.sample_id]
        usable.append(box if number == 1 else replace(box, sample_id=f"{box.sample_id} ({number})"))
    return tuple(usable)


def turned(box: Box, degrees: float, pivot: tuple[float, float]) -> Box:
    """Return the upright rectangle around a box that was turned clockwise.

    Args:
        box: The box before.
        degrees: By how much.
        pivot: The point that stays.

    Returns:
        The rectangle.

    Examples:
        >>> [round(side, 6) for side in turned(Box(0, 0, 4, 2), 90, (0, 0))]
        [-2.0, 0.0, 2.0, 4.0]
    """
    if not degrees:
        return box
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    corners = [
        (box.x_px + across * box.width_px - pivot[0], box.y_px + down * box.height_px - pivot[1])
        for across in (0, 1)
        for down in (0, 1)
    ]
    xs = [pivot[0] + x * cosine - y * sine for x, y in corners]
    ys = [pivot[1] + x * sine + y * cosine for x, y in corners]
    return Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def rewritten(content: AnyStr, pieces: Mapping[tuple[int, int], AnyStr]) -> AnyStr:
    """Return a text or bytes with some pieces put anew.

    Args:
        content: The text or bytes.
        pieces: Place of the first sign and of the end of each piece -> what takes its place.

    Returns:
        All else unchanged.

    Examples:
        >>> rewritten("a 1 b 2", {(2, 3): "22", (6, 7): ""})
        'a 22 b '
    """
    parts: list[Any] = []
    at = 0
    for (start, end), piece in sorted(pieces.items()):
        parts += [content[at:start], piece]
        at = end
    parts.append(content[at:])
    return content[:0].join(parts)


def numbered_class(name: str, numbers_of: Mapping[str, Any], origin: Path) -> Any:
    """Return what stands for a class in files that number their classes.

    Args:
        name: The class.
        numbers_of: Number by class name.
        origin: The files, for the error message.

    Returns:
        The number.

    Raises:
        TableError: If the files do not know the class.
    """
    if name not in numbers_of:
        raise TableError(
            f"{origin}: a new class must be one that the file numbers ({listed(sorted(map(str, numbers_of)), 12)}), but is {name!r}. Add "
            "it to the file, or write a table; nothing was written."
        )
    return numbers_of[name]
