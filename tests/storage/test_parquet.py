"""Labels are read whole or refused with their file named; writes are whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.errors import ConfigError, StorageError, TableError
from labelclean.storage.parquet import (
    atomic_path,
    check_readable,
    image_rows,
    parquet_options,
    read_config,
    read_json,
    read_labels,
    read_pred_probs,
    read_table,
    unread_files,
    write_json,
    write_table,
)

ROWS = {"sample_id": ["b", "a"], "image_path": ["b.png", "a.png"], "given_label": ["ok", "dent"]}


def written(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(ROWS | columns), path)
    return path


def test_hive_keys_keep_their_text_whatever_comes_later(tmp_path: Path) -> None:
    written(tmp_path / "lot=007" / "x.parquet")
    assert read_labels(tmp_path, None)[0].column("lot").to_pylist() == ["007", "007"]
    written(tmp_path / "lot=7A%2F1" / "y.PARQUET", sample_id=["c", "d"])
    table = read_labels(tmp_path, None)[0]
    assert table.schema.field("lot").type == pa.string()
    assert table.column("lot").to_pylist() == ["007", "007", "7A/1", "7A/1"]


def test_a_key_in_folder_and_files_must_be_the_same_in_both(tmp_path: Path) -> None:
    written(tmp_path / "lot=7" / "x.parquet", lot=[7, 7])
    assert read_labels(tmp_path, None)[0].column("lot").to_pylist() == [7, 7]
    written(tmp_path / "lot=007" / "x.parquet", sample_id=["c", "d"], lot=[7, 7])
    with pytest.raises(TableError, match=r"lot=007/x.parquet: 'lot' is '007' in the folder and '7' inside"):
        read_labels(tmp_path, None)


def test_a_key_that_only_some_files_hold_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "lot=7" / "x.parquet", lot=["7", "7"])
    written(tmp_path / "lot=8" / "x.parquet", sample_id=["c", "d"])
    with pytest.raises(TableError, match="'lot' stands inside 1 of 2 files only"):
        read_labels(tmp_path, None)


def test_clashing_columns_are_named_with_their_files(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", line=[1, 2])
    written(tmp_path / "b.parquet", sample_id=["c", "d"], line=["x", "y"])
    with pytest.raises(TableError, match=r"'line' is int64 in a.parquet, string in b.parquet. Write them alike"):
        read_labels(tmp_path, None)


def test_tables_beside_the_parquet_files_are_told_as_not_read(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet")
    for name in ("b.csv", "d.parquet.tmp", "_SUCCESS", ".c.csv", "notes.txt"):
        (tmp_path / name).touch()
    assert unread_files(tmp_path) == ["not read: 2 files that do not end in .parquet: 'b.csv', 'd.parquet.tmp'"]
    assert unread_files(tmp_path / "a.parquet") == []


def test_spellings_are_joined_before_the_names_are_checked(tmp_path: Path) -> None:
    file = written(tmp_path / "l.parquet", given_label=["OK", "dent"])
    table, _ = read_labels(file, ["ok", "dent"], spellings={"OK": "ok"})
    assert table.column("given_label").to_pylist() == ["dent", "ok"]


def test_a_file_a_folder_and_a_partitioned_folder_read_alike(tmp_path: Path) -> None:
    file = written(tmp_path / "one" / "labels.parquet")
    written(tmp_path / "many" / "date=2026-01-01" / "x.parquet")
    written(tmp_path / "many" / "date=2026-01-02" / "y.parquet", sample_id=["c", "d"])
    assert read_labels(file, None)[0].column("sample_id").to_pylist() == ["a", "b"]
    table, has_bytes = read_labels(tmp_path / "many", None)
    assert table.column("sample_id").to_pylist() == ["a", "b", "c", "d"]
    assert [str(day) for day in table.column("date").to_pylist()] == ["2026-01-01"] * 2 + ["2026-01-02"] * 2
    assert not has_bytes


def test_files_may_differ_in_representation_and_in_extra_columns(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet", given_label=pa.array(["ok", "dent"], pa.large_string()))
    written(tmp_path / "y.parquet", sample_id=["c", "d"], line=["L1", "L2"])
    table, _ = read_labels(tmp_path, None)
    assert table.column("line").to_pylist() == [None, None, "L1", "L2"]


def test_hidden_and_temporary_files_are_left_alone(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet")
    written(tmp_path / "_tmp" / "x.parquet")
    (tmp_path / ".x.parquet").write_bytes(b"half")
    assert read_labels(tmp_path, None)[0].num_rows == 2


def test_every_broken_file_is_named(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.parquet").write_bytes(b"")
    with pytest.raises(TableError, match="2 of 3 cannot be read") as told:
        read_labels(tmp_path, None)
    assert "cut.parquet" in str(told.value)
    assert "empty.parquet" in str(told.value)


def test_parquet_cut_anywhere_is_refused_and_never_half_read(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.parquet").read_bytes()
    cut = tmp_path / "cut.parquet"
    for size in range(0, len(whole), 97):
        cut.write_bytes(whole[:size])
        with pytest.raises(TableError):
            read_labels(cut, None)


@pytest.mark.parametrize(
    ("columns", "fragment"),
    [
        ({"sample_id": [1, 2]}, "'sample_id' must be string"),
        ({"given_label": ["ok", "scrach"]}, r"'scrach' \(1\)"),
        ({"image_path": pa.nulls(2)}, None),
    ],
)
def test_a_broken_promise_names_the_file(tmp_path: Path, columns: dict[str, object], fragment: str | None) -> None:
    file = written(tmp_path / "labels.parquet", **columns)
    if fragment is None:
        assert read_labels(file, ["ok", "dent"])[0].column("image_path").to_pylist() == [None, None]
        return
    with pytest.raises(TableError, match=f"labels.parquet: .*{fragment}"):
        read_labels(file, ["ok", "dent"])


def test_labels_without_path_or_bytes_missing_or_empty_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sample_id": ["a"], "given_label": ["ok"]}), tmp_path / "bare.parquet")
    with pytest.raises(TableError, match="must have a column 'image_path' or 'image'"):
        read_labels(tmp_path / "bare.parquet", None)
    with pytest.raises(TableError, match="nothing is there"):
        read_labels(tmp_path / "gone.parquet", None)
    (tmp_path / "void").mkdir()
    with pytest.raises(TableError, match=r"must hold \*\.parquet files"):
        read_labels(tmp_path / "void", None)


def test_image_bytes_come_once_per_sample_with_their_path(tmp_path: Path) -> None:
    file = written(tmp_path / "x.parquet", image=[b"1", None], annotator_id=["x", "x"])
    assert list(image_rows(file)) == [("b", "b.png", b"1"), ("a", "a.png", None)]
    pq.write_table(pa.table({"sample_id": ["a", "a"], "image": [b"1", b"1"]}), file)
    assert list(image_rows(file)) == [("a", None, b"1")]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})

    def fail_half_way() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert read_json(target) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_the_disk_refuses_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be written: .* nothing was replaced"):
        write_json(tmp_path / "no" / "such" / "folder.json", {})


def test_tables_survive_the_round_trip_and_are_known_by_name(tmp_path: Path) -> None:
    flags = pa.table({"sample_id": ["a"], "reason": ["outlier"], "score": [0.5]})
    write_table(tmp_path / "flags.parquet", flags, "flags")
    assert read_table(tmp_path / "flags.parquet", "flags").to_pylist() == flags.to_pylist()
    with pytest.raises(StorageError, match="must hold the table 'rejects', but holds 'flags'"):
        read_table(tmp_path / "flags.parquet", "rejects")
    (tmp_path / "flags.parquet").write_bytes(b"PAR1")
    with pytest.raises(StorageError, match="damaged"):
        read_table(tmp_path / "flags.parquet", "flags")
    with pytest.raises(StorageError, match="missing"):
        read_table(tmp_path / "gone.parquet", "flags")


def test_words_are_packed_by_dictionary_and_numbers_are_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ids = [f"s{row}" for row in range(5_000)]
    soft = pa.FixedSizeListArray.from_arrays(pa.array(random.random(20_000, dtype=np.float32)), 4)
    table = pa.table({"sample_id": ids, "given_label": ["scratch", "ok"] * 2_500, "soft_label": soft})
    pq.write_table(table, tmp_path / "a.parquet", **parquet_options(table.schema))
    pq.write_table(table, tmp_path / "b.parquet", compression="zstd")
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    packed = {group.column(one).path_in_schema.partition(".")[0]: group.column(one).encodings for one in range(3)}
    assert [name for name, found in packed.items() if "RLE_DICTIONARY" in found] == ["given_label"]
    assert pq.read_table(tmp_path / "a.parquet") == table
    assert (tmp_path / "a.parquet").stat().st_size < 0.8 * (tmp_path / "b.parquet").stat().st_size


def test_a_config_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_config(tmp_path / "config.yaml")


def test_damage_in_a_column_that_is_only_carried_through_is_found_without_holding_the_column(tmp_path: Path) -> None:
    rows = {"sample_id": ["a", "b"], "given_label": ["ok", "no"], "image_path": ["a", "b"], "note": ["傷" * 999, "x"]}
    file = tmp_path / "labels.parquet"
    pq.write_table(pa.table(rows), file, compression="zstd", use_dictionary=False)
    check_readable(file)
    table, _ = read_labels(file, None, only_known=True)
    assert sorted(table.column_names) == ["given_label", "image_path", "sample_id"]
    note = pq.ParquetFile(file).metadata.row_group(0).column(3)
    damaged = bytearray(file.read_bytes())
    end = note.data_page_offset + note.total_compressed_size
    damaged[end - 20 : end] = bytes(20)
    file.write_bytes(damaged)
    read_labels(file, None, only_known=True)
    with pytest.raises(TableError, match=r"1 label files are damaged: 'labels\.parquet"):
        check_readable(file)


@pytest.mark.parametrize("row_group_size", [500, 20_000])
def test_image_bytes_are_read_without_keeping_them(tmp_path: Path, row_group_size: int) -> None:
    random = np.random.default_rng(0)
    images = [random.bytes(1_000) for _ in range(20_000)]
    ids = [f"s{row:05}" for row in range(len(images))]
    table = pa.table({"sample_id": ids, "given_label": ["ok"] * len(ids), "image": images})
    path = tmp_path / "labels.parquet"
    pq.write_table(table, path, row_group_size=row_group_size)
    del table
    found, held, before = [], 0, pa.total_allocated_bytes()
    for row, (sample, _, image) in enumerate(image_rows(path)):
        found.append((sample, image == images[row]))
        held = max(held, pa.total_allocated_bytes() - before)
    assert found == [(sample, True) for sample in ids]
    assert 0 < held < path.stat().st_size / 2


def test_probabilities_are_taken_by_the_names_of_their_classes(tmp_path: Path) -> None:
    path, classes, wanted = tmp_path / "probs.parquet", ("2", "10"), [[0.75, 0.25], [0.5, 0.5]]
    ids = ["b", "a"]
    shares = {"10": [0.5, 0.25], "2": [0.5, 0.75]}
    rows = [{name: shares[name][row] for name in shares} for row in range(2)]
    for columns in (shares, shares | {"path": ["x", "y"]}, {"pred_probs": rows}):
        pq.write_table(pa.table({"sample_id": ids[::-1], **columns}), path)
        probs, is_named = read_pred_probs(path, ids, classes)
        assert is_named
        assert probs.tolist() == wanted
    pq.write_table(pa.table({"sample_id": ["a", "b"], "pred_probs": wanted[::-1]}), path)
    assert not read_pred_probs(path, ids, classes)[1]
    pq.write_table(pa.table({"sample_id": ["a", "b", "a"], "pred_probs": wanted + wanted[:1]}), path)
    with pytest.raises(TableError, match="must have one row, but 1 have several: 'a'"):
        read_pred_probs(path, ids, classes)
    pq.write_table(pa.table({"sample_id": ids, "ten": [0.5] * 2, "2": [0.5] * 2}), path)
    with pytest.raises(TableError, match="for each of the classes '2', '10', but has 'ten', '2'"):
        read_pred_probs(path, ids, classes)


def test_columns_of_one_name_are_named_with_their_file(tmp_path: Path) -> None:
    ids = pa.array(["a"])
    pq.write_table(
        pa.table([ids] * 5, names=["sample_id", "given_label", "image_path", "note", "note"]), tmp_path / "b.parquet"
    )
    pq.write_table(pa.table([ids] * 3, names=["sample_id", "given_label", "image_path"]), tmp_path / "a.parquet")
    with pytest.raises(
        TableError, match=r"b\.parquet: every column must have a name of its own, .* more than once: 'note'"
    ):
        read_labels(tmp_path, ("a",))
