"""FiftyOne: an image classification dataset per part with a small loader, and the loader's answers strictly back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labelclean.errors import ExchangeError, listed
from labelclean.review.exchange.answers import Answer
from labelclean.review.exchange.foreign_file import foreign_json, foreign_text
from labelclean.review.exchange.package import ExportPart
from labelclean.review.exchange.tasks import QueueToExport, Task

TOOL = "fiftyone"
IMAGE_FOLDER = "data"
SAMPLES, LABELS, LOADER = "samples.json", "labels.json", "labelclean_fiftyone.py"
NEXT_STEP = (
    "In Python: from labelclean_fiftyone import load, save_answers; dataset = load('part_001', 'review'); set "
    "ground_truth and tag what you have looked at 'reviewed' (or 'unsure', 'bad_image', 'none_of_these'); "
    "save_answers(dataset, 'answers.json')"
)
TAGS = ("reviewed", "unsure", "bad_image", "none_of_these")
_FORMAT = "labelclean fiftyone answers 1"
_LOADER = '''"""Opens a part of a labelclean export in FiftyOne and writes the answers back."""

import json
from pathlib import Path

import fiftyone as fo


def load(part, name):
    """Return the part as a FiftyOne dataset; mistakenness: high = look sooner."""
    dataset = fo.Dataset(name)
    for row in json.loads((Path(part) / "samples.json").read_text(encoding="utf-8")):
        sample = fo.Sample(filepath=str(Path(part).resolve() / row["filepath"]), lc_rank=row["lc_rank"])
        for field in ("lc_key", "lc_sample_id", "lc_run_id", "lc_dataset"):
            sample[field] = row[field]
        if "given_label" in row:
            sample["ground_truth"] = fo.Classification(label=row["given_label"])
            if row["predicted_label"] is not None:
                sample["predictions"] = fo.Classification(label=row["predicted_label"], confidence=row["confidence"])
            sample["mistakenness"] = row["mistakenness"]
            sample["lc_reason"] = row["lc_reason"]
        dataset.add_sample(sample)
    return dataset


def save_answers(dataset, path, annotator=""):
    """Write what was decided: samples tagged reviewed, unsure, bad_image or none_of_these."""
    rows = []
    for sample in dataset:
        truth = sample.get_field("ground_truth") if sample.has_field("ground_truth") else None
        row = {field: sample[field] for field in ("lc_key", "lc_sample_id", "lc_run_id", "lc_dataset")}
        rows.append(row | {"label": truth.label if truth else None, "tags": sorted(sample.tags), "annotator": annotator})
    answers = {"format": "labelclean fiftyone answers 1", "answers": rows}
    Path(path).write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
'''


def shared_files() -> dict[str, bytes]:
    """Return the files that all parts share.

    Returns:
        The loader.
    """
    return {LOADER: _LOADER.encode()}


def part_files(queue: QueueToExport, part: ExportPart) -> dict[str, bytes]:
    """Return the files of a part.

    Args:
        queue: What is exported.
        part: The part.

    Returns:
        `samples.json` for the loader, and `labels.json` as FiftyOne's own importer reads it,
        with the given labels, null for blind tasks.
    """
    names = list(queue.class_names)
    given = ((task.item.key, task.suggestion) for task in part.tasks)
    labels = {key: names.index(seen.given_label) if seen else None for key, seen in given}
    return {
        SAMPLES: json.dumps([_row(queue, task) for task in part.tasks], ensure_ascii=False, indent=1).encode(),
        LABELS: json.dumps({"classes": names, "labels": labels}, ensure_ascii=False).encode(),
    }


def read_answers(path: Path, annotator: str) -> list[Answer]:
    """Return what the loader's `save_answers` wrote: one answer per sample.

    Args:
        path: The file.
        annotator: Who answered where the file does not say.

    Returns:
        Answers; a sample without a tag gives an empty one.

    Raises:
        ExchangeError: If the file is something else.
    """
    record = foreign_json(foreign_text(path), path)
    rows = record.get("answers") if isinstance(record, dict) and record.get("format") == _FORMAT else None
    if not isinstance(rows, list):
        raise ExchangeError(
            f"{path}: must be written by save_answers of {LOADER}, which keeps apart what was reviewed and what was "
            "not, but is not. Load the export with that file."
        )
    return [_answer(row, number, annotator, path) for number, row in enumerate(rows, start=1)]


# --- inside ---------------------------------------------------------------------------------------


def _row(queue: QueueToExport, task: Task) -> dict[str, Any]:
    item, seen = task.item, task.suggestion
    row: dict[str, Any] = {
        "filepath": f"{IMAGE_FOLDER}/{item.key}.png",
        "lc_key": item.key,
        "lc_sample_id": item.sample_id,
        "lc_run_id": queue.run_id,
        "lc_dataset": queue.dataset,
        "lc_rank": task.rank,
    }
    if seen is None:
        return row
    return row | {
        "given_label": seen.given_label,
        "predicted_label": seen.predicted_label,
        "confidence": seen.probability,
        "mistakenness": round(1 - seen.label_score, 6),
        "lc_reason": seen.why,
    }


def _answer(row: Any, number: int, annotator: str, path: Path) -> Answer:
    wanted = ("lc_key", "lc_sample_id", "lc_run_id", "lc_dataset")
    broken = [name for name in wanted if not isinstance(row, dict) or not isinstance(row.get(name), str)]
    if broken or not isinstance(row.get("tags"), list):
        raise ExchangeError(f"{path}: answer {number:,} must have {listed(wanted)} and tags, but is not whole.")
    values = {name.removeprefix("lc_"): row[name] for name in wanted[1:]}
    who = str(row.get("annotator") or annotator)
    tags = {str(tag) for tag in row["tags"]}
    marks = frozenset(set(TAGS[1:]) & tags)
    if marks:
        return Answer(row["lc_key"], who, marks=marks, **values)
    if "reviewed" not in tags:
        fault = f"tagged {listed(sorted(tags))}, but only {listed(TAGS)} are answers" if tags else ""
        return Answer(row["lc_key"], who, shown_label=str(row.get("label") or ""), fault=fault, **values)
    if not isinstance(row.get("label"), str):
        return Answer(row["lc_key"], who, fault="'reviewed' without a label", **values)
    return Answer(row["lc_key"], who, labels=(row["label"],), **values)
