"""Strictly back from the review sheet: the file that its Download decisions saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from labelclean.errors import ExchangeError, listed
from labelclean.review.exchange.answers import MARKS, SEVERAL, Answer, worded_answer
from labelclean.review.exchange.foreign_file import foreign_json, foreign_text
from labelclean.review.exchange.manifest import ExportManifest
from labelclean.review.exchange.sheet import FORMAT, TOOL, export_digest

_HEAD = ("format", "tool", "run_id", "dataset", "export", "num_decisions", "decisions")
_ROW = ("key", "content_hash", "decision", "labels", "annotator", "reviewed_at")
_WORDS = ("label", "confirmed", "corrected", "one_of", "not_class", "none_of_these", "unsure", "bad_image")


def read_answers(path: Path, manifest: ExportManifest, now: datetime) -> list[Answer]:
    """Return what a sheet's file of decisions says: one answer per decision.

    Args:
        path: What "Download decisions" saved.
        manifest: The export that it must answer.
        now: Time of the import; no decision can be a day later.

    Returns:
        Answers.

    Raises:
        ExchangeError: If the file is something else, not whole, or answers another export.
    """
    record = foreign_json(foreign_text(path), path)
    if not isinstance(record, dict) or record.get("format") != FORMAT or set(record) != set(_HEAD):
        raise ExchangeError(
            f"{path}: must be a {FORMAT!r} with {listed(_HEAD, 7)}, but is not. "
            "Give the file that the sheet's Download decisions saved."
        )
    said, own = (record["run_id"], record["dataset"]), (manifest.run_id, manifest.dataset)
    if said != own or record["tool"] != TOOL or record["export"] != export_digest(manifest):
        raise ExchangeError(
            f"{path}: must answer the sheet of run {own[0]!r} of data set {own[1]!r} "
            f"({export_digest(manifest)[:12]}…), but answers run {said[0]!r} of data set {said[1]!r} "
            f"({str(record['export'])[:12]}…). Import it with the folder of that export; nothing was imported."
        )
    rows = record["decisions"]
    different = {json.dumps(row, sort_keys=True) for row in rows} if isinstance(rows, list) else None
    if different is None or len(different) != record["num_decisions"]:  # a row written twice makes up for no other
        what = "no list" if different is None else len(different)
        raise ExchangeError(
            f"{path}: must hold {record['num_decisions']!r} decisions, as it says itself, but holds {what}; it was "
            "cut or changed. Download the decisions again; nothing was imported."
        )
    hash_of = {item.key: item.content_hash for item in manifest.items}
    is_set = bool(manifest.settings.get(SEVERAL))
    return [_answer(row, number, hash_of, path, now, is_set=is_set) for number, row in enumerate(rows, start=1)]


# --- inside ---------------------------------------------------------------------------------------


def _answer(row: Any, number: int, hash_of: Mapping[str, str], path: Path, now: datetime, *, is_set: bool) -> Answer:
    labels = row.get("labels") if isinstance(row, dict) else None
    if not isinstance(labels, list) or set(row) != set(_ROW):
        raise ExchangeError(f"{path}: every decision must have {listed(_ROW, 6)}, but decision {number:,} has not.")
    if not all(isinstance(text, str) for text in (*labels, *(row[name] for name in _ROW if name != "labels"))):
        raise ExchangeError(f"{path}: every value must be a text, but decision {number:,} holds something else.")
    word, key = row["decision"], row["key"]
    at, fault = _time(row["reviewed_at"], now)
    if word not in _WORDS:
        fault = f"decision {word!r} is none of {listed(_WORDS, 8)}"
    elif is_set and word in ("one_of", "not_class", "none_of_these"):
        fault = f"decision {word!r} means nothing where an image may have several labels"
    elif bool(labels) == (word in MARKS) and (labels or not is_set):
        fault = f"{word!r} {'with' if labels else 'without'} a label"
    elif row["content_hash"] != hash_of.get(key, row["content_hash"]):
        fault = "the task is named with another image"
    if is_set and word in ("label", "confirmed", "corrected"):
        claim = "" if word == "label" else word
        answer = Answer(key, row["annotator"], labels=tuple(labels), claim=claim, is_set=True)
    else:
        answer = worded_answer(key, "" if word == "label" else word, labels, row["annotator"], None)
    return replace(answer, reviewed_at=at, fault=answer.fault or fault)


def _time(text: str, now: datetime) -> tuple[datetime | None, str]:
    """A UTC time, or what is wrong with it."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None, f"reviewed_at {text[:40]!r} is no time"
    if at.utcoffset() != timedelta(0):
        return None, f"reviewed_at {text[:40]!r} is not UTC"
    if at > now + timedelta(days=1):
        return None, f"reviewed_at {text[:40]!r} lies ahead; check that computer's clock"
    return at, ""
