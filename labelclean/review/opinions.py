"""From tables and decisions to the single labels of single inspectors, and what was measured on them to JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import IntArray
from labelclean.review.decisions import Decision
from labelclean.review.facets import Facet, TimeArray, holds_names, moments
from labelclean.review.inspectors import Inspector, InspectorReport, Opinions, measure_inspectors
from labelclean.storage.samples import index_in

GROUPS = ("line", "shift")
TIME = "captured_at"
MOST_CONFUSIONS = 5


def label_opinions(labels: pa.Table, sample_ids: pa.Array, names: Sequence[str]) -> Opinions | None:
    """Return every single label of a table with `annotator_id`.

    Args:
        labels: Conforming `labels` table.
        sample_ids: The N samples; labels of others are left out.
        names: The K class names.

    Returns:
        The labels; None without the column, or where one inspector gave all.
    """
    if "annotator_id" not in labels.column_names:
        return None
    rows = pc.index_in(labels.column("sample_id"), value_set=sample_ids)
    labels, rows = labels.filter(pc.is_valid(rows)), rows.drop_null()
    people = pc.dictionary_encode(labels.column("annotator_id")).combine_chunks()
    if len(people.dictionary) < 2:
        return None
    return Opinions(
        rows=np.asarray(rows.to_numpy(), dtype=np.int64),
        inspectors=np.asarray(people.indices.to_numpy(), dtype=np.int64),
        labels=index_in(labels.column("given_label"), names),
        names=tuple(people.dictionary.to_pylist()),
        groups=_groups(labels, None),
        times=_times(labels, None),
    )


def review_opinions(standing: Sequence[Sequence[Decision]], samples: pa.Table, names: Sequence[str]) -> Opinions | None:
    """Return every class that a reviewer verified.

    Args:
        standing: For each of N samples its decisions, one per reviewer.
        samples: Conforming `samples` table, rows aligned with ``standing``.
        names: The K class names; decisions on others are left out.

    Returns:
        The labels; None unless two reviewers verified the same sample.
    """
    position = {name: k for k, name in enumerate(names)}
    said = [
        (row, one.annotator_id, position[one.verified_label])
        for row, of_sample in enumerate(standing)
        for one in of_sample
        if one.verified_label in position
    ]
    rows = np.array([row for row, _, _ in said], dtype=np.int64)
    if len(np.unique(rows)) == len(rows):
        return None
    people, who = np.unique(np.array([person for _, person, _ in said], dtype=object), return_inverse=True)
    return Opinions(
        rows=rows,
        inspectors=who.astype(np.int64),
        labels=np.array([label for _, _, label in said], dtype=np.int64),
        names=tuple(people.tolist()),
        groups=_groups(samples, rows),
        times=_times(samples, rows),
    )


def inspectors_record(
    labelled: Opinions | None, reviewed: Opinions | None, suggested: IntArray, names: Sequence[str]
) -> dict[str, Any]:
    """Return what is known of several inspectors, for the summary.

    Args:
        labelled: Labels of the input, compared with what the run suggests.
        reviewed: Reviewers' classes, compared with those of the other reviewers.
        suggested: Suggested class of each sample, shape (N,).
        names: The K class names.

    Returns:
        `labels` and `reviews`, each None where there is nothing to compare.
    """
    size = (len(suggested), len(names))
    return {
        "labels": labelled and _report_record(measure_inspectors(labelled, *size, suggested), names),
        "reviews": reviewed and _report_record(measure_inspectors(reviewed, *size), names),
    }


def inspector_sentences(record: dict[str, Any] | None) -> list[str]:
    """Return the inspectors for people.

    Args:
        record: What `inspectors_record` returned; None in a run that stopped before.

    Returns:
        Sentences; none where there is nothing to compare.
    """
    said = []
    for key, who, other in (("labels", "inspectors", "the suggestion"), ("reviews", "reviewers", "other reviewers")):
        found = (record or {}).get(key)
        if not found:
            continue
        people = found["inspectors"]
        sentence = f"{who}: {len(people):,}"
        if found["agreement"] is not None:
            sentence += (
                f", who agree on {found['agreement']:.0%} of pairs over {found['num_shared']:,} shared samples "
                f"({found['num_disputed']:,} disputed)"
            )
        unlike = [one for one in people if one["stands_out"] > 0]
        named = [f"{one['name']} ({one['share']:.1%} of {one['num']:,}{_worst(one)})" for one in unlike[:3]]
        said.append(sentence + (f"; differ most from {other}: {', '.join(named)}." if named else "; none stands out."))
    return said


def _worst(person: dict[str, Any]) -> str:
    """Where an inspector differs by more than chance."""
    places = [
        f"{facet['column']} {group['value']}: {group['share']:.1%}"
        for facet in person["drift"]
        for group in facet["groups"]
        if group["stands_out"] > 0
    ]
    return f"; {', '.join(places[:2])}" if places else ""


def _groups(table: pa.Table, rows: IntArray | None) -> dict[str, tuple[IntArray, list[str | None]]]:
    opinions = {}
    for name in GROUPS:
        if name in table.column_names and holds_names(table.column(name).type):
            column = pc.dictionary_encode(table.column(name), null_encoding="encode").combine_chunks()
            codes = np.asarray(column.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
            values = [None if value is None else str(value) for value in column.dictionary.to_pylist()]
            opinions[name] = (codes if rows is None else codes[rows], values)
    return opinions


def _times(table: pa.Table, rows: IntArray | None) -> TimeArray | None:
    """Times of the images, in UTC; None where the column is missing or holds something else."""
    if TIME not in table.column_names:
        return None
    column = table.column(TIME)
    for kind in (pa.timestamp("us", tz="UTC"), pa.timestamp("us")):
        try:
            times = moments(column if pa.types.is_temporal(column.type) else column.cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        return np.asarray(times if rows is None else times[rows])
    return None


def _report_record(report: InspectorReport, names: Sequence[str]) -> dict[str, Any]:
    side = {group.value: group for group in report.against.groups} if report.against else {}
    return {
        "num_shared": report.num_shared,
        "num_disputed": report.num_disputed,
        "agreement": None if report.agreement is None else round(report.agreement, 4),
        "inspectors": [
            {
                "name": one.name,
                "num": one.num,
                "share": round(one.differing / one.num, 4),
                "stands_out": side[one.name].stands_out if one.name in side else 0,
                "confusions": _confusions(one, names),
                "drift": [_facet_record(facet) for facet in one.drift],
            }
            for one in report.inspectors
        ],
    }


def _confusions(one: Inspector, names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent differences: what it was compared with, and what this inspector said."""
    counts = one.confusion.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        {"compared_with": names[a], "said": names[b], "num": round(float(counts[a, b]), 2)}
        for a, b in pairs
        if counts[a, b] > 0
    ]


def _facet_record(facet: Facet) -> dict[str, Any]:
    groups = []
    for group in facet.groups:
        record = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(group).items()}
        groups.append(record | {"share": round(group.share, 4)})
    return {"column": facet.column, "unit": facet.unit, "overall": round(facet.overall, 4), "groups": groups}
