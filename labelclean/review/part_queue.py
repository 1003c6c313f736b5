"""The review queue of scores in parts: DuckDB finds the rows that can stand in it, and `queue.build_queue` ranks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import BoolArray, FloatArray, IntArray
from labelclean.config import Config
from labelclean.noise.trust import JudgedLabels
from labelclean.review.queue import (
    Audit,
    Candidates,
    Queue,
    QueueEstimate,
    audit_order,
    audit_salt,
    audit_size,
    build_queue,
    estimate_queue,
    looks_to_draw,
    measure_doubt,
    repeated_images,
    unusable_places,
)
from labelclean.storage.queries import database, names_of
from labelclean.storage.tables import BOX_COLUMNS, named

_SHOWN = ("content_hash", "image_path", *BOX_COLUMNS)

COST_SAVED = "cost_saved"
VIEW_OF = "view_of"
"""`part_id` among the scores, where labels are those of parts."""
SILENT = "is_silent"
"""Images of a part for which another view speaks: they stand in no queue, and their part counts once."""
_RANKED_BY_DOUBT = "SELECT *, label_score AS urgency, {wanted} AS is_wanted FROM rows"
_RANKED_BY_COST = """
    SELECT rows.*,
        CASE WHEN conflict_set >= 0 THEN -avg(cost_saved) OVER (PARTITION BY conflict_set) ELSE -cost_saved END AS urgency,
        {wanted} OR conflict_set >= 0 OR coalesce(cost_saved > 0 AND cost_saved >= least, false) AS is_wanted
    FROM rows, (SELECT avg(cost_saved) AS least FROM rows WHERE is_label_issue AND NOT is_settled)
"""
"""A look takes the same time at every sample, so the order is by what it saves: that of a set of near-duplicates is their
mean, for they are looked at side by side. Beside what is flagged stands what saves as much as a look at that does."""

SETS = ("given_labels", "predicted_labels", "missing_labels", "spurious_labels")
"""What stands in the place of classes where images have several labels."""


@dataclass(frozen=True)
class PartQueue:
    """A review queue and what it should bring.

    Attributes:
        table: Table `review_queue`.
        queue: Places and sources; rows count within the candidates.
        numbers: Number over all samples of each place, int64, shape (Q,).
        estimate: What it should bring.
    """

    table: pa.Table
    queue: Queue
    numbers: IntArray
    estimate: QueueEstimate


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
        scores: Parts of `score_rows`.
        flags: Parts of the table `flags`; none where images have several labels, whose scores name what is wrong.
        names: The K class names.
        config: Sections `review` and `run` are read; with `cost_saved` among the scores the order is by cost.
        spill: Folder for what does not fit into memory.
        num_looks: Random looks that the run rests on already.

    Returns:
        The queue; every sample that nobody has settled has the same chance to be in the audit.
    """
    with database(spill) as connection:
        rows = connection.read_parquet(names_of(scores))
        by_cost = COST_SAVED in rows.columns
        wanted = "is_label_issue OR part_conflict" if "part_conflict" in rows.columns else "is_label_issue"
        ranked = (_RANKED_BY_COST if by_cost else _RANKED_BY_DOUBT).format(wanted=wanted)
        rows.query("rows", ranked).create_view("scores")
        connection.register("repeated", _repeated(connection))
        ((num_samples, drawable, flagged, total),) = connection.execute("""
            SELECT count(*), count(*) FILTER (NOT is_settled AND known.number IS NULL),
                count(*) FILTER (NOT is_settled AND repeated.is_shown IS NOT FALSE AND (is_wanted OR conflict_set >= 0)),
                sum(1 - label_score::DOUBLE) FILTER (NOT is_settled)
            FROM scores LEFT JOIN repeated USING (number) LEFT JOIN
                (SELECT number FROM repeated WHERE is_of_many) known USING (number)
        """).fetchall()
        budget = config.review.places
        size = audit_size(looks_to_draw(config.review.audit_samples, num_looks), drawable, budget)
        salt = audit_salt(config.run.seed, num_samples, drawable)
        quota = unusable_places(config.review.unusable_share, num_samples if budget is None else budget)
        rows = _candidates(connection, flagged if budget is None else budget, (salt, size), quota, config)
        conflict_sets = rows.column("conflict_set").to_numpy().astype(np.int64)
        candidates = Candidates(
            rows.column("urgency").to_numpy(),
            rows.column("is_wanted").to_numpy(),
            rows.column("given").to_numpy().astype(np.int64),
            conflict_sets=np.full(rows.num_rows, -1) if by_cost else conflict_sets,
            is_settled=np.zeros(rows.num_rows, dtype=bool),
            order=np.arange(rows.num_rows),
        )
        audit, floor = _audit(rows, salt, drawable), config.review.class_floor
        queue = build_queue(candidates, audit, budget=budget, class_floor=floor, unusable=_unusable(rows, quota))
        if by_cost:
            shown = zip(conflict_sets[queue.rows] >= 0, queue.sources, strict=True)
            sources = tuple(
                "conflict_group" if copied and was not in ("random_audit", "unusable") else was for copied, was in shown
            )
            queue = replace(queue, sources=sources)
        chosen = rows.take(pa.array(queue.rows))
        queue = _with_doubles(queue, chosen)
        reasons = _reasons(connection, chosen.column("sample_id"), flags) if flags else {}
        beside = _neighbour_ids(connection, chosen, config.review.neighbours)
        views = _view_ids(connection, chosen) if VIEW_OF in chosen.column_names else None
    settled = np.zeros(rows.num_rows, dtype=bool)
    readings = np.stack([rows.column(name).to_numpy() for name in rows.column_names if name.startswith("reading_")])
    label_scores = rows.column("label_score").to_numpy()
    doubt = measure_doubt(label_scores, queue.rows, settled, readings, total=float(total or 0))
    estimate = estimate_queue(label_scores, queue.rows, settled, doubt, total=float(total or 0))
    numbers = chosen.column("number").to_numpy().astype(np.int64)
    table = _table(chosen, queue, reasons, beside, names)
    table = table if views is None else table.append_column("view_ids", pa.array(views, pa.list_(pa.string())))
    return PartQueue(table, queue, numbers, estimate)


