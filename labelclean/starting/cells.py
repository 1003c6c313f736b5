"""A table of text cells, from CSV, a list or a workbook: which line is the header, which columns are ours."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from labelclean.errors import TableError, listed
from labelclean.starting.images import looks_like_image
from labelclean.starting.label_sets import joined_sets, sets_of_marks, split_names, without_empty_masks
from labelclean.starting.rows import NO_LABEL, SEVERAL_LABELS, Rows

_SPLIT = re.compile(
    r"(train(ing)?|trn|val(id(ation|ate)?)?|test(ing)?|tst|dev|eval(uation)?|hold[ _\-]?out|学習|訓練|検証|評価|テスト)"
    r"([ _\-]?(set|data|images?|imgs?|split|用|セット|データ|画像))*[ _\-]?\d*|fold[ _\-]?\d+"
)
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "sample_id": ("id", "sample", "image_id", "imageid", "img_id", "id_code"),
    "image_path": (
        "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file", "image_name",
        "img", "img_path", "image_url", "url", "uri", "ファイル", "ファイル名", "画像", "画像名", "画像ファイル", "画像ファイル名", "画像パス",
    ),
    "given_label": (
        "label", "class", "class_id", "classid", "class_name", "category", "defect", "defect_type", "target", "choice", "ラベル", "クラス", "分類",
        "不良名", "欠陥名", "不良種別", "欠陥種別", "不良内容", "不良モード", "判定", "判定結果", "検査結果",
    ),
}  # fmt: skip
MAPPED = (*USUAL_NAMES, "annotator_id", "group_id")
"""Columns of labelclean that `--column` may name."""
_HINTS = {"annotator_id": ("annotator", "inspector", "検査員"), "group_id": ("group", "part_id", "serial", "lot")}
_MOST_TITLES = 20
_BITS = dict.fromkeys(("", "0", "false", "no", "n", "-"), 0) | dict.fromkeys(
    ("1", "true", "yes", "y", "x", "○", "〇", "◯", "●", "✓", "✔", "☑", "レ"), 1
)


@dataclass(frozen=True)
class Cells:
    """Rows of text cells.

    Attributes:
        rows: (number of the line in the file, cells); at least one.
        source: What was read, in words.
        unit: What a row is called.
    """

    rows: Sequence[tuple[int, Sequence[str]]]
    source: str
    unit: str = "lines"


def is_split(name: str) -> bool:
    """Return whether a folder or column is called as a part of the data that a model learns from or is tested on.

    Examples:
        >>> is_split("Train"), is_split("val_set"), is_split("test2017"), is_split("学習用データ"), is_split("fold"), is_split("testis")
        (True, True, True, True, False, False)
    """
    return _SPLIT.fullmatch(unicodedata.normalize("NFKC", name).strip().lower()) is not None


def table_rows(cells: Cells, columns: Mapping[str, str], origin: object, *, several: bool = False) -> Rows:
    """Return the labels in a table of cells; every value stays text, so that `007` stays `007`.

    Args:
        cells: The table; blank rows are left out.
        columns: The table's name for a column of labelclean, or its number from 1 where it has no header.
        origin: The file, for the error message.
        several: An image may have several labels, or none: several rows, or several marks in one-hot columns.

    Returns:
        One row per row with a label, other columns carried through. Titles above the header, and rows without a class
        or, in one-hot columns, with several, are left out. Where an image may have several labels, all rows: `given_label`
        holds lists of the marked columns, or a label per row, missing where an image has none.

    Raises:
        TableError: If a needed column is missing or not clear, or rows are not of the header's length.
    """
    rows = [(number, list(row)) for number, row in cells.rows if any(cell.strip() for cell in row)]
    if not rows:
        raise TableError(f"{origin}: must have a header and at least one row, but is empty.")
    header, body, titles, seen = _header(rows, columns, origin)
    if not body:
        raise TableError(
            f"{origin}: must have a header and at least one row below it, but has {len(rows)} rows in all."
        )
    has_header = len(titles) + len(body) < len(rows)
    body = _even(header, body, cells.unit, origin)
    twice = sorted(name for name, count in Counter(header).items() if count > 1 and name)
    if twice:
        raise TableError(f"{origin}: column names must be distinct, but {listed(twice)} stand twice. Rename them.")
    chosen, faults = chosen_columns([name for name in header if name], columns)
    again = [number for number, row in body if has_header and chosen and _repeats(row, header, chosen)]
    body = [(number, row) for number, row in body if number not in set(again)]
    values = {name: [row[place].strip() or None for _, row in body] for place, name in enumerate(header) if name}
    left_out: dict[str, list[str]] = {
        "rows above the header": titles,
        "rows that repeat the header": list(map(str, again)),
    }
    if several:
        return _set_rows(cells.source, values, columns, left_out, seen, origin)
    if faults and has_header and "given_label" not in chosen and "given_label" not in columns:
        one_hot, classes = one_hot_classes(values, chosen)
        if one_hot:
            marked, values = values, _without_one_hot(values, one_hot, classes, left_out, chosen)
            seen += marks_told(marked, chosen, one_hot)
            chosen, faults = chosen_columns(list(values), columns)
    if faults:
        raise TableError(column_letter(origin, faults, list(values)))
    table = pa.table({name: pa.array(column, pa.string()) for name, column in values.items()})
    table, told = renamed(table, chosen)
    is_labelled = pc.is_valid(table.column("given_label"))
    bare = table.filter(pc.invert(is_labelled)).column("image_path").to_pylist()
    left_out[NO_LABEL] = [*left_out.get(NO_LABEL, []), *map(str, bare)]
    table = table.filter(is_labelled)
    return Rows(
        cells.source.replace("{n}", f"{table.num_rows:,}"),
        table,
        left_out,
        (*seen, *told, *hints(list(values), columns)),
    )


def chosen_columns(header: Sequence[str], columns: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the table's column for each that is needed: as told, of the same name, or the only one of a usual name.

    Args:
        header: Names of the table's columns.
        columns: The table's name for a column of labelclean, as the user says it.

    Returns:
        Our name -> theirs, and what is missing or not clear. A table without image paths has its ids as paths.
    """
    chosen: dict[str, str] = {}
    faults: list[str] = []
    for ours in MAPPED:
        named = columns.get(ours)
        if named is not None:
            candidates = [name for name in header if name == named]
        elif ours in header:
            candidates = [ours]
        else:
            usual = (ours, *USUAL_NAMES.get(ours, ()))
            candidates = [name for name in header if _folded(name) in usual and name not in columns.values()]
        if len(candidates) == 1:
            chosen[ours] = candidates[0]
        elif ours in ("image_path", "given_label") or named is not None:
            reason = (
                f"{named!r} is not there"
                if named is not None
                else (f"{listed(candidates)} might be it" if candidates else "none is")
            )
            faults.append(f"{ours}: {reason}")
    if "image_path" not in chosen and "sample_id" in chosen and faults and "image_path" not in columns:
        faults = [fault for fault in faults if fault != "image_path: none is"]
    unknown = sorted(set(columns) - set(MAPPED))
    if unknown:
        faults.append(f"{listed(unknown)}: only {listed(sorted(MAPPED))} can be named")
    taken = Counter(columns.values())
    faults += [f"{theirs!r} is named twice" for theirs, count in taken.items() if count > 1]
    return chosen, faults


