"""Label Studio: JSON, JSON-MIN and CSV exports; one choice per annotation, drafts and predictions are left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labelclean.errors import TableError, listed
from labelclean.review.exchange.json_values import needed_words, record, record_list, words
from labelclean.starting.images import looks_like_image
from labelclean.starting.rows import Collect, LabelledImage, Rows, one_label_each, rows_of_images

_OWN = {
    "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "inner_id", "total_annotations",
    "cancelled_annotations", "total_predictions", "comment_count", "unresolved_comment_count", "predictions",
    "comment_authors", "last_comment_updated_at", "project", "agreement", "drafts",
}  # fmt: skip
_SKIPPED = "annotations that were skipped"
_DRAFTS = "drafts (not submitted)"
_PREDICTIONS = "predictions (no person gave them)"
_NO_CHOICES = "results that are no choices for a whole image (boxes, taxonomies, text and the like)"
_OLDER = "earlier annotations by the same person (the last one counts)"


def is_label_studio(content: Any) -> bool:
    """Return whether JSON is Label Studio's full export."""
    return _is_list_with(content, {"data"}) and any(
        isinstance(task, dict) and ("annotations" in task or "completions" in task) for task in content
    )


def is_label_studio_min(content: Any) -> bool:
    """Return whether JSON is Label Studio's JSON-MIN."""
    return _is_list_with(content, {"annotation_id", "annotator"})


def is_label_studio_header(header: Sequence[str]) -> bool:
    """Return whether a CSV file's header is that of Label Studio."""
    return {"annotation_id", "annotator"} <= set(header)


def label_studio_rows(content: Any, control: str | None, origin: Path, collect: Collect = one_label_each) -> Rows:
    """Return the choices in Label Studio's JSON export.

    Args:
        content: The file's JSON, a list of tasks.
        control: Name of the control that asks for the class; default: the only one that asks for choices.
        origin: The file, for the error message.
        collect: Whether an image has one label, or several.

    Returns:
        One row per annotation with one choice, `annotator_id` says whose; `sample_id` is the image. Where an image may have
        several, one row per image.

    Raises:
        TableError: If a task has no image, several controls ask for choices, or no annotation has one choice.
    """
    images: list[LabelledImage] = []
    controls: dict[str, int] = {}
    left_out: dict[str, list[str]] = {what: [] for what in (_SKIPPED, _DRAFTS, _PREDICTIONS, _NO_CHOICES)}
    tasks = record_list(content, "the file", origin)
    for number, task in enumerate(tasks, start=1):
        path = _image_of(record(task.get("data"), f"task {number}: data", origin).values(), number, origin)
        annotations = task.get("annotations", task.get("completions"))
        for one in record_list(annotations or [], f"task {number}: annotations", origin):
            if one.get("was_cancelled") or one.get("skipped"):
                left_out[_SKIPPED].append(path)
                continue
            results = record_list(one.get("result") or [], f"task {number}: result", origin)
            chosen, others = _choices(results, control, controls, number, origin)
            left_out[_NO_CHOICES] += [path] * others
            images.append(LabelledImage(path, tuple(chosen), _who(one.get("completed_by"), one)))
        left_out[_DRAFTS] += [path] * bool(task.get("drafts"))
        left_out[_PREDICTIONS] += [path] * bool(task.get("predictions"))
        if not annotations:
            images.append(LabelledImage(path, ()))
    if (control is None and len(controls) > 1) or (control is not None and control not in controls):
        raise TableError(
            f"{origin}: one control must ask for the class, but choices stand in {listed(sorted(controls)) or 'none'}. Say "
            "which: --column given_label=NAME."
        )
    return _rows(images, f"Label Studio JSON: {len(tasks):,} tasks", origin, left_out, collect)