def _repeated(connection: Any) -> pa.Table:
    """Members of conflicting sets: which are shown, and which are of a picture that stands for many (`repeated_images`).

    Pictures that stand for copies come anyway, and what is said of them tells nothing of others: the audit leaves them out.
    """
    rows = connection.sql("""
        SELECT number, conflict_set, label_score, dense_rank() OVER (ORDER BY content_hash) AS image
        FROM scores WHERE conflict_set >= 0 ORDER BY sample_id
    """).to_arrow_table()
    sets, images = (rows.column(name).to_numpy().astype(np.int64) for name in ("conflict_set", "image"))
    is_repeated: BoolArray = repeated_images(sets, images, rows.column("label_score").to_numpy(), np.arange(len(sets)))
    is_of_many = np.isin(sets, sets[is_repeated])
    return pa.table({"number": rows.column("number"), "is_shown": ~is_repeated, "is_of_many": is_of_many})


def _unusable(rows: pa.Table, quota: int) -> IntArray:
    """Rows of the pictures that look unusable, the oddest first."""
    odd = rows.column("unusable").to_numpy()
    order = np.lexsort((np.arange(len(odd)), -odd))
    return np.asarray(order[(odd[order] > 0) & ~rows.column("is_audit").to_numpy()[order]][:quota], dtype=np.int64)


def _candidates(connection: Any, places: int, draw: tuple[str, int], quota: int, config: Config) -> pa.Table:
    """Rows that can stand in the queue, sorted by id: the audit, conflicts, the oddest pictures, and of the others the most urgent, flagged or not, and those of each class."""
    question = """
        WITH open AS (
            SELECT scores.*, coalesce(is_of_many, false) AS is_of_many FROM scores LEFT JOIN repeated USING (number)
            WHERE NOT is_settled AND is_shown IS NOT FALSE
        ),
        audit AS (
            SELECT number FROM open WHERE NOT is_of_many ORDER BY md5(? || sample_id), sample_id LIMIT ?
        ),
        others AS (SELECT * FROM open ANTI JOIN audit USING (number)),
        doubtful AS (SELECT number FROM others ORDER BY urgency, sample_id LIMIT ?),
        by_class AS (
            SELECT number FROM others WHERE is_wanted
            QUALIFY row_number() OVER (PARTITION BY given ORDER BY urgency, sample_id) <= ?
        ),
        flagged AS (SELECT number FROM others WHERE is_wanted ORDER BY urgency, sample_id LIMIT ?),
        odd AS (SELECT number FROM others WHERE unusable > 0 ORDER BY unusable DESC, sample_id LIMIT ?),
        firm AS (
            SELECT * FROM odd UNION SELECT * FROM doubtful UNION SELECT * FROM by_class UNION SELECT * FROM flagged
            UNION SELECT number FROM open WHERE conflict_set >= 0
        )
        SELECT open.*, audit.number IS NOT NULL AS is_audit FROM open LEFT JOIN audit USING (number)
        WHERE audit.number IS NOT NULL OR number IN (SELECT number FROM firm) ORDER BY sample_id
    """
    values = [*draw, places, config.review.class_floor, places, quota]
    return connection.sql(question, params=values).to_arrow_table()


