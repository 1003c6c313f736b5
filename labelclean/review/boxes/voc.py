"""Pascal VOC, one XML file per image: an object with a `bndbox` is a box; its class is its `name`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

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
    with_own_ids,
)
from labelclean.review.exchange.foreign_file import xml_elements
from labelclean.review.exchange.places import encoding_of, xml_places

_BARE = "objects without a box"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_NAME = ("annotation", "object", "name")


def has_voc_boxes(files: Files, origin: Path) -> bool:
    """Return whether objects have boxes, and all of them."""
    objects = [
        one for name, data in files.items() for page in _pages(data, origin, name) for one in page.iter("object")
    ]
    return bool(objects) and all(one.find("bndbox") is not None for one in objects)


def voc_boxes(files: Files, origin: Path) -> FoundBoxes:
    """Return the boxes of Pascal VOC files.

    Args:
        files: Name of each file -> its bytes.
        origin: Their folder or the file, for the error message.

    Returns:
        The boxes; `sample_id` is the file (or its image) and the corners as they are written.

    Raises:
        TableError: If a page names no image or a box has no four numbers; all in one letter.
        ExchangeError: If a file is not whole, plain XML.
    """
    boxes: list[FoundBox] = []
    bare, nameless, faults, num_images = list[str](), list[str](), list[str](), 0
    for name, data in files.items():
        for page in _pages(data, origin, name):
            num_images += 1
            image = (page.findtext("filename") or "").strip()
            faults += [] if image else [f"{name or origin.name}: <filename> is missing"]
            for number, one in enumerate(page.findall("object")):
                frame, label = one.find("bndbox"), (one.findtext("name") or "").strip()
                if frame is None or not label:
                    (bare if frame is None else nameless).append(image)
                    continue
                written = [(frame.findtext(side) or "").strip() for side in _SIDES]
                sides = numbers(written)
                if sides is None:
                    faults.append(f"{name or origin.name}, object {number + 1}: bndbox is {written!r:.80}")
                    continue
                sample = f"{name.removesuffix('.xml') or image}#{','.join(written)}"
                box = Box(sides[0], sides[1], sides[2] - sides[0], sides[3] - sides[1])
                boxes.append(FoundBox(sample, image, label, box, (name, number)))
    check_faults(faults, "an image and xmin, ymin, xmax, ymax as numbers", origin)
    return FoundBoxes(with_own_ids(boxes), (), {_BARE: bare, NO_CLASS: nameless}, num_images)


def voc_with_classes(files: Files, classes: Mapping[Place, str], origin: Path) -> dict[str, bytes]:
    """Return Pascal VOC files with other classes.

    Args:
        files: Name of each file -> its bytes.
        classes: New class of some boxes by where it stands.
        origin: Their folder or the file, for the error message.

    Returns:
        All files; only the names of these objects are others.

    Raises:
        TableError: If a file's encoding cannot be written back.
    """
    return {name: _with_classes(name, data, classes, origin) for name, data in files.items()}


# --- inside ---------------------------------------------------------------------------------------


def _pages(data: bytes, origin: Path, name: str) -> Iterator[Element]:
    return xml_elements(data, ("annotation",), origin / name if name else origin)


def _with_classes(name: str, data: bytes, classes: Mapping[Place, str], origin: Path) -> bytes:
    wanted = {place[1]: label for place, label in classes.items() if place[0] == name}
    if not wanted:
        return data
    codec = encoding_of(data, origin / name if name else origin)
    text = data.decode(codec).encode()
    pieces: dict[tuple[int, int], bytes] = {}
    number, first = 0, None
    for one in xml_places(text):
        if one.path == _NAME and first is None:
            first = one.content
        elif one.path == _NAME[:2]:
            if number in wanted and first is not None:
                pieces[first] = escape(wanted[number]).encode()
            number, first = number + 1, None
    return rewritten(text, pieces).decode().encode(codec, "xmlcharrefreplace")
