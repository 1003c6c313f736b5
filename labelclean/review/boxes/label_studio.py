"""Label Studio's JSON export: results of rectangle labels; of a task's annotations the last one that was submitted counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelclean.errors import TableError, listed
from labelclean.features.boxes import Box
from labelclean.review.boxes.found import (
    NO_CLASS,
    SEVERAL_CLASSES,
    Files,
    FoundBox,
    FoundBoxes,
    Place,
    check_faults,
    numbers,
    rewritten,
    turned,
    with_own_ids,
)
from labelclean.review.exchange.foreign_file import foreign_json
from labelclean.review.exchange.json_values import record, record_list, words
from labelclean.review.exchange.places import encoding_of, json_places

_EARLIER = "earlier or skipped annotations (of a task the last one submitted counts)"
_OTHERS = "results that are no rectangles (choices, polygons, brushes and the like)"
_PICTURE = re.compile(r"\.(bmp|jfif|jpe|jpe?g|png|tiff?|webp)($|[?#])", re.IGNORECASE)
_SIDES = ("x", "y", "width", "height")


def has_results(content: Any, kind: str) -> bool:
    """Return whether an annotation of an export holds results of a kind, such as `rectanglelabels` or `choices`."""
    return any(
        isinstance(result, dict) and result.get("type") == kind
        for task in content
        if isinstance(task, dict)
        for one in task.get("annotations") or task.get("completions") or ()
        if isinstance(one, dict)
        for result in one.get("result") or ()
    )


def label_studio_boxes(files: Files, origin: Path, control: str | None = None) -> FoundBoxes:
    """Return the rectangles of a Label Studio export.

    Args:
        files: The file.
        origin: Its name, for the error message.
        control: Name of the control that asks for the class; default: the only one.

    Returns:
        The boxes; `sample_id` is the task's and the region's id. One that is turned becomes the upright one around it.

    Raises:
        TableError: If a task has no image, several controls ask, or numbers are missing; all in one letter.
        ExchangeError: If the file is no whole JSON.
    """
    content = foreign_json(files[""].decode(encoding_of(files[""], origin)).removeprefix("\ufeff"), origin)
    boxes: list[FoundBox] = []
    left_out: dict[str, list[str]] = {_EARLIER: [], _OTHERS: [], NO_CLASS: [], SEVERAL_CLASSES: []}
    controls, faults = set[str](), list[str]()
    tasks = record_list(content, "the file", origin)
    for at, task in enumerate(tasks):
        image = _image(record(task.get("data"), f"task {at + 1}: data", origin), at, origin)
        place, annotation, earlier = _last(task, at, origin)
        left_out[_EARLIER] += [image] * earlier
        for number, result in enumerate(record_list(annotation.get("result") or [], f"task {at + 1}: result", origin)):
            value = record(result.get("value"), f"task {at + 1}: value", origin)
            if result.get("type") != "rectanglelabels" or control not in (None, words(result.get("from_name"))):
                left_out[_OTHERS].append(image)
                continue
            controls.add(str(words(result.get("from_name"))))
            names = value.get("rectanglelabels")
            if not isinstance(names, list) or len(names) != 1 or words(names[0]) is None:
                left_out[SEVERAL_CLASSES if names else NO_CLASS].append(image)
                continue
            box = _box(result, value)
            if box is None:
                faults.append(f"task {words(task.get('id')) or at + 1}, region {result.get('id')!r:.40}")
                continue
            region = words(result.get("id")) or f"result {number + 1}"
            where = (*place, "result", number, "value", "rectanglelabels", 0)
            boxes.append(FoundBox(f"{words(task.get('id')) or at + 1}/{region}", image, names[0], box, where))
    check_faults(faults, "x, y, width, height, original_width and original_height as numbers", origin)
    if len(controls) > 1:
        raise TableError(
            f"{origin}: one control must ask for the class, but rectangles stand in {listed(sorted(controls))}. Say which: "
            "--column given_label=NAME."
        )
    return FoundBoxes(with_own_ids(boxes), (), left_out, len(tasks))


def label_studio_with_classes(files: Files, classes: Mapping[Place, str], origin: Path) -> dict[str, bytes]:
    """Return an export with other classes; arguments and result as for `coco.coco_with_classes`, but any name is taken."""
    codec = encoding_of(files[""], origin)
    text = files[""].decode(codec)
    wanted = {place[1:]: json.dumps(name, ensure_ascii=text.isascii()) for place, name in classes.items()}
    places = json_places(text, wanted.keys())
    return {"": rewritten(text, {span: wanted[place] for place, span in places.items()}).encode(codec)}


# --- inside ---------------------------------------------------------------------------------------


def _image(data: Mapping[str, Any], at: int, origin: Path) -> str:
    """The only image of a task."""
    texts = [value for value in data.values() if isinstance(value, str)]
    pictures = [text for text in texts if _PICTURE.search(text)] or [text for text in texts if "://" in text]
    if len(pictures) != 1:
        raise TableError(
            f"{origin}: every task must have one image, but task {at + 1:,} has {listed(pictures) or 'none'}."
        )
    return pictures[0]


def _last(task: Mapping[str, Any], at: int, origin: Path) -> tuple[Place, dict[str, Any], int]:
    """Place and content of the annotation that counts, and how many others there are."""
    key = "annotations" if "annotations" in task else "completions"
    results = record_list(task.get(key) or [], f"task {at + 1}: {key}", origin)
    counting = [
        (str(one.get("updated_at") or one.get("created_at") or ""), number)
        for number, one in enumerate(results)
        if not (one.get("was_cancelled") or one.get("skipped"))
    ]
    if not counting:
        return ("", at, key), {}, len(results)
    last = max(counting)[1]
    return ("", at, key, last), results[last], len(results) - 1


def _box(result: Mapping[str, Any], value: Mapping[str, Any]) -> Box | None:
    """A rectangle in pixels; None where a number is missing."""
    size = numbers([result.get("original_width"), result.get("original_height")])
    sides = numbers([value.get(side) for side in _SIDES])
    turn = numbers([value.get("rotation") or 0])
    if size is None or sides is None or turn is None:
        return None
    across, down = size[0] / 100, size[1] / 100
    box = Box(sides[0] * across, sides[1] * down, sides[2] * across, sides[3] * down)
    return turned(box, turn[0], (box.x_px, box.y_px))
