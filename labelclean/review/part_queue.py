"""The review queue out of core: DuckDB finds the rows that can stand in it, and `queue.build_queue` ranks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.config import Config
from labelclean.review.queue import (
    Audit,
    Queue,
    QueueEstimate,
    audit_order,
    audit_salt,
    audit_size,
    build_queue,
    estimate_queue,
    looks_to_draw,
    measure_doubt,
)
from labelclean.storage.queries import database, names_of
from labelclean.storage.tables import named

MOST_PLACES = 100_000


@dataclass(frozen=True)
class PartQueue:
    """A review queue and what it should bring.

    Attributes:
        table: Table `review_queue`.
        queue: Places and sources; rows count within the candidates.
        estimate: What it should bring.
        cut_from: Flagged samples where not all of them got a place, else None.
    """

    table: pa.Table
    queue: Queue
    estimate: QueueEstimate
    cut_from: int | None


def part_queue(
    scores: Sequence[Path],
    flags: Sequence[Path],
    names: Sequence[str],
    config: Config,
    spill: Path,
    num_looks: float = 0.0,
) -> PartQueue:
    """Return the review queue of scores in parts.

    Args:
        scores: Parts with `sample_id`, `given`, `predicted`, `runner_up`, `label_score`, `is_label_issue`, `is_settled`,
            `reading_0` and so on, and where known `image_path` and `content_hash`.
        flags: Parts of the table `flags`.
        names: The K class names.
        config: Sections `review` and `run` are read.
        spill: Folder for what does not fit into memory.
        num_looks: Random looks that the run rests on already.

    Returns:
        The queue; DuckDB draws the audit as `queue.draw_audit` does, so that no list of all samples is needed.
    """
    with database(spill) as connection:
        connection.read_parquet(names_of(scores)).create_view("scores")
        ((num_samples, unsettled, flagged, total),) = connection.execute("""
            SELECT count(*), count(*) FILTER (NOT is_settled), count(*) FILTER (NOT is_settled AND is_label_issue),
                sum(1 - label_score::DOUBLE) FILTER (NOT is_settled)
            FROM scores
        """).fetchall()
        budget, cut_from = config.review.places, None
        if (flagged if budget is None else budget) > MOST_PLACES:
            budget, cut_from = MOST_PLACES, flagged
        places = flagged if budget is None else budget
        size = audit_size(looks_to_draw(config.review.audit_samples, num_looks), unsettled, budget)
        salt = audit_salt(config.run.seed, num_samples, unsettled)
        rows = _candidates(connection, places, (salt, size), config)
        queue = build_queue(
            rows.column("label_score").to_numpy(),
            rows.column("is_label_issue").to_numpy(),
            rows.column("given").to_numpy().astype(np.int64),
            conflict_sets=np.full(rows.num_rows, -1),
            is_settled=np.zeros(rows.num_rows, dtype=bool),
            order=np.arange(rows.num_rows),
            budget=budget,
            audit=_audit(rows, salt, unsettled),
            class_floor=config.review.class_floor,
        )
        chosen = rows.take(pa.array(queue.rows))
        reasons = _reasons(connection, chosen.column("sample_id"), flags)
    settled = np.zeros(rows.num_rows, dtype=bool)
    readings = np.stack([rows.column(name).to_numpy() for name in rows.column_names if name.startswith("reading_")])
    label_scores = rows.column("label_score").to_numpy()
    doubt = measure_doubt(label_scores, queue.rows, settled, readings, total=float(total or 0))
    estimate = estimate_queue(label_scores, queue.rows, settled, doubt, total=float(total or 0))
    return PartQueue(_table(chosen, queue, reasons, names), queue, estimate, cut_from)


def _candidates(connection: Any, places: int, draw: tuple[str, int], config: Config) -> pa.Table:
    """Rows that can stand in the queue, sorted by id: the audit, and of the others the most doubtful, and those of each class."""
    question = """
        WITH open AS (SELECT * FROM scores WHERE NOT is_settled),
        audit AS (SELECT sample_id FROM open ORDER BY md5(? || sample_id), sample_id LIMIT ?),
        others AS (SELECT * FROM open ANTI JOIN audit USING (sample_id)),
        doubtful AS (SELECT sample_id FROM others ORDER BY label_score, sample_id LIMIT ?),
        by_class AS (
            SELECT sample_id FROM others WHERE is_label_issue
            QUALIFY row_number() OVER (PARTITION BY given ORDER BY label_score, sample_id) <= ?
        ),
        firm AS (SELECT * FROM doubtful UNION SELECT * FROM by_class)
        SELECT open.*, audit.sample_id IS NOT NULL AS is_audit FROM open LEFT JOIN audit USING (sample_id)
        WHERE audit.sample_id IS NOT NULL OR sample_id IN (SELECT sample_id FROM firm) ORDER BY sample_id
    """
    values = [*draw, places, config.review.class_floor]
    return connection.sql(question, params=values).to_arrow_table()


def _audit(rows: pa.Table, salt: str, num_unsettled: int) -> Audit:
    """The audit among the candidates, in the order of its draw."""
    at = np.flatnonzero(rows.column("is_audit").to_numpy())
    drawn = audit_order(rows.column("sample_id").take(pa.array(at)).to_pylist(), salt)
    return Audit(at[drawn], len(at) / max(num_unsettled, 1))


def _reasons(connection: Any, ids: pa.ChunkedArray, flags: Sequence[Path]) -> dict[str, list[str]]:
    """Reasons of each sample in the queue, the most urgent first."""
    connection.register("queued", pa.table({"sample_id": ids}))
    question = """
        SELECT sample_id, list(reason ORDER BY score DESC, reason) AS reasons
        FROM read_parquet(?) JOIN queued USING (sample_id) GROUP BY sample_id
    """
    found = connection.sql(question, params=[names_of(flags)]).to_arrow_table()
    return dict(zip(*(found.column(name).to_pylist() for name in ("sample_id", "reasons")), strict=True))


def _table(chosen: pa.Table, queue: Queue, reasons: dict[str, list[str]], names: Sequence[str]) -> pa.Table:
    """The table `review_queue`."""
    ids = chosen.column("sample_id")
    classes = {
        name: named(chosen.column(column).to_numpy().astype(np.int64), names)
        for name, column in (
            ("given_label", "given"),
            ("predicted_label", "predicted"),
            ("runner_up_label", "runner_up"),
        )
    }
    columns = {
        "rank": np.arange(1, chosen.num_rows + 1),
        "sample_id": ids,
        **classes,
        "label_score": chosen.column("label_score"),
        "reasons": pa.array([reasons.get(sample, []) for sample in ids.to_pylist()], pa.list_(pa.string())),
        "queue_source": pa.array(list(queue.sources), pa.string()),
        "inclusion_probability": pa.array(queue.inclusion_probabilities, from_pandas=True),  # NaN becomes null
        "neighbour_ids": pa.array([[] for _ in range(chosen.num_rows)], pa.list_(pa.string())),
    }
    kept = {name: chosen.column(name) for name in ("content_hash", "image_path") if name in chosen.column_names}
    return pa.table(columns | kept)


def score_rows(
    samples: pa.Table,
    given: Any,
    soft_labels: Any,
    label_scores: Any,
    is_label_issue: Any,
    is_settled: Any,
    reading_scores: Any,
) -> pa.Table:
    """Return what `part_queue` needs of some samples.

    Args:
        samples: Table `samples`, N rows.
        given: Class as ingested, shape (N,).
        soft_labels: float32, shape (N, K).
        label_scores: Shape (N,).
        is_label_issue: Shape (N,).
        is_settled: Shape (N,).
        reading_scores: Shape (R, N).

    Returns:
        N rows.
    """
    two = np.argsort(-soft_labels, axis=1, kind="stable")[:, :2]
    columns = {
        "sample_id": samples.column("sample_id"),
        "given": given,
        "predicted": two[:, 0],
        "runner_up": two[:, 1],
        "label_score": label_scores,
        "is_label_issue": is_label_issue,
        "is_settled": is_settled,
    }
    columns |= {f"reading_{number}": scores for number, scores in enumerate(reading_scores)}
    columns |= {name: samples.column(name) for name in ("content_hash", "image_path") if name in samples.column_names}
    return pa.table(columns)


def predicted_of(scores: Sequence[Path], ids: pa.Array) -> dict[str, int]:
    """Return the predicted class of some samples.

    Args:
        scores: Parts of `score_rows`.
        ids: Their ids.

    Returns:
        Class index by id.
    """
    found: dict[str, int] = {}
    for path in scores:
        table = pq.read_table(path, columns=["sample_id", "predicted"], partitioning=None)
        table = table.filter(pc.is_in(table.column("sample_id"), value_set=ids))
        found |= dict(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))
    return found
