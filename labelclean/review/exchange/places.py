"""Where in a file of JSON or XML a value stands, so that it alone can be put anew."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.parsers.expat import ParserCreate

from labelclean.errors import TableError

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_TAG = re.compile(rb'<[^\s/>"\']+(?:\s+[^\s=>"\']+\s*=\s*(?:"[^"]*"|\'[^\']*\'))*\s*/?>')
_TOLD = re.compile(r"^\ufeff?<\?xml[^>]{0,100}encoding\s*=\s*[\"']([\w.\-]+)[\"']", re.IGNORECASE)


class Element(NamedTuple):
    """Where an element stands in XML.

    Attributes:
        path: Names of the elements down to it.
        tag: First byte and end of its start tag.
        content: First byte and end of what it holds; None for an empty tag.
    """

    path: tuple[str, ...]
    tag: tuple[int, int]
    content: tuple[int, int] | None


def encoding_of(data: bytes, origin: Path) -> str:
    """Return the encoding in which a JSON or XML file can be written back byte for byte.

    Args:
        data: The file.
        origin: Its name, for the error message.

    Returns:
        A codec that keeps the mark at the file's beginning.

    Raises:
        TableError: If there is none.
    """
    wide = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(data[:2])
    match = _TOLD.match(data[:200].decode("ascii", "replace")) if wide is None else None
    codec = wide or (match[1] if match else "utf-8")
    try:
        if data.decode(codec).encode(codec) == data:
            return codec
    except (UnicodeError, LookupError):
        pass
    raise TableError(
        f"{origin}: only a file in UTF-8, UTF-16 with its mark, or the code page that it names is written back as it is, but this "
        f"one is not {codec}. Save it as UTF-8 and read it again; nothing was written."
    )


def json_places(text: str, wanted: Collection[tuple[str | int, ...]]) -> dict[tuple[str | int, ...], tuple[int, int]]:
    """Return where some values stand in JSON.

    Args:
        text: Whole JSON.
        wanted: Keys and places in lists that lead to texts, numbers and the like.

    Returns:
        First character and end of each that is there.

    Examples:
        >>> json_places('{"a": [1, {"b": "x"}]}', {("a", 0), ("a", 1, "b")})
        {('a', 0): (7, 8), ('a', 1, 'b'): (16, 19)}
    """
    depths = {len(place) for place in wanted}
    places: dict[tuple[str | int, ...], tuple[int, int]] = {}
    path: list[str | int | None] = []  # None: an object whose next key is still to come
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "{[":
            path.append(None if sign == "{" else 0)
        elif sign in "}]":
            path.pop()
        elif sign == ",":
            last = path[-1]
            path[-1] = last + 1 if isinstance(last, int) else None
        elif sign != ":" and path and path[-1] is None:
            path[-1] = str(json.loads(sign))
        elif sign != ":" and len(path) in depths and (place := tuple(path)) in wanted:
            places[place] = token.span()  # type: ignore[index]  # no key is missing here
    return places


def xml_places(data: bytes) -> Iterator[Element]:
    """Yield where each element stands, in the order in which they end.

    Args:
        data: Whole XML in UTF-8 that `foreign_file.xml_elements` has read, so that it holds no entities.

    Yields:
        The elements.
    """
    parser = ParserCreate("utf-8")
    open_tags: list[tuple[str, int]] = []
    ended: list[Element] = []

    def start(name: str, _: object) -> None:
        open_tags.append((name, parser.CurrentByteIndex))

    def end(_: str) -> None:
        path = tuple(name for name, _ in open_tags)
        at = open_tags.pop()[1]
        tag = _TAG.match(data, at)
        if tag is not None:
            is_empty = tag[0].endswith(b"/>")
            ended.append(Element(path, tag.span(), None if is_empty else (tag.end(), parser.CurrentByteIndex)))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(data, True)
    yield from ended
