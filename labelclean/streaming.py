"""Cleaning out of core: four passes over feature shards, each a block at a time; a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, StorageError, TableError
from labelclean.gram import FeatureSums, Float32Array, Float64Array, TargetSums, unit_block
from labelclean.inputs import cleaning_settings
from labelclean.kernel import Kernel, raw_kernel_rows
from labelclean.labels import GivenLabels, IntArray, given_labels, one_hot
from labelclean.noise import posterior
from labelclean.shard_samples import BLOCK_ROWS, Samples, read_sample, read_samples, sample_ids, with_sums
from labelclean.shards import Shard, find_shards
from labelclean.space import FeatureSpace
from labelclean.stages import Judge, Stage, Verdict, designs_of, fit_judge, student_stage, teacher_stage
from labelclean.storage import atomic_path, read_json, write_json
from labelclean.tables import vectors

SAMPLE_ROWS = 50_000
MOST_SAMPLE_ROWS = 200_000
LEAST_SAMPLE_ROWS = 5_000
CHECKPOINT_ROWS = 250_000
MANY_CLASSES = 256
TOP_CLASSES = 32
PROGRAM_BYTES = 500 * 2**20
UNITS = {
    "": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}


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


@dataclass(frozen=True)
class _Task:
    """All that every pass needs."""

    shards: tuple[Shard, ...]
    samples: Samples
    kernel: Kernel | None
    means: tuple[Float64Array, ...]
    num_folds: int
    folder: Path
    digest: str

    @property
    def num_classes(self) -> int:
        return len(self.samples.class_names)


@dataclass(frozen=True)
class _Block:
    """Some rows of a shard, sorted by fold."""

    rows: tuple[Float32Array, ...]
    folds: IntArray
    given: IntArray
    back: IntArray


def clean_shards(
    *,
    features: str | Path | Sequence[str | Path],
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    groups: Sequence[Hashable] | None = None,
    out: str | Path,
    seed: int,
    config: CleaningConfig | Mapping[str, Any] | None = None,
    max_memory: int | str | None = None,
    sample_rows: int = SAMPLE_ROWS,
) -> CleanedShards:
    """Find and correct wrong labels of features that lie in shards on disk, in memory that does not grow with them.

    Neighbours are left out. Where the sample holds all samples, scores equal those of
    `clean_labels` with `neighbours.method=none` up to rounding.

    Args:
        features: Folder or list of shards: Parquet with a column `feature` (fixed-size list of float16 or float32) and, if
            wanted, `sample_id`, `given_label`, `group_id`; or .npy arrays of shape (rows, D).
        labels: Given label of each row, in the order of the shards; default: column `given_label`.
        groups: Group of each row; default: column `group_id`, if it is there.
        out: Folder for the results; that of a killed run goes on where it stopped.
        seed: Feeds the hashes of folds and sample.
        config: Sections `teacher` and `refine`; default: the defaults. `neighbours.method` must not be `exact` or `index`.
        max_memory: Bytes, or a text such as `2GiB`, that the run may need in all; the sample shrinks to fit.
        sample_rows: Samples on which choices are made, from 5,000 to 200,000.

    Returns:
        Where the results are, and their figures.

    Raises:
        TableError: If shards and labels do not fit together.
        ConfigError: If the settings ask for what is not done out of core, or ``max_memory`` cannot be kept.
        StorageError: If ``out`` holds the results of other data or settings, or the disk refuses.
    """
    settings = cleaning_settings(config)
    _check_settings(settings, sample_rows)
    shards = find_shards(features)
    total, num_dims = sum(shard.num_rows for shard in shards), shards[0].num_features
    num_classes = _least_classes(labels)
    limit = None if max_memory is None else memory_limit(max_memory)
    rows = fitting_sample(total, num_dims, num_classes, settings, min(sample_rows, total), limit)
    samples = read_samples(shards, labels, groups, settings, seed=seed, sample_rows=rows)
    rows = fitting_sample(total, num_dims, len(samples.class_names), settings, rows, limit)
    if rows < len(samples.chosen):  # the classes were not known before
        samples = read_samples(shards, labels, groups, settings, seed=seed, sample_rows=rows)
    folder = Path(out)
    digest = _digest(shards, samples, settings, seed)
    _claim(folder, digest)
    space, kernel = read_sample(shards, samples, settings)
    means = tuple(design.sums.mean for _, design in designs_of(space))
    task = _Task(shards, samples, kernel, means, settings.teacher.folds, folder, digest)
    return _clean(task, space, settings)


def memory_limit(text: int | str) -> int:
    """Return a number of bytes.

    Args:
        text: Bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB.

    Returns:
        Bytes.

    Raises:
        ConfigError: If it is none of these.

    Examples:
        >>> memory_limit("1.5KiB")
        1536
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B|)\s*", str(text))
    if found is None:
        raise ConfigError(f"max_memory must be bytes or a size such as '2GiB' or '500MB', but is {text!r}.")
    return int(float(found[1]) * UNITS[found[2]])


