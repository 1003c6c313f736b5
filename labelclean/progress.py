"""Tells people how far a long step is: a bar on a terminal, one line a minute in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOG = logging.getLogger("labelclean")
LINE_EVERY_S = 60.0


@contextmanager
def progress(what: str, total: int, unit: str, *, enabled: bool = True) -> Iterator[Callable[[int], None]]:
    """Show how many of ``total`` units are done while the block runs.

    Args:
        what: The step in a few words, such as "extracting features".
        total: Units in all.
        unit: Their name in the plural, such as "images".
        enabled: False shows nothing.

    Yields:
        A function to call with the number of units done since the last call.
    """
    if not enabled or not total:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar(what, total, unit) as advance:
            yield advance
    else:
        yield _log_lines(what, total, unit)


@contextmanager
def _bar(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Units per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def _log_lines(what: str, total: int, unit: str) -> Callable[[int], None]:
    """A function that logs one line a minute and one at the end."""
    started = shown_at = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, shown_at
        done += count
        now = time.monotonic()
        if now - shown_at >= LINE_EVERY_S or (done >= total and shown_at > started):
            rate = done / max(now - started, 1e-9)
            LOG.info(
                "%s: %s of %s %s, %.1f/s, %.0f s left",
                what,
                f"{done:,}",
                f"{total:,}",
                unit,
                rate,
                (total - done) / rate,
            )
            shown_at = now

    return advance
