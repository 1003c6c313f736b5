"""A chain over the ledger's rows: each row's digest holds what stands in it and the digest of the row before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

LINK = ("place", "digest")
"""What the chain itself keeps in a row: its number from 1 on, and its digest."""


@dataclass(frozen=True)
class ChainFault:
    """A place at which a ledger is not what was written.

    Attributes:
        table: `decisions` or `applications`.
        place: The row.
        how: `changed` or put in by hand, `missing`, or `cut_off`: an application that came after decisions of which the newest
            are gone, for a chain alone does not miss its newest rows.
        who: Of a row that is there, whose it is.
        about: Of a row that is there, its sample or file.
    """

    table: str
    place: int
    how: Literal["changed", "missing", "cut_off"]
    who: str = ""
    about: str = ""

    def __str__(self) -> str:
        """Say it in English."""
        if self.how == "missing":
            return f"{self.table}: row {self.place:,} must be there, but is gone"
        if self.how == "cut_off":
            return (
                f"{self.table}: row {self.place:,} ({self.about!r}) came after decisions of which the newest are gone"
            )
        return (
            f"{self.table}: row {self.place:,} (of {self.who!r} on {self.about!r}) must be what was written, but is not"
        )


@dataclass(frozen=True)
class ChainReport:
    """Whether the ledger is what was written.

    Attributes:
        num_decisions: Rows of decisions.
        num_applications: Rows of applications.
        digest: Of the newest decision; empty without one.
        faults: What is not as it was written.
    """

    num_decisions: int
    num_applications: int
    digest: str
    faults: tuple[ChainFault, ...]


def row_digest(previous: str, place: int, row: Mapping[str, Any]) -> str:
    """Return the digest of a row.

    Args:
        previous: Digest of the row before; of the first row, the table's name.
        place: The row's number.
        row: Its values by column; the chain's own and `None` are left out, so that a new column changes no old digest.

    Returns:
        SHA-256, 64 hexadecimal digits.

    Examples:
        >>> row_digest("decisions", 1, {"sample_id": "a"})[:12]
        'ce94516df581'
    """
    content = {name: _plain(value) for name, value in row.items() if name not in LINK and value is not None}
    text = json.dumps([previous, place, content], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def linked(rows: Iterable[Mapping[str, Any]], previous: str, place: int) -> Iterator[dict[str, Any]]:
    """Yield rows with their place and digest.

    Args:
        rows: Values by column, oldest first.
        previous: Digest of the row before the first of them.
        place: Its number, 0 if there is none.

    Yields:
        The same with `place` and `digest`.
    """
    for place, row in enumerate(rows, start=place + 1):  # noqa: B020 - from here on it counts
        previous = row_digest(previous, place, row)
        yield {**row, "place": place, "digest": previous}


def chain_faults(rows: Iterable[Mapping[str, Any]], table: str) -> Iterator[ChainFault]:
    """Yield the places at which a chain is broken, and how.

    Args:
        rows: All rows of a table, by place.
        table: Its name.

    Yields:
        The first row that is gone before each gap, and each row that is not what was written.
    """
    previous, wanted = table, 1
    for row in rows:
        place, digest = int(row["place"]), str(row["digest"])
        if place != wanted:
            yield ChainFault(table, wanted, "missing")
        elif row_digest(previous, place, row) != digest:
            who, about = (
                (row.get("annotator_id"), row.get("sample_id"))
                if "sample_id" in row
                else (row.get("applied_by"), row.get("path"))
            )
            yield ChainFault(table, place, "changed", str(who), str(about))
        previous, wanted = digest, place + 1


def _plain(value: Any) -> Any:
    """Times in UTC to the microsecond, as both databases give them back."""
    if isinstance(value, datetime):
        at = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return at.isoformat(timespec="microseconds")
    return value
