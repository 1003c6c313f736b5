"""CVAT for images 1.1: every `box` of an image; its class is the attribute `label`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from labelclean.errors import TableError
from labelclean.features.boxes import Box
from labelclean.review.boxes.found import (
    NO_CLASS,
    Files,
    FoundBox,
    FoundBoxes,
    Place,
    check_faults,
    numbers,
    rewritten,
    turned,
    with_own_ids,
)
from labelclean.review.exchange.foreign_file import xml_elements
from labelclean.review.exchange.places import encoding_of, xml_places

_OTHERS = "tags and shapes that are no boxes"
_SIDES = ("xtl", "ytl", "xbr", "ybr")
_LABEL = re.compile(rb"""\slabel\s*=\s*("[^"]*"|'[^']*')""")


def cvat_images(data: bytes, origin: Path) -> Iterator[Element]:
    """Yield the images of a CVAT file.

    Args:
        data: The XML.
        origin: The file, for the error message.

    Yields:
        Elements `image`.

    Raises:
        TableError: If it holds tracks of a video.
        ExchangeError: If it is not whole, plain XML.
    """
    for element in xml_elements(data, ("image", "track"), origin):
        if element.tag == "track":
            raise TableError(
                f"{origin}: must be CVAT for images 1.1, but holds tracks of a video. Export the task as 'CVAT for images 1.1'."
            )
        yield element


def cvat_boxes(files: Files, origin: Path) -> FoundBoxes:
    """Return the boxes of a CVAT file.

    Args:
        files: The file.
        origin: Its name, for the error message.

    Returns:
        The boxes; `sample_id` is the image and the corners as they are written. One that is turned becomes the upright
        one around it.

    Raises:
        TableError: If it holds tracks of a video, an image without a name, or a box without four numbers; all in one letter.
        ExchangeError: If it is not whole, plain XML.
    """
    boxes: list[FoundBox] = []
    others, nameless, faults = [], [], []
    number = num_images = 0
    for image in cvat_images(files[""], origin):
        num_images += 1
        name = image.get("name") or ""
        faults += [] if name else [f"image {image.get('id') or num_images}: name is missing"]
        for one in image:
            if one.tag != "box":
                others.append(name)
                continue
            place: Place = ("", number)
            number += 1
            written = [one.get(side, "") for side in _SIDES]
            sides, turn, label = numbers(written), numbers([one.get("rotation") or 0]), (one.get("label") or "").strip()
            if sides is None or turn is None:
                faults.append(f"image {name!r:.60}, box {number}: corners are {written!r:.80}")
            elif not label:
                nameless.append(name)
            else:
                box = Box(sides[0], sides[1], sides[2] - sides[0], sides[3] - sides[1])
                middle = (box.x_px + box.width_px / 2, box.y_px + box.height_px / 2)
                sample = f"{name}#{','.join(written)}"
                boxes.append(FoundBox(sample, name, label, turned(box, turn[0], middle), place))
    check_faults(faults, "an image with a name and xtl, ytl, xbr, ybr as numbers", origin)
    return FoundBoxes(with_own_ids(boxes), (), {_OTHERS: others, NO_CLASS: nameless}, num_images)


def cvat_with_classes(files: Files, classes: Mapping[Place, str], origin: Path) -> dict[str, bytes]:
    """Return a CVAT file with other classes; arguments and result as for `voc.voc_with_classes`."""
    wanted = {place[1]: label for place, label in classes.items()}
    codec = encoding_of(files[""], origin)
    text = files[""].decode(codec).encode()
    pieces: dict[tuple[int, int], bytes] = {}
    boxes = (one.tag for one in xml_places(text) if one.path[-2:] == ("image", "box"))
    for number, (start, end) in enumerate(boxes):
        label = _LABEL.search(text, start, end)
        if number in wanted and label is not None:
            first, last = label.span(1)
            mark = text[first : first + 1].decode()
            pieces[first + 1, last - 1] = escape(wanted[number], {mark: "&quot;" if mark == '"' else "&apos;"}).encode()
    return {"": rewritten(text, pieces).decode().encode(codec, "xmlcharrefreplace")}
