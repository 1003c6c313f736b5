"""CVAT for images 1.1 (XML): tags of whole images; boxes, polygons and the like are left out."""

from __future__ import annotations

from pathlib import Path

from labelclean.errors import TableError
from labelclean.review.boxes.cvat import cvat_images
from labelclean.starting.rows import BOXES, Collect, LabelledImage, Rows, rows_of_images


def cvat_rows(data: bytes, origin: Path, collect: Collect = rows_of_images) -> Rows:
    """Return the tags in a CVAT file.

    Args:
        data: The XML.
        origin: The file, for the error message.
        collect: Makes rows of the images: of one class each, or of several.

    Returns:
        One row per image with one tag, or with its tags.

    Raises:
        TableError: If it holds tracks of a video, or an image or tag without a name.
        ExchangeError: If it is not whole, plain XML.
    """
    images: list[LabelledImage] = []
    shapes: list[str] = []
    for element in cvat_images(data, origin):
        name = element.get("name")
        tags = [tag.get("label") for tag in element.iter("tag")]
        if not name or not all(tags):
            raise TableError(f"{origin}: every image must have a name and every tag a label, but {name!r} has not.")
        shapes += [name] * sum(child.tag != "tag" for child in element)
        images.append(LabelledImage(name, tuple(str(tag) for tag in tags)))
    source = f"CVAT for images: {len(images):,} images"
    return collect(images, source, origin, left_out={BOXES: shapes})
