"""FiftyOne's image classification data set: `labels.json` beside a folder `data`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from labelclean.errors import TableError, listed
from labelclean.review.exchange.json_values import record, words
from labelclean.starting.rows import LabelledImage, Rows, rows_of_images


def is_fiftyone(content: Any) -> bool:
    """Return whether JSON is the labels.json of a FiftyOne classification data set."""
    return isinstance(content, dict) and isinstance(content.get("labels"), dict) and "classes" in content


def fiftyone_rows(content: Any, origin: Path) -> Rows:
    """Return the labels of a FiftyOne file.

    Args:
        content: The file's JSON: `classes` (names or null) and `labels` (image name without suffix -> class number,
            class name, or an object with `label`).
        origin: The file, for the error message.

    Returns:
        One row per image with a label.

    Raises:
        TableError: If a label is no class of the file.
    """
    classes = content["classes"] or []
    if not isinstance(classes, list) or not all(words(name) for name in classes):
        raise TableError(f"{origin}: 'classes' must be a list of names, but is not. Export the data set again.")
    images: list[LabelledImage] = []
    faults: list[str] = []
    for name, value in record(content["labels"], "labels", origin).items():
        if isinstance(value, dict):
            value = value.get("label")
        try:
            label = _class_name(value, classes)
        except LookupError:
            faults.append(f"{name}: {value!r:.40}")
            continue
        images.append(LabelledImage(name, () if label is None else (label,)))
    if faults:
        raise TableError(
            f"{origin}: every label must be a class name or the number of one of {len(classes):,} classes, but "
            f"{len(faults):,} are not: {listed(faults)}. Several labels per image are not read; export one field."
        )
    folder = origin.parent / "data"
    rows = rows_of_images(images, f"FiftyOne: {len(images):,} images", origin)
    return replace(rows, folder=folder if folder.is_dir() else None)


def _class_name(value: Any, classes: list[Any]) -> str | None:
    """The class that a value means; None for null."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and classes:
        if value < 0:
            raise LookupError
        return str(classes[value])
    name = words(value)
    if name is None or (classes and name not in map(str, classes)):
        raise LookupError
    return name
