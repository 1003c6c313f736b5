"""The steps of a run: load, one call, save. Run plainly by the CLI, wrapped as tasks by the flows.

Every step takes the run's work folder, reads what earlier steps left there and
leaves its own files. It returns False where a gate stops the run; `publish`
then publishes what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from labelclean.config import Config
from labelclean.runs.extract import extract
from labelclean.runs.ingest import image_root, ingest, samples_of, validated
from labelclean.runs.judge import check_distribution
from labelclean.runs.record import INTERNAL, Step
from labelclean.runs.refine import refine
from labelclean.runs.run import PublishedRun, Run, dataset_name, open_run, publish, raise_if_refused, read_published

__all__ = [
    "INTERNAL",
    "STEPS",
    "TOUCHES_THE_WORLD",
    "PublishedRun",
    "Run",
    "Step",
    "check_distribution",
    "clean",
    "dataset_name",
    "extract",
    "image_root",
    "ingest",
    "open_run",
    "publish",
    "raise_if_refused",
    "read_published",
    "refine",
    "samples_of",
    "validated",
]


def clean(config: Config, *, force: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Path:
    """Run all steps in this process.

    Args:
        config: The configuration.
        force: Run although a good run of this window is published.
        clock: Tells the time, with time zone.

    Returns:
        The published run folder.

    Raises:
        NothingToDo: If the window is done or no label file is new.
        LabelcleanError: If the input, a gate, the lock, the device or the disk refuses.
    """
    with open_run(config, force=force, clock=clock) as run:
        for step in STEPS:
            if not step(run.work):
                break
        folder = publish(run)
    raise_if_refused(folder)
    return folder


STEPS: tuple[Step, ...] = (ingest, extract, check_distribution, refine)
TOUCHES_THE_WORLD: tuple[Step, ...] = (ingest, extract)