def _neighbour_ids(connection: Any, chosen: pa.Table, limit: int) -> list[list[str]]:
    """Ids of the nearest trusted neighbours of each place; those given the suggested class come first."""
    if "near" not in chosen.column_names or limit == 0:
        return [[] for _ in range(chosen.num_rows)]
    near = chosen.column("near").to_pylist()
    wanted = sorted({number for numbers in near for number in numbers if number >= 0})
    connection.register("beside", pa.table({"number": pa.array(wanted, pa.int64())}))
    beside = connection.sql("""
        SELECT number, sample_id, given FROM scores SEMI JOIN beside USING (number) WHERE NOT is_label_issue
    """).to_arrow_table()
    known = dict(
        zip(beside.column("number").to_pylist(), beside.select(["sample_id", "given"]).to_pylist(), strict=True)
    )
    lists = []
    for numbers, suggested in zip(near, chosen.column("predicted").to_pylist(), strict=True):
        trusted = [known[number] for number in numbers if number in known]
        first = sorted(trusted, key=lambda one: one["given"] != suggested)[:limit]
        lists.append([str(one["sample_id"]) for one in first])
    return lists


def _view_ids(connection: Any, chosen: pa.Table) -> list[list[str]]:
    """Ids of the other images of each place's part."""
    connection.register("shown", chosen.select(["number", VIEW_OF]))
    views_of = connection.sql(f"""
        SELECT shown.number, list(scores.sample_id ORDER BY scores.sample_id) AS views
        FROM scores JOIN shown USING ({VIEW_OF}) WHERE scores.number != shown.number GROUP BY shown.number
    """).to_arrow_table()  # noqa: S608 - a name of ours
    views = dict(zip(*(views_of.column(name).to_pylist() for name in ("number", "views")), strict=True))
    return [views.get(number, []) for number in chosen.column("number").to_pylist()]


def _audit(rows: pa.Table, salt: str, num_unsettled: int) -> Audit:
    """The audit among the candidates, in the order of its draw."""
    at = np.flatnonzero(rows.column("is_audit").to_numpy())
    drawn = audit_order(rows.column("sample_id").take(pa.array(at)).to_pylist(), salt)
    return Audit(at[drawn], len(at) / max(num_unsettled, 1))


def _with_doubles(queue: Queue, chosen: pa.Table) -> Queue:
    """The queue in which boxes that are there twice, with one class, say so."""
    if "is_box_double" not in chosen.column_names:
        return queue
    pairs = zip(queue.sources, chosen.column("is_box_double").to_pylist(), strict=True)
    is_double = ((source, double and source == "conflict_group") for source, double in pairs)
    return replace(queue, sources=tuple("box_double" if double else source for source, double in is_double))


def _reasons(connection: Any, ids: pa.ChunkedArray, flags: Sequence[Path]) -> dict[str, list[str]]:
    """Reasons of each sample in the queue, the most urgent first."""
    connection.register("queued", pa.table({"sample_id": ids}))
    question = """
        SELECT sample_id, list(reason ORDER BY score DESC, reason) AS reasons
        FROM read_parquet(?) JOIN queued USING (sample_id) GROUP BY sample_id
    """
    reasons = connection.sql(question, params=[names_of(flags)]).to_arrow_table()
    return dict(zip(*(reasons.column(name).to_pylist() for name in ("sample_id", "reasons")), strict=True))


