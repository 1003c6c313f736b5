"""Run folders: worked in out of sight, published in one step with a manifest, never overwritten."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelclean.errors import StorageError
from labelclean.storage.parquet import read_json, sync, write_json

LOG = logging.getLogger("labelclean")

WORK_PREFIX = ".work-"
MANIFEST = "manifest.json"
_RUN_ID = re.compile(r"\d{4}-\d\d-\d\dT\d{6}\.\d{3}Z")


def new_work_folder(runs: Path, now: datetime) -> tuple[str, Path]:
    """Make the hidden folder that a run works in.

    Args:
        runs: `storage.runs`.
        now: Time of the start, with time zone.

    Returns:
        The run id, which sorts by time, and the folder.

    Raises:
        StorageError: If the folder cannot be made.
    """
    run_id = now.astimezone(UTC).strftime("%Y-%m-%dT%H%M%S.%f")[:-3] + "Z"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        names = (folder.name for folder in run_folders(runs))
        newest = max((name for name in names if _RUN_ID.fullmatch(name)), default="")  # people rename runs
        if run_id <= newest:  # the clock stands or was put back: names must still sort by time
            run_id = _next_name(newest)
        work = runs / f"{WORK_PREFIX}{run_id}"
        work.mkdir()
    except OSError as fault:
        raise StorageError(f"{runs}: storage.runs must be a folder that can be written, but: {fault}.") from None
    return run_id, work


def leftovers(runs: Path) -> list[Path]:
    """Return the hidden folders that dead runs left, oldest first; only the holder of the lock may ask.

    Args:
        runs: `storage.runs`.

    Returns:
        Folders.
    """
    return sorted(runs.glob(f"{WORK_PREFIX}*")) if runs.is_dir() else []


def adopt(leftover: Path, work: Path) -> None:
    """Put what a dead run left in the place of a new, empty work folder.

    Args:
        leftover: Its hidden folder.
        work: The folder of the run that goes on.

    Raises:
        StorageError: If the disk refuses.
    """
    try:
        work.rmdir()
        leftover.rename(work)
    except OSError as fault:
        raise StorageError(f"{leftover}: cannot be taken over: {fault.strerror}. Remove it and start again.") from None


def publish_run(work: Path, run_id: str, manifest: dict[str, Any]) -> Path:
    """Write the manifest with the digest of every file and make the run visible in one step.

    Args:
        work: The hidden folder, complete.
        run_id: The name it gets.
        manifest: What else the manifest says.

    Returns:
        The published folder.

    Raises:
        StorageError: If the disk refuses; nothing is visible then.
    """
    try:
        files = {
            file.relative_to(work).as_posix(): {"sha256": file_digest(file), "bytes": file.stat().st_size}
            for file in sorted(work.rglob("*"))
            if file.is_file()
        }
        for name in files:
            sync(work / name)
    except OSError as fault:
        raise _not_published(work.with_name(run_id), fault) from None
    write_json(work / MANIFEST, manifest | {"files": files})
    target = work.with_name(run_id)
    if target.exists():
        raise StorageError(f"{target}: a published run is never overwritten. Start the run again; it gets a new name.")
    try:
        work.rename(target)
        sync(target.parent)
    except OSError as fault:
        raise _not_published(target, fault) from None
    return target


def run_folders(runs: Path) -> list[Path]:
    """Return the published runs, oldest first.

    Args:
        runs: `storage.runs`.

    Returns:
        Folders with a manifest.
    """
    if not runs.is_dir():
        return []
    return sorted(
        folder for folder in runs.iterdir() if not folder.name.startswith(".") and (folder / MANIFEST).is_file()
    )


@dataclass(frozen=True)
class GoodRun:
    """A published run that ended well.

    Attributes:
        folder: Its folder.
        manifest: What its manifest says.
    """

    folder: Path
    manifest: dict[str, Any]


def good_runs(runs: Path, dataset: str) -> Iterator[GoodRun]:
    """Yield a data set's published runs that no gate refused, newest first.

    Args:
        runs: `storage.runs`.
        dataset: The data set's name.

    Yields:
        Runs with exit code 0; one whose manifest is damaged is named in the log and passed over.
    """
    for folder in reversed(run_folders(runs)):
        try:
            manifest = read_json(folder / MANIFEST)
        except StorageError as fault:
            LOG.warning("%s; the run is passed over", fault)
            continue
        if manifest.get("exit_code") == 0 and manifest.get("dataset") == dataset:
            yield GoodRun(folder, manifest)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _not_published(target: Path, fault: OSError) -> StorageError:
    return StorageError(f"{target}: the run cannot be published: {fault.strerror}. Check the disk and start it again.")


def _next_name(newest: str) -> str:
    """The next run id one millisecond after the newest."""
    stamp = datetime.strptime(newest[:21], "%Y-%m-%dT%H%M%S.%f").replace(tzinfo=UTC)
    later = datetime.fromtimestamp(stamp.timestamp() + 0.0015, UTC)
    return later.strftime("%Y-%m-%dT%H%M%S.%f")[:-3] + "Z"
