"""Label Studio: tasks with suggestions to it, JSON exports strictly back from it.

Classes go through three controls: `label` (it is this class), `lc_one_of` (it is
one of these) and `lc_not_class` (it is not one of these); `lc_flag` says unsure,
bad image or none of these, of all classes. A cancelled annotation is a skipped sample.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from labelclean.errors import ExchangeError, listed
from labelclean.review.exchange.answers import Answer, set_answer
from labelclean.review.exchange.foreign_file import foreign_json, foreign_text
from labelclean.review.exchange.package import ExportPart
from labelclean.review.exchange.tasks import QueueToExport, SetSuggestion, Task

TOOL = "label-studio"
TASKS = "tasks.json"
CONTROLS = ("label", "lc_one_of", "lc_not_class", "lc_flag")
FLAGS = {"unsure", "bad_image", "none_of_these"}
CONFIG = "config.xml"
NO_LABEL = "no_label"
"""The answer that none of the classes is on an image that may have several."""
NEXT_STEP = (
    "In Label Studio: new project with config.xml as labelling interface, a Local Files source storage whose path is "
    "this folder (save, do not sync), then import each part_*/tasks.json. Or: labelclean export ... --push"
)
ROOT_VARIABLE = "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def labelling_config(class_names: Sequence[str], *, is_set: bool = False) -> str:
    """Return the labelling interface for a list of classes.

    Args:
        class_names: The K class names in order.
        is_set: An image may have several labels, or none.

    Returns:
        XML; names are escaped and come back as they were.

    Raises:
        ExchangeError: If a name cannot stand in XML.

    Examples:
        >>> "dent &amp; crack" in labelling_config(["ok", "dent & crack"])
        True
    """
    broken = [name for name in class_names if _NO_XML.search(name)]
    if broken:
        raise ExchangeError(
            f"class names must not hold control characters to be written as XML, but {listed(broken)} do. "
            "Rename them in the labels."
        )
    choices = [f"    <Choice value={quoteattr(name)}{_hotkey(k)}/>" for k, name in enumerate(class_names)]
    plain = [f"    <Choice value={quoteattr(name)}/>" for name in class_names]
    partial = (
        [
            '  <Header value="Only if you cannot name the class:" size="5"/>',
            '  <Header value="one of these" size="6"/>',
            '  <Choices name="lc_one_of" toName="image" choice="multiple" showInline="true">',
            *plain,
            "  </Choices>",
            '  <Header value="not one of these" size="6"/>',
            '  <Choices name="lc_not_class" toName="image" choice="multiple" showInline="true">',
            *plain,
            "  </Choices>",
        ]
        if len(class_names) > 2 and not is_set
        else []
    )
    lines = [
        "<View>",
        '  <Header value="$lc_reason"/>',
        '  <Image name="image" value="$image" zoom="true" zoomControl="true" brightnessControl="true"'
        ' contrastControl="true"/>',
        f'  <Choices name="label" toName="image" choice="{"multiple" if is_set else "single"}" showInline="true">',
        *choices,
        "  </Choices>",
        '  <Choices name="lc_flag" toName="image" choice="multiple" showInline="true">',
        '    <Choice value="unsure"/>',
        '    <Choice value="bad_image"/>',
        '    <Choice value="no_label"/>' if is_set else '    <Choice value="none_of_these"/>',
        "  </Choices>",
        *partial,
        "</View>",
    ]
    return "\n".join(lines) + "\n"


def image_prefix(out: Path, document_root: Path | None) -> str:
    """Return the path of the export folder below the server's document root.

    Args:
        out: The export folder.
        document_root: The root; default: the folder above ``out``.

    Returns:
        A POSIX path.

    Raises:
        ExchangeError: If the folder is not below the root, or the path is not safe in a URL.
    """
    folder, root = out.resolve(), (document_root or out.resolve().parent).resolve()
    if root == folder or not folder.is_relative_to(root):
        raise ExchangeError(
            f"{out}: for Label Studio the export folder must lie below its document root {str(root)!r} "
            f"({ROOT_VARIABLE}), but does not. Choose --out below it."
        )
    prefix = folder.relative_to(root).as_posix()
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", prefix):
        raise ExchangeError(
            f"{out}: Label Studio needs a path of ASCII letters, digits, '.', '_' and '-' below its document root, but "
            f"it is {prefix!r}. Choose another --out."
        )
    return prefix


def shared_files(queue: QueueToExport) -> dict[str, bytes]:
    """Return the files that all parts share.

    Args:
        queue: What is exported.

    Returns:
        The labelling interface.
    """
    return {CONFIG: labelling_config(queue.class_names, is_set=queue.several_labels).encode()}


def part_files(queue: QueueToExport, part: ExportPart, prefix: str, version: str) -> dict[str, bytes]:
    """Return the task file of a part.

    Args:
        queue: What is exported.
        part: The part.
        prefix: Path of the export folder below the document root.
        version: labelclean's version.

    Returns:
        `tasks.json`.
    """
    place = f"{prefix}/{part.folder.name}/images"
    tasks = [_task(queue, task, f"/data/local-files/?d={place}/{task.item.key}.png", version) for task in part.tasks]
    return {TASKS: json.dumps(tasks, ensure_ascii=False, indent=1).encode()}


def read_answers(path: Path, *, is_set: bool = False) -> list[Answer]:
    """Return what a Label Studio JSON export says: one answer per annotation.

    Args:
        path: A JSON export (tasks with their annotations), or files of a target storage
            (annotations with their task).
        is_set: An image may have several labels, or none.

    Returns:
        Answers; a task without an annotation gives an empty one.

    Raises:
        ExchangeError: If the file is something else.
    """
    rows = foreign_json(foreign_text(path), path)
    rows = rows if isinstance(rows, list) else [rows]
    answers: list[Answer] = []
    for number, row in enumerate(rows, start=1):
        answers += _answers(*_task_and_annotations(row, number, path), path, has_draft=bool(row.get("drafts")))
    return [_as_set(answer) if is_set else _as_one(answer) for answer in answers]


# --- inside ---------------------------------------------------------------------------------------


def _hotkey(index: int) -> str:
    return f' hotkey="{index + 1}"' if index < 9 else ""


def _task(queue: QueueToExport, task: Task, image: str, version: str) -> dict[str, Any]:
    item, suggestion = task.item, task.suggestion
    data: dict[str, Any] = {
        "image": image,
        "lc_key": item.key,
        "lc_sample_id": item.sample_id,
        "lc_run_id": queue.run_id,
        "lc_dataset": queue.dataset,
        "lc_priority": task.rank,
        "lc_reason": "",
    }
    if task.sets is not None:
        return _set_task(queue, task, task.sets, data, version)
    if suggestion is None:
        return {"data": data}
    data |= {
        "lc_given_label": suggestion.given_label,
        "lc_label_score": suggestion.label_score,
        "lc_reason": suggestion.why,
        "lc_neighbours": ", ".join(suggestion.neighbour_ids),
    }
    if suggestion.predicted_label is None:
        return {"data": data}
    result = {
        "id": f"{item.key[-20:]}-label",
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [suggestion.predicted_label]},
    }
    model = f"labelclean-{version}/{queue.config.backbone.name}/{queue.run_id}"
    return {
        "data": data,
        "predictions": [{"model_version": model, "score": suggestion.probability, "result": [result]}],
    }


def _set_task(
    queue: QueueToExport, task: Task, sets: SetSuggestion, data: dict[str, Any], version: str
) -> dict[str, Any]:
    """A task about an image that may have several labels; those that we would give are ticked."""
    data = data | {
        "lc_given_label": item_words(sets.given),
        "lc_label_score": sets.label_score,
        "lc_reason": sets.why,
        "lc_neighbours": ", ".join(sets.neighbour_ids),
    }
    kind = {"to_name": "image", "type": "choices"}
    ticked = ("label", list(sets.predicted)) if sets.predicted else ("lc_flag", [NO_LABEL])
    result = {"id": f"{task.item.key[-20:]}-label", "from_name": ticked[0], **kind, "value": {"choices": ticked[1]}}
    model = f"labelclean-{version}/{queue.config.backbone.name}/{queue.run_id}"
    return {"data": data, "predictions": [{"model_version": model, "score": sets.label_score, "result": [result]}]}


def item_words(names: Sequence[str]) -> str:
    """Return a set of labels in words."""
    return ", ".join(names) or NO_LABEL


def _as_one(answer: Answer) -> Answer:
    """An answer about an image that has one label: none is no answer."""
    return replace(answer, fault=f"lc_flag holds {NO_LABEL}") if NO_LABEL in answer.marks else answer


def _as_set(answer: Answer) -> Answer:
    """An answer whose labels are all of the image's; `no_label` says that it has none."""
    others = replace(answer, marks=answer.marks - {NO_LABEL})
    return set_answer(others, NO_LABEL, says_none=NO_LABEL in answer.marks)


