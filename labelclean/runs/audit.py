"""Random looks across nights: what the readings made of the samples that were drawn, kept until people have answered.

A night's answers come after it, when its samples are no longer there. So every run leaves `audit_readings.parquet`: the
four readings of each sample that it drew, made before anybody looked, and those of earlier runs that still count. The
next run asks the ledger what people found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import Float32Array
from labelclean.config import Config
from labelclean.labels import GivenLabels
from labelclean.noise.readings import NO_LOOKS, AuditEvidence, Readings, as_ingested, evidence_of_looks
from labelclean.review.decisions import Decision, is_audit_answer
from labelclean.runs.run import dataset_name
from labelclean.storage.parquet import read_table, write_table
from labelclean.storage.run_folders import good_runs
from labelclean.storage.tables import READINGS, class_names_of, matrix, vectors

FILE, TABLE = "audit_readings.parquet", "audit_readings"
HALF_LIFE_NIGHTS = 30  # a month of nights: lines, cameras and people change
MOST_NIGHTS = 10 * HALF_LIFE_NIGHTS  # a look counts for a thousandth of a sample then


def earlier_draws(config: Config, names: Sequence[str], tonight: pa.Array) -> pa.Table | None:
    """Return what earlier runs of the data set left of the samples that they drew, a night older.

    Args:
        config: `run.reference`, `run.dataset` and `storage.runs` are read: the reference, else the newest good run.
        names: The K class names in order; readings of other classes mean something else and are left out.
        tonight: Ids of tonight's samples, which are read anew.

    Returns:
        Table `audit_readings`; None where there is nothing.
    """
    newest = next((run.folder for run in good_runs(config.storage.runs, dataset_name(config))), None)
    folder = config.run.reference or newest
    if folder is None or not (folder / FILE).is_file():
        return None
    table = read_table(folder / FILE, TABLE)
    before = class_names_of(table)
    if set(before) != set(names):
        return None
    if before != tuple(names):
        order = np.array([before.index(name) for name in names])
        for name in (f"by_{name}" for name in READINGS):
            reordered = vectors(matrix(table.column(name))[:, order])
            table = table.set_column(table.column_names.index(name), name, reordered)
    age = pc.add(table.column("age_nights"), 1)
    table = table.set_column(table.column_names.index("age_nights"), "age_nights", age)
    gone = pc.is_in(table.column("sample_id"), value_set=tonight)
    return table.filter(pc.and_(pc.invert(gone), pc.less_equal(age, MOST_NIGHTS)))


def evidence_of(draws: pa.Table | None, decisions: Sequence[Decision], names: Sequence[str]) -> AuditEvidence:
    """Return what people found in samples that earlier runs drew; a look counts for half after 30 nights.

    Args:
        draws: What `earlier_draws` returned.
        decisions: All decisions of the data set.
        names: The K class names.

    Returns:
        The evidence; a sample about which people disagree is left out.
    """
    if draws is None or not draws.num_rows:
        return NO_LOOKS
    drawn: dict[tuple[str, str], set[str]] = {}
    for decision in decisions:
        if is_audit_answer(decision) and decision.verified_label in names:
            drawn.setdefault((decision.sample_id, decision.content_hash), set()).add(str(decision.verified_label))
    keys = zip(draws.column("sample_id").to_pylist(), draws.column("content_hash").to_pylist(), strict=True)
    answers = [drawn.get(key, set()) for key in keys]
    rows = np.array([row for row, classes in enumerate(answers) if len(classes) == 1], dtype=np.int64)
    if not len(rows):
        return NO_LOOKS
    verified = np.array([list(names).index(next(iter(answers[row]))) for row in rows.tolist()])
    table = draws.take(pa.array(rows))
    readings = np.stack([np.stack(table.column(f"by_{name}").to_numpy()) for name in READINGS])
    given = np.array([list(names).index(name) for name in table.column("given_label").to_pylist()])
    weights = 0.5 ** (table.column("age_nights").to_numpy() / HALF_LIFE_NIGHTS)
    return evidence_of_looks(readings, given, verified, weights.astype(np.float64))


def write_draws(work: Path, draws: pa.Table, earlier: pa.Table | None, names: Sequence[str]) -> None:
    """Write tonight's draw beside what earlier runs left.

    Args:
        work: The run's work folder.
        draws: From `draws_table`.
        earlier: What `earlier_draws` returned.
        names: The K class names.
    """
    if earlier is not None and earlier.num_rows:
        draws = pa.concat_tables([draws, earlier.select(draws.column_names).cast(draws.schema)])
    write_table(work / FILE, draws, TABLE, names)


def draws_table(drawn: pa.Table, readings: Readings, pred_probs: Float32Array, labels: GivenLabels) -> pa.Table:
    """Return what the readings make of tonight's draw.

    Args:
        drawn: `sample_id`, `given_label` and `content_hash` of the n samples that were drawn.
        readings: Tonight's readings.
        pred_probs: The student's P(true class | image) of them, float32, shape (n, K).
        labels: Their given labels.

    Returns:
        Table `audit_readings`, n rows.
    """
    read = readings.read(pred_probs, as_ingested(labels))
    columns = {name: drawn.column(name) for name in ("sample_id", "given_label", "content_hash")}
    columns["age_nights"] = pa.array(np.zeros(drawn.num_rows, dtype=np.int64))
    return pa.table(columns | {f"by_{name}": vectors(row) for name, row in zip(READINGS, read, strict=True)})