def _table(
    chosen: pa.Table, queue: Queue, reasons: dict[str, list[str]], beside: list[list[str]], names: Sequence[str]
) -> pa.Table:
    """The table `review_queue`."""
    ids = chosen.column("sample_id")
    if SETS[0] in chosen.column_names:
        suggestion = {name: chosen.column(name) for name in SETS}
    else:
        suggestion = _classes(chosen, names) | {
            "reasons": pa.array([reasons.get(sample, []) for sample in ids.to_pylist()], pa.list_(pa.string()))
        }
    columns = {
        "rank": np.arange(1, chosen.num_rows + 1),
        "sample_id": ids,
        **suggestion,
        "label_score": chosen.column("label_score"),
        "queue_source": pa.array(list(queue.sources), pa.string()),
        "inclusion_probability": pa.array(queue.inclusion_probabilities, from_pandas=True),  # NaN becomes null
        "neighbour_ids": pa.array(beside, pa.list_(pa.string())),
    }
    kept = {name: chosen.column(name) for name in (*_SHOWN, COST_SAVED) if name in chosen.column_names}
    return pa.table(columns | kept)


def _classes(chosen: pa.Table, names: Sequence[str]) -> dict[str, Any]:
    """Given, suggested and second class."""
    return {
        name: named(chosen.column(column).to_numpy().astype(np.int64), names)
        for name, column in (
            ("given_label", "given"),
            ("predicted_label", "predicted"),
            ("runner_up_label", "runner_up"),
        )
    }


def score_rows(
    samples: pa.Table,
    numbers: IntArray,
    given: Any,
    judged: JudgedLabels,
    is_settled: BoolArray,
    conflict_sets: IntArray,
    near: IntArray | None,
    unusable: FloatArray | None = None,
    is_box_double: BoolArray | None = None,
) -> pa.Table:
    """Return what `part_queue` needs of some samples.

    Args:
        samples: Table `samples`, N rows.
        numbers: Number of each over all samples, int64, shape (N,).
        given: Class as ingested, shape (N,).
        judged: What was found about them.
        is_settled: Samples that must not come back, shape (N,).
        conflict_sets: Number of the near-duplicate set whose labels differ, or which holds a box twice, int64, shape (N,),
            -1 for samples in none.
        near: Numbers of their neighbours, int64, shape (N, M), -1 where there are fewer; None: none were looked for.
        unusable: How urgent a look at the picture itself is, shape (N,), 0..1, 0 where it looks as it should; None: all do.
        is_box_double: Boxes that another of their class lies on and none of another, shape (N,); None for whole images.

    Returns:
        N rows: `number`, `sample_id`, `given`, `predicted`, `runner_up`, `label_score`, `is_label_issue`, `is_settled`,
        `unusable`, `conflict_set`, `reading_0` and so on, and where known `near`, `is_box_double`, `content_hash`,
        `image_path` and the box.
    """
    two = np.argsort(-judged.soft_labels, axis=1, kind="stable")[:, :2]
    columns = {
        "number": numbers,
        "sample_id": samples.column("sample_id"),
        "given": given,
        "predicted": two[:, 0],
        "runner_up": two[:, -1],  # of one class itself
        "label_score": judged.label_scores,
        "is_label_issue": judged.is_label_issue,
        "is_settled": is_settled,
        "conflict_set": conflict_sets,
        "unusable": np.zeros(len(given)) if unusable is None else np.asarray(unusable, dtype=np.float64),
    }
    columns |= {f"reading_{number}": scores for number, scores in enumerate(judged.reading_scores)}
    if near is not None:
        flat = pa.array(near.astype(np.int32).ravel())
        columns["near"] = pa.FixedSizeListArray.from_arrays(flat, near.shape[1])
    columns |= {} if is_box_double is None else {"is_box_double": is_box_double}
    columns |= {name: samples.column(name) for name in _SHOWN if name in samples.column_names}
    return pa.table(columns)


def predicted_of(scores: Sequence[Path]) -> IntArray:
    """Return the predicted class of all samples.

    Args:
        scores: Parts of `score_rows`, in order.

    Returns:
        Class index, int64, shape (N,).
    """
    columns = [pq.read_table(path, columns=["predicted"], partitioning=None).column(0).to_numpy() for path in scores]
    return np.concatenate(columns).astype(np.int64)
