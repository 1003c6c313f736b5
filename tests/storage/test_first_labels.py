"""A tree of class folders and a CSV file become the labels table; what is unclear is refused, what is left out is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labelclean.errors import TableError
from labelclean.storage.first_labels import is_table_file, labels_from_csv, labels_from_folders


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"image")
    return root


def rows(table: object) -> list[tuple[str, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]  # type: ignore[attr-defined]


def test_each_folder_is_a_class_and_the_relative_path_the_id(tmp_path: Path) -> None:
    found = labels_from_folders(tree(tmp_path, "ok/1.png", "dent/1.PNG", "dent/a/2.jpg", "傷/3.bmp"))
    assert rows(found.table) == [
        ("dent/1.PNG", "dent/1.PNG", "dent"),
        ("dent/a/2.jpg", "dent/a/2.jpg", "dent"),
        ("ok/1.png", "ok/1.png", "ok"),
        ("傷/3.bmp", "傷/3.bmp", "傷"),
    ]
    assert found.image_root == tmp_path
    assert any("1 images lie deeper than their class folder, such as 'dent/a/2.jpg'" in line for line in found.seen)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    found = labels_from_folders(tree(tmp_path, "ok/1.png", "no/2.png", "3.png", "ok/Thumbs.db", "ok/.hidden.png"))
    assert found.table.num_rows == 2
    assert "left out: 1 files in no class folder: '3.png'" in found.seen
    assert "left out: 1 files that are no images: 'ok/Thumbs.db'" in found.seen


def test_split_folders_are_not_taken_for_classes(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/ok/1.png", "test/dent/2.png")
    with pytest.raises(TableError, match=r"'test', 'train'.*--class-folder 2"):
        labels_from_folders(root)
    for level in (2, -1):
        assert labels_from_folders(root, level).table.column("given_label").to_pylist() == ["dent", "ok"]


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="2 images and no class folder"):
        labels_from_folders(tree(tmp_path, "1.png", "2.png"))


def test_links_out_of_the_tree_move_the_image_root_to_what_they_share(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", "a/1.png", "b/2.png")
    for name, target in (("ok/x.png", "a/1.png"), ("dent/y.png", "b/2.png")):
        (tmp_path / "tree" / name).parent.mkdir(parents=True)
        (tmp_path / "tree" / name).symlink_to(real / target)
    (tmp_path / "tree" / "ok" / "round").symlink_to(tmp_path / "tree")  # links that go round do not hang
    found = labels_from_folders(tmp_path / "tree")
    assert rows(found.table) == [("dent/y.png", "b/2.png", "dent"), ("ok/x.png", "a/1.png", "ok")]
    assert found.image_root == real


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "ok/1.png")
    with open(os.fsencode(tmp_path) + b"/ok/\xff.png", "wb") as file:  # noqa: PTH123 - no Path has this name
        file.write(b"image")
    with pytest.raises(TableError, match="must be UTF-8, but 1 are not"):
        labels_from_folders(tmp_path)


def test_a_csv_keeps_text_and_other_columns_and_finds_usual_names(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    file.write_text("filename;Label;lot\na.png;007;\nb.png;ok;3\n", encoding="utf-8-sig")
    found = labels_from_csv(file)
    assert found.table.to_pylist() == [
        {"sample_id": "a.png", "image_path": "a.png", "given_label": "007", "lot": None},
        {"sample_id": "b.png", "image_path": "b.png", "given_label": "ok", "lot": "3"},
    ]
    assert found.image_root == tmp_path
    assert "column 'Label' is taken as given_label" in found.seen


def test_a_japanese_csv_from_excel_is_read(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    file.write_bytes("id,file,不良名\n1,画像1.png,傷\n2,画像2.png,良品\n".encode("cp932"))
    found = labels_from_csv(file, {"given_label": "不良名"})
    assert found.table.column("given_label").to_pylist() == ["傷", "良品"]
    assert "Shift-JIS" in found.seen[0]


def test_absolute_paths_become_relative_to_the_folder_they_share(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,label\n/d/x/1.png,a\n/d/y/2.png,b\n")
    found = labels_from_csv(tmp_path / "l.csv")
    assert found.image_root == Path("/d")
    assert found.table.column("image_path").to_pylist() == ["x/1.png", "y/2.png"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label,class\na,b,c\n", "given_label: 'label', 'class' might be it"),
        ("path,quality\na,b\n", "given_label: none is; the file has 'path', 'quality'"),
        ("path,label\na,b,c\n", "1 have not: lines '2'"),
        ("path,label,label\na,b,c\n", "'label' stand twice"),
        ("path,label\n", "has 1 lines"),
    ],
)
def test_an_unclear_csv_is_refused_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(TableError, match=said):
        labels_from_csv(tmp_path / "l.csv")


def test_parquet_is_known_by_itself(tmp_path: Path) -> None:
    tree(tmp_path, "day=1/x.parquet", "l.csv", "tree/ok/1.png")
    assert is_table_file(tmp_path / "day=1")
    assert not is_table_file(tmp_path / "l.csv")
    assert not is_table_file(tmp_path / "tree")
