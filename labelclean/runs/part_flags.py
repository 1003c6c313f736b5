"""The flag `part_conflict`, put beside the other flags once all images of all parts are judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.review.part_views import PART, part_conflicts
from labelclean.runs.parts import column_of
from labelclean.storage.parquet import atomic_path, write_table

if TYPE_CHECKING:
    from labelclean.runs.parts import RunParts

REASON = "part_conflict"


def flag_part_conflicts(parts: RunParts, scores: Sequence[Path], flags: Sequence[Path]) -> dict[str, Any] | None:
    """Write the flag into the parts of the table `flags`, and into the scores for the queue.

    Args:
        parts: The parts of the run.
        scores: Their scores.
        flags: Their flags.

    Returns:
        How many images of how many parts contradict each other, for the summary; None where the labels name no parts.
    """
    if PART not in pq.read_schema(parts.samples[0]).names:
        return None
    names = column_of(parts, PART).combine_chunks()
    number = np.asarray(pc.fill_null(names.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False), np.int64)
    tables = [pq.read_table(path, partitioning=None) for path in scores]
    given, seen, best = (
        np.concatenate([table.column(name).to_numpy() for table in tables]) for name in ("reviewed", "seen", "best")
    )
    found = part_conflicts(number, given.astype(np.int64), seen, best)
    start = 0
    for table, score_path, flag_path in zip(tables, scores, flags, strict=True):
        own = slice(start, start + table.num_rows)
        start = own.stop
        table = table.drop_columns([REASON]) if REASON in table.column_names else table
        is_odd = found[own] & (
            seen[own] != given[own]
        )  # of each conflict people look at the labels that images speak against
        with atomic_path(score_path) as temporary:
            pq.write_table(table.append_column(REASON, pa.array(is_odd)), temporary)
        _add_flags(flag_path, table.column("sample_id").filter(pa.array(found[own])), best[own][found[own]])
    return {"num": int(found.sum()), "num_parts": len(np.unique(number[found]))}


def _add_flags(path: Path, ids: pa.ChunkedArray, urgency: Any) -> None:
    """One more reason for some samples; one that a killed run left is written anew."""
    before = pq.read_table(path, partitioning=None).replace_schema_metadata()
    before = before.filter(pc.not_equal(before.column("reason"), REASON))
    more = {
        "sample_id": ids,
        "reason": pa.array([REASON] * len(ids), pa.string()),
        "score": pa.array(urgency, pa.float32()),
    }
    write_table(path, pa.concat_tables([before, pa.table(more, schema=before.schema)]), "flags")
