"""The nightly flow: the steps of `labelclean.runs.steps` as Prefect tasks.

Paths travel between tasks, not data; only the steps that touch the world are
tried again.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from prefect import Task, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from labelclean.config import Config
from labelclean.errors import StorageError
from labelclean.nights.night import run_night
from labelclean.runs import steps
from labelclean.runs.summary import markdown_summary


def _touched_the_world(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failure may pass by itself: disks and networks recover, bad data does not."""
    return isinstance(state.result(raise_on_failure=False), (OSError, StorageError))


def _as_task(step: steps.Step) -> Task[[str], bool]:
    @task(
        name=step.__name__.replace("_", "-"),
        description=step.__doc__,
        retries=2 if step in steps.TOUCHES_THE_WORLD else 0,
        retry_delay_seconds=[5, 30],
        retry_condition_fn=_touched_the_world,
        persist_result=False,
        result_serializer="json",
        cache_result_in_memory=False,
    )
    def on_path(work: str) -> bool:
        return step(Path(work))

    return on_path


TASKS = [_as_task(step) for step in steps.STEPS]


@flow(name="clean-labels", persist_result=False, result_serializer="json")
def clean_labels(
    config_path: str,
    overrides: list[str] | None = None,
    force: bool = False,
    window: Literal["day", "hour", "minute"] | None = None,
    timezone: str = "UTC",
) -> dict[str, str | None]:
    """Clean the labels of one data set.

    Args:
        config_path: The config file.
        overrides: `section.key=value` items.
        force: Run although a good run of this window is published.
        window: Name the run's window after the scheduled time, cut at its day, hour or minute.
        timezone: Where that time is told, such as Asia/Tokyo.

    Returns:
        `run_folder`: the published run, or the good run that made this one unnecessary;
        `nothing_to_do`: why nothing was done, or None.

    Raises:
        LabelcleanError: If the input, a gate, the lock, the device or the disk refuses.
    """
    items = list(overrides or [])
    if window is not None:
        items.append(f"run.window={json.dumps(window_name(flow_run.scheduled_start_time, window, timezone))}")
    night = run_night(
        Path(config_path), items, lambda config: _clean_as_tasks(config, force), os.environ, lambda: datetime.now(UTC)
    )
    if night.nothing_to_do:
        get_run_logger().info("nothing to do: %s", night.nothing_to_do)
    return {"run_folder": str(night.folder) if night.folder else None, "nothing_to_do": night.nothing_to_do}


def window_name(scheduled: datetime, window: str, timezone: str) -> str:
    """Return the window's name: the scheduled time there, cut at its day, hour or minute.

    Args:
        scheduled: Scheduled time, with time zone.
        window: day, hour or minute.
        timezone: IANA name.

    Returns:
        Such as 2026-11-24, 2026-11-24T02 or 2026-11-24T02:00.
    """
    return scheduled.astimezone(ZoneInfo(timezone)).strftime(
        {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H", "minute": "%Y-%m-%dT%H:%M"}[window]
    )


def _clean_as_tasks(config: Config, force: bool) -> Path:
    """The run of `steps.clean`, each step a task."""
    with steps.open_run(config, force=force) as run:
        for step in TASKS:
            if not step(str(run.work)):
                break
        folder = steps.publish(run)
    create_markdown_artifact(key="labelclean-summary", markdown=markdown_summary(steps.read_published(folder)))
    steps.raise_if_refused(folder)
    return folder
