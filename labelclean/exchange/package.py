"""Writes an export folder: previews by the run's decode policy, parts that are never written twice, the manifest last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from labelclean.config import Config
from labelclean.errors import ExchangeError, StorageError, listed
from labelclean.exchange.manifest import (
    MANIFEST,
    ExportItem,
    ExportManifest,
    Unreadable,
    read_manifest,
    task_key,
    write_manifest,
)
from labelclean.image_files import ImageReject, ReasonCode, content_hash, read_image_bytes
from labelclean.runs import MANIFEST as RUN_MANIFEST
from labelclean.runs import file_digest
from labelclean.storage import atomic_path, image_rows, labels_dataset, read_json, read_table, write_json
from labelclean.tables import class_names_of, matrix

PART_SIZE = 1_000
MAX_SIDE = 2_048
_PLAN = "unfinished.json"


@dataclass(frozen=True)
class Suggestion:
    """What the run thinks of a sample; annotators of the blind audit slice never see it.

    Attributes:
        given_label: The given label.
        predicted_label: The suggested class.
        runner_up_label: The second class.
        probability: Probability of the suggested class, 0..1.
        label_score: Probability that the given label is right, low = suspicious.
        reasons: Reasons of the flags.
        neighbour_ids: Nearest trusted samples.
    """

    given_label: str
    predicted_label: str
    runner_up_label: str
    probability: float
    label_score: float
    reasons: tuple[str, ...]
    neighbour_ids: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One task of an export.

    Attributes:
        item: Its line in the manifest.
        rank: Its place in the queue.
        image_path: Path of the original below the image root, if it has one.
        suggestion: What the annotator may see, None for a blind task.
    """

    item: ExportItem
    rank: int
    image_path: str | None
    suggestion: Suggestion | None


@dataclass(frozen=True)
class QueueToExport:
    """A run's queue as tasks.

    Attributes:
        run_id: The run.
        dataset: Its data set.
        class_names: The K class names in order.
        config: The run's configuration.
        tasks: In the order of the queue.
    """

    run_id: str
    dataset: str
    class_names: tuple[str, ...]
    config: Config
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Part:
    """Up to 1,000 tasks that travel together.

    Attributes:
        folder: Where it is written, below the export folder.
        number: 1 for the first.
        tasks: Its tasks that have a preview.
    """

    folder: Path
    number: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class ExportReport:
    """What an export left.

    Attributes:
        folder: The export folder.
        tool: The annotation tool.
        num_tasks: Tasks exported.
        num_blind: Of these, tasks without any suggestion.
        num_parts: Parts of the export.
        num_written: Parts written now; the others were finished before.
        unreadable: Places of the queue that are not exported.
        next_step: What to do with the folder.
    """

    folder: Path
    tool: str
    num_tasks: int
    num_blind: int
    num_parts: int
    num_written: int
    unreadable: tuple[Unreadable, ...]
    next_step: str


def read_queue(run_folder: Path, *, suggestions: bool = True) -> QueueToExport:
    """Return a run's review queue as tasks.

    Args:
        run_folder: A published run.
        suggestions: Show what the run thinks; samples of the audit slice are blind in any case.

    Returns:
        The queue.

    Raises:
        StorageError: If the folder is no whole run or was changed.
    """
    manifest = read_json(run_folder / RUN_MANIFEST)
    for name in ("review_queue.parquet", "refined_labels.parquet"):
        promised = manifest.get("files", {}).get(name)
        if promised is None or not (run_folder / name).is_file():
            raise StorageError(f"{run_folder}: the run has no {name}; a gate stopped it. Export another run.")
        if file_digest(run_folder / name) != promised["sha256"]:
            raise StorageError(f"{run_folder / name}: the file is not the one the run published. Export another run.")
    queue = read_table(run_folder / "review_queue.parquet", "review_queue")
    run_id, dataset = str(manifest["run_id"]), str(manifest["dataset"])
    probability = _probabilities(run_folder, set(queue.column("sample_id").to_pylist()))
    tasks = []
    for row in sorted(queue.to_pylist(), key=lambda row: int(row["rank"])):
        sample, image = row["sample_id"], row["content_hash"]
        item = ExportItem(task_key(run_id, dataset, sample, image), sample, image, row["given_label"])
        is_blind = not suggestions or row["queue_source"] == "random_audit"
        suggestion = None if is_blind else _suggestion(row, probability[sample])
        tasks.append(Task(item, int(row["rank"]), row.get("image_path"), suggestion))
    config = Config.model_validate(manifest["config"])
    return QueueToExport(run_id, dataset, class_names_of(queue), config, tuple(tasks))