def column_letter(origin: object, faults: Sequence[str], header: Sequence[str]) -> str:
    """Return what to tell of columns that are missing or not clear."""
    return (
        f"{origin}: a column each of image paths and labels is needed, but {'; '.join(faults)}; the file has "
        f"{listed(list(header), 12)}. Say which: --column given_label=NAME --column image_path=NAME (a table "
        "without a header: the numbers of its columns, from 1)."
    )


def renamed(table: pa.Table, chosen: Mapping[str, str], *, has_images: bool = False) -> tuple[pa.Table, list[str]]:
    """Return a table with our names for the columns chosen, the id first, and what was done.

    Args:
        table: The file's columns.
        chosen: From `chosen_columns`.
        has_images: The images themselves are there, so no path is needed.

    Returns:
        The table; without ids the image paths are the ids, without paths the ids are the paths. A column of the
        file's own that has one of our names but was not chosen becomes `NAME_in_file`.
    """
    theirs_of = {theirs: ours for ours, theirs in chosen.items()}
    names = [
        theirs_of.get(name, f"{name}_in_file" if name in chosen or name in MAPPED else name)
        for name in table.column_names
    ]
    notes = [f"column {theirs!r} is taken as {ours}" for ours, theirs in chosen.items() if ours != theirs]
    table = table.rename_columns(names)
    if "sample_id" not in names:
        table = table.add_column(0, "sample_id", table.column("image_path"))
        notes.append("no column of ids: the image path is the sample_id")
    elif "image_path" not in names and not has_images:
        table = table.append_column("image_path", table.column("sample_id"))
        notes.append("no column of image paths: the sample_id names the image")
    return table, notes


