"""CSV, lists and workbooks: the header is found, every value stays text, what is unclear is refused with its line."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from labelclean.errors import TableError
from labelclean.starting.cells import Cells, table_rows
from labelclean.starting.csv_file import csv_rows
from labelclean.starting.excel import excel_rows
from labelclean.starting.rows import Rows

ORIGIN = Path("plant/l.csv")


def read(text: str, **columns: str) -> Rows:
    return csv_rows(text.encode(), columns, ORIGIN)


def pairs(rows: Rows) -> list[tuple[str, str]]:
    return list(zip(*(rows.table.column(name).to_pylist() for name in ("image_path", "given_label")), strict=True))


def workbook(*sheets: tuple[str, list[list[Any]]], formats: dict[str, str] | None = None, merged: str = "") -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        page = book.create_sheet(title)
        for row in rows:
            page.append(row)
        for cell, form in (formats or {}).items():
            page[cell].number_format = form
        for cells in merged.split():
            page.merge_cells(cells)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def test_a_csv_keeps_text_and_other_columns_and_finds_usual_names() -> None:
    found = read("filename;Label;lot\na.png;007;\nb.png;ok;3\n")
    assert found.table.to_pylist() == [
        {"sample_id": "a.png", "image_path": "a.png", "given_label": "007", "lot": None},
        {"sample_id": "b.png", "image_path": "b.png", "given_label": "ok", "lot": "3"},
    ]
    assert "column 'Label' is taken as given_label" in found.seen
    assert any("--column group_id=lot" in line for line in found.seen)


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nfile;label\na.png;ok\nb.png;dent\n",
        "file\tlabel\na.png\tok\nb.png\tdent\n",
        "file|label\r\na.png|ok\r\nb.png|dent\r\n",
        "a.png,ok\nb.png,dent\n",  # no header
        "ok,a.png\ndent,b.png\n",
        "a.png ok\nb.png dent\n",  # a list
        "ok a.png\ndent b.png\n",
        "file label\na.png ok\nb.png dent\n",
        "Inspection,\nline 3; 2026,\n\nfile,label\na.png,ok\nb.png,dent\n",  # titles
        'ファイル名,不良名\n"a.png","ok"\nb.png,dent\n',
        "image,ok,dent\na.png,1,0\nb.png,0,1\n",  # one-hot
        "image,ok,dent\na.png,1.00,0\nb.png,0.000,1.0\n",
        "image,ok,dent\na.png,TRUE,FALSE\nb.png,False,True\n",
        "image,ok,dent\na.png,yes,no\nb.png,no,yes\n",
        "画像,ok,dent\na.png,○,\nb.png,,○\n",
        "image;ok;dent;line\na.png;x;;x\nb.png;;x;x\n",
    ],
)
def test_every_usual_shape_of_a_table_says_the_same(text: str) -> None:
    assert pairs(read(text)) == [("a.png", "ok"), ("b.png", "dent")]


def test_what_was_guessed_or_left_out_is_told() -> None:
    titles = read("Inspection\nfile,label\na.png,ok\n")
    assert "the header is line 2; what stands above it is left out" in titles.seen
    assert titles.left_out["rows above the header"] == ["Inspection"]
    assert any("no header" in line for line in read("a.png,ok\n").seen)
    hot = read("image,ok,dent,split\na.png,1,0,x\nb.png,1,1,x\nc.png,0,0,x\nd.png,0,1,x\n")
    assert pairs(hot) == [("a.png", "ok"), ("d.png", "dent")]
    assert [names for what, names in hot.left_out.items() if "label" in what] == [["c.png"], ["b.png"]]
    assert "columns 'ok', 'dent' hold one 1 in each row: the column's name is the class" in hot.seen


def test_a_header_that_comes_again_is_no_row() -> None:
    found = read("file,label\na.png,ok\nfile,label\nb.png,dent\nc.png,label\n")
    assert pairs(found) == [("a.png", "ok"), ("b.png", "dent"), ("c.png", "label")]
    assert found.left_out["rows that repeat the header"] == ["3"]


def test_columns_are_named_also_by_number_and_for_inspectors_and_parts() -> None:
    found = read("a b.png,x,ok,7\n", image_path="1", given_label="3", group_id="4")
    assert pairs(found) == [("a b.png", "ok")]
    assert found.table.column("group_id").to_pylist() == ["7"]
    found = read("file,who,label\na.png,Aiko,ok\n", annotator_id="who")
    assert found.table.column("annotator_id").to_pylist() == ["Aiko"]


def test_ids_stand_for_paths_where_there_are_none() -> None:
    found = read("id,label\n0001,ok\n")
    assert found.table.to_pylist() == [{"sample_id": "0001", "given_label": "ok", "image_path": "0001"}]


def test_a_blank_in_a_listed_name_belongs_to_the_name() -> None:
    assert pairs(read("# list\nline 3/a b.png ok\n")) == [("line 3/a b.png", "ok")]


def test_lines_are_those_of_the_file() -> None:
    text = 'sep=,\nfile,label\n\n"a.png","two\nlines"\nb.png\n\nc.png,x,y\n'
    with pytest.raises(TableError, match=r"2 have not: lines '6', '8'"):
        read(text)


def test_a_cell_that_begins_as_a_formula_stays_text() -> None:
    assert pairs(read("file,label\na.png,=1+1\nb.png,-x\n")) == [("a.png", "=1+1"), ("b.png", "-x")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label,class\na,b,c\n", "given_label: 'label', 'class' might be it"),
        ("path,quality\na,b\n", "given_label: none is; the file has 'path', 'quality'"),
        ("path,label,label\na,b,c\n", "'label' stand twice"),
        ("path,label,x,x\na,b,c,d\n", "'x' stand twice"),
        ("path,label\n", "has 1 rows"),
        ("0,1,a.png\n1,0,b.png\n", "the file has '1', '2', 'image_path'.*the numbers of its columns"),
        ("", "is empty"),
        ('path,label\n"a,b\n', "must be a whole CSV file, but line 2"),
    ],
)
def test_an_unclear_csv_is_refused_with_what_to_do(text: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        read(text)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"given_label": "quality"}, "given_label: 'quality' is not there"),
        ({"colour": "label"}, "'colour': only 'annotator_id', 'given_label'"),
        ({"given_label": "file", "image_path": "file"}, "'file' is named twice"),
    ],
)
def test_a_column_that_cannot_be_is_refused(columns: dict[str, str], said: str) -> None:
    with pytest.raises(TableError, match=said):
        read("file,label\na.png,ok\n", **columns)


def test_a_workbook_gives_what_its_cells_show() -> None:
    rows: list[list[Any]] = [["Inspection 2026"], [], ["file", "label", "serial", "lot", "day"]]
    rows += [["a.png", "ok", 7, 3.0, date(2026, 1, 2)], ["b.png", True, 12, 0.5, None]]
    found = excel_rows(workbook(("first", rows), ("notes", [["x"]]), formats={"C4": "0000"}), {}, Path("l.xlsx"))
    assert found.table.to_pylist() == [
        {"sample_id": "a.png", "image_path": "a.png", "given_label": "ok", "serial": "0007", "lot": "3", "day": "2026-01-02"},
        {"sample_id": "b.png", "image_path": "b.png", "given_label": "TRUE", "serial": "12", "lot": "0.5", "day": None},
    ]  # fmt: skip
    assert found.left_out["other sheets (--sheet NAME reads one)"] == ["notes"]


def test_a_sheet_is_named_and_errors_in_cells_are_refused() -> None:
    data = workbook(
        ("a", [["x"]]), ("b", [["file", "label"], ["a.png", "ok"]]), ("c", [["file", "label"], ["a.png", "#N/A"]])
    )
    assert pairs(excel_rows(data, {}, Path("l.xlsx"), "b")) == [("a.png", "ok")]
    with pytest.raises(TableError, match=r"but has 'a', 'b', 'c'\. Name one: --sheet"):
        excel_rows(data, {}, Path("l.xlsx"), "z")
    with pytest.raises(TableError, match="rows '2' of sheet 'c' hold an error such as #N/A"):
        excel_rows(data, {}, Path("l.xlsx"), "c")
    with pytest.raises(TableError, match="must be a whole Excel workbook"):
        excel_rows(data[:-100], {}, Path("l.xlsx"))


def test_a_formula_that_was_never_computed_is_no_label() -> None:
    rows = [["file", "label"], ["a.png", "ok"], ["b.png", '=IF(A3="x","ok","dent")']]
    with pytest.raises(
        TableError, match="rows '3' of sheet 'a' hold an error such as #N/A, or a formula that was never"
    ):
        excel_rows(workbook(("a", rows)), {}, Path("l.xlsx"))


def test_an_error_in_a_column_that_is_only_carried_is_left_empty_and_told() -> None:
    rows: list[list[Any]] = [
        ["file", "label", "score"],
        ["a.png", "ok", "#DIV/0!"],
        ["b.png", "dent", "=1/3"],
        ["c.png", "ok", 7],
    ]
    found = excel_rows(workbook(("a", rows)), {}, Path("l.xlsx"))
    assert found.table.column("score").to_pylist() == [None, None, "7"]
    assert any(line.startswith("columns 'score' hold errors such as #N/A") for line in found.seen)


def test_cells_merged_downwards_hold_their_value_in_each_row() -> None:
    rows = [["Inspection 2026", "", ""], ["label", "image", "found"], ["", "", "who"]]
    rows += [["ok", "a.png", "x"], ["", "b.png", "y"], ["dent", "c.png", "z"]]
    found = excel_rows(workbook(("a", rows), merged="A1:C1 A2:A3 B2:B3 A4:A5"), {}, Path("l.xlsx"))
    assert pairs(found) == [("a.png", "ok"), ("b.png", "ok"), ("c.png", "dent")]


def test_the_first_sheet_that_shows_is_read_and_the_others_are_named() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(
        io.BytesIO(workbook(("old", [["x"]]), ("notes", [["y"]]), ("data", [["file", "label"]])))
    )
    book["old"].sheet_state = "hidden"
    book.save(data := io.BytesIO())
    with pytest.raises(TableError, match=r"This is sheet 'notes'; there are 'old', 'data' too: --sheet NAME"):
        excel_rows(data.getvalue(), {}, Path("l.xlsx"))


def test_numbers_that_excel_does_not_keep_are_told() -> None:
    rows: list[list[Any]] = [["id", "file", "label"], [12345678901234567, "a.png", "ok"], [7, "b.png", "dent"]]
    found = excel_rows(workbook(("a", rows)), {}, Path("l.xlsx"))
    assert any(line.startswith("rows '2' hold numbers of more than 15 digits") for line in found.seen)


@pytest.mark.parametrize(
    ("rows", "paths", "labels"),
    [
        ([["Line 3", "", ""], ["image", "ok", "dent"], ["a.png", "1", "0"], ["b.png", "0", "1"]], "ab", ["ok", "dent"]),
        ([["Line 3", ""], ["a.png", "ok"], ["b.png", "dent"]], "ab", ["ok", "dent"]),
        ([["", "image", "label"], ["0", "a.png", "ok"], ["1", "b.png", "dent"]], "ab", ["ok", "dent"]),
    ],
)
def test_a_title_above_one_hot_columns_or_above_no_header_is_left_out(
    rows: list[list[str]], paths: str, labels: list[str]
) -> None:
    found = table_rows(Cells(list(enumerate(rows, start=1)), "{n} rows"), {}, Path("t.csv"))
    assert found.table.column("image_path").to_pylist() == [f"{name}.png" for name in paths]
    assert found.table.column("given_label").to_pylist() == labels


def test_an_empty_first_name_is_no_title() -> None:
    rows = [["", "Datei", "Befund"], ["0", "a.png", "gut"], ["1", "b.png", "Riss"]]
    with pytest.raises(TableError, match="the file has 'Datei', 'Befund'"):
        table_rows(Cells(list(enumerate(rows, start=1)), "{n} rows"), {}, Path("t.csv"))