def write_package(
    queue: QueueToExport,
    out: Path,
    tool: str,
    *,
    settings: dict[str, Any],
    next_step: str,
    shared_files: dict[str, bytes],
    part_files: Callable[[Part], dict[str, bytes]],
    image_folder: str = "images",
) -> ExportReport:
    """Write previews, parts and manifest; a folder left by a killed export is finished.

    Args:
        queue: What to export.
        out: New folder, or one that an export with the same settings began.
        tool: The annotation tool.
        settings: How it is exported: `part_size`, `max_side` and whatever else changes a byte.
        next_step: What to do with the folder.
        shared_files: File name -> bytes, written once into ``out``.
        part_files: A part -> file name -> bytes; the last one written marks the part as finished.
        image_folder: Folder of the previews within a part.

    Returns:
        The report.

    Raises:
        ExchangeError: If the folder holds something else.
        StorageError: If the disk refuses.
    """
    plan = {"tool": tool, "run_id": queue.run_id, "dataset": queue.dataset, "settings": settings}
    finished = _claim(out, plan)
    size = int(settings["part_size"])
    groups = [queue.tasks[start : start + size] for start in range(0, len(queue.tasks), size)]
    unreadable: dict[str, Unreadable] = {}
    num_written = 0
    for name, data in shared_files.items():
        _write_once(out / name, data)
    for number, tasks in enumerate(groups, start=1) if finished is None else ():
        folder = out / f"part_{number:03d}"
        _write_previews(queue.config, tasks, folder / image_folder, int(settings["max_side"]), unreadable)
        readable = tuple(task for task in tasks if task.item.sample_id not in unreadable)
        written = [_write_once(folder / name, data) for name, data in part_files(Part(folder, number, readable)).items()]
        num_written += any(written)
    if finished is None:
        items = tuple(task.item for task in queue.tasks if task.item.sample_id not in unreadable)
        finished = ExportManifest(
            tool, queue.run_id, queue.dataset, queue.class_names, settings, len(groups), items, tuple(unreadable.values())
        )
        write_manifest(out, finished)
        (out / _PLAN).unlink(missing_ok=True)
    keys = {item.key for item in finished.items}
    num_blind = sum(task.suggestion is None and task.item.key in keys for task in queue.tasks)
    return ExportReport(
        out, tool, len(keys), num_blind, finished.num_parts, num_written, finished.unreadable, next_step
    )


def preview_path(part: Part, task: Task, image_folder: str = "images") -> Path:
    """Return where a task's preview is.

    Args:
        part: Its part.
        task: The task.
        image_folder: Folder of the previews within a part.

    Returns:
        A PNG file.
    """
    return part.folder / image_folder / f"{task.item.key}.png"


# --- inside ---------------------------------------------------------------------------------------


def _suggestion(row: dict[str, Any], probability: float) -> Suggestion:
    return Suggestion(
        given_label=row["given_label"],
        predicted_label=row["predicted_label"],
        runner_up_label=row["runner_up_label"],
        probability=probability,
        label_score=round(float(row["label_score"]), 6),
        reasons=tuple(row["reasons"] or ()),
        neighbour_ids=tuple(row["neighbour_ids"] or ()),
    )