def memory_need(num_samples: int, num_dims: int, num_classes: int, config: CleaningConfig, sample_rows: int) -> int:
    """Return the bytes that a run needs in all.

    Args:
        num_samples: N.
        num_dims: D.
        num_classes: K.
        config: Section `teacher` is read.
        sample_rows: n.

    Returns:
        Program, sums with their decompositions, the sample, one block, and some bytes per sample.
    """
    landmarks, folds = config.teacher.landmarks, config.teacher.folds
    sums = 8 * folds * (3 * (num_dims**2 + landmarks**2) + 4 * num_classes * (num_dims + landmarks))
    sample = sample_rows * (6 * num_dims + 6 * landmarks + 4 * 24 * num_classes)
    block = BLOCK_ROWS * (14 * num_dims + 16 * landmarks + 4 * 24 * num_classes)
    return PROGRAM_BYTES + sums + sample + block + 40 * num_samples


def fitting_sample(
    num_samples: int, num_dims: int, num_classes: int, config: CleaningConfig, sample_rows: int, limit: int | None
) -> int:
    """Return the largest sample that keeps a run within its memory.

    Args:
        num_samples: N.
        num_dims: D.
        num_classes: K.
        config: Section `teacher` is read.
        sample_rows: n, at most.
        limit: Bytes; None: no limit.

    Returns:
        n.

    Raises:
        ConfigError: If even the least sample does not fit.
    """
    least = min(LEAST_SAMPLE_ROWS, sample_rows)
    need = memory_need(num_samples, num_dims, num_classes, config, least)
    if limit is None:
        return sample_rows
    if need > limit:
        raise ConfigError(
            f"max_memory must be at least {need / 2**20:,.0f} MiB for {num_samples:,} samples with {num_dims:,} features and "
            f"{num_classes:,} classes, but is {limit / 2**20:,.0f} MiB. Allow more, or lower teacher.landmarks "
            f"({config.teacher.landmarks}) or teacher.folds ({config.teacher.folds}). Nothing was started."
        )
    each = memory_need(num_samples, num_dims, num_classes, config, least + 1) - need
    return min(sample_rows, least + (limit - need) // each)


def _clean(task: _Task, space: FeatureSpace, config: CleaningConfig) -> CleanedShards:
    """The passes: sums, one per student round, outputs; between them choices on the sample."""
    labels = given_labels(task.samples.given[task.samples.chosen], task.num_classes)
    grams, crosses = _sums(task, "given", lambda block: one_hot(block.given, task.num_classes), with_grams=True)
    space = replace(space, design=with_sums(space.design, grams[0]))
    if space.curved is not None:
        space = replace(space, curved=with_sums(space.curved, grams[1]))
    teacher = last = teacher_stage(space, crosses, labels, config)
    rows = [design.unit_rows for _, design in designs_of(space)]
    if config.refine.method != "none":
        for number in range(config.refine.rounds or 1):
            before = last

            def targets(block: _Block, stage: Stage = before) -> Float32Array:
                known = given_labels(block.given, task.num_classes)
                return posterior(stage.probs(block.rows, block.folds), known, stage.matrix)

            _, crosses = _sums(task, f"student-{number + 1}", targets, with_grams=False)
            known = posterior(before.probs(rows, space.design.folds), labels, before.matrix)
            last = student_stage(space, crosses, known, labels, config, teacher.noise.shrinkage)
    judge = fit_judge(teacher, last, space, labels)
    counted = [
        _write_shard(task, number, teacher, last, judge, is_plain=config.refine.method == "none")
        for number in range(len(task.shards))
    ]
    for checkpoint in (task.folder / "work").glob("*.npz"):
        checkpoint.unlink()
    return _summary(task, counted, last)


def _blocks(task: _Task, number: int) -> Iterator[tuple[int, _Block]]:
    """First row and content of each block of a shard."""
    offset = int(task.samples.starts[number])
    for start, raw in task.shards[number].blocks(BLOCK_ROWS):
        where = slice(offset + start, offset + start + len(raw))
        order = np.argsort(task.samples.folds[where], kind="stable")
        linear = unit_block(raw[order], task.means[0])
        if not np.isfinite(linear.sum()):
            bad = np.flatnonzero(~np.isfinite(raw).all(axis=1))
            raise TableError(
                f"{task.shards[number].path}: features must be finite, but {len(bad):,} rows from row {start:,} on hold "
                f"NaN or infinity: rows {(bad[:5] + start).tolist()}. Extract them again."
            )
        rows: tuple[Float32Array, ...] = (linear,)
        if task.kernel is not None:
            rows = (linear, raw_kernel_rows(task.kernel, linear) - task.means[1].astype(np.float32))
        folds = task.samples.folds[where][order].astype(np.int64)
        given = task.samples.given[where][order].astype(np.int64)
        yield start, _Block(rows, folds, given, np.argsort(order))


def _sums(
    task: _Task, name: str, targets: Callable[[_Block], Float32Array], *, with_grams: bool
) -> tuple[list[FeatureSums], list[TargetSums]]:
    """One pass: sums over all shards, for each design; every so many rows they are put on disk with the shards they hold."""
    path = task.folder / "work" / f"{name}.npz"
    state, done = _restored(path, task)
    if state is None:
        state = _zeros(task, with_grams)
    rows = 0
    for number in range(done, len(task.shards)):
        for _, block in _blocks(task, number):
            _add(state, block, targets(block), task.num_folds)
        rows += task.shards[number].num_rows
        if rows >= CHECKPOINT_ROWS or number + 1 == len(task.shards):
            kept: dict[str, Any] = {"done": np.array(number + 1), "digest": np.array(task.digest), **state}
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **kept)
            rows = 0
    designs = range(len(task.means))
    grams = [
        FeatureSums(task.means[one], state["count"], state[f"total{one}"], state[f"gram{one}"])
        for one in designs
        if with_grams
    ]
    return grams, [TargetSums(state["targets"], state[f"cross{one}"]) for one in designs]


