"""`clean_shards`: the method over feature shards on disk, in memory that does not grow with them; a killed run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import Float64Array, IntArray
from labelclean.cleaning.inputs import class_names_of, cleaning_settings
from labelclean.cleaning.memory import Size, check_memory, choice_rows, memory_limit
from labelclean.cleaning.one_class import judge_odd, measure_oddity
from labelclean.cleaning.passes import Each, each_shard
from labelclean.cleaning.population import Labelled, Learned, Setting, learn_student, learn_teacher, setting_faults
from labelclean.cleaning.shard_labels import shard_labels
from labelclean.cleaning.shards import FileShard, find_shards
from labelclean.cleaning.verdicts import Found, write_parts
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, StorageError, TableError
from labelclean.labels import class_indices
from labelclean.noise.tally import Tally
from labelclean.noise.trust import JudgedLabels
from labelclean.probes.feature_space import numbered_keys, sample_keys
from labelclean.probes.neighbours import neighbours_record
from labelclean.storage.parquet import atomic_path, make_folder, parquet_options, read_json, write_json
from labelclean.storage.queries import check_distinct_ids
from labelclean.storage.tables import probability_columns


@dataclass(frozen=True)
class CleanedShards:
    """What `clean_shards` returns; the labels themselves are in files.

    Attributes:
        folder: Holds `refined_labels/`, one Parquet file per shard, and `summary.json`.
        class_names: The K class names, sorted.
        num_samples: N.
        num_issues: Labels called wrong.
        estimated_errors: Expected number of wrong labels: value, low, high.
        noise_matrix: C of the student, float64, shape (K, K).
    """

    folder: Path
    class_names: list[Any]
    num_samples: int
    num_issues: int
    estimated_errors: tuple[float, float, float]
    noise_matrix: Float64Array


def clean_shards(
    *,
    features: str | Path | Sequence[str | Path],
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    groups: Sequence[Hashable] | None = None,
    out: str | Path,
    seed: int,
    config: CleaningConfig | Mapping[str, Any] | None = None,
    max_memory: int | str | None = None,
    sample_rows: int | None = None,
    device: str = "cpu",
    cluster: str | None = None,
) -> CleanedShards:
    """Find and correct wrong labels of features that lie in shards on disk, in memory that does not grow with them.

    What it finds is what `clean_labels` finds of the same samples, however they are cut into shards. Up to
    `teacher.choice_rows` samples all are held together; of more, two to four passes over the shards are made. With one class
    images are ranked by how little they look like the others, and no label is suggested.

    Args:
        features: Folder or list of shards: Parquet with a column `feature` (fixed-size list of float16 or float32) and, if
            wanted, `sample_id`, `given_label`, `group_id`; or .npy arrays of shape (rows, D).
        labels: Given label of each row, in the order of the shards; default: column `given_label`.
        groups: Group of each row; default: column `group_id`, if it is there.
        out: Folder for the results; that of a killed run goes on where it stopped.
        seed: Feeds the hashes of folds and sample.
        config: Sections `neighbours`, `teacher` and `refine`; default: the defaults.
        max_memory: Bytes, or a text such as `2GiB`, that the run may need in all; refused before anything starts where
            it does not suffice.
        sample_rows: In place of `teacher.choice_rows`.
        device: Torch device for the sums, such as `cuda`.
        cluster: Ray cluster that works on the shards: `auto` or an address; default: this process. Results are the
            same. All its machines must see the shards and ``out`` under the same paths.

    Returns:
        Where the results are, and their figures.

    Raises:
        TableError: If shards and labels do not fit together.
        ConfigError: If the settings ask for what is not done with so many samples, or ``max_memory`` cannot be kept.
        StorageError: If ``out`` holds the results of other data, settings or version, or the disk refuses.
        DeviceError: If the cluster cannot be reached, or its machines die on one shard again and again.
    """
    settings = cleaning_settings(config)
    if sample_rows is not None:
        settings = cleaning_settings(
            {**settings.model_dump(), "teacher": {**settings.teacher.model_dump(), "choice_rows": sample_rows}}
        )
    shards = tuple(replace(shard, path=shard.path.absolute()) for shard in find_shards(features))
    total = sum(shard.num_rows for shard in shards)
    _check_lengths(labels, groups, total)
    names = _class_names(shards, labels)
    size = Size(total, shards[0].num_features, len(names))
    if faults := setting_faults(settings, total, len(names)):
        raise ConfigError(f"clean_shards: {'; '.join(faults)}.")
    check_memory(size, settings, None if max_memory is None else memory_limit(max_memory), "max_memory")
    folder = Path(out).absolute()
    work = folder / "work"
    digest = _digest(shards, labels, groups, settings, (seed, names))
    _claim(folder, digest)
    with_ids = [shard.path for shard in shards if "sample_id" in shard.columns]
    if with_ids:
        check_distinct_ids(with_ids, work / "spill")
    paths = _write_labels(shards, labels, groups, names, work, settings, seed)
    starts = np.cumsum([0, *(shard.num_rows for shard in shards)]).tolist()
    outputs = _RefinedLabels(tuple(shards), tuple(starts), names)
    with each_shard(cluster) as each:
        if len(names) == 1:
            return _ranked(shards, paths, settings, outputs, folder, digest, device, each)
        setting = Setting(settings, seed, choice_rows(settings, len(names)), work, digest, device, each)
        taught = learn_teacher(Labelled(shards, paths, len(names)), setting)
        learned = learn_student(taught, settings)
        tally = write_parts(learned, outputs, folder, each=each)
    for checkpoint in [*work.glob("*.npz"), *(work / "neighbours").rglob("*.*")]:
        checkpoint.unlink()
    return _summary(folder, names, tally, learned)


@dataclass(frozen=True)
class _RefinedLabels:
    """Makes the table of some samples of a shard."""

    shards: tuple[FileShard, ...]
    starts: tuple[int, ...]
    names: list[Any]

    def __call__(self, number: int, found: Found) -> dict[str, pa.Table]:
        return {"refined_labels": self.table(number, found.rows, found.labels.given, found.judged)}

    def table(self, number: int, rows: IntArray, given: IntArray, judged: JudgedLabels) -> pa.Table:
        """Return the table of some rows of a shard."""
        ids = self._ids(number).take(pa.array(rows))
        named = pa.array(self.names)
        columns: dict[str, Any] = {"sample_id": ids, "given_label": named.take(pa.array(given))}
        columns |= probability_columns("soft_label", judged.soft_labels)
        columns["predicted_label"] = named.take(pa.array(judged.predicted))
        columns["label_score"] = judged.label_scores
        columns["is_label_issue"] = judged.is_label_issue
        return pa.table(columns)

    def _ids(self, number: int) -> pa.Array:
        return sample_ids(self.shards[number], self.starts[number])


def _ranked(
    shards: Sequence[FileShard],
    paths: Sequence[Path],
    config: CleaningConfig,
    outputs: _RefinedLabels,
    folder: Path,
    digest: str,
    device: str,
    each: Each,
) -> CleanedShards:
    """Images of one class, ranked by how little they look like the others."""
    rows, work = choice_rows(config, 1), folder / "work"
    oddity = measure_oddity(
        shards, list(paths), config, sample_rows=rows, folder=work, digest=digest, device=device, each=each
    )
    judged = judge_odd(oddity.values, np.zeros(len(oddity.values), dtype=bool), config.neighbours.odd_share)
    make_folder(folder / "refined_labels")
    for number, shard in enumerate(shards):
        at = np.arange(outputs.starts[number], outputs.starts[number + 1])
        own = outputs.table(number, np.arange(shard.num_rows), np.zeros(shard.num_rows, np.int64), judged.take(at))
        with atomic_path(folder / "refined_labels" / f"part-{number:05d}.parquet") as temporary:
            pq.write_table(own, temporary, **parquet_options(own.schema))
    for checkpoint in [*work.glob("*.npz"), *(work / "neighbours").rglob("*.*")]:
        checkpoint.unlink()
    expected = float((1.0 - judged.label_scores.astype(np.float64)).sum())
    num_issues = int(judged.is_label_issue.sum())
    record = {
        "num_samples": len(judged.predicted),
        "num_shards": len(shards),
        "class_names": outputs.names,
        "odd_share": config.neighbours.odd_share,
        "num_issues": num_issues,
    }
    write_json(folder / "summary.json", record)
    errors = (expected, expected, expected)
    return CleanedShards(folder, outputs.names, len(judged.predicted), num_issues, errors, np.ones((1, 1)))


@lru_cache(maxsize=1)
def sample_ids(shard: FileShard, start: int) -> pa.Array:
    """Return the ids of a shard's rows: its column `sample_id`, or their numbers over all shards."""
    column = shard.column("sample_id")
    ids = pa.array(np.arange(start, start + shard.num_rows)) if column is None else column.combine_chunks()
    return ids.cast(pa.string())


