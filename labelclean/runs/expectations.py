"""Great Expectations in a process of its own, beside the extraction, for its import alone costs seconds."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from labelclean.config import Config
from labelclean.errors import StorageError, TableError
from labelclean.runs.record import INTERNAL, part_of
from labelclean.storage.parquet import read_json

EXPECTATIONS = "great-expectations.txt"


def start_expectations(work: Path, config: Config) -> int | None:
    """Let another process run Great Expectations over the labels that lie in the work folder, whole or in parts.

    Args:
        work: The run's work folder.
        config: Section `expectations` is read.

    Returns:
        Its process id; None where the check is switched off.
    """
    if not config.expectations.enabled:
        return None
    command = [sys.executable, "-m", "labelclean.runs.expectations_process", str(work), str(os.getpid())]
    quiet = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)


def end_expectations(work: Path) -> None:
    """End the other process of a run that failed before it waited for it; it would write into a removed folder.

    Args:
        work: The run's work folder.
    """
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if str(work) in child.cmdline():
                child.kill()
                child.wait()


def joined_expectations(work: Path, config: Config) -> dict[str, Any] | None:
    """Wait for the other process and return what it found.

    Args:
        work: The run's work folder.
        config: The configuration.

    Returns:
        `num_expectations` and `faults`; None where the check is switched off.

    Raises:
        TableError: If the labels break a promise.
        StorageError: If the process died.
    """
    pid = part_of(work, "ingest")["expectations_pid"]
    if pid is None:
        return None
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait()
    found = work / INTERNAL / EXPECTATIONS
    if not found.is_file():
        raise StorageError(
            f"{config.data.labels}: the Great Expectations process {pid} ended without a result, probably for lack of "
            "memory or disk. Free some, or set expectations.enabled to false: labelclean's own check of the table has passed."
        )
    record: dict[str, Any] = read_json(found)
    if record["faults"]:
        raise TableError(f"{config.data.labels.name}: " + "; ".join(record["faults"]) + ".")
    return record