def _restored(path: Path, task: _Task) -> tuple[dict[str, Float64Array] | None, int]:
    """Sums of a killed run and how many shards they hold."""
    if not path.exists():
        return None, 0
    with np.load(path) as kept:
        if str(kept["digest"]) != task.digest:
            return None, 0
        return {name: kept[name] for name in kept.files if name not in ("done", "digest")}, int(kept["done"])


def _zeros(task: _Task, with_grams: bool) -> dict[str, Float64Array]:
    folds, classes = task.num_folds, task.num_classes
    state = {"count": np.zeros(folds), "targets": np.zeros((folds, classes))}
    for one, mean in enumerate(task.means):
        state[f"cross{one}"] = np.zeros((folds, len(mean), classes))
        if with_grams:
            state[f"total{one}"] = np.zeros((folds, len(mean)))
            state[f"gram{one}"] = np.zeros((folds, len(mean), len(mean)))
    return state


def _add(state: dict[str, Float64Array], block: _Block, targets: Float32Array, num_folds: int) -> None:
    """Add one block, fold by fold: products in single precision, sums in double."""
    ends = np.searchsorted(block.folds, np.arange(num_folds), side="right").tolist()
    for fold, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        state["count"][fold] += end - start
        state["targets"][fold] += targets[start:end].sum(axis=0, dtype=np.float64)
        for one, design_rows in enumerate(block.rows):
            rows = design_rows[start:end]
            state[f"cross{one}"][fold] += rows.T @ targets[start:end]
            if f"gram{one}" in state:
                state[f"total{one}"][fold] += rows.sum(axis=0, dtype=np.float64)
                state[f"gram{one}"][fold] += rows.T @ rows


