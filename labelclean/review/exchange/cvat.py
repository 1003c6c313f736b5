"""CVAT: `CVAT for images 1.1` to it and strictly back from it, matched by file name.

A suggestion goes as the tag `lc_suggestion`, not as a class: CVAT gives back a
class tag that nobody looked at exactly as one that a person left standing.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from labelclean.errors import ExchangeError, listed
from labelclean.review.exchange.answers import Answer, set_answer
from labelclean.review.exchange.foreign_file import foreign_bytes, xml_elements, zip_member
from labelclean.review.exchange.manifest import key_of_file
from labelclean.review.exchange.package import ExportPart, preview_path
from labelclean.review.exchange.tasks import QueueToExport, Task

TOOL = "cvat"
LABELS = "labels.json"
ANNOTATIONS = "annotations.xml"
NEXT_STEP = (
    "For each part: cvat-cli task create NAME local part_001/images/*.png --labels labels.json "
    "--sorting-method predefined --image_quality 100 --annotation_path part_001/annotations.xml "
    '--annotation_format "CVAT 1.1"; back: cvat-cli task export-dataset --format "CVAT for images 1.1" ID out.zip'
)
SUGGESTION = "lc_suggestion"
NO_LABEL = "lc_no_label"
"""The tag that says that none of the classes is on an image that may have several."""
MARK_TAGS = {
    "lc_unsure": "unsure",
    "lc_bad_image": "bad_image",
    "lc_none_of_these": "none_of_these",
    "lc_one_of": "one_of",
    "lc_not_class": "not_class",
}
MARK_TAGS_OF_SETS = ("lc_unsure", "lc_bad_image")
_ID_OFFSET = 1_000_000_000  # a name that fails to match must not fall back to a frame number
_NO_XML = re.compile(r"[\x00-\x1f\ud800-\udfff\ufffe\uffff]")


def shared_files(queue: QueueToExport) -> dict[str, bytes]:
    """Return the files that all parts share.

    Args:
        queue: What is exported.

    Returns:
        The task's labels for `cvat-cli --labels`.

    Raises:
        ExchangeError: If a class name cannot stand in CVAT.
    """
    broken = [name for name in queue.class_names if _NO_XML.search(name) or name != name.strip()]
    taken = sorted({SUGGESTION, NO_LABEL, *MARK_TAGS} & set(queue.class_names))
    if broken or taken:
        raise ExchangeError(
            f"class names must be free of control characters and outer blanks and differ from {SUGGESTION!r} and "
            f"{listed(sorted(MARK_TAGS))} for CVAT, but {listed([*broken, *taken])} are not. Rename them in the labels."
        )
    return {LABELS: json.dumps(_labels(queue), ensure_ascii=False, indent=1).encode()}


def part_files(queue: QueueToExport, part: ExportPart) -> dict[str, bytes]:
    """Return the annotation file of a part.

    Args:
        queue: What is exported.
        part: The part; its previews are written.

    Returns:
        `annotations.xml`.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    _add_meta(root, queue, part)
    for task in part.tasks:
        _add_image(root, task, preview_path(part, task))
    indent(root)
    return {ANNOTATIONS: tostring(root, encoding="utf-8", xml_declaration=True)}


def read_answers(path: Path, annotator: str, *, is_set: bool = False) -> list[Answer]:
    """Return what a CVAT export says: one answer per image.

    Args:
        path: `annotations.xml`, or the zip file that holds it.
        annotator: Who answered; the format does not say.
        is_set: An image may have several labels: its class tags are all of them, `lc_no_label` says that it has none.

    Returns:
        Answers; an image without a class tag gives an empty one.

    Raises:
        ExchangeError: If the file is something else, damaged or unsafe.
    """
    data = foreign_bytes(path)
    if zipfile.is_zipfile(path):
        data = zip_member(path, lambda name: name == ANNOTATIONS, f"{ANNOTATIONS!r}")
    answers: list[Answer] = []
    root_tag = ""
    for element in xml_elements(data, ("image", "track", "annotations"), path):
        root_tag = element.tag
        if element.tag == "track":
            raise ExchangeError(
                f"{path}: every answer must be a tag on an image, but there is a video track of label {element.get('label')!r}. "
                "Answer with tags, in a task of images; nothing was imported."
            )
        if element.tag == "image":
            answers.append(_answer(element, annotator, path))
    if root_tag != "annotations":
        raise ExchangeError(
            f"{path}: must be an <annotations> file of 'CVAT for images 1.1', but ends with <{root_tag}>. "
            "Export the task in that format."
        )
    return [_as_set(answer) for answer in answers] if is_set else answers


# --- inside ---------------------------------------------------------------------------------------


