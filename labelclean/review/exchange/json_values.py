"""JSON from outside, one step at a time: what is not there or of another kind is refused by its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelclean.errors import TableError


def record_list(value: Any, what: str, origin: Path) -> list[dict[str, Any]]:
    """Return a list of objects.

    Args:
        value: Any JSON value.
        what: Where it stands, for the error message.
        origin: The file.

    Returns:
        The same.

    Raises:
        TableError: If it is anything else.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise TableError(f"{origin}: {what} must be a list of objects, but is not. Export the file again.")
    return value


def record(value: Any, what: str, origin: Path) -> dict[str, Any]:
    """Return an object.

    Args:
        value: Any JSON value.
        what: Where it stands, for the error message.
        origin: The file.

    Returns:
        The same.

    Raises:
        TableError: If it is anything else.
    """
    if not isinstance(value, dict):
        raise TableError(f"{origin}: {what} must be an object, but is {type(value).__name__}. Export the file again.")
    return value


def words(value: Any) -> str | None:
    """Return a text or a whole number as text, None for anything else.

    Examples:
        >>> words("dent"), words(7), words(True), words([1]), words(" ")
        ('dent', '7', None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    try:
        text = str(value)
    except ValueError:  # a whole number of thousands of digits
        return None
    return text if text.strip() and _is_unicode(text) else None


def needed_words(value: Any, what: str, origin: Path) -> str:
    """Return a text or whole number as text.

    Args:
        value: Any JSON value.
        what: Where it stands, for the error message.
        origin: The file.

    Returns:
        The text.

    Raises:
        TableError: If it is missing, blank or anything else.
    """
    names = words(value)
    if names is None:
        raise TableError(f"{origin}: {what} must be a text or a whole number, but is {value!r:.80}. Correct it.")
    return names


def _is_unicode(text: str) -> bool:
    """Whether it holds no half of a surrogate pair, which JSON can say and no file can."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
