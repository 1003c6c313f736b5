"""What an auditor asks for: every label, run, decision and application, with who, when, which run, tool and image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from labelclean.config import Config
from labelclean.review.decisions import Decision
from labelclean.review.ledger import Application
from labelclean.storage.parquet import labels_dataset, read_batches, table_schema
from labelclean.storage.run_folders import GoodRun, good_runs
from labelclean.storage.spellings import respelled
from labelclean.storage.tables import REFINED

EventKind = Literal["label", "read", "run", "judged", "decision", "application"]
LedgerRow = tuple[int, str, Decision | Application]
"""Place in the ledger's chain, digest, and what was written."""


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: `label`: an annotator's label as it stands in the file; `read`: a run read a given label that was new or
            another than before; `run`: a run ended well; `judged`: what a run made of a sample; `decision`; `application`.
        at: When, with time zone; None for labels in a file, which keeps no time.
        who: The annotator, or the user who applied; empty for runs.
        sample_id: The sample; empty for runs and applications.
        given_label: The label that stood there; None for runs and applications.
        says: The decision, or empty.
        labels: The classes that the decision names, or the predicted one.
        score: Of what a run judged: the probability that the given label is right.
        run_id: The run.
        tool: What wrote it.
        content_hash: SHA-256 of the image.
        file: The file that was written, or read.
        file_digest: Its SHA-256.
        num: Labels of a run, rows of an application.
        place: Row of the ledger, of decisions and applications each from 1 on; None for anything else.
        digest: Of that row.
    """

    kind: EventKind
    at: datetime | None = None
    who: str = ""
    sample_id: str = ""
    given_label: str | None = None
    says: str = ""
    labels: tuple[str, ...] = ()
    score: float | None = None
    run_id: str = ""
    tool: str = ""
    content_hash: str = ""
    file: str = ""
    file_digest: str = ""
    num: int | None = None
    place: int | None = None
    digest: str = ""


def ledger_events(rows: Iterable[LedgerRow]) -> list[Event]:
    """Return decisions and applications as events.

    Args:
        rows: Rows of the ledger with their links.

    Returns:
        Events in the order of the rows.
    """
    return [_decided(*row) if isinstance(row[2], Decision) else _applied(*row) for row in rows]  # type: ignore[arg-type]


def record_events(config: Config, dataset: str, rows: Sequence[LedgerRow]) -> tuple[list[Event], Iterator[Event]]:
    """Return everything that is recorded of a data set.

    Args:
        config: `storage.runs` and `data` are read.
        dataset: The data set's name.
        rows: Rows of the ledger with their links.

    Returns:
        Runs, decisions and applications by time; and the labels, read as they are asked for: those of annotators as they
        stand in the file, then each given label that a run read and that was new or another than the runs before read.

    Raises:
        StorageError: If a run folder or the labels are damaged.
        TableError: If the labels are no table of labels.
    """
    runs = list(reversed(list(good_runs(config.storage.runs, dataset))))
    events = [*(_ended(run) for run in runs), *ledger_events(rows)]
    return sorted(events, key=_moment), _labels(config, runs)


def sample_history(config: Config, dataset: str, rows: Sequence[LedgerRow], sample_id: str) -> list[Event]:
    """Return everything that happened to a sample, oldest first.

    Args:
        config: `storage.runs` and `data` are read.
        dataset: The data set's name.
        rows: Rows of the ledger with their links.
        sample_id: The sample.

    Returns:
        Its labels, what runs read and judged, decisions, and the applications of runs that hold it; nothing for a sample
        that nobody knows.

    Raises:
        StorageError: If a run folder or the labels are damaged.
    """
    runs = list(reversed(list(good_runs(config.storage.runs, dataset))))
    judged = [event for run in runs for event in _judged(run, sample_id)]
    held = {event.run_id for event in judged}
    concerned = [
        row
        for row in rows
        if (row[2].sample_id == sample_id if isinstance(row[2], Decision) else row[2].run_id in held)
    ]
    events = [*judged, *ledger_events(concerned)]
    return [*_annotators(config, sample_id), *sorted(events, key=_moment)]


# --- inside ---------------------------------------------------------------------------------------


def _moment(event: Event) -> tuple[float, int]:
    return (event.at.timestamp() if event.at else 0.0, event.place or 0)


def _decided(place: int, digest: str, decision: Decision) -> Event:
    return Event(
        "decision",
        decision.reviewed_at,
        decision.annotator_id,
        decision.sample_id,
        decision.given_label,
        decision.decision,
        decision.named_labels
        if decision.verified_labels is None
        else (json.dumps(decision.verified_labels, ensure_ascii=False),),
        run_id=decision.run_id,
        tool=decision.tool,
        content_hash=decision.content_hash,
        place=place,
        digest=digest,
    )


def _applied(place: int, digest: str, applied: Application) -> Event:
    return Event(
        "application",
        applied.applied_at,
        applied.applied_by,
        says="unreviewed" if applied.unreviewed else "",
        run_id=applied.run_id,
        tool=applied.tool,
        file=applied.path,
        file_digest=applied.file_digest,
        num=applied.num_rows,
        place=place,
        digest=digest,
    )


def _ended(run: GoodRun) -> Event:
    manifest = run.manifest
    return Event(
        "run",
        _started(manifest),
        run_id=str(manifest["run_id"]),
        tool=_tool(manifest),
        file=str(run.folder / f"{REFINED}.parquet"),
        file_digest=str(manifest.get("files", {}).get(f"{REFINED}.parquet", {}).get("sha256", "")),
        num=manifest.get("counts", {}).get("num_samples"),
    )


def _judged(run: GoodRun, sample_id: str) -> Iterator[Event]:
    for table in _refined(run, ("predicted_label", "predicted_labels", "label_score")):
        for row in table.filter(pc.equal(table.column("sample_id"), sample_id)).to_pylist():
            yield Event(
                "judged",
                _started(run.manifest),
                sample_id=sample_id,
                given_label=_said(row, "given"),
                labels=(_said(row, "predicted"),),
                score=round(float(row["label_score"]), 4),
                run_id=str(run.manifest["run_id"]),
                tool=_tool(run.manifest),
                content_hash=row.get("content_hash") or "",
            )


def _labels(config: Config, runs: Sequence[GoodRun]) -> Iterator[Event]:
    yield from _annotators(config)
    known: dict[str, tuple[str, str]] = {}
    for run in runs:
        for table in _refined(run):
            for row in table.to_pylist():
                read = (_said(row, "given"), row.get("content_hash") or "")
                if known.get(row["sample_id"]) == read:
                    continue
                known[row["sample_id"]] = read
                yield Event(
                    "read",
                    _started(run.manifest),
                    sample_id=row["sample_id"],
                    given_label=read[0],
                    run_id=str(run.manifest["run_id"]),
                    tool=_tool(run.manifest),
                    content_hash=read[1],
                )


def _annotators(config: Config, sample_id: str | None = None) -> Iterator[Event]:
    """Each annotator's label as the file holds it now."""
    dataset = labels_dataset(config.data.labels)
    if "annotator_id" not in dataset.schema.names:
        return
    for batch in dataset.to_batches(columns=["sample_id", "annotator_id", "given_label"]):
        table = pa.Table.from_batches([batch])
        table = table.set_column(0, "sample_id", table.column("sample_id").cast(pa.string()))
        if sample_id is not None:
            table = table.filter(pc.equal(table.column("sample_id"), sample_id))
        for row in respelled(table, config.data.spellings).to_pylist():
            yield Event(
                "label",
                who=str(row["annotator_id"]),
                sample_id=row["sample_id"],
                given_label=str(row["given_label"]),
                file=str(config.data.labels),
            )


def _refined(run: GoodRun, more: tuple[str, ...] = ()) -> Iterator[pa.Table]:
    path = Path(run.folder) / f"{REFINED}.parquet"
    names = table_schema(path, REFINED).names
    columns = ("sample_id", "given_label", "given_labels", "content_hash", *more)
    return read_batches(path, REFINED, [name for name in columns if name in names])


def _said(row: dict[str, Any], kind: str) -> str:
    """The given or predicted label of a row; of several, all of them in one text, as the ledger holds it."""
    several = row.get(f"{kind}_labels")
    return str(row[f"{kind}_label"]) if several is None else json.dumps(several, ensure_ascii=False)


def _started(manifest: dict[str, Any]) -> datetime | None:
    at = manifest.get("started_at")
    return datetime.fromisoformat(at) if at else None


def _tool(manifest: dict[str, Any]) -> str:
    return f"labelclean {manifest.get('versions', {}).get('labelclean', '')}".strip()
