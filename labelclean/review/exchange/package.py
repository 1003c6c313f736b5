"""Writes an export folder: previews by the run's decode policy, parts that are never written twice, the manifest last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelclean.config import Config
from labelclean.errors import ExchangeError, StorageError, listed
from labelclean.features.boxes import SHOWN_PX, Cut
from labelclean.features.image_files import ImageReject, ReasonCode, read_image_bytes
from labelclean.review.exchange.manifest import MANIFEST, ExportManifest, Unreadable, read_manifest, write_manifest
from labelclean.review.exchange.tasks import QueueToExport, Task
from labelclean.review.pictures import ImagePlace
from labelclean.storage.parquet import atomic_path, image_rows, labels_dataset, make_folder, read_json, write_json

PART_SIZE = 1_000
MAX_SIDE = 2_048
PLACE_PX = 360
_PLAN = "unfinished.json"


@dataclass(frozen=True)
class ExportPart:
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


def write_package(
    queue: QueueToExport,
    out: Path,
    tool: str,
    *,
    settings: dict[str, Any],
    next_step: str,
    shared_files: dict[str, bytes],
    part_files: Callable[[ExportPart], dict[str, bytes]],
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
        written = [
            _write_once(folder / name, data) for name, data in part_files(ExportPart(folder, number, readable)).items()
        ]
        num_written += any(written)
    if finished is None:
        items = tuple(task.item for task in queue.tasks if task.item.sample_id not in unreadable)
        finished = ExportManifest(
            tool,
            queue.run_id,
            queue.dataset,
            queue.class_names,
            settings,
            len(groups),
            items,
            tuple(unreadable.values()),
        )
        write_manifest(out, finished)
        (out / _PLAN).unlink(missing_ok=True)
    keys = {item.key for item in finished.items}
    num_blind = sum(task.is_blind and task.item.key in keys for task in queue.tasks)
    return ExportReport(
        out, tool, len(keys), num_blind, finished.num_parts, num_written, finished.unreadable, next_step
    )


def place_path(part: ExportPart, task: Task) -> Path:
    """Return where the picture is that shows where a task's box lies in its image; only boxes have one.

    Args:
        part: Its part.
        task: The task.

    Returns:
        A JPEG file.
    """
    return part.folder / "places" / f"{task.item.key}.jpg"


def preview_path(part: ExportPart, task: Task, image_folder: str = "images") -> Path:
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
    make_folder(path.parent)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return True


def _write_previews(
    config: Config, tasks: Sequence[Task], folder: Path, max_side: int, unreadable: dict[str, Unreadable]
) -> None:
    """Write the previews that are not there yet, and note the images that give none."""
    from labelclean.features.decode import place_image, preview_image

    missing = [task for task in tasks if not (folder / f"{task.item.key}.png").exists()]
    for task, data in _originals(config, missing):
        sample = task.item.sample_id
        if isinstance(data, ImageReject):
            unreadable[sample] = Unreadable(sample, str(data.reason_code), data.message)
        elif not ImagePlace(task.image_path, task.item.content_hash, "", box=task.box).shows(data):
            unreadable[sample] = Unreadable(
                sample, "content_changed", "the image is not the one that the run judged; run again."
            )
        else:
            cut = None if task.box is None else Cut(task.box, config.data.box_margin, SHOWN_PX)
            try:
                preview = preview_image(data, config.decode, max_side, cut=cut)
                place = None if cut is None else place_image(data, config.decode, PLACE_PX, cut.box)
            except ImageReject as reject:
                unreadable[sample] = Unreadable(sample, str(reject.reason_code), reject.message)
            else:
                if place is not None:
                    _write_once(folder.parent / "places" / f"{task.item.key}.jpg", place)
                _write_once(folder / f"{task.item.key}.png", preview)


def _originals(config: Config, tasks: Sequence[Task]) -> Iterator[tuple[Task, bytes | ImageReject]]:
    """Each task with its image file's bytes, or with why there are none."""
    labels = config.data.labels
    root = config.data.image_root or (labels if labels.is_dir() else labels.parent)
    task_of = {task.item.sample_id: task for task in tasks}
    if tasks and "image" in labels_dataset(labels).schema.names:
        for sample, _, data in image_rows(labels):
            if sample in task_of and data is not None:
                yield task_of.pop(sample), data
    for task in task_of.values():
        try:
            if task.image_path is None:
                raise ImageReject(ReasonCode.NO_IMAGE, "the sample has neither a path nor image bytes any more.")
            yield task, read_image_bytes(root, task.image_path, config.decode)
        except ImageReject as reject:
            yield task, reject