def _write_labels(
    shards: Sequence[FileShard],
    labels: Sequence[Any] | npt.NDArray[Any] | None,
    groups: Sequence[Hashable] | None,
    names: list[Any],
    work: Path,
    config: CleaningConfig,
    seed: int,
) -> list[Path]:
    """The labels of each shard in a file of their own; those that are there stay."""
    make_folder(work / "labels")
    paths, start, num_folds = [], 0, config.teacher.folds
    is_many = sum(shard.num_rows for shard in shards) > choice_rows(config, len(names))
    for number, shard in enumerate(shards):
        rows, path = slice(start, start + shard.num_rows), work / "labels" / f"part-{number:05d}.npz"
        paths.append(path)
        if not path.exists():
            values = _values(shard, "given_label") if labels is None else np.asarray(labels[rows]).tolist()
            given = class_indices(values or [], names)
            ids = _values(shard, "sample_id")
            together = _values(shard, "group_id") if groups is None else list(groups[rows])
            if ids is None and together is None and is_many:
                keys = numbered_keys(start, len(given), num_folds=num_folds, seed=seed)
            else:
                ids = [str(row) for row in range(rows.start, rows.stop)] if ids is None else ids
                names_of_groups = None if together is None else _keys(together, ids)
                keys = sample_keys(ids, names_of_groups, num_folds=num_folds, seed=seed)
            shard_labels(given, keys).write(path)
        start += shard.num_rows
    return paths