def hints(header: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Return columns that may mean more than labelclean takes them for."""
    return [
        f"column {name!r} is carried through; if it is the {ours}, say so: --column {ours}={name}"
        for ours, usual in _HINTS.items()
        for name in header
        if _folded(name) in usual and ours not in columns and ours not in header
    ]


def one_hot_classes(
    values: Mapping[str, list[str | None]], chosen: Mapping[str, str], *, several: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Return the columns of marks that name a class each, and the classes of each row.

    Args:
        values: Column -> cells; a mark is 1, true, yes, x, a circle or a tick, no mark 0, false, no or nothing.
        chosen: From `chosen_columns`.
        several: A row may have several marks, or none; one column is enough.

    Returns:
        Names and rows; no names where not at least two columns hold nothing but marks, or more rows have several marks
        than one.

    Examples:
        >>> one_hot_classes({"file": ["a", "b"], "ok": ["1", "0"], "dent": [None, "1"]}, {"image_path": "file"})
        (['ok', 'dent'], [['ok'], ['dent']])
    """
    marks = _marks(values, chosen)
    names = [name for name, bits in marks.items() if 0 in bits]
    rows = zip(*(marks[name] for name in names), strict=True)
    classes = [[name for name, bit in zip(names, row, strict=True) if bit] for row in rows]
    num_several = sum(len(row) > 1 for row in classes)
    is_one_hot = len(names) > 1 and sum(len(row) == 1 for row in classes) > num_several
    if several:
        is_one_hot = any(classes)
    return (names, classes) if is_one_hot else ([], [])


def marks_told(
    values: Mapping[str, list[str | None]], chosen: Mapping[str, str], names: Sequence[str], *, several: bool = False
) -> list[str]:
    """Return what is told of columns of marks: which are classes, and which tell nothing.

    Args:
        values: Column -> cells.
        chosen: From `chosen_columns`.
        names: Columns that name classes, from `one_hot_classes`.
        several: A row may have several marks, or none.
    """
    words = (
        "hold marks: the labels of an image are the names of those that it has"
        if several
        else "hold one 1 in each row: the column's name is the class"
    )
    notes = [f"columns {listed(list(names), 8)} {words}"]
    marks = _marks(values, chosen)
    if everywhere := [name for name, bits in marks.items() if 0 not in bits]:
        notes.append(
            f"columns {listed(everywhere, 8)} hold a mark in every row, which tells no image from another: they are no classes, "
            "and carried through"
        )
    if never := [name for name in names if 1 not in marks[name]]:
        notes.append(f"columns {listed(never, 8)} hold no mark: no image has these classes, and they are left out")
    return notes


# --- inside ---------------------------------------------------------------------------------------


def _folded(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", unicodedata.normalize("NFKC", name).strip().lower())


def _header(
    rows: list[tuple[int, list[str]]], columns: Mapping[str, str], origin: object
) -> tuple[list[str], list[tuple[int, list[str]]], list[str], list[str]]:
    """Header, rows below it, titles above it, and what was decided."""
    tried = [[cell.strip() for cell in row] for _, row in rows[:_MOST_TITLES]]
    fitting = (place for place, names in enumerate(tried) if not chosen_columns(names, columns)[1])
    filled = [len("\0".join(names).rstrip("\0").split("\0")) for names in tried]  # a title is shorter than a header
    place = next(fitting, filled.index(max(filled)))
    names, titles = tried[place], [" ".join(filter(None, above)) for above in tried[:place]]
    by_number = bool(columns) and all(name.isdecimal() for name in columns.values())
    if any(map(looks_like_image, names)) or (by_number and not set(columns.values()) <= set(names)):
        names = _numbered(rows[place:], columns)
        sentence = f"no header: line {rows[place][0]} is a row" if place else "no header: the first line is a row"
        return names, rows[place:], titles, [f"{sentence}; columns are called {listed(names, 4)}"]
    seen = [f"the header is line {rows[place][0]}; what stands above it is left out"] if titles else []
    return names, rows[place + 1 :], titles, seen


def _repeats(row: Sequence[str], header: Sequence[str], chosen: Mapping[str, str]) -> bool:
    """Whether a row is the header once more, as where files were joined or the header has two lines."""
    return all(row[header.index(theirs)].strip() == theirs for theirs in chosen.values())


def _numbered(rows: list[tuple[int, list[str]]], columns: Mapping[str, str]) -> list[str]:
    """Names for the columns of a table without a header: the one of images, the other of two, else numbers."""
    width = len(rows[0][1])
    names = [str(place + 1) for place in range(width)]
    if columns:
        return names
    tried = [row for _, row in rows[:_MOST_TITLES] if len(row) == width]
    images = [place for place in range(width) if all(looks_like_image(row[place]) for row in tried)]
    if len(images) == 1:
        names[images[0]] = "image_path"
        if width == 2:
            names[1 - images[0]] = "given_label"
    return names


def _even(
    header: Sequence[str], body: list[tuple[int, list[str]]], unit: str, origin: object
) -> list[tuple[int, list[str]]]:
    """The rows, empty cells after the header's last one cut off; rows of another length are refused."""
    width = len(header)
    ragged = [str(number) for number, row in body if len(row) < width or any(cell.strip() for cell in row[width:])]
    if ragged:
        raise TableError(
            f"{origin}: every row must have the {width} cells of the header, but {len(ragged):,} have not: {unit} "
            f"{listed(ragged)}. Quote cells that hold the separator, then try again."
        )
    return [(number, row[:width]) for number, row in body]


def _marks(values: Mapping[str, list[str | None]], chosen: Mapping[str, str]) -> dict[str, list[int | None]]:
    """Columns that hold nothing but marks, as 0 and 1."""
    marks = {
        name: [_bit(cell) for cell in column]
        for name, column in values.items()
        if name not in chosen.values() and not is_split(name) and any(cell is not None for cell in column)
    }
    return {name: bits for name, bits in marks.items() if None not in bits}


def _bit(cell: str | None) -> int | None:
    """What a mark says; None for anything else."""
    cell = (cell or "").lower()
    return _BITS.get(re.sub(r"\.0+$", "", cell) if cell[:1].isdigit() else cell)


def _without_one_hot(
    values: Mapping[str, list[str | None]],
    one_hot: list[str],
    classes: list[list[str]],
    left_out: dict[str, list[str]],
    chosen: Mapping[str, str],
) -> dict[str, list[str | None]]:
    """The columns with `given_label` in place of the one-hot ones; rows with none or several are left out."""
    named = values[chosen.get("image_path", chosen.get("sample_id", next(iter(values))))]
    left_out[NO_LABEL] = [str(name) for name, found in zip(named, classes, strict=True) if not found]
    left_out[SEVERAL_LABELS] = [str(name) for name, found in zip(named, classes, strict=True) if len(found) > 1]
    single = [place for place, found in enumerate(classes) if len(found) == 1]
    rest = {name: [column[place] for place in single] for name, column in values.items() if name not in one_hot}
    return {**rest, "given_label": [classes[place][0] for place in single]}


def _set_rows(
    source: str,
    values: dict[str, list[str | None]],
    columns: Mapping[str, str],
    left_out: dict[str, list[str]],
    seen: Sequence[str],
    origin: object,
) -> Rows:
    """The labels of a table in which an image may have several, or none: columns of marks, or rows of one image."""
    values, split = split_names(values, {name: _folded(name) for name in values})
    chosen, faults = chosen_columns(list(values), columns)
    notes = [*seen, *split]
    one_hot: list[str] = []
    if faults and "given_label" not in chosen and "given_label" not in columns:
        one_hot, classes = one_hot_classes(values, chosen, several=True)
    if one_hot:
        table = sets_of_marks(values, one_hot, classes)
        notes += marks_told(values, chosen, one_hot, several=True)
        chosen, faults = chosen_columns(table.column_names, columns)
    if faults:
        raise TableError(column_letter(origin, faults, list(values)))
    if not one_hot:
        values, masks = without_empty_masks(values, {name: _folded(name) for name in values}, chosen["given_label"])
        notes += masks
        table = pa.table({name: pa.array(column, pa.string()) for name, column in values.items()})
    table, done = renamed(table, chosen)
    notes += [*done, *hints(list(values), columns)]
    if not one_hot:
        table, joined = joined_sets(table, {} if masks else left_out)  # rows of empty masks are told already
        notes += joined
    return Rows(source.replace("{n}", f"{table.num_rows:,}"), table, left_out, tuple(notes))
