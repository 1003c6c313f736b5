"""Everything labelclean refuses on purpose.

Each class carries the exit code that the command line ends with, so that a
scheduler can tell bad input from a refused gate from a full disk.
"""

from __future__ import annotations


class LabelcleanError(Exception):
    """Base of every refusal; its message is written for the person who must act on it."""

    exit_code = 1


class ConfigError(LabelcleanError):
    """The configuration asks for something that does not exist or cannot be."""

    exit_code = 2


class TableError(LabelcleanError):
    """A table breaks its promises; all faults of the table stand in one message."""

    exit_code = 2


class GateError(LabelcleanError):
    """A measured quality is beyond its limit; the message names value, limit and config key.

    Attributes:
        run_folder: Where the measurements were published, if they were.
    """

    exit_code = 3

    def __init__(self, message: str, run_folder: str | None = None) -> None:
        super().__init__(message)
        self.run_folder = run_folder


class NothingToDo(LabelcleanError):  # noqa: N818 - it is no error
    """The run was not needed: its window is done, or nothing new has come.

    Attributes:
        run_folder: The good run that makes it unnecessary, if there is one.
    """

    exit_code = 0

    def __init__(self, message: str, run_folder: str | None = None) -> None:
        super().__init__(message)
        self.run_folder = run_folder


class ExchangeError(LabelcleanError):
    """A file from an annotation tool does not match what was exported."""

    exit_code = 2


class LockError(LabelcleanError):
    """Another run holds the data set."""

    exit_code = 4


class StorageError(LabelcleanError):
    """A disk, permission or damaged-file problem."""

    exit_code = 5


class DeviceError(LabelcleanError):
    """The device asked for is missing or too small."""

    exit_code = 5


def listed(values: list[str] | tuple[str, ...], limit: int = 5) -> str:
    """Return the first few values quoted, with the full count when some are left out; a very long one is cut.

    Args:
        values: What to list, in the order to show.
        limit: How many are written out.

    Returns:
        A phrase for an error message.

    Examples:
        >>> listed(["a17", "a40"])
        "'a17', 'a40'"
        >>> listed(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    shown = ", ".join(repr(text if len(text := str(value)) <= 200 else f"{text[:199]}…") for value in values[:limit])
    rest = len(values) - limit
    return f"{shown} and {rest:,} more" if rest > 0 else shown
