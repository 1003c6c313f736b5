"""The import flow: annotators' answers into the ledger, as one Prefect task."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task

from labelclean.review.exchange.tools import Tool, import_decisions
from labelclean.review.ledger import append_decisions, ledger_url, open_ledger
from labelclean.storage.parquet import read_config


@task(persist_result=False, result_serializer="json", cache_result_in_memory=False)
def remember(config_path: str, file: str, from_tool: Tool, export: str, partial: bool) -> dict[str, Any]:
    """Read the answers strictly and append what the ledger does not hold."""
    config = read_config(Path(config_path))
    now = datetime.now(UTC)
    report, decisions = import_decisions(Path(file), from_tool, Path(export), now=now, partial=partial)
    ledger = open_ledger(ledger_url(config.ledger.url, config.storage.runs, os.environ), now)
    return asdict(report) | {"num_new": append_decisions(ledger, decisions)}


@flow(name="import-review", persist_result=False, result_serializer="json")
def import_review(config_path: str, file: str, from_tool: Tool, export: str, partial: bool = False) -> dict[str, Any]:
    """Import a file of answers.

    Args:
        config_path: The config file, which says where the ledger is.
        file: What the annotation tool exported.
        from_tool: The tool.
        export: The folder that the export wrote.
        partial: Leave out what cannot be used instead of refusing the file.

    Returns:
        The import report and `num_new`.

    Raises:
        LabelcleanError: If the file, the ledger or the disk refuses.
    """
    return remember(config_path, file, from_tool, export, partial)