def _keys(lots: Sequence[Any], ids: Sequence[str]) -> list[str]:
    """What folds are made of: the group, or the sample itself where it has none."""
    return [f"sample {sample}" if lot is None else str(lot) for lot, sample in zip(lots, ids, strict=True)]


def _class_names(shards: Sequence[FileShard], labels: Sequence[Any] | npt.NDArray[Any] | None) -> list[Any]:
    """The distinct labels, sorted; refuses labels that are missing."""
    distinct: set[Any] = set()
    if labels is not None:
        distinct = set(np.unique(labels).tolist()) if isinstance(labels, np.ndarray) else set(labels)
        if None in distinct:
            raise TableError("labels: every row needs a label, but some are None. Leave those rows out.")
    for shard in shards if labels is None else ():
        column = shard.column("given_label")
        if column is None:
            raise TableError(
                f"{shard.path}: labels are needed, but none were handed over and the shard has no column 'given_label'."
            )
        if column.null_count:
            raise TableError(f"{shard.path}: every row needs a label, but {column.null_count:,} have none.")
        distinct |= set(column.unique().to_pylist())
    names = class_names_of(np.array(list(distinct), dtype=object)) if distinct else []
    if not names:
        raise TableError("given labels must name at least 1 class, but the shards hold no row.")
    return names


def _summary(folder: Path, names: list[Any], tally: Tally, learned: Learned) -> CleanedShards:
    """The figures of all shards, also as `summary.json`."""
    taught, refinement = learned.taught, learned.refinement
    estimate, matrix = tally.errors(refinement.trust.readings), refinement.noise_matrix
    record = {
        "num_samples": tally.num_samples,
        "num_shards": len(taught.shard_set.shards),
        "class_names": names,
        "samples_for_choices": len(taught.chosen),
        "neighbours": neighbours_record(taught.space.neighbours),
        "num_issues": tally.num_issues,
        "estimated_errors": {"value": estimate.value, "low": estimate.low, "high": estimate.high},
        "noise_matrix": matrix.round(6).tolist(),
    }
    write_json(folder / "summary.json", record)
    errors = (estimate.value, estimate.low, estimate.high)
    return CleanedShards(folder, names, tally.num_samples, tally.num_issues, errors, matrix)


def _values(shard: FileShard, name: str) -> list[Any] | None:
    column = shard.column(name)
    return None if column is None else column.to_pylist()


def _check_lengths(
    labels: Sequence[Any] | npt.NDArray[Any] | None, groups: Sequence[Hashable] | None, total: int
) -> None:
    for what, values in (("labels", labels), ("groups", groups)):
        if values is not None and len(values) != total:
            raise TableError(
                f"{what} must have one entry per row of the shards, {total:,}, but have {len(values):,}. "
                "Hand them over in the order of the shards."
            )


def _digest(
    shards: Sequence[FileShard],
    labels: Sequence[Any] | npt.NDArray[Any] | None,
    groups: Sequence[Hashable] | None,
    config: CleaningConfig,
    said: tuple[Any, ...],
) -> str:
    """Digest of everything that a result hangs on, the version too: a killed run must not go on with another method."""
    digest = hashlib.sha256(json.dumps((version("labelclean"), *said)).encode())
    digest.update(config.model_dump_json(include={"neighbours", "teacher", "refine", "gates"}).encode())
    for shard in shards:
        digest.update(shard.digest.encode())
    for values in (labels, groups):
        if isinstance(values, np.ndarray) and values.dtype != object:
            digest.update(np.ascontiguousarray(values).tobytes())
        elif values is not None:
            digest.update("\n".join(map(str, values)).encode())
    return digest.hexdigest()


def _claim(folder: Path, digest: str) -> None:
    """Take a new or own folder; refuse that of other data."""
    mark = folder / "work" / "digest.json"
    if mark.exists():
        if read_json(mark) != {"digest": digest}:
            raise StorageError(
                f"{folder}: the folder must be new or hold the same run, but holds results of other shards, labels or "
                "settings, another seed or another version of labelclean. Choose another folder for out, or remove this one."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise StorageError(
            f"{folder}: the folder must be empty or hold the same run, but holds other files. Choose another."
        )
    make_folder(mark.parent)
    write_json(mark, {"digest": digest})
