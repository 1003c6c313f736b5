"""YOLO: a text file per image in a folder `labels`, a line per box, its class a number that another file names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from labelclean.errors import TableError
from labelclean.features.boxes import Box
from labelclean.review.boxes.found import (
    Files,
    FoundBox,
    FoundBoxes,
    Place,
    check_faults,
    numbered_class,
    numbers,
    rewritten,
    with_own_ids,
)

NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
_POLYGONS = "polygons (lines of more than five numbers)"
_LINE = re.compile(rb"^[ \t]*(\S+)([^\r\n]*)", re.MULTILINE)


def is_names_file(name: str) -> bool:
    """Return whether a file of a YOLO folder names the classes."""
    return name in NAME_FILES or (name.endswith((".yaml", ".yml")) and "/" not in name)


def yolo_files(folder: Path) -> list[Path]:
    """Return the text files of a YOLO folder: those in folders `labels`, or else those beside a file of the same name.

    Darknet, and CVAT's export of that name, keep `0001.txt` beside `0001.png`.

    Args:
        folder: The folder.

    Returns:
        Files, by name; those that name classes may be among them.
    """
    pages = sorted(folder.rglob("*.txt"))
    apart = [page for page in pages if "labels" in page.relative_to(folder).parts[:-1]]
    if apart or not pages:
        return apart
    beside = (file for place in {page.parent for page in pages} for file in place.iterdir() if file.suffix != ".txt")
    stems = {file.with_suffix("") for file in beside}
    with_image = {page for page in pages if page.with_suffix("") in stems}
    folders = {page.parent for page in with_image}  # a page of boxes whose image is missing is told there
    return [page for page in pages if page in with_image or (page.parent in folders and looks_like_boxes(page))]


def looks_like_boxes(path: Path) -> bool:
    """Return whether the first line of a file is one of YOLO: a number of a class and four or more from 0 to 1."""
    try:
        with path.open("rb") as file:
            words = file.readline(4096).decode("ascii").split()
    except (OSError, UnicodeDecodeError):
        return False
    sides = numbers(words[1:])
    return (
        bool(words)
        and words[0].isdigit()
        and sides is not None
        and len(sides) >= 4
        and -1 <= min(sides) <= max(sides) <= 2
    )


def yolo_names(files: Files, origin: Path) -> list[str]:
    """Return the class names of a YOLO folder.

    Args:
        files: Its files.
        origin: The folder, for the error message.

    Returns:
        Names by number.

    Raises:
        TableError: If no file names them, or two files do otherwise.
    """
    names_of_file = {
        name: names for name, data in files.items() if is_names_file(name) and (names := _names(name, data))
    }
    if not names_of_file:
        raise TableError(
            f"{origin}: YOLO numbers its classes, and a file must name them: data.yaml with names, or classes.txt or obj.names "
            "with one name a line, but there is none. Put it beside the folders images and labels."
        )
    if len({tuple(names) for names in names_of_file.values()}) > 1:
        raise TableError(
            f"{origin}: one list of class names must hold, but {sorted(names_of_file)} differ. Take one out."
        )
    return next(iter(names_of_file.values()))


def yolo_boxes(files: Files, origin: Path) -> FoundBoxes:
    """Return the boxes of a YOLO folder.

    Args:
        files: Name of each file -> its bytes: those of the boxes, and the one that names the classes.
        origin: The folder, for the error message.

    Returns:
        The boxes, in shares of their image; `image` is the path of the image file without its suffix; `sample_id` is the
        file and the numbers as they are written.

    Raises:
        TableError: If classes have no names, or a line has no number of a class and four numbers; all in one letter.
    """
    names = yolo_names(files, origin)
    boxes: list[FoundBox] = []
    unknown, polygons, faults = [], [], []
    pages = {name: data for name, data in files.items() if not is_names_file(name)}
    for name, data in pages.items():
        stem = name.removesuffix(".txt")
        image = image_stem(stem)
        for number, line in enumerate(_LINE.finditer(data)):
            written = line[0].decode("utf-8", "replace").split()
            sides = numbers(written[1:])
            if not written[0].isdigit() or sides is None or len(sides) < 4:
                faults.append(f"{name}, line {data.count(bytes([10]), 0, line.start()) + 1}: {' '.join(written)!r:.60}")
            elif len(sides) > 4:
                polygons.append(name)
            elif int(written[0]) >= len(names):
                unknown.append((f"{stem}#{','.join(written[1:])}", image, f"class {written[0]}"))
            else:
                middle_x, middle_y, width, height = sides
                box = Box(middle_x - width / 2, middle_y - height / 2, width, height)
                sample = f"{stem}#{','.join(written[1:])}"
                boxes.append(FoundBox(sample, image, names[int(written[0])], box, (name, number)))
    check_faults(faults, "the number of a class, then x, y, width and height", origin)
    return FoundBoxes(with_own_ids(boxes), tuple(unknown), {_POLYGONS: polygons}, len(pages))


def image_stem(stem: str) -> str:
    """Return the path of the image that a file of boxes belongs to, both without their suffix.

    Examples:
        >>> image_stem("labels/train/0001"), image_stem("train/labels/0001"), image_stem("obj_train_data/0001")
        ('images/train/0001', 'train/images/0001', 'obj_train_data/0001')
    """
    head, folder, tail = f"/{stem}".rpartition("/labels/")
    return f"{head}/images/{tail}".removeprefix("/") if folder else stem


def yolo_with_classes(files: Files, classes: Mapping[Place, str], origin: Path) -> dict[str, bytes]:
    """Return a YOLO folder's files with other classes; arguments and result as for `coco.coco_with_classes`."""
    numbers_of = {name: str(number) for number, name in enumerate(yolo_names(files, origin))}
    new = dict(files)
    for name in {place[0] for place in classes}:
        wanted = {
            place[1]: numbered_class(label, numbers_of, origin) for place, label in classes.items() if place[0] == name
        }
        lines = enumerate(_LINE.finditer(files[str(name)]))
        pieces = {line.span(1): wanted[number].encode() for number, line in lines if number in wanted}
        new[str(name)] = rewritten(files[str(name)], pieces)
    return new


def _names(name: str, data: bytes) -> list[str]:
    """The class names that a file holds; none where it is something else."""
    try:
        text = data.decode("utf-8-sig")
        if not name.endswith((".yaml", ".yml")):
            return [line.strip() for line in text.splitlines() if line.strip()]
        content: Any = yaml.safe_load(text)
        names: Any = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            names = [names[number] for number in range(len(names))]
        return [str(one) for one in names] if isinstance(names, list) else []
    except (UnicodeDecodeError, yaml.YAMLError, KeyError, RecursionError):
        return []
