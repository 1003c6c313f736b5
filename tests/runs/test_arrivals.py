"""Which files a run reads: new and changed ones only, growing ones later, a later file before an earlier one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config, parse_config
from labelclean.errors import NothingToDo, TableError
from labelclean.runs import steps
from labelclean.runs.arrivals import Arrivals, arrival_sentences, arrivals_from, find_arrivals, measure_repeats
from labelclean.storage.parquet import image_rows, read_labels
from labelclean.storage.queries import count_repeats

TEXT = "data: {labels: labels}\nbackbone: {name: x}\nrun: {seed: 0}\ningest: {since: last_success, settle_s: 0}"


def config_in(folder: Path, *overrides: str) -> Config:
    return parse_config(TEXT, folder=folder, origin="c", overrides=overrides)


def write(folder: Path, name: str, labels: dict[str, str], at: int, **columns: list[object]) -> Path:
    """A label file that was modified at a given second."""
    file = folder / "labels" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    ids = list(labels)
    rows = {"sample_id": ids, "image_path": [f"{i}.png" for i in ids], "given_label": list(labels.values())}
    pq.write_table(pa.table(rows | columns), file)
    os.utime(file, (at, at))
    return file


def publish(folder: Path, arrivals: Arrivals, run_id: str, exit_code: int = 0, dataset: str = "labels") -> None:
    """What a run leaves of what it read."""
    record = arrivals.record()
    manifest = {
        "dataset": dataset, "exit_code": exit_code, "window": arrivals.window, "run_id": run_id,
        "labels_read": [file["path"] for file in record["read"]],
        "labels_files": [*record["unchanged"], *record["read"]],
    }  # fmt: skip
    (folder / "runs" / run_id).mkdir(parents=True)
    (folder / "runs" / run_id / "manifest.json").write_text(json.dumps(manifest))


def read_names(arrivals: Arrivals) -> list[str]:
    return [file.path for file in arrivals.read]


def test_only_new_and_changed_files_are_read_after_a_good_run(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    write(tmp_path, "day=1/a.parquet", {"a": "ok"}, 100)
    write(tmp_path, "day=2/b.parquet", {"b": "ok"}, 200)
    first = find_arrivals(config, "labels")
    assert (first.since, read_names(first)) == (None, ["day=1/a.parquet", "day=2/b.parquet"])
    publish(tmp_path, first, "1")
    with pytest.raises(NothingToDo, match=r"no file of .* is new since run 1: 2 are unchanged") as told:
        find_arrivals(config, "labels")
    assert told.value.run_folder == str(tmp_path / "runs" / "1")

    write(tmp_path, "day=1/a.parquet", {"a": "no"}, 300)
    write(tmp_path, "day=1/late.parquet", {"c": "ok"}, 250)
    write(tmp_path, "day=3/d.parquet", {"d": "ok"}, 350)
    second = find_arrivals(config, "labels")
    assert second.since == "1"
    assert read_names(second) == ["day=1/late.parquet", "day=1/a.parquet", "day=3/d.parquet"]
    assert [file.path for file in second.unchanged] == ["day=2/b.parquet"]
    assert (second.changed, second.late) == (("day=1/a.parquet",), ("day=1/late.parquet",))
    assert arrivals_from(json.loads(json.dumps(second.record()))) == second

    publish(tmp_path, second, "2")
    (tmp_path / "labels" / "day=2" / "b.parquet").unlink()
    write(tmp_path, "day=4/e.parquet", {"e": "ok"}, 400)
    third = find_arrivals(config, "labels")
    assert (read_names(third), third.gone) == (["day=4/e.parquet"], ("day=2/b.parquet",))


def test_a_rewrite_that_keeps_size_and_time_is_seen_by_its_footer(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    before = write(tmp_path, "a.parquet", {"a": "ok"}, 100).stat()
    publish(tmp_path, find_arrivals(config, "labels"), "1")
    after = write(tmp_path, "a.parquet", {"b": "ok"}, 100).stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert find_arrivals(config, "labels").changed == ("a.parquet",)


def test_runs_that_a_gate_refused_or_of_another_data_set_do_not_count(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    write(tmp_path, "a.parquet", {"a": "ok"}, 100)
    publish(tmp_path, find_arrivals(config, "labels"), "1", exit_code=3)
    publish(tmp_path, find_arrivals(config, "labels"), "2", dataset="other")
    (tmp_path / "runs" / "3").mkdir()
    (tmp_path / "runs" / "3" / "manifest.json").write_text("{damaged")
    assert read_names(find_arrivals(config, "labels")) == ["a.parquet"]


def test_files_that_grow_or_have_no_footer_wait_and_are_named(tmp_path: Path) -> None:
    config = config_in(tmp_path, "ingest.settle_s=7")
    write(tmp_path, "whole.parquet", {"a": "ok"}, 100)
    growing = write(tmp_path, "growing.parquet", {"b": "ok"}, 100)
    whole = (tmp_path / "labels" / "whole.parquet").read_bytes()
    (tmp_path / "labels" / "half.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "labels" / "empty.parquet").touch()
    (tmp_path / "labels" / "going.parquet").write_bytes(whole)
    waits: list[float] = []

    def meanwhile(seconds: float) -> None:
        waits.append(seconds)
        os.utime(growing, (101, 101))
        (tmp_path / "labels" / "going.parquet").unlink()

    found = find_arrivals(config, "labels", sleep=meanwhile)
    assert waits == [7]
    assert read_names(found) == ["whole.parquet"]
    assert found.waiting == {
        "empty.parquet": "it has no Parquet footer yet",
        "going.parquet": "it went away while it was watched",
        "growing.parquet": "its size or time moved while it was watched",
        "half.parquet": "it has no Parquet footer yet",
    }
    publish(tmp_path, found, "1")
    assert read_names(find_arrivals(config_in(tmp_path), "labels")) == ["growing.parquet"]


def test_a_window_has_one_good_run_unless_forced(tmp_path: Path) -> None:
    config = config_in(tmp_path, "run.window=2026-11-24")
    assert config.run.window == "2026-11-24"
    write(tmp_path, "a.parquet", {"a": "ok"}, 100)
    publish(tmp_path, find_arrivals(config, "labels"), "1")
    write(tmp_path, "b.parquet", {"b": "ok"}, 200)
    with pytest.raises(NothingToDo, match="window '2026-11-24' of 'labels' is done: run 1 ended well"):
        find_arrivals(config, "labels")
    again = find_arrivals(config, "labels", force=True)
    assert read_names(again) == ["a.parquet", "b.parquet"]
    assert again.changed == ()
    tomorrow = find_arrivals(config_in(tmp_path, "run.window=2026-11-25"), "labels")
    assert read_names(tomorrow) == ["b.parquet"]
    everything = config_in(tmp_path, "ingest.since=null", "run.window=2026-11-24")
    with pytest.raises(NothingToDo, match="is done"):
        find_arrivals(everything, "labels")
    assert read_names(find_arrivals(everything, "labels", force=True)) == ["a.parquet", "b.parquet"]


def test_the_later_file_wins_and_what_was_replaced_is_counted(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    write(tmp_path, "old.parquet", {"a": "ok", "b": "ok", "z": "ok"}, 50)
    publish(tmp_path, find_arrivals(config, "labels"), "1")
    write(tmp_path, "2.parquet", {"a": "no", "c": "ok"}, 300)
    write(tmp_path, "1.parquet", {"a": "ok", "c": "no", "d": "ok"}, 400)
    write(tmp_path, "3.parquet", {"a": "no", "b": "ok"}, 200)
    found = find_arrivals(config, "labels")
    files = [tmp_path / "labels" / name for name in read_names(found)]
    labels, _ = read_labels(tmp_path / "labels", None, files)
    rows = dict(zip(*(labels.column(name).to_pylist() for name in ("sample_id", "given_label")), strict=True))
    assert rows == {"a": "ok", "b": "ok", "c": "no", "d": "ok"}
    samples = tmp_path / "samples.parquet"
    pq.write_table(labels, samples)
    spill = tmp_path / "spill"
    measured = measure_repeats(config, found, [samples], labels.num_rows, ("no", "ok"), spill)
    assert (measured["num_superseded"], measured["num_repeated"], measured["num_relabelled"]) == (3, 2, 0)
    labels, _ = read_labels(tmp_path / "labels", None, files[:1])
    pq.write_table(labels, samples)
    assert measure_repeats(config, found, [samples], 2, ("no", "ok"), spill)["num_relabelled"] == 1
    said = " ".join(arrival_sentences(measured))
    assert "3 rows were replaced" in said
    assert "2 samples were read by an earlier run too, 0 of them with another label" in said


@pytest.mark.parametrize(
    ("before", "now", "expected"), [("baa", "a", 0), ("baa", "b", 1), ("ab", "b", 0), ("ab", "c", 1)]
)
def test_a_label_that_won_among_inspectors_before_is_no_new_one(
    tmp_path: Path, before: str, now: str, expected: int
) -> None:
    earlier, samples = tmp_path / "earlier.parquet", tmp_path / "now.parquet"
    pq.write_table(pa.table({"sample_id": ["s"] * len(before), "given_label": list(before)}), earlier)
    pq.write_table(pa.table({"sample_id": ["s"], "given_label": [now]}), samples)
    assert count_repeats([samples], [earlier], tmp_path / "spill") == (1, expected)


def test_the_same_row_twice_in_one_file_or_without_since_is_still_a_fault(tmp_path: Path) -> None:
    write(tmp_path, "1.parquet", {"a": "ok", "b": "no"}, 100)
    two = write(tmp_path, "2.parquet", {"a": "ok"}, 200)
    with pytest.raises(TableError, match="must be unique"):
        read_labels(tmp_path / "labels", None)
    rows = {"sample_id": ["a", "a", None], "image_path": ["x", "y", "z"], "given_label": ["ok", "no", "ok"]}
    pq.write_table(pa.table(rows), two)
    with pytest.raises(TableError, match="2 faults") as told:
        read_labels(tmp_path / "labels", None, [tmp_path / "labels" / "1.parquet", two])
    assert "1 keys stand in 2 rows" in str(told.value)
    assert "a value in every row" in str(told.value)


def test_an_inspectors_row_is_replaced_by_that_inspectors_later_row_only(tmp_path: Path) -> None:
    one = write(tmp_path, "1.parquet", {"a": "ok", "b": "ok"}, 100, annotator_id=["x", "x"])
    two = write(tmp_path, "2.parquet", {"a": "no", "b": "no"}, 200, annotator_id=["x", "y"])
    labels, _ = read_labels(tmp_path / "labels", None, [one, two])
    found = {(row["sample_id"], row["annotator_id"]): row["given_label"] for row in labels.to_pylist()}
    assert found == {("a", "x"): "no", ("b", "x"): "ok", ("b", "y"): "no"}


def test_image_bytes_come_from_the_later_file(tmp_path: Path) -> None:
    one = write(tmp_path, "2.parquet", {"a": "ok", "b": "ok"}, 100, image=[b"old", b"b"])
    two = write(tmp_path, "1.parquet", {"a": "ok"}, 200, image=[b"new"])
    assert {row[0]: row[2] for row in image_rows(tmp_path / "labels", [one, two])} == {"a": b"new", "b": b"b"}


def test_validate_passes_over_files_that_are_still_being_written(tmp_path: Path) -> None:
    write(tmp_path, "1.parquet", {"a": "ok", "b": "no", "c": "ok"}, 100)
    write(tmp_path, "2.parquet", {"a": "no"}, 200)
    (tmp_path / "labels" / "3.parquet").write_bytes(b"PAR1")
    report = steps.validated(config_in(tmp_path))
    assert (report["num_rows"], report["classes"]) == (3, {"no": 2.0, "ok": 1.0})
