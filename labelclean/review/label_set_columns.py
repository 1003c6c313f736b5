"""What `apply` writes beside labels of which an image may have several, and how they are compared with what a run read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from labelclean.review.decisions import Decision, standing_decisions
from labelclean.review.label_set_decisions import SetStanding, measure_set_standing
from labelclean.storage.label_sets import GIVEN, texts_of_sets
from labelclean.storage.tables import class_names_of

ROWS = "rows"
"""The form of a table with a row per image and label."""
_TEXTS = pa.list_(pa.string())
_FROM_RUN = (
    "predicted_labels",
    "soft_label",
    "missing_labels",
    "spurious_labels",
    "label_score",
    "is_label_issue",
)
_REVIEWED = pa.schema(
    [
        ("verified_labels", _TEXTS),
        ("verified_votes", pa.list_(pa.float32())),
        ("review_status", pa.string()),
        ("reviewed_by", _TEXTS),
        ("reviewed_at", pa.timestamp("us", tz="UTC")),
        ("review_tools", _TEXTS),
        ("review_run_ids", _TEXTS),
    ]
)


def set_columns(refined: pa.Table, decisions: Sequence[Decision]) -> pa.Table:
    """Return what the run and the reviewers found, one row per sample.

    Args:
        refined: Table `refined_labels` of several labels.
        decisions: The data set's decisions.

    Returns:
        `sample_id`, what the run found, `verified_labels` where all reviewers agree on them (empty: none of the classes),
        `verified_votes` per class where anybody verified, and who reviewed when.
    """
    names = class_names_of(refined)
    ids, hashes = refined.column("sample_id").to_pylist(), refined.column("content_hash").to_pylist()
    decided = standing_decisions(decisions, ids, hashes, texts_of_sets(refined.column(GIVEN), names))
    standing = measure_set_standing(decided, names)
    reviewed = [_reviewed(standing, row, of_sample, names) for row, of_sample in enumerate(decided)]
    votes = pa.field("verified_votes", pa.list_(pa.float32(), len(names)))
    schema = _REVIEWED.set(_REVIEWED.get_field_index("verified_votes"), votes)
    table = refined.select(["sample_id", *_FROM_RUN]).replace_schema_metadata()
    for column, values in zip(schema, pa.Table.from_pylist(reviewed, schema=schema).columns, strict=True):
        table = table.append_column(column, values)
    return table


def set_review_status(is_disputed: bool, of_sample: Sequence[Decision]) -> str:
    """Return one word for where a sample's review stands: a decision, `disputed` or `pending`."""
    if is_disputed:
        return "disputed"
    kinds = {decision.decision for decision in of_sample}
    order = ("corrected", "confirmed", "bad_image", "unsure", "skipped")
    return next((kind for kind in order if kind in kinds), "pending")


def label_rows(schema: pa.Schema, tables: Iterator[pa.Table], prefix: str) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Return labels with a row per image and label, as Severstal's train.csv has: verified ones, else predicted ones.

    Args:
        schema: Of the tables.
        tables: The original rows, each with its sample's added columns.
        prefix: Before the names of the added columns.

    Returns:
        Schema and tables: the original columns, `given_label` now one label, missing where an image has none, and
        `review_status` and `run_id`. Images that cannot be used are left out.
    """
    added = {f"{prefix}{name}" for name in (*_FROM_RUN, *_REVIEWED.names, "run_id")}
    columns = [f"{prefix}review_status", f"{prefix}run_id"]
    fields = [field for field in schema if field.name not in added or field.name in columns]
    fields = [pa.field("given_label", pa.string()) if field.name == "given_label" else field for field in fields]
    rows = pa.schema(fields, metadata=schema.metadata)
    return rows, _exploded(tables, rows, prefix)


# --- inside ---------------------------------------------------------------------------------------


def _exploded(tables: Iterator[pa.Table], rows: pa.Schema, prefix: str) -> Iterator[pa.Table]:
    """The rows of `label_rows`; an image comes once, however many rows the original had of it."""
    seen: set[str] = set()
    wanted = ("sample_id", *(f"{prefix}{name}" for name in ("verified_labels", "predicted_labels", "review_status")))
    for table in tables:
        numbers: list[int] = []
        labels: list[str | None] = []
        for number, row in enumerate(table.select(wanted).to_pylist()):
            sample, verified, predicted, status = row.values()
            if sample in seen or status in ("rejected", "bad_image"):
                continue
            seen.add(sample)
            names = (predicted if verified is None else verified) or [None]
            numbers += [number] * len(names)
            labels += names
        taken = table.take(pa.array(numbers, pa.int64()))
        columns = [
            pa.array(labels, pa.string()) if field.name == "given_label" else taken.column(field.name) for field in rows
        ]
        yield pa.table(columns, schema=rows)


def _reviewed(standing: SetStanding, row: int, of_sample: Sequence[Decision], names: Sequence[str]) -> dict[str, Any]:
    answers = standing.answers[row]
    verified = [name for name, share in zip(names, answers.tolist(), strict=True) if share > 0]
    return {
        "verified_labels": verified if standing.is_agreed[row] else None,
        "verified_votes": answers.tolist() if standing.is_verified[row] else None,
        "review_status": set_review_status(bool(standing.is_disputed[row]), of_sample),
        "reviewed_by": [decision.annotator_id for decision in of_sample],
        "reviewed_at": max((decision.reviewed_at for decision in of_sample), default=None),
        "review_tools": sorted({decision.tool for decision in of_sample}),
        "review_run_ids": sorted({decision.run_id for decision in of_sample}),
    }