def _probabilities(run_folder: Path, samples: set[str]) -> dict[str, float]:
    """Probability of the suggested class of each sample."""
    table = read_table(run_folder / "refined_labels.parquet", "refined_labels", ["sample_id", "soft_label"])
    table = table.filter(pc.is_in(table.column("sample_id"), value_set=pa.array(sorted(samples), pa.string())))
    best = matrix(table.column("soft_label")).max(axis=1) if table.num_rows else ()
    return {
        sample: round(float(value), 6) for sample, value in zip(table.column("sample_id").to_pylist(), best, strict=True)
    }


def _claim(out: Path, plan: dict[str, Any]) -> ExportManifest | None:
    """Make the folder, or check that it holds the same export; return its manifest if that one is finished."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        holds = sorted(entry.name for entry in out.iterdir() if not entry.name.endswith(".tmp"))
    except OSError as fault:
        raise StorageError(f"{out}: must be a folder that can be written, but: {fault.strerror}.") from None
    if not holds:
        write_json(out / _PLAN, plan)
        return None
    if MANIFEST not in holds and _PLAN not in holds:
        raise ExchangeError(
            f"{out}: must be a new or empty folder, but holds {listed(holds)}. Name another folder; nothing was written."
        )
    finished = read_manifest(out) if MANIFEST in holds else None
    found = (
        {"tool": finished.tool, "run_id": finished.run_id, "dataset": finished.dataset, "settings": finished.settings}
        if finished
        else read_json(out / _PLAN)
    )
    if found != plan:
        raise ExchangeError(
            f"{out}: must be a new folder, but holds the export of run {found['run_id']!r} of {found['dataset']!r} "
            f"to {found['tool']} with {found['settings']!r}; asked was run {plan['run_id']!r} of {plan['dataset']!r} to "
            f"{plan['tool']} with {plan['settings']!r}. Name another folder; nothing was written."
        )
    return finished


def _write_once(path: Path, data: bytes) -> bool:
    """Write a file unless it is there already; return whether it was written."""
    if path.exists():
        return False
    _make_folder(path.parent)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return True


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise StorageError(f"{folder}: the folder cannot be made: {fault.strerror}.") from None


def _write_previews(
    config: Config, tasks: Sequence[Task], folder: Path, max_side: int, unreadable: dict[str, Unreadable]
) -> None:
    """Write the previews that are not there yet, and note the images that give none."""
    from labelclean.images import preview_image

    missing = [task for task in tasks if not (folder / f"{task.item.key}.png").exists()]
    for task, data in _originals(config, missing):
        sample = task.item.sample_id
        if isinstance(data, ImageReject):
            unreadable[sample] = Unreadable(sample, str(data.reason_code), data.message)
        elif content_hash(data) != task.item.content_hash:
            unreadable[sample] = Unreadable(
                sample, "content_changed", "the image is not the one that the run judged; run again."
            )
        else:
            try:
                preview = preview_image(data, config.decode, max_side)
            except ImageReject as reject:
                unreadable[sample] = Unreadable(sample, str(reject.reason_code), reject.message)
            else:
                _write_once(folder / f"{task.item.key}.png", preview)


def _originals(config: Config, tasks: Sequence[Task]) -> Iterator[tuple[Task, bytes | ImageReject]]:
    """Each task with its image file's bytes, or with why there are none."""
    labels = config.data.labels
    if tasks and "image" in labels_dataset(labels).schema.names:
        task_of = {task.item.sample_id: task for task in tasks}
        for sample, _, data in image_rows(labels):
            if sample in task_of:
                no_image = ImageReject(ReasonCode.NO_IMAGE, "the row holds no image bytes.")
                yield task_of.pop(sample), data or no_image
        for task in task_of.values():
            yield task, ImageReject(ReasonCode.MISSING, "the sample is no longer in the labels table.")
        return
    root = config.data.image_root or (labels if labels.is_dir() else labels.parent)
    for task in tasks:
        try:
            yield task, read_image_bytes(root, task.image_path or "", config.decode)
        except ImageReject as reject:
            yield task, reject
