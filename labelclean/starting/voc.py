"""Pascal VOC (one XML file per image): an image has the class that all its objects name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

from labelclean.errors import TableError
from labelclean.review.exchange.foreign_file import xml_elements
from labelclean.starting.rows import Collect, LabelledImage, Rows, one_label_each, rows_of_images


def voc_rows(files: Mapping[str, bytes], origin: Path, collect: Collect = one_label_each) -> Rows:
    """Return the class of each image whose objects all name the same.

    Args:
        files: Name of each XML file -> its bytes.
        origin: Their folder or the file, for the error message.
        collect: Whether an image has one label, or several.

    Returns:
        One row per image; where the objects have boxes, that is told.

    Raises:
        TableError: If a file names no image or an object has no name.
        ExchangeError: If a file is not whole, plain XML.
    """
    images: list[LabelledImage] = []
    num_boxes = 0
    for name, data in files.items():
        place = origin / name if name else origin
        for page in xml_elements(data, ("annotation",), place):
            image, boxes = _image(page, place)
            images.append(image)
            num_boxes += boxes
    if not images:
        raise TableError(
            f"{origin}: XML must hold <annotation> (Pascal VOC) or <image> (CVAT for images), but has none."
        )
    words = (
        "class that all boxes of an image name is" if collect is one_label_each else "classes that its boxes name are"
    )
    rows = rows_of_images(images, f"Pascal VOC: {len(images):,} images", origin, collect)
    if not num_boxes:
        return rows
    return replace(rows, seen=(f"{num_boxes:,} boxes: the {words} taken for the image, their places are not",))


def _image(page: Element, place: Path) -> tuple[LabelledImage, int]:
    """An image with the names of its objects, and how many of them have a box."""
    path = (page.findtext("filename") or "").strip()
    objects = page.findall("object")
    names = [(one.findtext("name") or "").strip() for one in objects]
    if not path or not all(names):
        raise TableError(f"{place}: must hold <filename> and a <name> in every <object>, but one is missing.")
    return LabelledImage(path, tuple(names)), sum(one.find("bndbox") is not None for one in objects)
