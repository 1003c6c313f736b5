"""COCO: an annotation with a `bbox` is a box; its class is a number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelclean.errors import TableError, listed
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
)
from labelclean.review.exchange.foreign_file import foreign_json
from labelclean.review.exchange.json_values import needed_words, record_list, words
from labelclean.review.exchange.places import encoding_of, json_places

_NO_BOX = "annotations without a box (masks, points and classes of whole images)"


def coco_images(content: Any, origin: Path) -> dict[str, dict[str, Any]]:
    """Return the images of a COCO file by their ids.

    Args:
        content: The file's JSON.
        origin: The file, for the error message.

    Returns:
        What the file says of each; its `file_name` is a text.

    Raises:
        TableError: If one has no id or name, or an id stands twice.
    """
    rows = record_list(content["images"], "images", origin)
    images = {needed_words(one.get("id"), "images[].id", origin): one for one in rows}
    for one in rows:
        needed_words(one.get("file_name"), "images[].file_name", origin)
    if len(images) != len(rows):
        raise TableError(f"{origin}: ids of images must be distinct, but some stand twice. Export the file again.")
    return images


def coco_names(content: Any, origin: Path) -> dict[str, str]:
    """Return the names of a COCO file's categories by their ids.

    Args:
        content: The file's JSON.
        origin: The file, for the error message.

    Returns:
        Name by id.

    Raises:
        TableError: If one has no id or name, or an id or name stands twice.
    """
    rows = record_list(content["categories"], "categories", origin)
    names = {
        needed_words(one.get("id"), "categories[].id", origin): needed_words(
            one.get("name"), "categories[].name", origin
        )
        for one in rows
    }
    if len(names) != len(rows) or len(set(names.values())) != len(names):
        twice = sorted({name for name, count in Counter(names.values()).items() if count > 1})
        raise TableError(
            f"{origin}: ids and names of categories must be distinct, but some stand twice: {listed(twice) or 'ids'}. Give each "
            "an id and a name of its own."
        )
    return names


def has_coco_boxes(content: Any) -> bool:
    """Return whether an annotation of a COCO file has a box of some size."""
    return any(
        isinstance(one, dict) and isinstance(box := one.get("bbox"), list) and any(box[2:])
        for one in content["annotations"]
    )


def coco_boxes(files: Files, origin: Path) -> FoundBoxes:
    """Return the boxes of a COCO file.

    Args:
        files: The file.
        origin: Its name, for the error message.

    Returns:
        The boxes; `sample_id` is the annotation's id.

    Raises:
        TableError: If boxes name no image of the file, have no four numbers, or share an id; all in one letter.
        ExchangeError: If the file is no whole JSON.
    """
    content = foreign_json(files[""].decode(encoding_of(files[""], origin)).removeprefix("\ufeff"), origin)
    images, names = coco_images(content, origin), coco_names(content, origin)
    boxes: dict[str, FoundBox] = {}
    unknown, bare, faults = [], [], []
    for number, one in enumerate(record_list(content["annotations"], "annotations", origin)):
        box, image = one.get("bbox"), images.get(str(words(one.get("image_id"))))
        if not box:
            bare.append(str(words(one.get("image_id"))))
            continue
        name = words(one.get("id"))
        sides = numbers(box) if isinstance(box, list) and len(box) == 4 else None
        wrong = [] if image else [f"image_id {one.get('image_id')!r:.40} is no image of the file"]
        wrong += [] if sides else [f"bbox is {box!r:.60}"]
        wrong += [] if name and name not in boxes else [f"id {one.get('id')!r:.40} is missing or stands twice"]
        if wrong or image is None or sides is None or name is None:
            faults.append(f"annotations[{number}]: {', '.join(wrong)}")
            continue
        category = words(one.get("category_id"))
        if category not in names:
            unknown.append((name, str(image["file_name"]), f"category_id {one.get('category_id')!r:.40}"))
            continue
        place: Place = ("", "annotations", number, "category_id")
        boxes[name] = FoundBox(name, str(image["file_name"]), names[str(category)], Box(*sides), place)
    check_faults(faults, "an id of its own, an image of the file and a bbox of four numbers", origin)
    return FoundBoxes(tuple(boxes.values()), tuple(unknown), {_NO_BOX: bare}, len(images))


def coco_with_classes(files: Files, classes: Mapping[Place, str], origin: Path) -> dict[str, bytes]:
    """Return a COCO file with other classes.

    Args:
        files: The file.
        classes: New class of some boxes by where it stands.
        origin: Its name, for the error message.

    Returns:
        The file; all but the numbers of these classes is as it was.

    Raises:
        TableError: If the file has no such category.
    """
    data = files[""]
    codec = encoding_of(data, origin)
    text = data.decode(codec)
    content = foreign_json(text.removeprefix("\ufeff"), origin)
    ids = {str(words(one["name"])): json.dumps(one["id"]) for one in content["categories"]}
    new = {place[1:]: numbered_class(name, ids, origin) for place, name in classes.items()}
    places = json_places(text, new.keys())
    return {"": rewritten(text, {span: new[place] for place, span in places.items()}).encode(codec)}
