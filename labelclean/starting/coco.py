"""COCO: categories of whole images; annotations with a box or a mask are left out (`boxes` reads the boxes)."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelclean.errors import TableError, listed
from labelclean.review.boxes.coco import coco_images, coco_names
from labelclean.review.exchange.json_values import needed_words, record_list
from labelclean.starting.rows import BOXES, Collect, LabelledImage, Rows, one_label_each, rows_of_images


def is_coco(content: Any) -> bool:
    """Return whether JSON is a COCO file."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def has_whole_images(content: Any) -> bool:
    """Return whether an annotation of a COCO file names the class of a whole image."""
    return any(isinstance(one, dict) and not _has_shape(one) for one in content["annotations"])


def coco_rows(content: Any, origin: Path, collect: Collect = one_label_each) -> Rows:
    """Return the image-level categories of a COCO file.

    Args:
        content: The file's JSON.
        origin: The file, for the error message.
        collect: Whether an image has one label, or several.

    Returns:
        One row per image with one category, or with its categories. Where it has one, column `coco` keeps as JSON what the file says of the image and its
        annotation, and its field's metadata what else the file holds, so that all of it can be written back.

    Raises:
        TableError: If the file is not whole, or names an image or category that it does not hold.
    """
    images, names = coco_images(content, origin), coco_names(content, origin)
    paths = {key: str(one["file_name"]) for key, one in images.items()}
    labels: dict[str, list[str]] = defaultdict(list)
    records: dict[str, dict[str, Any]] = {}
    shapes: list[str] = []
    unknown: list[str] = []
    for one in record_list(content["annotations"], "annotations", origin):
        image = needed_words(one.get("image_id"), "annotations[].image_id", origin)
        if image not in images:
            unknown.append(f"image {image}")
        elif _has_shape(one):
            shapes.append(paths[image])
        else:
            category = needed_words(one.get("category_id"), "annotations[].category_id", origin)
            labels[image].append(names.get(category, ""))
            records[image] = {"image": images[image], "annotation": one}
            unknown += [] if category in names else [f"category {category}"]
    if unknown:
        raise TableError(
            f"{origin}: annotations must name images and categories of the file, but {len(unknown):,} do not: "
            f"{listed(list(dict.fromkeys(unknown)))}. Export the file again."
        )
    by_number = (
        LabelledImage(path, tuple(labels[key]), {"coco": json.dumps(records.get(key))}) for key, path in paths.items()
    )
    source = f"COCO: {len(images):,} images, {len(names):,} categories"
    rows = rows_of_images(by_number, source, origin, collect, {BOXES: shapes})
    if "coco" not in rows.table.column_names:
        return rows
    others = {name: value for name, value in content.items() if name not in ("images", "annotations")}
    place = rows.table.column_names.index("coco")
    field = pa.field("coco", pa.string(), metadata={"labelclean.coco": json.dumps(others)})
    return replace(rows, table=rows.table.set_column(place, field, rows.table.column(place)))


def _has_shape(annotation: dict[str, Any]) -> bool:
    """Whether it names a part of its image; a box of no size does not."""
    box = annotation.get("bbox")
    has_size = any(box[2:]) if isinstance(box, list) else bool(box)
    return bool(annotation.get("segmentation") or annotation.get("keypoints")) or has_size
