"""Removes old runs, and what dead ones left; never the newest good run nor one that a decision refers to."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from labelclean.errors import StorageError
from labelclean.storage.parquet import read_json
from labelclean.storage.run_folders import MANIFEST, WORK_PREFIX, leftovers, run_folders


@dataclass(frozen=True)
class Pruned:
    """What `prune_runs` removed and what it left.

    Attributes:
        removed: Names of the removed runs, oldest first.
        num_bytes: What they took on the disk.
        kept: Older run -> why it stays.
    """

    removed: tuple[str, ...]
    num_bytes: int
    kept: dict[str, str]


def remove_leftovers(runs: Path) -> list[str]:
    """Remove the hidden folders that dead runs left; only the holder of the run lock may call it.

    Args:
        runs: `storage.runs`.

    Returns:
        Names of the folders removed.
    """
    left = leftovers(runs)
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in left]


def prune_runs(runs: Path, keep: int, referred: Collection[str], *, dry_run: bool = False) -> Pruned:
    """Remove old runs; only the holder of the run lock may call it.

    The newest runs stay, and of the older ones the newest good run of each data set, the runs
    that decisions refer to, and those whose manifest cannot be read.

    Args:
        runs: `storage.runs`.
        keep: How many of the newest runs stay, at least 1.
        referred: Run ids that the ledger names.
        dry_run: Only say what would be removed.

    Returns:
        What was removed and what stays.

    Raises:
        StorageError: If a folder cannot be renamed; whatever is gone is gone whole.
    """
    folders = run_folders(runs)
    reasons: dict[str, str] = {}
    have_good: set[str] = set()
    old: list[Path] = []
    for age, folder in enumerate(reversed(folders)):
        try:
            manifest = read_json(folder / MANIFEST)
        except StorageError:
            reasons[folder.name] = "its manifest cannot be read"
            continue
        is_newest_good = manifest.get("exit_code") == 0 and manifest.get("dataset") not in have_good
        if is_newest_good:
            have_good.add(manifest.get("dataset"))
        if age < keep:
            continue
        if is_newest_good:
            reasons[folder.name] = "it is the newest good run"
        elif folder.name in referred or manifest.get("run_id") in referred:
            reasons[folder.name] = "decisions in the ledger refer to it"
        else:
            old.append(folder)
    num_bytes = sum(file.stat().st_size for folder in old for file in folder.rglob("*") if file.is_file())
    for folder in [] if dry_run else reversed(old):
        hidden = folder.with_name(f"{WORK_PREFIX}pruned-{folder.name}")
        try:
            folder.rename(hidden)  # it goes out of sight in one step; a death after this leaves what any run clears
        except OSError as fault:
            raise StorageError(
                f"{folder}: the run cannot be removed: {fault.strerror}. Correct the permissions; it is left as it was."
            ) from None
        shutil.rmtree(hidden, ignore_errors=True)
    return Pruned(tuple(folder.name for folder in reversed(old)), num_bytes, reasons)