def _write_shard(
    task: _Task, number: int, teacher: Stage, student: Stage, judge: Judge, *, is_plain: bool
) -> dict[str, Any]:
    """The refined labels of one shard, in a file of their own; what was counted in it comes back."""
    shard = task.shards[number]
    path = task.folder / "refined_labels" / f"part-{number:05d}.parquet"
    unit = hashlib.sha256(f"{task.digest}/{shard.digest}".encode()).hexdigest()
    if path.exists():
        kept = pq.read_schema(path).metadata or {}
        if kept.get(b"labelclean.unit") == unit.encode():
            return dict(json.loads(kept[b"labelclean.counted"]))
    ids = sample_ids(shard, int(task.samples.starts[number]))
    counted: dict[str, Any] = {"num_issues": 0, "chance": 0.0, "variance": 0.0, "others": [0.0, 0.0]}
    tables = []
    for start, block in _blocks(task, number):
        labels = given_labels(block.given, task.num_classes)
        first = teacher.probs(block.rows, block.folds)
        last = first if student is teacher else student.probs(block.rows, block.folds)
        verdict = judge.verdict(first, last, labels)
        soft = labels.votes if is_plain else verdict.soft_labels
        tables.append(_table(ids[start : start + len(block.back)], soft, verdict, labels, block.back, task))
        chance = 1.0 - verdict.label_scores.astype(np.float64)
        counted["num_issues"] += int(verdict.is_label_issue.sum())
        counted["chance"] += float(chance.sum())
        counted["variance"] += float((chance * (1 - chance)).sum())
        others = (1.0 - verdict.other_scores.astype(np.float64)).sum(axis=1)
        counted["others"] = [float(a + b) for a, b in zip(counted["others"], others, strict=True)]
    joined = pa.concat_tables(tables)
    marks = {
        "labelclean.unit": unit,
        "labelclean.counted": json.dumps(counted),
        "labelclean.classes": json.dumps(task.samples.class_names),
    }
    with atomic_path(path) as temporary:
        pq.write_table(joined.replace_schema_metadata(marks), temporary, compression="zstd", row_group_size=65_536)
    return counted


def _table(
    ids: Sequence[str], soft: Float32Array, verdict: Verdict, labels: GivenLabels, back: IntArray, task: _Task
) -> pa.Table:
    """One block of refined labels in the order of the shard."""
    names = pa.array(task.samples.class_names)
    soft = soft[back]
    columns: dict[str, Any] = {"sample_id": pa.array(ids), "given_label": names.take(pa.array(labels.given[back]))}
    if task.num_classes <= MANY_CLASSES:
        columns["soft_label"] = vectors(soft)
    else:
        index = np.argpartition(-soft, TOP_CLASSES, axis=1)[:, :TOP_CLASSES]
        probs = np.take_along_axis(soft, index, axis=1)
        order = np.argsort(-probs, axis=1)
        columns["soft_label_topk_index"] = vectors(np.take_along_axis(index, order, axis=1).astype(np.int32))
        columns["soft_label_topk_prob"] = vectors(np.take_along_axis(probs, order, axis=1))
    columns["predicted_label"] = names.take(pa.array(soft.argmax(axis=1)))
    columns["label_score"] = verdict.label_scores[back]
    columns["is_label_issue"] = verdict.is_label_issue[back]
    return pa.table(columns)


