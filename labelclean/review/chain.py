"""A chain over the ledger's rows: each row's digest holds what stands in it and the digest of the row before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

LINK = ("place", "digest")
"""What the chain itself keeps in a row: its number from 1 on, and its digest."""


@dataclass(frozen=True)
class ChainReport:
    """Whether the ledger is what was written.

    Attributes:
        num_decisions: Rows of decisions.
        num_applications: Rows of applications.
        digest: Of the newest decision; empty without one.
        faults: What is not as it was written, as sentences.
    """

    num_decisions: int
    num_applications: int
    digest: str
    faults: tuple[str, ...]


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
    said = {name: _plain(value) for name, value in row.items() if name not in LINK and value is not None}
    text = json.dumps([previous, place, said], sort_keys=True, ensure_ascii=True)
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


def chain_faults(rows: Iterable[Mapping[str, Any]], table: str) -> Iterator[tuple[int, str]]:
    """Yield the places at which a chain is broken, and how.

    Args:
        rows: All rows of a table, by place.
        table: Its name.

    Yields:
        Place, and `changed` for a row that is not what was written, or `missing` for one that is gone.
    """
    previous, wanted = table, 1
    for row in rows:
        place, digest = int(row["place"]), str(row["digest"])
        if place != wanted:
            yield wanted, "missing"
        elif row_digest(previous, place, row) != digest:
            yield place, "changed"
        previous, wanted = digest, place + 1


def _plain(value: Any) -> Any:
    """Times in UTC to the microsecond, as both databases give them back."""
    if isinstance(value, datetime):
        at = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return at.isoformat(timespec="microseconds")
    return value
