"""Bytes of a file as text: which code page it is told, or shown to be; a guess that does not hold is refused."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from pathlib import Path

from labelclean.errors import TableError

MAX_BYTES = 2_000_000_000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16: the longer mark begins with the shorter
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_JIS = re.compile(rb"\x1b\$[@B]")  # from here on two bytes are one sign
_OTHERS = {"EUC-JP": "euc_jp", "GBK": "gb18030", "Big5": "big5", "EUC-KR": "cp949", "cp1252": "cp1252"}
_HALF_KANA = "\uff61-\uff9f"
# what a spreadsheet in Shift-JIS holds: kana, full-width letters, and the kanji of everyday words (JIS level 1)
_KANA = re.compile("[\u3000-\u30ff\uff01-\uff5e]")
# half-width kana beside no Latin letter, with a voicing mark after what can be voiced, a small kana or a long vowel:
# Russian and Thai code pages have letters in the places of the plain ones
_KANA_WORD = re.compile(
    f"(?<![A-Za-z{_HALF_KANA}])(?=[{_HALF_KANA}]*[ｧ-ｰﾞﾟ])(?:[ｦｱ-ﾝ](?:(?<=[ｳｶ-ﾄﾊ-ﾎ])ﾞ|(?<=[ﾊ-ﾎ])ﾟ)?[ｧ-ｯｰ]?){{2,}}(?![A-Za-z{_HALF_KANA}])"
)
_ANY_HALF_KANA = re.compile(f"[{_HALF_KANA}]+")


def file_bytes(path: Path) -> bytes:
    """Return a file's bytes, unpacked where it is gzip.

    Args:
        path: The file.

    Returns:
        All of it.

    Raises:
        TableError: If it cannot be read, is damaged, or is larger than 2 GB.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(path) as packed:
                data = packed.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as fault:
        raise TableError(f"{path}: must be a readable, whole file, but: {fault}.") from None
    if len(data) > MAX_BYTES:
        raise TableError(
            f"{path}: may have {MAX_BYTES:,} bytes of text, but has more. Write it as Parquet, or in parts."
        )
    return data


def text_of(data: bytes, origin: Path, encoding: str | None = None) -> tuple[str, str]:
    """Return a file's text and its encoding in words.

    UTF-8, what begins with the mark of UTF-8, UTF-16 or UTF-32, and JIS with its escapes are certain. Shift-JIS is taken only where the
    text reads as Japanese: half-width kana or rare kanji are what other code pages look like in it.

    Args:
        data: The bytes.
        origin: Their file, for the error message.
        encoding: As the user says it, instead of all this.

    Returns:
        Text and words.

    Raises:
        TableError: If the bytes are not what was said, or their code page is not clear.
    """
    if encoding is not None:
        return _as_told(data, origin, encoding), encoding
    for mark, name, words in _MARKS:
        if data.startswith(mark):
            return _as_told(data, origin, name), words
    if _JIS.search(data) and (text := _decoded(data, "iso2022_jp_ext")) is not None:
        return _without_control(text, origin, "JIS"), "JIS (ISO-2022-JP)"
    try:
        return _without_control(data.decode("utf-8"), origin, "UTF-8"), "UTF-8"
    except UnicodeDecodeError as fault:
        place = fault.start
    text = _decoded(data, "cp932")
    if text is not None and _reads_as_japanese(text, data):
        return _without_control(text, origin, "Shift-JIS"), "Shift-JIS (cp932)"
    raise TableError(
        f"{origin}: text must be UTF-8, begin with the mark of UTF-16, or clearly be Shift-JIS, but byte {place:,} "
        f"(line {data.count(bytes([10]), 0, place) + 1:,}) is not UTF-8, and which code page it is cannot be told"
        f"{_readings(data, place)}. Say which: --encoding euc_jp (or cp932, gbk, big5, cp1252, ...), or save it as "
        "CSV UTF-8."
    )


def _as_told(data: bytes, origin: Path, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        raise TableError(
            f"{origin}: must be text in {encoding}, but byte {fault.start:,} (line {line:,}) is not. Name another "
            "--encoding, or save it as CSV UTF-8."
        ) from None
    except (LookupError, ValueError):
        raise TableError(
            f"--encoding must name a code page such as euc_jp, cp932, gbk, big5 or cp1252, but is {encoding!r}."
        ) from None
    return _without_control(text.removeprefix("\ufeff"), origin, encoding)


def _without_control(text: str, origin: Path, words: str) -> str:
    """The text, unless it holds NUL: then it is no text, or UTF-16 without its mark."""
    if "\0" in text:
        raise TableError(
            f"{origin}: must be text, but read as {words} it holds NUL characters, as UTF-16 without its mark does. "
            "Say so: --encoding utf-16-le, or save it as CSV UTF-8."
        )
    return text


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _reads_as_japanese(text: str, data: bytes) -> bool:
    """Whether Shift-JIS is the only fair reading."""
    if _decoded(data, "euc_jp") is not None:
        return False
    without_words = _KANA_WORD.sub("", text)
    stray = sum(map(len, _ANY_HALF_KANA.findall(without_words)))  # half-width kana that no Japanese word explains
    outside = [sign for sign in _ANY_HALF_KANA.sub("", without_words) if ord(sign) > 127]
    usual = sum(map(_is_usual, outside))
    if outside:
        return usual > 2 * (len(outside) - usual + stray)
    return not stray and all(_decoded(data, name) is None for name in ("gb18030", "big5", "cp949"))


def _is_usual(sign: str) -> bool:
    """Kana, full-width letters and JIS level 1."""
    if _KANA.match(sign):
        return True
    lead = sign.encode("cp932", "replace")[0]
    return 0x88 <= lead <= 0x97 and "\u4e00" <= sign <= "\u9fff"


def _readings(data: bytes, place: int) -> str:
    """How the first unclear cell reads in each code page that fits all bytes."""
    start = max(data.rfind(mark, 0, place) for mark in (b",", b"\n", b"\t", b";")) + 1
    cell = re.split(rb"[,\r\n\t;]", data[start : start + 60])[0]
    shown = []
    for words, name in {"Shift-JIS": "cp932", **_OTHERS}.items():
        if _decoded(data, name) is not None:
            reading = cell.decode(name, "replace")
            shown.append(f"{''.join(sign for sign in reading if sign.isprintable())!r} as {words}")
    return f" (its first cell reads {', '.join(shown)})" if shown else ""
