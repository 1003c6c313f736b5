"""Run folders appear whole, sort by time and are never overwritten."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labelclean.errors import StorageError
from labelclean.nights.prune import prune_runs, remove_leftovers
from labelclean.storage.parquet import read_json
from labelclean.storage.run_folders import good_runs, new_work_folder, publish_run, run_folders

NOON = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def publish(runs: Path, now: datetime, **manifest: object) -> Path:
    run_id, work = new_work_folder(runs, now)
    (work / "summary.json").write_text("{}")
    return publish_run(work, run_id, {"run_id": run_id} | manifest)


def test_a_run_is_visible_only_when_published(tmp_path: Path) -> None:
    run_id, work = new_work_folder(tmp_path / "runs", NOON)
    assert run_id == "2026-03-01T120000.250Z"
    assert run_folders(tmp_path / "runs") == []
    folder = publish_run(work, run_id, {})
    assert run_folders(tmp_path / "runs") == [folder]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run_id]


def test_the_manifest_holds_the_digest_of_every_file(tmp_path: Path) -> None:
    folder = publish(tmp_path, NOON)
    assert read_json(folder / "manifest.json")["files"] == {
        "summary.json": {"sha256": hashlib.sha256(b"{}").hexdigest(), "bytes": 2}
    }


def test_names_sort_by_time_even_when_the_clock_is_put_back(tmp_path: Path) -> None:
    folders = [publish(tmp_path, NOON), publish(tmp_path, NOON), publish(tmp_path, NOON.replace(hour=3))]
    assert [folder.name for folder in folders] == sorted({folder.name for folder in folders})
    assert run_folders(tmp_path) == folders


def test_a_published_run_is_never_overwritten(tmp_path: Path) -> None:
    folder = publish(tmp_path, NOON)
    _, work = new_work_folder(tmp_path, NOON)
    with pytest.raises(StorageError, match="never overwritten"):
        publish_run(work, folder.name, {})


def test_what_dead_runs_left_is_removed_and_named(tmp_path: Path) -> None:
    folder = publish(tmp_path, NOON)
    _, work = new_work_folder(tmp_path, NOON)
    assert remove_leftovers(tmp_path) == [work.name]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_runs_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match=r"storage\.runs must be a folder that can be written"):
        new_work_folder(tmp_path / "runs", NOON)


def test_pruning_keeps_the_newest_the_newest_good_of_each_data_set_and_what_decisions_refer_to(tmp_path: Path) -> None:
    ends = [("a", 0), ("b", 0), ("a", 0), ("a", 0), ("a", 3), ("a", 3), ("a", 5)]
    names = [
        publish(tmp_path, NOON.replace(hour=hour), dataset=dataset, exit_code=code).name
        for hour, (dataset, code) in enumerate(ends)
    ]
    (tmp_path / names[4] / "manifest.json").write_text("{damaged")
    planned = prune_runs(tmp_path, 1, {names[0]}, dry_run=True)
    assert planned.removed == (names[2], names[5])
    assert set(planned.kept) == {names[0], names[1], names[3], names[4]}
    assert "newest good" in planned.kept[names[3]]
    assert "decisions" in planned.kept[names[0]]
    assert len(run_folders(tmp_path)) == 7
    assert prune_runs(tmp_path, 1, {names[0]}) == planned
    left = [folder.name for folder in run_folders(tmp_path)]
    assert left == [names[0], names[1], names[3], names[4], names[6]]
    assert len(list(tmp_path.iterdir())) == 5
    assert [run.folder.name for run in good_runs(tmp_path, "a")] == [names[3], names[0]]
    assert prune_runs(tmp_path, 7, set()).removed == ()


def test_a_death_while_pruning_leaves_a_hidden_folder_that_the_next_holder_of_the_lock_removes(tmp_path: Path) -> None:
    folder = publish(tmp_path, NOON)
    folder.rename(tmp_path / f".work-pruned-{folder.name}")
    assert run_folders(tmp_path) == []
    assert remove_leftovers(tmp_path) == [f".work-pruned-{folder.name}"]


def test_a_run_that_somebody_renamed_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / "the good one").mkdir()
    (tmp_path / "the good one" / "manifest.json").write_text("{}")
    run_id, _ = new_work_folder(tmp_path, datetime(2026, 1, 14, tzinfo=UTC))
    assert run_id == "2026-01-14T000000.000Z"
