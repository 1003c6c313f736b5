"""The export flow: a run's review queue for an annotation tool, as one Prefect task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from labelclean.review.exchange.tools import Tool, export_run


@task(
    retries=2, retry_delay_seconds=[5, 30], persist_result=False, result_serializer="json", cache_result_in_memory=False
)
def write_export(run_folder: str, to: Tool, out: str, suggestions: bool) -> dict[str, Any]:
    """Write the export folder; parts that are finished are not written again."""
    report = export_run(Path(run_folder), to, Path(out), suggestions=suggestions)
    return {"folder": str(report.folder), "num_tasks": report.num_tasks, "num_unreadable": len(report.unreadable)}


@flow(name="export-review", persist_result=False, result_serializer="json")
def export_review(run_folder: str, to: Tool, out: str, suggestions: bool = True) -> dict[str, Any]:
    """Export a run's review queue.

    Args:
        run_folder: A published run.
        to: The annotation tool.
        out: The export folder.
        suggestions: Show what the run thinks; the audit slice is blind in any case.

    Returns:
        `folder`, `num_tasks` and `num_unreadable`.

    Raises:
        LabelcleanError: If the run, the folder or the disk refuses.
    """
    return write_export(run_folder, to, out, suggestions)