def flat_rows(
    records: Iterable[Mapping[str, Any]],
    column: str | None,
    source: str,
    origin: Path,
    collect: Collect = one_label_each,
) -> Rows:
    """Return the choices in Label Studio's JSON-MIN or CSV export.

    Args:
        records: One mapping per annotation.
        column: The column that holds the choice; default: the only one that may.
        source: What was read, in words.
        origin: The file, for the error message.
        collect: As for `label_studio_rows`.

    Returns:
        As for `label_studio_rows`.

    Raises:
        TableError: If no column, or more than one, may hold the choice.
    """
    records = list(records)
    names = dict.fromkeys(name for one in records for name in one if name not in _OWN)
    images_in = [name for name in names if any(_is_image(one.get(name)) for one in records)]
    maybe = [name for name in names if name not in images_in and any(_choice(one.get(name)) for one in records)]
    if column is not None:
        maybe = [name for name in maybe if name == column]
    if len(maybe) != 1 or not images_in:
        raise TableError(
            f"{origin}: one column must hold the image and one the choice, but images stand in "
            f"{listed(images_in) or 'none'} and choices in {listed(maybe) or 'none'} of {listed(list(names), 12)}. Say "
            "which: --column given_label=NAME."
        )
    images: list[LabelledImage] = []
    left_out: dict[str, list[str]] = {_NO_CHOICES: []}
    for number, one in enumerate(records, start=1):
        path = _image_of((one.get(name) for name in images_in), number, origin)
        value = one.get(maybe[0])
        if value and _choice(value) is None:
            left_out[_NO_CHOICES].append(path)
        images.append(LabelledImage(path, tuple(_choice(value) or ()), _who(one.get("annotator"), one)))
    return _rows(images, f"{source}: {len(records):,} annotations", origin, left_out, collect)


# --- inside ---------------------------------------------------------------------------------------


def _is_list_with(content: Any, keys: set[str]) -> bool:
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and keys <= content[0].keys()


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and looks_like_image(value)


def _image_of(values: Iterable[Any], number: int, origin: Path) -> str:
    """The only image of a task; an address may have no suffix."""
    texts = [value for value in values if isinstance(value, str)]
    pictures = [text for text in texts if _is_image(text)] or [text for text in texts if "://" in text]
    if len(pictures) != 1:
        raise TableError(
            f"{origin}: every task must have one image, but task {number:,} has {listed(pictures) or 'none'}."
        )
    return needed_words(pictures[0], f"task {number}: the image", origin)


def _choices(
    results: list[dict[str, Any]], control: str | None, controls: dict[str, int], number: int, origin: Path
) -> tuple[list[str], int]:
    """A control's choices for the whole image, and how many results are no choices; controls that ask are counted."""
    chosen: list[str] = []
    others = 0
    for result in results:
        value = record(result.get("value"), f"task {number}: value", origin)
        if result.get("type") == "choices" and not {"x", "points"} & value.keys():
            name = words(result.get("from_name")) or ""
            controls[name] = controls.get(name, 0) + 1
            chosen += (_choice(value) or []) if control in (None, name) else []
        else:
            others += 1
    return chosen, others


def _choice(value: Any) -> list[str] | None:
    """The names that a cell or value holds; None for anything but choices."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    if isinstance(value, dict):
        value = value.get("choices")
    names = value if isinstance(value, list) else [value]
    texts = [name for name in map(words, names) if name]
    return texts if texts and len(texts) == len(names) else None


def _who(value: Any, annotation: Mapping[str, Any]) -> dict[str, str | None]:
    """Who annotated, and when."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    when = annotation.get("updated_at") or annotation.get("created_at")
    return {"annotator_id": words(value), "annotated_at": words(when)}


def _rows(
    images: list[LabelledImage], source: str, origin: Path, left_out: dict[str, list[str]], collect: Collect
) -> Rows:
    """One row per image and person, the last one of each; or what is made of them where an image may have several."""
    if collect is not one_label_each:
        return rows_of_images(images, source, origin, collect, left_out)
    last: dict[tuple[str, str | None], LabelledImage] = {}
    older: list[str] = []
    for image in images:
        key = (image.path, image.more.get("annotator_id"))
        before = last.get(key)
        if before is not None:
            older.append(image.path)
            if (before.more.get("annotated_at") or "") > (image.more.get("annotated_at") or ""):
                continue
        last[key] = image
    rows = rows_of_images(last.values(), source, origin, collect, {**left_out, _OLDER: older})
    people = rows.table.column("annotator_id") if "annotator_id" in rows.table.column_names else None
    if people is None or people.null_count == 0:
        return rows
    nameless = people.null_count
    seen = (f"{nameless:,} annotations do not say by whom: they stand as by 'not named'",)
    place = rows.table.column_names.index("annotator_id")
    filled = people.fill_null("not named")
    return Rows(rows.source, rows.table.set_column(place, "annotator_id", filled), rows.left_out, seen)
