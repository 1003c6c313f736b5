"""The nightly flow: the steps of `labelclean.steps` as Prefect tasks.

Paths travel between tasks, not data; only the steps that touch the world are
tried again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Task, flow, task
from prefect.artifacts import create_markdown_artifact

from labelclean import steps
from labelclean.errors import StorageError
from labelclean.storage import read_config
from labelclean.summary import markdown_summary


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
        cache_result_in_memory=False,
    )
    def on_path(work: str) -> bool:
        return step(Path(work))

    return on_path


TASKS = [_as_task(step) for step in steps.STEPS]


@flow(name="clean-labels", persist_result=False, result_serializer="json")
def clean_labels(config_path: str, overrides: list[str] | None = None) -> str:
    """Clean the labels of one data set.

    Args:
        config_path: The config file.
        overrides: `section.key=value` items.

    Returns:
        The published run folder.

    Raises:
        LabelcleanError: If the input, a gate, the lock, the device or the disk refuses.
    """
    with steps.open_run(read_config(Path(config_path), overrides or [])) as run:
        for step in TASKS:
            if not step(str(run.work)):
                break
        folder = steps.publish(run)
    create_markdown_artifact(key="labelclean-summary", markdown=markdown_summary(steps.read_outcome(folder)))
    steps.raise_if_refused(folder)
    return str(folder)
