"""The way to annotation tools and strictly back: one module per tool, one manifest for all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial as bound
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from labelclean.errors import ExchangeError, listed
from labelclean.review.decisions import Decision
from labelclean.review.exchange import cvat, fiftyone, huggingface, label_studio, sheet, sheet_answers, spreadsheet
from labelclean.review.exchange.answers import SEVERAL, Answer, ImportReport, decisions_from
from labelclean.review.exchange.manifest import ExportManifest, read_manifest
from labelclean.review.exchange.package import MAX_SIDE, PART_SIZE, ExportPart, ExportReport, write_package
from labelclean.review.exchange.tasks import QueueToExport, read_queue

OtherTool = Literal["label-studio", "cvat", "fiftyone", "huggingface", "csv"]
Tool = Literal[OtherTool, "sheet"]
STUDY = "study"
"""What the settings of a study's sitting hold beside those of other exports."""
TOOLS_OF_SETS: tuple[Tool, ...] = ("csv", "cvat", "label-studio", "sheet")
"""The tools that take several labels for an image."""
TOOLS: tuple[OtherTool, ...] = get_args(OtherTool)
"""The tools of others; `sheet` is our own page."""


def export_run(
    run_folder: Path,
    to: Tool,
    out: Path,
    *,
    suggestions: bool = True,
    document_root: Path | None = None,
    max_side: int = MAX_SIDE,
    part_size: int = PART_SIZE,
) -> ExportReport:
    """Write a run's review queue for an annotation tool.

    Args:
        run_folder: A published run.
        to: The tool.
        out: New folder; one that a killed export left is finished, finished parts are not written again.
        suggestions: Show what the run thinks; the audit slice is blind in any case.
        document_root: Label Studio's document root for local files; default: the folder above ``out``.
        max_side: Longest side of the previews in pixels.
        part_size: Most tasks in one part.

    Returns:
        The report.

    Raises:
        ExchangeError: If the tool is unknown, a class name cannot stand in it, or ``out`` holds something else.
        StorageError: If the run folder is not whole or the disk refuses.
    """
    _check_tool(to)
    queue = read_queue(run_folder, suggestions=suggestions)
    how = {"suggestions": suggestions, "max_side": max_side, "part_size": part_size}
    return export_tasks(queue, to, out, how, run_folder=run_folder, document_root=document_root)


def export_tasks(
    queue: QueueToExport,
    to: Tool,
    out: Path,
    settings: dict[str, Any],
    *,
    run_folder: Path,
    document_root: Path | None = None,
) -> ExportReport:
    """Write tasks for an annotation tool.

    Args:
        queue: The tasks.
        to: The tool.
        out: New folder; one that a killed export left is finished.
        settings: `suggestions`, `max_side`, `part_size` and whatever else the manifest shall hold.
        run_folder: The run that the tasks come from, for pictures beside them.
        document_root: Label Studio's document root for local files; default: the folder above ``out``.

    Returns:
        The report.

    Raises:
        ExchangeError: As `export_run`.
        StorageError: As `export_run`.
    """
    settings = dict(settings)
    if queue.several_labels:
        settings[SEVERAL] = True
        if to not in TOOLS_OF_SETS:
            raise ExchangeError(
                f"--to {to}: images must have one label each, but the run's have several. Name {listed(TOOLS_OF_SETS)}; "
                "nothing was written."
            )
    if to == "sheet":
        sheet.check_size(len(queue.tasks))
        settings["part_size"] = sheet.MAX_TASKS
    shared: dict[str, bytes] = {}
    part_files: Callable[[ExportPart], dict[str, bytes]]
    next_step, image_folder = "", "images"
    if to == "label-studio":
        prefix = label_studio.image_prefix(out, document_root)
        settings["image_prefix"] = prefix
        shared, next_step = label_studio.shared_files(queue), label_studio.NEXT_STEP
        part_files = bound(label_studio.part_files, queue, prefix=prefix, version=version("labelclean"))
    elif to == "cvat":
        shared, next_step = cvat.shared_files(queue), cvat.NEXT_STEP
        part_files = bound(cvat.part_files, queue)
    elif to == "fiftyone":
        shared, next_step, image_folder = fiftyone.shared_files(), fiftyone.NEXT_STEP, fiftyone.IMAGE_FOLDER
        part_files = bound(fiftyone.part_files, queue)
    elif to == "huggingface":
        next_step, part_files = huggingface.NEXT_STEP, bound(huggingface.part_files, queue)
    elif to == "sheet":
        next_step, part_files = sheet.NEXT_STEP, _nothing_beside_the_previews
    else:
        next_step = spreadsheet.NEXT_STEP_OF_SETS if queue.several_labels else spreadsheet.NEXT_STEP
        part_files = bound(spreadsheet.part_files, queue)
    report = write_package(
        queue,
        out,
        to,
        settings=settings,
        next_step=next_step,
        shared_files=shared,
        part_files=part_files,
        image_folder=image_folder,
    )
    if to == "sheet":
        sheet.write_sheet(queue, run_folder, out)
    return report


