"""Run folders: worked in out of sight, published in one step with a manifest, never overwritten."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelclean.errors import StorageError
from labelclean.storage import sync, write_json

WORK_PREFIX = ".work-"
MANIFEST = "manifest.json"


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
        newest = max((folder.name for folder in run_folders(runs)), default="")
        if run_id <= newest:  # the clock stands or was put back: names must still sort by time
            run_id = _next_name(newest)
        work = runs / f"{WORK_PREFIX}{run_id}"
        work.mkdir()
    except OSError as fault:
        raise StorageError(f"{runs}: storage.runs must be a folder that can be written, but: {fault}.") from None
    return run_id, work


def remove_leftovers(runs: Path) -> list[str]:
    """Remove the hidden folders that dead runs left; only the holder of the lock may call it.

    Args:
        runs: `storage.runs`.

    Returns:
        Names of the folders removed.
    """
    leftovers = sorted(runs.glob(f"{WORK_PREFIX}*")) if runs.is_dir() else []
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in leftovers]


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
    files = {
        file.relative_to(work).as_posix(): {"sha256": file_digest(file), "bytes": file.stat().st_size}
        for file in sorted(work.rglob("*"))
        if file.is_file()
    }
    for name in files:
        sync(work / name)
    write_json(work / MANIFEST, manifest | {"files": files})
    target = work.with_name(run_id)
    if target.exists():
        raise StorageError(f"{target}: a published run is never overwritten. Start the run again; it gets a new name.")
    try:
        work.rename(target)
        sync(target.parent)
    except OSError as fault:
        raise StorageError(
            f"{target}: the run cannot be published: {fault.strerror}. Its files stay in {work}."
        ) from None
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


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _next_name(newest: str) -> str:
    """The next run id one millisecond after the newest."""
    stamp = datetime.strptime(newest[:21], "%Y-%m-%dT%H%M%S.%f").replace(tzinfo=UTC)
    later = datetime.fromtimestamp(stamp.timestamp() + 0.0015, UTC)
    return later.strftime("%Y-%m-%dT%H%M%S.%f")[:-3] + "Z"