def _task_and_annotations(row: Any, number: int, path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The task's data and its annotations, from both shapes in which they come."""
    if isinstance(row, dict):
        if isinstance(row.get("task"), dict) and isinstance(row["task"].get("data"), dict):
            return row["task"]["data"], [row]
        if isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list):
            return row["data"], row["annotations"]
    raise ExchangeError(
        f"{path}: every entry must be a task with 'data' and 'annotations', but entry {number:,} is not. "
        "Export as JSON (not JSON-MIN or CSV, which mix annotators)."
    )


def _answers(data: dict[str, Any], annotations: Iterable[Any], path: Path, *, has_draft: bool) -> list[Answer]:
    values: dict[str, Any] = {name: data.get(f"lc_{name}") for name in ("key", "sample_id", "run_id", "dataset")}
    if not all(isinstance(value, str) for value in values.values()):
        raise ExchangeError(
            f"{path}: every task must hold lc_key, lc_sample_id, lc_run_id and lc_dataset in its data, but one holds "
            f"{listed(sorted(data), 12)}. It does not come from `labelclean export`; nothing was imported."
        )
    answers = [_answer(annotation, values) for annotation in annotations]
    fault = "holds a draft, which was never submitted" if has_draft else ""
    return answers or [Answer(annotator_id=TOOL, fault=fault, **values)]