def import_decisions(
    file: Path,
    from_tool: Tool,
    export: Path,
    *,
    now: datetime,
    annotator: str | None = None,
    partial: bool = False,
    is_study: bool = False,
) -> tuple[ImportReport, tuple[Decision, ...]]:
    """Return the decisions in an annotator's file; nothing is stored.

    Args:
        file: What the tool exported.
        from_tool: The tool.
        export: The folder that `export_run` wrote, or its `manifest.json`.
        now: Time of the import, with time zone.
        annotator: Who answered where the file does not say; default: the tool's name.
        partial: Leave out what cannot be used instead of refusing the file.
        is_study: The export is a sitting of an agreement study, whose answers decide nothing.

    Returns:
        The report and the decisions.

    Raises:
        ExchangeError: If the file belongs to another run, data set or tool, or, unless
            ``partial``, if anything in it cannot be used; or if a study's answers are to be decisions.
    """
    _check_tool(from_tool)
    manifest = read_manifest(export)
    if (STUDY in manifest.settings) != is_study:
        raise ExchangeError(
            f"{export}: must be an export of a review queue, but is a sitting of an agreement study: its samples were "
            "chosen, and its answers decide nothing. Bring them in with: labelclean study import."
            if STUDY in manifest.settings
            else f"{export}: must be a sitting of an agreement study, but is an export of a review queue. "
            "Bring its answers in with: labelclean import."
        )
    if manifest.tool != from_tool:
        raise ExchangeError(
            f"{export}: the export was made for {manifest.tool!r}, but the answers are said to come from {from_tool!r}. "
            "Name the tool or the folder that belong together."
        )
    answers = _answers(file, from_tool, manifest, annotator or from_tool, now)
    return decisions_from(answers, manifest, file, now=now, partial=partial)


def _answers(file: Path, tool: Tool, manifest: ExportManifest, annotator: str, now: datetime) -> list[Answer]:
    is_set = bool(manifest.settings.get(SEVERAL))
    if tool == "label-studio":
        return label_studio.read_answers(file, is_set=is_set)
    if tool == "csv":
        return spreadsheet.read_answers(file, manifest.class_names, annotator, is_set=is_set)
    if tool == "cvat":
        return cvat.read_answers(file, annotator, is_set=is_set)
    if tool == "fiftyone":
        return fiftyone.read_answers(file, annotator)
    if tool == "sheet":
        return sheet_answers.read_answers(file, manifest, now)
    return huggingface.read_answers(file, annotator)


def _nothing_beside_the_previews(_part: ExportPart) -> dict[str, bytes]:
    return {}


def _check_tool(tool: str) -> None:
    known = sorted(get_args(Tool))
    if tool not in known:
        raise ExchangeError(f"the tool must be one of {listed(known, len(known))}, but is {tool!r}.")


__all__ = ["STUDY", "TOOLS", "ExportReport", "ImportReport", "Tool", "export_run", "export_tasks", "import_decisions"]
