"""The record for an auditor: one HTML file or CSV, and each event in one line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from labelclean.errors import ConfigError, StorageError
from labelclean.report import html
from labelclean.review.chain import ChainFault, ChainReport
from labelclean.review.label_files import guarded
from labelclean.review.record import Event
from labelclean.storage.parquet import atomic_path
from labelclean.texts import Texts, percent, shown

COLUMNS = (
    "at", "kind", "who", "sample_id", "given_label", "says", "labels", "score", "run_id", "tool", "content_hash",
    "file", "file_digest", "num", "place", "digest",
)  # fmt: skip
MOST_SHOWN = 2_000
MOST_FAULTS = 50


def write_record(
    events: Sequence[Event],
    labels: Iterable[Event],
    chain: ChainReport | None,
    out: Path,
    texts: Texts,
    *,
    dataset: str,
    now: datetime,
) -> int:
    """Write the record of a data set.

    Args:
        events: Runs, decisions and applications by time.
        labels: The labels; the CSV holds them, before everything else.
        chain: Whether the ledger is as it was written; None without one.
        out: A new file: `.html` shows the newest 2,000 events, `.csv` holds all.
        texts: The language.
        dataset: The data set's name.
        now: The time, with time zone.

    Returns:
        How many entries were written.

    Raises:
        ConfigError: If the name does not say which.
        StorageError: If the file exists or the disk refuses.
    """
    kind = out.suffix.lower()
    if kind not in (".html", ".csv"):
        raise ConfigError(f"record: --out must end in .html or .csv, but is {str(out)!r}. Name another file.")
    if out.exists():
        raise StorageError(
            f"{out}: the record must be a new file, but exists; nothing is overwritten. Name another --out."
        )
    with atomic_path(out) as temporary:
        if kind == ".csv":
            return _write_csv((*labels, *events), temporary, texts)
        page = render_record(events, chain, texts, dataset=dataset, now=now)
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return min(len(events), MOST_SHOWN)


def render_record(
    events: Sequence[Event], chain: ChainReport | None, texts: Texts, *, dataset: str, now: datetime
) -> str:
    """Return the record as HTML that needs nothing else.

    Args:
        events: Runs, decisions and applications by time.
        chain: Whether the ledger is as it was written; None without one.
        texts: The language.
        dataset: The data set's name.
        now: The time, with time zone.

    Returns:
        The whole file.
    """
    style, script = html.resource("page.css"), html.resource("page.js")
    decisions = [event for event in events if event.kind == "decision"]
    applied = [event for event in events if event.kind == "application"]
    others = [event for event in events if event.kind != "application"]
    state = "none" if chain is None else "broken" if chain.faults else "sound"
    num_faults = len(chain.faults) if chain else 0
    return (
        html.environment(texts.lang)
        .get_template("record.html.j2")
        .render(
            t=texts,
            style=Markup(style),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704
            policy=html.policy(style, script),
            dataset=dataset,
            heading=texts(f"record.heading.{state}", dataset=shown(dataset), n=num_faults),
            following=texts(f"record.next.{state}"),
            chain=chain_sentence(chain, texts),
            made=texts("record.made", at=_time(now)),
            state=state,
            faults=[fault_words(fault, texts) for fault in chain.faults[:MOST_FAULTS]] if chain else [],
            figures={
                "runs": sum(event.kind == "run" for event in events),
                "decisions": len(decisions),
                "people": len({event.who for event in decisions}),
                "samples": len({event.sample_id for event in decisions}),
                "applications": len(applied),
            },
            applied=[_shown(event, texts) for event in reversed(applied)],
            events=[_shown(event, texts) for event in others[: -MOST_SHOWN - 1 : -1]],
            num_left_out=max(len(others) - MOST_SHOWN, 0),
        )
    )


def chain_sentence(chain: ChainReport | None, texts: Texts) -> str:
    """Return whether the ledger is as it was written, with what tells later whether rows were removed since."""
    if chain is None:
        return texts("record.chain.none")
    if chain.faults:
        faults = texts("page.comma").join(fault_words(fault, texts) for fault in chain.faults[:3])
        return texts("record.chain.broken", n=len(chain.faults), faults=faults)
    counts = {"decisions": chain.num_decisions, "applications": chain.num_applications}
    return texts("record.chain.sound", digest=chain.digest or "–", **counts)


def fault_words(fault: ChainFault, texts: Texts) -> str:
    """Return what is not as it was written, in words."""
    table, about = texts(f"record.figures.{fault.table}"), shown(fault.about, 120)
    return texts(f"record.fault.{fault.how}", table=table, place=fault.place, who=shown(fault.who, 60), about=about)


def event_line(event: Event, texts: Texts) -> str:
    """Return an event as one line for a terminal."""
    parts = [_time(event.at), event_words(event, texts), event.who, event.run_id, event.tool]
    parts += [f"{texts('record.column.content_hash')} {event.content_hash}" if event.content_hash else ""]
    parts += [f"{event.file} {event.file_digest}".strip()]
    parts += [f"{texts('record.column.place')} {event.place:,} {event.digest[:12]}…" if event.place else ""]
    return " · ".join(shown(part, 300) for part in parts if part)


def event_words(event: Event, texts: Texts) -> str:
    """Return what happened, in words."""
    key = event.says if event.kind == "decision" else event.kind
    if event.kind == "application" and event.says:
        key = f"application_{event.says}"
    labels = texts("page.comma").join(shown(label, 60) for label in event.labels)
    score = "" if event.score is None else percent(event.score)
    given = shown(event.given_label, 60) if event.given_label is not None else ""
    return texts(f"record.says.{key}", given=given, labels=labels, num=event.num or 0, score=score)


def event_record(event: Event) -> dict[str, Any]:
    """Return an event as JSON values."""
    return asdict(event) | {
        "at": event.at.astimezone(UTC).isoformat() if event.at else None,
        "labels": list(event.labels),
    }


# --- inside ---------------------------------------------------------------------------------------


def _write_csv(events: Iterable[Event], path: Path, texts: Texts) -> int:
    num = 0
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([texts(f"record.column.{name}") for name in COLUMNS])
        for event in events:
            writer.writerow(list(_cells(event, texts)))
            num += 1
    return num


def _cells(event: Event, texts: Texts) -> Iterator[Any]:
    """Cells as a spreadsheet takes them; no name from the data is a formula."""
    values = asdict(event) | {
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds") if event.at else "",
        "kind": texts(f"record.kind.{event.kind}"),
        "says": event_words(event, texts),
        "labels": " | ".join(event.labels),
    }
    for name in COLUMNS:
        yield guarded(values[name]) if isinstance(values[name], str) else values[name]


def _shown(event: Event, texts: Texts) -> dict[str, Any]:
    return asdict(event) | {"at": _time(event.at), "says": event_words(event, texts), "kind": event.kind}


def _time(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else ""