def _labels(queue: QueueToExport) -> list[dict[str, Any]]:
    """All labels of the CVAT task: classes, answers without a class, and the suggestion."""
    text = {"mutable": False, "input_type": "text", "default_value": "", "values": []}
    marks = (NO_LABEL, *MARK_TAGS_OF_SETS) if queue.several_labels else tuple(MARK_TAGS)
    labels = [{"name": name, "type": "tag", "attributes": []} for name in (*queue.class_names, *marks)]
    attributes = [{"name": name} | text for name in ("lc_label", "lc_label_score", "lc_reason")]
    return [*labels, {"name": SUGGESTION, "type": "tag", "attributes": attributes}]


def _add_meta(root: Element, queue: QueueToExport, part: ExportPart) -> None:
    """What readers other than CVAT's server need to know the labels."""
    task = SubElement(SubElement(root, "meta"), "task")
    described = {
        "name": f"{queue.dataset} {queue.run_id} part {part.number}",
        "size": len(part.tasks),
        "mode": "annotation",
    }
    for name, value in described.items():
        SubElement(task, name).text = str(value)
    labels = SubElement(task, "labels")
    for label in _labels(queue):
        element = SubElement(labels, "label")
        SubElement(element, "name").text = label["name"]
        SubElement(element, "type").text = label["type"]
        attributes = SubElement(element, "attributes")
        for attribute in label["attributes"]:
            inner = SubElement(attributes, "attribute")
            SubElement(inner, "name").text = attribute["name"]
            SubElement(inner, "input_type").text = attribute["input_type"]


def _add_image(root: Element, task: Task, preview: Path) -> None:
    width, height = png_size(preview)
    name = f"{task.item.key}.png"
    image = SubElement(root, "image", id=str(_ID_OFFSET + task.rank), name=name, width=str(width), height=str(height))
    if task.sets is not None:
        tag = SubElement(image, "tag", label=SUGGESTION, source="auto")
        suggestion = {
            "lc_label": ", ".join(task.sets.predicted) or NO_LABEL,
            "lc_label_score": str(task.sets.label_score),
        }
        for name, value in (suggestion | {"lc_reason": task.sets.why}).items():
            SubElement(tag, "attribute", name=name).text = value
        return
    if task.suggestion is None:
        return
    tag = SubElement(image, "tag", label=SUGGESTION, source="auto")
    suggested = task.suggestion.predicted_label
    said = ({"lc_label": suggested} if suggested else {}) | {
        "lc_label_score": str(task.suggestion.label_score),
        "lc_reason": task.suggestion.why,
    }
    for name, value in said.items():
        SubElement(tag, "attribute", name=name).text = value


def png_size(path: Path) -> tuple[int, int]:
    """Return a PNG file's width and height in pixels.

    Args:
        path: A preview.

    Returns:
        (width, height).
    """
    with path.open("rb") as file:
        width, height = struct.unpack(">II", file.read(24)[16:])
    return width, height


def _answer(image: Element, annotator: str, path: Path) -> Answer:
    name = image.get("name")
    if not name:
        raise ExchangeError(f"{path}: every image must have a name, but one has none. Export the task again.")
    tags = [tag.get("label") or "" for tag in image.iter("tag") if tag.get("label") != SUGGESTION]
    shapes = sorted({shape.tag for shape in image if shape.tag != "tag"})
    if shapes:
        return Answer(
            key_of_file(name), annotator, fault=f"holds {listed(shapes)}; only tags say the class of an image"
        )
    marks = {MARK_TAGS[tag] for tag in tags if tag in MARK_TAGS}
    classes = tuple(tag for tag in tags if tag not in MARK_TAGS)
    return _worded(key_of_file(name), annotator, classes, marks)


def _as_set(answer: Answer) -> Answer:
    """An answer whose class tags are all of the image's."""
    labels = tuple(name for name in answer.labels if name != NO_LABEL)
    return set_answer(replace(answer, labels=labels), NO_LABEL, says_none=labels != answer.labels)


def _worded(key: str, annotator: str, classes: tuple[str, ...], marks: set[str]) -> Answer:
    partial = sorted(marks & {"one_of", "not_class"})
    if len(partial) > 1 or (partial and not classes):
        return Answer(key, annotator, fault=f"{' and '.join(partial)} with classes {listed(classes) or 'none'}")
    flags = frozenset(marks - set(partial))
    if partial == ["one_of"]:
        return Answer(key, annotator, one_of=classes, marks=flags)
    if partial == ["not_class"]:
        return Answer(key, annotator, not_class=classes, marks=flags)
    return Answer(key, annotator, labels=classes, marks=flags)
