"""Reads files from outside with limits: whole JSON, XML without entities, zip members that stay in memory."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from labelclean.errors import ExchangeError

MAX_BYTES = 300_000_000
MAX_ZIP_BYTES = 4_000_000_000
MAX_MEMBERS = 200_000
MAX_RATIO = 200
_DECLARED = re.compile(
    rb"<\?xml[^>]{0,100}encoding\s*=\s*[\"'](shift_jis|windows-31j|cp932|euc-jp|gbk|gb2312|gb18030|big5|euc-kr)[\"'][^>]{0,100}\?>",
    re.IGNORECASE,
)


def foreign_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Args:
        path: The file.

    Returns:
        All of it.

    Raises:
        ExchangeError: If it is missing, no regular file or too large.
    """
    try:
        if not path.is_file():
            raise ExchangeError(f"{path}: must be a file of answers, but there is no such file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ExchangeError(f"{path}: may have {MAX_BYTES:,} bytes, but has {size:,}; import it in parts.")
        return path.read_bytes()
    except OSError as fault:
        raise ExchangeError(f"{path}: cannot be read: {fault.strerror or fault}.") from None


def foreign_text(path: Path) -> str:
    """Return a UTF-8 file's text, without a byte order mark.

    Args:
        path: The file.

    Returns:
        The text.

    Raises:
        ExchangeError: If it is not UTF-8.
    """
    try:
        return foreign_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ExchangeError(
            f"{path}: must be UTF-8 text, but byte {fault.start:,} is not; save it as UTF-8 (in Excel: CSV UTF-8)."
        ) from None


def foreign_json(text: str, origin: Path) -> Any:
    """Return what a JSON text holds; a name that stands twice in one object is refused.

    Args:
        text: The text.
        origin: Its file, for the error message.

    Returns:
        JSON values.

    Raises:
        ExchangeError: If it is not whole JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as fault:
        raise ExchangeError(f"{origin}: must be whole JSON, but: {fault}. Export it again.") from None


def xml_elements(data: bytes, tags: tuple[str, ...], origin: Path) -> Iterator[Element]:
    """Yield the elements of some names; each is emptied when the next is asked for.

    Args:
        data: The XML file; a document type or entity is refused.
        tags: The names.
        origin: Its file, for the error message.

    Yields:
        Whole elements in order.

    Raises:
        ExchangeError: If it is not whole, plain XML.
    """
    try:
        for _, element in iterparse(io.BytesIO(_in_utf8(data)), forbid_dtd=True):
            if element.tag in tags:
                yield element
                element.clear()
    except DefusedXmlException as fault:
        raise ExchangeError(
            f"{origin}: must be plain XML, but has a document type or entities ({type(fault).__name__}), "
            "which no annotation tool writes; it was not read."
        ) from None
    except (ParseError, ValueError, LookupError) as fault:
        raise ExchangeError(f"{origin}: must be whole XML, but: {fault}. Export it again.") from None


def _in_utf8(data: bytes) -> bytes:
    """XML in UTF-8 where it says to be in a code page of several bytes per sign, which the parser does not know."""
    declared = _DECLARED.match(data)
    return data if declared is None else data[declared.end() :].decode(declared[1].decode()).encode()


def zip_member(path: Path, is_wanted: Callable[[str], bool], what: str) -> bytes:
    """Return the one wanted member of a zip file; nothing is written to the disk.

    Args:
        path: The zip file.
        is_wanted: Whether a member's name is the wanted one.
        what: What is wanted, for the error message.

    Returns:
        Its bytes.

    Raises:
        ExchangeError: If the file is no whole zip, a name leads elsewhere, sizes are those of a
            bomb, or not exactly one member is wanted.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(foreign_bytes(path))) as archive:
            members = archive.infolist()
            _check_members(path, members)
            wanted = [member for member in members if is_wanted(member.filename)]
            if len(wanted) != 1:
                raise ExchangeError(f"{path}: the zip must hold {what} exactly once, but holds it {len(wanted)} times.")
            with archive.open(wanted[0]) as file:
                data = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as fault:
        raise ExchangeError(f"{path}: must be a whole zip file without a password, but: {fault}.") from None
    if len(data) > MAX_BYTES:
        raise ExchangeError(f"{path}: {what} may have {MAX_BYTES:,} bytes, but has more; import it in parts.")
    return data


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or total > MAX_ZIP_BYTES:
        raise ExchangeError(
            f"{path}: the zip may hold {MAX_MEMBERS:,} members of {MAX_ZIP_BYTES:,} bytes in all, but says "
            f"{len(members):,} of {total:,}; it was not read."
        )
    for member in members:
        name = PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename[:2]:
            raise ExchangeError(f"{path}: the zip member {member.filename!r} leads out of the folder; it was not read.")
        if member.file_size > 1_000_000 and member.file_size > MAX_RATIO * max(member.compress_size, 1):
            raise ExchangeError(
                f"{path}: the zip member {member.filename!r} would grow from {member.compress_size:,} to "
                f"{member.file_size:,} bytes (more than {MAX_RATIO} times); it was not read."
            )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
