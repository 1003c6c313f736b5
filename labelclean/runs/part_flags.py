"""The flag `part_conflict`, put beside the other flags once all images of all parts are judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.review.part_views import PART
from labelclean.storage.parquet import atomic_path, write_table
from labelclean.storage.queries import database, names_of

REASON = "part_conflict"
_CONFLICTS = """
    CREATE TEMP TABLE found AS SELECT sample_id, part_id FROM (
        SELECT sample_id, part_id, min(reviewed) OVER view AS low, max(reviewed) OVER view AS high
        FROM read_parquet(?) AS scores JOIN read_parquet(?) AS samples USING (sample_id)
        WHERE part_id IS NOT NULL AND best > 0.5
        WINDOW view AS (PARTITION BY part_id, seen)
    ) WHERE low < high
"""
"""A part may well be labelled differently in two views: one shows the defect and the other does not. Where two views show
the same class, each with more than half of all probability, and yet have different labels, the images do not explain it."""


def flag_part_conflicts(
    samples: Sequence[Path], scores: Sequence[Path], flags: Sequence[Path], spill: Path
) -> dict[str, Any] | None:
    """Write the flag into the parts of the table `flags`, and into the scores for the queue; one part at a time.

    Args:
        samples: Parts of the table `samples`.
        scores: Parts of the scores.
        flags: Parts of the flags.
        spill: Folder for what does not fit into memory.

    Returns:
        How many images of how many parts contradict each other, for the summary; None where the labels name no parts.
    """
    if PART not in pq.read_schema(samples[0]).names:
        return None
    with database(spill) as connection:
        connection.execute(_CONFLICTS, [names_of(scores), names_of(samples)])
        ((num, num_parts),) = connection.execute("SELECT count(*), count(DISTINCT part_id) FROM found").fetchall()
        for score_path, flag_path in zip(scores, flags, strict=True):
            own = "SELECT sample_id FROM found SEMI JOIN read_parquet(?) USING (sample_id)"
            ids = connection.sql(own, params=[str(score_path)]).to_arrow_table().column(0).combine_chunks()
            _flag_part(score_path, flag_path, ids)
    return {"num": int(num), "num_parts": int(num_parts)}


def _flag_part(score_path: Path, flag_path: Path, ids: pa.Array) -> None:
    """Mark the images of one part: of each conflict people look at the labels that images speak against."""
    table = pq.read_table(score_path, partitioning=None)
    table = table.drop_columns([REASON]) if REASON in table.column_names else table
    is_known = pc.is_in(table.column("sample_id"), value_set=ids.cast(table.column("sample_id").type))
    is_odd = pc.and_(is_known, pc.not_equal(table.column("seen"), table.column("reviewed").cast(pa.int64())))
    with atomic_path(score_path) as temporary:
        pq.write_table(table.append_column(REASON, is_odd), temporary)
    flagged = table.filter(is_known)
    _add_flags(flag_path, flagged.column("sample_id"), flagged.column("best").cast(pa.float32()))


def _add_flags(path: Path, ids: pa.ChunkedArray, urgency: pa.ChunkedArray) -> None:
    """One more reason for some samples; one that a killed run left is written anew."""
    before = pq.read_table(path, partitioning=None).replace_schema_metadata()
    before = before.filter(pc.not_equal(before.column("reason"), REASON))
    more = {"sample_id": ids, "reason": pa.array([REASON] * len(ids), pa.string()), "score": urgency}
    write_table(path, pa.concat_tables([before, pa.table(more, schema=before.schema)]), "flags")