def _answer(annotation: Any, said: dict[str, Any]) -> Answer:
    if not isinstance(annotation, dict):
        return Answer(annotator_id=TOOL, fault="the annotation is no object", **said)
    who = _annotator(annotation.get("completed_by"))
    try:
        at = _time(annotation.get("updated_at") or annotation.get("created_at"))
        if annotation.get("was_cancelled"):
            return Answer(annotator_id=who, reviewed_at=at, marks=frozenset({"skipped"}), **said)
        chosen = _chosen(annotation.get("result"))
    except (ValueError, TypeError, KeyError) as fault:
        return Answer(annotator_id=who, fault=f"the annotation cannot be read: {fault}", **said)
    if not any(chosen.values()):
        return Answer(annotator_id=who, fault="was submitted without an answer", **said)
    flags = chosen.get("lc_flag", ())
    return Answer(
        annotator_id=who,
        reviewed_at=at,
        labels=chosen.get("label", ()),
        one_of=chosen.get("lc_one_of", ()),
        not_class=chosen.get("lc_not_class", ()),
        marks=frozenset(flags),
        fault="" if set(flags) <= FLAGS | {NO_LABEL} else f"lc_flag holds {listed(flags)}",
        **said,
    )


def _annotator(completed_by: Any) -> str:
    """A user's name here: the number that exports and storages share."""
    user = completed_by.get("id") if isinstance(completed_by, dict) else completed_by
    return f"{TOOL}:{user}" if isinstance(user, int | str) and not isinstance(user, bool) else TOOL


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return at


def _chosen(result: Any) -> dict[str, tuple[str, ...]]:
    """The choices of each control; any other answer is refused, for it would be lost."""
    chosen: dict[str, tuple[str, ...]] = {}
    for part in result or ():
        if part["type"] != "choices" or part["from_name"] not in CONTROLS:
            raise ValueError(
                f"{part['type']} of control {part['from_name']!r} is no answer here; config.xml of the export asks for choices "
                f"of {listed(CONTROLS)}"
            )
        values = part["value"]["choices"]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError("choices must be a list of texts")
        chosen[part["from_name"]] = (*chosen.get(part["from_name"], ()), *values)
    return chosen