def _summary(task: _Task, counted: Sequence[Mapping[str, Any]], last: Stage) -> CleanedShards:
    """The figures of all shards, also as `summary.json`."""
    value = sum(one["chance"] for one in counted)
    others = [sum(one["others"][place] for one in counted) for place in range(2)]
    spread = 1.96 * float(np.sqrt(sum(one["variance"] for one in counted) + value))
    total = int(task.samples.starts[-1])
    errors = (value, max(min([value, *others]) - spread, 0.0), min(max([value, *others]) + spread, float(total)))
    num_issues = sum(one["num_issues"] for one in counted)
    record = {
        "num_samples": total,
        "num_shards": len(task.shards),
        "class_names": task.samples.class_names,
        "samples_for_choices": len(task.samples.chosen),
        "num_issues": num_issues,
        "estimated_errors": {"value": errors[0], "low": errors[1], "high": errors[2]},
        "noise_matrix": last.matrix.round(6).tolist(),
    }
    write_json(task.folder / "summary.json", record)
    return CleanedShards(task.folder, task.samples.class_names, total, num_issues, errors, last.matrix)


def _check_settings(config: CleaningConfig, sample_rows: int) -> None:
    faults = []
    if config.refine.method not in ("auto", "posterior", "none"):
        faults.append(f"refine.method must be 'auto', 'none' or 'posterior', but is {config.refine.method!r}")
    if config.neighbours.method not in ("auto", "none"):
        faults.append(f"neighbours.method must be 'auto' or 'none', but is {config.neighbours.method!r}")
    if not LEAST_SAMPLE_ROWS <= sample_rows <= MOST_SAMPLE_ROWS:
        faults.append(f"sample_rows must lie within 5,000 and 200,000, but is {sample_rows:,}")
    if faults:
        raise ConfigError(f"clean_shards: {'; '.join(faults)}. Use clean_labels for data that fits into memory.")


def _least_classes(labels: Sequence[Any] | npt.NDArray[Any] | None) -> int:
    return 2 if labels is None else max(2, len(set(np.asarray(labels).tolist())))


def _digest(shards: Sequence[Shard], samples: Samples, config: CleaningConfig, seed: int) -> str:
    """Digest of everything that a result hangs on."""
    said = hashlib.sha256(json.dumps([seed, BLOCK_ROWS, len(samples.chosen), samples.class_names]).encode())
    said.update(config.model_dump_json(include={"teacher", "refine"}).encode())
    for shard in shards:
        said.update(shard.digest.encode())
    for kept in (samples.given, samples.folds, samples.chosen):
        said.update(kept.tobytes())
    return said.hexdigest()


def _claim(folder: Path, digest: str) -> None:
    """Take a new or own folder; refuse that of other data."""
    mark = folder / "work" / "digest.json"
    if mark.exists():
        if read_json(mark) != {"digest": digest}:
            raise StorageError(
                f"{folder}: the folder must be new or hold the same run, but holds results of other shards, labels, "
                "settings or another seed. Choose another folder for out, or remove this one."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise StorageError(
            f"{folder}: the folder must be empty or hold the same run, but holds other files. Choose another."
        )
    mark.parent.mkdir(parents=True, exist_ok=True)
    (folder / "refined_labels").mkdir(exist_ok=True)
    write_json(mark, {"digest": digest})
