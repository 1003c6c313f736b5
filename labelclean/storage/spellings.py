"""Class names that look alike, or like a missing value; and the one key that joins spellings, `data.spellings`."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from labelclean.texts import shown

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
# letters of other alphabets that are drawn as Latin ones
_TWINS = str.maketrans("АВЕКМНОРСТУХаеорсухіΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEKMHOPCTYXaeopcyxiABEZHIKMNOPTYXo")
_MISSING = {"", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "nil", "undefined", "-", "?"}


def look(name: str) -> str:
    r"""Return what a name looks like: the same for names that people take for one.

    Blanks at the ends, composed and decomposed signs, full and half width, upper and lower case, marks without width,
    dashes, letters of other alphabets that are drawn alike, and zeros behind a decimal point do not count.

    Examples:
        >>> look("ＯＫ ") == look("ok\u200b") == look("OK"), look("1.0") == look("1"), look("1.5") == look("1")
        (True, True, False)
    """
    text = unicodedata.normalize("NFKC", name).translate(_DASHES).translate(_TWINS)
    text = "".join(sign for sign in text if unicodedata.category(sign) not in ("Cf", "Cc") or sign in "\t\r\n")
    text = unicodedata.normalize("NFKC", " ".join(text.split()).casefold())
    if _NUMBER.fullmatch(text):
        whole, _, part = text.partition(".")
        part = part.rstrip("0")
        return f"{whole.removeprefix('+')}.{part}" if part else whole.removeprefix("+")
    return text


def alike(names: Iterable[str], spellings: Mapping[str, str] | None = None) -> list[tuple[str, ...]]:
    """Return the sets of names that look alike.

    Args:
        names: Class names.
        spellings: `data.spellings`; names that it holds are meant as they are.

    Returns:
        Sets of at least two names of which at least one is not in ``spellings``, sorted.

    Examples:
        >>> alike(["ok", "OK", "dent"]), alike(["ok", "OK"], {"ok": "ok", "OK": "OK"})
        ([('OK', 'ok')], [])
    """
    sets: dict[str, set[str]] = defaultdict(set)
    for name in names:
        sets[look(name)].add(name)
    known = set(spellings or ())
    return sorted(tuple(sorted(found)) for found in sets.values() if len(found) > 1 and found - known)


def alike_words(names: Sequence[str], counts: Mapping[str, int]) -> str:
    """Return how often each of some names that look alike stands in the labels, so that they can be told apart.

    Args:
        names: A set from `alike`.
        counts: Name -> labels.

    Returns:
        Such as: 'OK' (20) and 'ok' (40).
    """
    return " and ".join(f"{_written(name)} ({counts.get(name, 0):,})" for name in names)


def joining(names: Sequence[str], counts: Mapping[str, int]) -> str:
    """Return the config key that joins names that look alike to the most frequent of them.

    Args:
        names: A set from `alike`.
        counts: Name -> labels.

    Returns:
        `data.spellings` with its value as YAML in one line.
    """
    often = max(
        names,
        key=lambda name: (counts.get(name, 0), unicodedata.normalize("NFKC", name) == name, look(name) == name, name),
    )
    return (
        "data.spellings: {" + ", ".join(f"{_quoted(name)}: {_quoted(often)}" for name in names if name != often) + "}"
    )


def alike_sentences(counts: Mapping[str, int]) -> list[str]:
    """Return the class names that look alike, a sentence for each set, for who can write them alike.

    Args:
        counts: Name -> labels.

    Returns:
        Sentences.
    """
    return [
        f"class names look alike and count as different classes: {alike_words(names, counts)}; write them alike, or name both "
        "with class_names= if both are meant"
        for names in alike(counts)
    ]


def missing_sentences(counts: Mapping[str, int]) -> list[str]:
    """Return the class names that look like a missing value, one sentence for all.

    Args:
        counts: Name -> labels.

    Returns:
        One sentence, or none.
    """
    missing = [f"{_written(name)} ({count:,})" for name, count in sorted(counts.items()) if look(name) in _MISSING]
    if not missing:
        return []
    return [
        f"class names look like missing values: {', '.join(missing)}; if they are, take these rows out of the labels"
    ]


def respelled(table: pa.Table, spellings: Mapping[str, str]) -> pa.Table:
    """Return labels with the class names that `data.spellings` says.

    Args:
        table: Labels, columns in any type.
        spellings: Spelling in the labels -> class name.

    Returns:
        The same with `given_label` and `candidate_labels` respelled where they are text.
    """
    joins = {old: new for old, new in spellings.items() if old != new}
    if not joins:
        return table
    for name in ("given_label", "candidate_labels"):
        if name in table.column_names:
            place = table.column_names.index(name)
            table = table.set_column(place, name, _respelled(table.column(name), joins))
    return table


def label_counts(labels: pa.ChunkedArray) -> Counter[str]:
    """Return how often each name stands in a column, missing values left out.

    Args:
        labels: Class names.

    Returns:
        Name -> number.
    """
    return Counter(
        {row["values"]: row["counts"] for row in labels.value_counts().to_pylist() if row["values"] is not None}
    )


# --- inside ---------------------------------------------------------------------------------------


def _respelled(column: pa.ChunkedArray, joins: Mapping[str, str]) -> pa.ChunkedArray:
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        return _respelled(column.cast(kind.value_type), joins)
    if types.is_list(kind) or types.is_large_list(kind):
        rows = [None if names is None else [joins.get(name, name) for name in names] for names in column.to_pylist()]
        return pa.chunked_array([pa.array(rows, kind)])
    if not (types.is_string(kind) or types.is_large_string(kind)):
        return column
    place = pc.index_in(column, value_set=pa.array(list(joins), kind))
    return pc.coalesce(pa.array(list(joins.values()), kind).take(place.combine_chunks()), column)


def _written(name: str) -> str:
    """A name so that two spellings can be told apart."""
    return ascii(name) if _needs_codes(name) else repr(name)


def _needs_codes(name: str) -> bool:
    return not name.isprintable() or unicodedata.normalize("NFC", name) != name or bool(name.translate(_TWINS) != name)


def _quoted(name: str) -> str:
    """A name as YAML in double quotes."""
    if _needs_codes(name):
        body = "".join(_escaped(sign) for sign in name)
    else:
        body = shown(name, 1_000).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{body}"'


def _escaped(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    if " " <= sign <= "~":
        return sign
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
