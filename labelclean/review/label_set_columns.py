"""What `apply` writes beside labels of which an image may have several, and how they are compared with what a run read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from labelclean.review.decisions import Decision, standing_decisions
from labelclean.review.label_set_decisions import SetStanding, measure_set_standing
from labelclean.storage.label_sets import GIVEN, label_sets, set_text, texts_of_sets
from labelclean.storage.tables import class_names_of

_TEXTS = pa.list_(pa.string())
_FROM_RUN = (
    "predicted_labels",
    "soft_label",
    "missing_labels",
    "spurious_labels",
    "label_score",
    "is_label_issue",
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
    schema = pa.schema(
        [
            ("verified_labels", _TEXTS),
            ("verified_votes", pa.list_(pa.float32(), len(names))),
            ("review_status", pa.string()),
            ("reviewed_by", _TEXTS),
            ("reviewed_at", pa.timestamp("us", tz="UTC")),
            ("review_tools", _TEXTS),
            ("review_run_ids", _TEXTS),
        ]
    )
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


def given_texts(labels: pa.Table, class_names: Sequence[str], origin: str) -> dict[str, str]:
    """Return each sample's set of labels as one text.

    Args:
        labels: Labels as they lie on disk, with `sample_id` and `given_label`.
        class_names: The K classes in order; labels may name others.
        origin: The file, for the error message.

    Returns:
        Text by sample id.
    """
    sets = label_sets(labels, (), origin)
    pairs = zip(sets.column("sample_id").to_pylist(), sets.column(GIVEN).to_pylist(), strict=True)
    return {sample: set_text(names, class_names) for sample, names in pairs}


# --- inside ---------------------------------------------------------------------------------------


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
