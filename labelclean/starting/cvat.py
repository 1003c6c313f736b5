"""CVAT for images 1.1 (XML): tags of whole images; boxes, polygons and the like are left out."""

from __future__ import annotations

from pathlib import Path

from labelclean.errors import TableError, listed
from labelclean.review.boxes.cvat import cvat_images
from labelclean.starting.rows import BOXES, Collect, LabelledImage, Rows, one_label_each, rows_of_images


def cvat_rows(data: bytes, origin: Path, collect: Collect = one_label_each) -> Rows:
    """Return the tags in a CVAT file.

    Args:
        data: The XML.
        origin: The file, for the error message.
        collect: Whether an image has one label, or several.

    Returns:
        One row per image with one tag, or with its tags.

    Raises:
        TableError: If it holds tracks of a video, or an image or tag without a name.
        ExchangeError: If it is not whole, plain XML.
    """
    images: list[LabelledImage] = []
    shapes: list[str] = []
    faults: list[str] = []
    for number, element in enumerate(cvat_images(data, origin), 1):
        name = element.get("name") or ""
        tags = [tag.get("label") or "" for tag in element.iter("tag")]
        if not name or not all(tags):
            faults.append(f"image {name or number}: {'a label' if name else 'the name'} is missing")
        shapes += [name] * sum(child.tag != "tag" for child in element)
        images.append(LabelledImage(name, tuple(tags)))
    if faults:
        raise TableError(
            f"{origin}: every image must have a name and every tag a label, but {len(faults):,} have not: {listed(faults)}. "
            "Correct the file."
        )
    source = f"CVAT for images: {len(images):,} images"
    return rows_of_images(images, source, origin, collect, {BOXES: shapes})
