"""COCO: categories of whole images; annotations with a box or a mask are left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from labelclean.errors import TableError, listed
from labelclean.starting.json_values import needed_words, record_list
from labelclean.starting.rows import BOXES, LabelledImage, Rows, rows_of_images


def is_coco(content: Any) -> bool:
    """Return whether JSON is a COCO file."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def coco_rows(content: Any, origin: Path) -> Rows:
    """Return the image-level categories of a COCO file.

    Args:
        content: The file's JSON.
        origin: The file, for the error message.

    Returns:
        One row per image with one category; `coco_image_id` keeps the file's own number.

    Raises:
        TableError: If the file is not whole, or names an image or category that it does not hold.
    """
    images = {
        needed_words(image.get("id"), "images[].id", origin): needed_words(
            image.get("file_name"), "images[].file_name", origin
        )
        for image in record_list(content["images"], "images", origin)
    }
    if len(images) != len(content["images"]):
        raise TableError(f"{origin}: ids of images must be distinct, but some stand twice. Export the file again.")
    names = {
        needed_words(one.get("id"), "categories[].id", origin): needed_words(
            one.get("name"), "categories[].name", origin
        )
        for one in record_list(content["categories"], "categories", origin)
    }
    if len(names) != len(content["categories"]) or len(set(names.values())) != len(names):
        twice = sorted({name for name, count in Counter(names.values()).items() if count > 1})
        raise TableError(
            f"{origin}: ids and names of categories must be distinct, but some stand twice: {listed(twice) or 'ids'}. Give each "
            "an id and a name of its own."
        )
    labels: dict[str, list[str]] = defaultdict(list)
    shapes: list[str] = []
    unknown: list[str] = []
    for one in record_list(content["annotations"], "annotations", origin):
        image = needed_words(one.get("image_id"), "annotations[].image_id", origin)
        if image not in images:
            unknown.append(f"image {image}")
        elif _has_shape(one):
            shapes.append(images[image])
        else:
            category = needed_words(one.get("category_id"), "annotations[].category_id", origin)
            labels[image].append(names.get(category, ""))
            unknown += [] if category in names else [f"category {category}"]
    if unknown:
        raise TableError(
            f"{origin}: annotations must name images and categories of the file, but {len(unknown):,} do not: "
            f"{listed(list(dict.fromkeys(unknown)))}. Export the file again."
        )
    found = (LabelledImage(path, tuple(labels[key]), {"coco_image_id": key}) for key, path in images.items())
    source = f"COCO: {len(images):,} images, {len(names):,} categories"
    return rows_of_images(found, source, origin, left_out={BOXES: shapes})


def _has_shape(annotation: dict[str, Any]) -> bool:
    """Whether it names a part of its image; a box of no size does not."""
    box = annotation.get("bbox")
    has_size = any(box[2:]) if isinstance(box, list) else bool(box)
    return bool(annotation.get("segmentation") or annotation.get("keypoints")) or has_size
