"""Boxes as rows: every box is a sample, its image the group."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from labelclean.config import DecodeConfig
from labelclean.errors import TableError, listed
from labelclean.features.boxes import Box
from labelclean.features.decode import image_size
from labelclean.features.image_files import ImageReject, ReasonCode, open_image_file
from labelclean.review.boxes.files import BoxSource
from labelclean.review.boxes.found import FoundBox, FoundBoxes
from labelclean.review.boxes.yolo import yolo_boxes
from labelclean.starting.images import READ_SUFFIXES, image_files
from labelclean.starting.rows import Rows
from labelclean.storage.tables import BOX_COLUMNS

UNKNOWN_CLASS = "box_unknown_class"
_MISSING = "boxes that are missing in an image are not looked for: only what a box is called is judged"


def box_rows(found: FoundBoxes, source: BoxSource, name: str, refused: Sequence[dict[str, str]] = ()) -> Rows:
    """Return a row for each box.

    Args:
        found: The boxes, in pixels.
        source: Where they came from.
        name: The format, in words.
        refused: Boxes that cannot be used, for other reasons than their class.

    Returns:
        The rows; boxes of a class that the file does not name are rejects.

    Raises:
        TableError: If no box is left.
    """
    rejects = [*(_unknown(*one) for one in found.unknown), *refused]
    words = f"{name}: {len(found.boxes):,} boxes in {found.num_images:,} images"
    if not found.boxes:
        others = (
            "; ".join(f"{len(names):,} {what}" for what, names in found.left_out.items() if names) or "nothing else"
        )
        raise TableError(
            f"{source.path}: {words}: at least one box must have a class that the file names, but none has. It holds {others}, and "
            f"{len(rejects):,} boxes that cannot be used{_first(rejects)} Name another file, or read whole images with --no-boxes."
        )
    text = {
        "sample_id": [box.sample_id for box in found.boxes],
        "image_path": [box.image for box in found.boxes],
        "given_label": [box.label for box in found.boxes],
        "group_id": [box.image for box in found.boxes],
    }
    sides = {side: [box.box[at] for box in found.boxes] for at, side in enumerate(BOX_COLUMNS)}
    kinds = [(column, pa.string()) for column in text] + [(column, pa.float64()) for column in sides]
    table = pa.table(text | sides, schema=pa.schema(kinds))
    seen = ["every box is a sample, its image the group_id", _MISSING]
    return Rows(words, table, found.left_out, tuple(seen), boxes=source, rejects=tuple(rejects))


def yolo_rows(files: Mapping[str, bytes], root: Path) -> Rows:
    """Return the boxes of a YOLO folder, in pixels of their images.

    Args:
        files: Files of boxes and of class names.
        root: The folder.

    Returns:
        The rows; boxes whose image is missing or has no size are rejects.

    Raises:
        TableError: If the files break a promise, or no box is left.
    """
    yolo = yolo_boxes(files, root)
    pictures = _pictures_by_stem(root, {box.image for box in yolo.boxes})
    sizes: dict[str, tuple[int, int] | ImageReject] = {}
    boxes: list[FoundBox] = []
    refused: list[dict[str, str]] = []
    for box in yolo.boxes:
        path = pictures.get(box.image, box.image)
        size = sizes[path] = sizes[path] if path in sizes else _size(root, path)
        if isinstance(size, ImageReject):
            refused.append(_reject(box.sample_id, path, str(size.reason_code), size.message))
            continue
        height, width = size
        x, y, across, down = box.box
        pixels = Box(*(round(side, 6) for side in (x * width, y * height, across * width, down * height)))
        boxes.append(replace(box, image=path, box=pixels))
    rows = box_rows(replace(yolo, boxes=tuple(boxes)), BoxSource("yolo", root), "YOLO", refused)
    return replace(rows, folder=root, is_placed=True)


# --- inside ---------------------------------------------------------------------------------------


def _pictures_by_stem(root: Path, wanted: Collection[str]) -> dict[str, str]:
    """The image that a label file belongs to, by its name without suffix; that of two images would be a guess."""
    names: dict[str, list[str]] = {}
    for name in image_files(root)[0]:
        if name.lower().endswith(READ_SUFFIXES):
            names.setdefault(name[: -len(Path(name).suffix)], []).append(name)
    if twice := [", ".join(names[stem]) for stem in sorted(wanted) if len(names.get(stem, ())) > 1]:
        raise TableError(
            f"{root}: a YOLO label file belongs to the image of its name, but {len(twice):,} have several: {listed(twice)}. "
            "Put masks and previews into another folder."
        )
    return {stem: own[0] for stem, own in names.items()}


def _first(rejects: Sequence[dict[str, str]]) -> str:
    return f", such as {rejects[0]['message']}" if rejects else "."


def _unknown(sample: str, image: str, label: str) -> dict[str, str]:
    sentence = f"the class of a box must be one that the file names, but is {label}; add the class to the file or correct the box."
    return _reject(sample, image, UNKNOWN_CLASS, sentence)


def _reject(sample: str, image: str, code: str, message: str) -> dict[str, str]:
    words = f"box {sample!r} of image {image!r}: {message}"
    return {"sample_id": sample, "image_path": image, "reason_code": code, "message": words}


def _size(root: Path, path: str) -> tuple[int, int] | ImageReject:
    policy = DecodeConfig()
    try:
        if not path.lower().endswith(READ_SUFFIXES):
            return ImageReject(
                ReasonCode.MISSING, "its image must be there, but no image file has this name; copy it there."
            )
        with open_image_file(root, path, policy) as file:
            return image_size(file, policy)
    except ImageReject as refusal:
        return refusal
