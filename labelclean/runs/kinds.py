"""New kinds that a run proposes: images that fit no class, and those of which people said so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.cleaning.kinds import RowsOf, fits_no_class, lies_far, proposed_kinds
from labelclean.review.part_views import PART
from labelclean.runs.parts import aside_path
from labelclean.storage.parquet import read_table
from labelclean.storage.tables import matrix

if TYPE_CHECKING:
    from labelclean.arrays import IntArray
    from labelclean.cleaning.population import Taught
    from labelclean.config import Config
    from labelclean.runs.parts import RunParts

_COLUMNS = ["sample_id", "given", "is_label_issue", "is_settled", "best", "reach"]


def set_aside(parts: RunParts, *, of_part: bool = False) -> pa.Table | None:
    """Return the images that people took out, with what they said; None where there are none.

    Args:
        parts: The parts of the run.
        of_part: Name the part of each, for labels are those of parts.

    Returns:
        Table `set_aside`.
    """
    tables = []
    for samples, labels in zip(parts.samples, parts.labels, strict=False):
        with np.load(aside_path(labels)) as kept:
            rows, fits_none = kept["rows"], kept["fits_none"]
        if len(rows):
            table = read_table(samples, "samples")
            wanted = ("sample_id", "image_path", "given_label", "content_hash", *([PART] if of_part else []))
            names = [name for name in wanted if name in table.column_names]
            words = np.where(fits_none, "none_of_these", "bad_image").tolist()
            tables.append(
                table.select(names).take(pa.array(rows)).append_column("decision", pa.array(words, pa.string()))
            )
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def new_kinds(
    config: Config, parts: RunParts, taught: Taught, scores: Sequence[Path], aside: pa.Table | None
) -> pa.Table | None:
    """Return the kinds that a run proposes; None where it proposes none.

    Unsettled images join that fit no class, or whose label is worth a look and that lie nearer to an image of which people
    said none of these than to their own 5th neighbour.

    Args:
        config: `flags.outlier_z` is read.
        parts: The parts of the run.
        taught: Its teacher.
        scores: Parts of the scores, with `reach` and `best`.
        aside: From `set_aside`.

    Returns:
        Table `new_kinds`.
    """
    if taught.space.neighbours is None:
        return None
    rows_of, answers = RowsOf(taught), _answers(parts)
    answer_rows = rows_of.aside(answers)
    known = pa.concat_tables([pq.read_table(path, columns=_COLUMNS, partitioning=None) for path in scores])
    given, is_issue, is_settled, best = (known.column(name).to_numpy() for name in _COLUMNS[1:5])
    close, usual, last = matrix(known.column("reach")).T
    is_small = parts.counts[given] <= taught.space.neighbours.index.shape[1]
    joins = fits_no_class(lies_far(last, config.flags.outlier_z), is_small, is_issue, best)
    if len(answer_rows):
        joins |= is_issue & (rows_of.nearest(answer_rows, len(parts.samples)) > np.nan_to_num(close, nan=-1.0))
    numbers = np.flatnonzero(joins & ~is_settled)
    if not len(numbers) + len(answer_rows):
        return None
    unit_rows = np.concatenate([answer_rows, rows_of.judged(numbers)])
    is_answer = np.arange(len(unit_rows)) < len(answer_rows)
    kinds = proposed_kinds(unit_rows, is_answer, float(np.nanmedian(usual)))
    if not kinds.kind.any():
        return None
    told = _told(parts, aside, known.column("sample_id"), numbers)
    table = told.append_column("kind", pa.array(kinds.kind)).append_column("place", pa.array(kinds.place))
    return table.append_column("is_answer", pa.array(is_answer)).filter(pa.array(kinds.kind > 0))


def _answers(parts: RunParts) -> list[IntArray]:
    """Rows of each part's table of which people said none of these."""
    found = []
    for labels in parts.labels[: len(parts.samples)]:
        with np.load(aside_path(labels)) as kept:
            found.append(kept["rows"][kept["fits_none"]])
    return found


def _told(parts: RunParts, aside: pa.Table | None, ids: pa.ChunkedArray, numbers: IntArray) -> pa.Table:
    """Id, path and given label of the answers, then of the judged images."""
    wanted = ids.take(pa.array(numbers))
    found = [] if aside is None else [aside.filter(pc.equal(aside.column("decision"), "none_of_these"))]
    for samples in parts.samples:
        table = read_table(samples, "samples")
        found.append(table.filter(pc.is_in(table.column("sample_id"), value_set=wanted.combine_chunks())))
    names = [name for name in ("sample_id", "image_path", "given_label") if name in found[-1].column_names]
    return pa.concat_tables([table.select(names) for table in found])
