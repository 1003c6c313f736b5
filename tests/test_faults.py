"""Processes killed, disks full, runs raced: nothing half done is ever visible, and the next run is as if nothing happened."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from labelclean import steps, storage
from labelclean.errors import StorageError, TableError
from labelclean.runs import run_folders
from labelclean.storage import image_rows, read_config, read_json, read_labels
from tests.preloaded import Preloaded

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.filterwarnings("default")]
NO_GX = "expectations.enabled=false"


def plain_run(runs: Path, cache: Path, *overrides: str) -> list[str]:
    items = [f"storage.runs={runs}", f"storage.cache={cache}", NO_GX, *overrides]
    return ["run", str(ROOT / "config.yaml"), "--plain", *(part for item in items for part in ("--set", item))]


def check_whole(run: Path) -> dict[str, str]:
    """Digest of every file of a published run, all as its manifest says."""
    files: dict[str, dict[str, str]] = read_json(run / "manifest.json")["files"]
    digests = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in files}
    assert digests == {name: file["sha256"] for name, file in files.items()}
    assert {path.name for path in run.iterdir()} == {*files, "manifest.json"}
    return digests


def visible(runs: Path) -> list[Path]:
    return sorted(path for path in runs.iterdir() if not path.name.startswith(".")) if runs.exists() else []


# --- killed ---------------------------------------------------------------------------------------


def check_kills(preloaded: Preloaded, place: Path, moments: int, *, rerun_each: bool, seed: int, gx: bool) -> None:
    said, cache = place / "said", place / "cache"
    extra = ("expectations.enabled=true",) if gx else ()
    started = time.monotonic()
    assert preloaded.run(*plain_run(place / "undisturbed", place / "first cache", *extra), said=said) == 0
    whole_s = time.monotonic() - started
    (undisturbed,) = run_folders(place / "undisturbed")
    wanted = check_whole(undisturbed)
    runs, chance, killed = place / "runs", random.Random(seed), 0
    for number in range(moments):
        if rerun_each and number % 2 == 0:
            shutil.rmtree(cache, ignore_errors=True)  # half of the runs extract, half find their features
        command = preloaded.start(*plain_run(runs, cache, *extra), said=said)
        time.sleep(chance.random() * whole_s)
        os.kill(command, signal.SIGKILL)
        killed += preloaded.exit_code(command) == -signal.SIGKILL
        for run in visible(runs):
            assert check_whole(run) == wanted
        if not rerun_each and number < moments - 1:
            continue
        assert preloaded.run(*plain_run(runs, cache, *extra), said=said) == 0, said.read_text()
        assert check_whole(run_folders(runs)[-1]) == wanted
        assert sorted(path.name for path in runs.iterdir()) == [run.name for run in run_folders(runs)]
    print(f"\n{killed} of {moments} runs killed over {whole_s:.1f} s")
    assert killed >= moments / 2


@pytest.mark.long
def test_runs_killed_one_after_the_other_leave_nothing_and_the_next_gives_the_same_bytes(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    check_kills(preloaded, tmp_path, 5, rerun_each=False, seed=5, gx=False)


@pytest.mark.soak
def test_a_run_killed_at_any_of_50_moments_is_followed_by_one_with_the_same_bytes(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    check_kills(preloaded, tmp_path, 50, rerun_each=True, seed=50, gx=True)


# --- raced ----------------------------------------------------------------------------------------


def check_races(preloaded: Preloaded, place: Path, cache: Path, times: int) -> None:
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    pq.write_table(table.slice(0, 200), place / "labels.parquet")
    few = [f"data.labels={place / 'labels.parquet'}", f"data.image_root={ROOT / 'sample_data'}"]
    for number in range(times):
        runs = place / str(number)
        pair = [preloaded.start(*plain_run(runs, cache, *few), said=place / f"said {one}") for one in "ab"]
        codes = [preloaded.exit_code(command) for command in pair]
        assert sorted(codes) == [0, 4], codes
        loser = (place / f"said {'ab'[codes.index(4)]}").read_text()
        assert loser.startswith("labelclean: ")
        assert "Wait for it to end" in loser
        (run,) = list(runs.iterdir())
        check_whole(run)


@pytest.mark.long
def test_of_two_runs_started_at_once_exactly_one_runs(preloaded: Preloaded, sample_cache: Path, tmp_path: Path) -> None:
    check_races(preloaded, tmp_path, sample_cache, 3)


@pytest.mark.soak
def test_of_two_runs_started_at_once_exactly_one_runs_20_times(
    preloaded: Preloaded, sample_cache: Path, tmp_path: Path
) -> None:
    check_races(preloaded, tmp_path, sample_cache, 20)


# --- no room --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that gives a fresh disk with that many kB; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()

    def mounted(size_kb: int, *options: str) -> Path:
        subprocess.run(["umount", place], stderr=subprocess.DEVNULL, check=False)
        choice = ",".join([f"size={size_kb}k", *options])
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", choice, "tmpfs", place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("no right to mount a small disk")
        return place

    yield mounted
    subprocess.run(["umount", place], stderr=subprocess.DEVNULL, check=False)


def check_full_disk(
    preloaded: Preloaded, disk: Callable[[int], Path], old: Path, cache: Path, said: Path, free: list[int]
) -> None:
    used = sum(-(-path.stat().st_size // 4096) * 4 for path in old.iterdir()) + 4
    before = check_whole(old)
    stopped = set()
    for free_kb in free:
        runs = disk(used + max(free_kb, 0)) / "runs"
        shutil.copytree(old, runs / old.name)
        code = preloaded.run(*plain_run(runs, cache), said=said)
        letter = said.read_text()
        assert check_whole(runs / old.name) == before
        if code == 0:
            stopped.add("published")
            continue
        assert code == 5, letter
        last = letter.strip().splitlines()[-1]
        assert last.startswith("labelclean: "), letter
        assert "No space left" in last or "errno 28" in last
        assert "ree space" in last
        assert [path.name for path in runs.iterdir()] == [old.name]
        stopped.add(last.partition(": cannot")[0].rpartition("/")[2])
    print(f"\n{len(free)} sizes, stopped at: {sorted(stopped)}")
    assert len(stopped) >= min(5, len(free))


@pytest.mark.long
def test_a_full_disk_is_a_letter_publishes_nothing_and_leaves_old_runs_alone(
    preloaded: Preloaded,
    small_disk: Callable[[int], Path],
    sample_run: Path,
    sample_cache: Path,
    tmp_path: Path,
) -> None:
    free = [0, 4, 8, 24, 64, 128, 240]
    check_full_disk(preloaded, small_disk, sample_run, sample_cache, tmp_path / "said", free)


@pytest.mark.soak
def test_a_disk_full_at_any_size_of_free_space(
    preloaded: Preloaded,
    small_disk: Callable[[int], Path],
    sample_run: Path,
    sample_cache: Path,
    tmp_path: Path,
) -> None:
    free = [*range(0, 280, 4), *range(280, 1200, 40)]
    check_full_disk(preloaded, small_disk, sample_run, sample_cache, tmp_path / "said", free)


@pytest.mark.long
def test_a_full_disk_under_the_cache_or_a_quota_is_a_letter(
    preloaded: Preloaded, sample_cache: Path, tmp_path: Path
) -> None:
    runs, new = tmp_path / "runs", tmp_path / "new cache"
    for limit, cache in ((4_000, sample_cache), (60_000, new), (400_000, sample_cache)):
        code = preloaded.run(*plain_run(runs, cache), said=tmp_path / "said", most_bytes_per_file=limit)
        letter = (tmp_path / "said").read_text()
        assert code == 5, letter
        assert "File too large" in letter or "errno 27" in letter
        assert "Traceback" not in letter
        assert not list(runs.iterdir())


@pytest.mark.long
def test_a_disk_that_may_not_be_written_is_a_letter(
    preloaded: Preloaded, small_disk: Callable[..., Path], sample_cache: Path, tmp_path: Path
) -> None:
    disk = small_disk(1000, "ro")
    for runs, cache in ((disk / "runs", sample_cache), (tmp_path / "runs", disk / "cache")):
        code = preloaded.run(*plain_run(runs, cache), said=tmp_path / "said")
        letter = (tmp_path / "said").read_text()
        assert code == 5, letter
        assert "Read-only file system" in letter
        assert "Traceback" not in letter


# --- labels that change under the run --------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    images = [b"x"] * table.num_rows
    for number in range(3):
        rows = table.slice(number * 200, 200)
        pq.write_table(rows.append_column("image", [images[:200]]), folder / f"{number}.parquet")
    return folder


@pytest.mark.parametrize("gone", ["0.parquet", "2.parquet"])
def test_a_shard_that_disappears_between_listing_and_reading_is_a_letter(
    shards: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    real = storage.labels_dataset

    def listed_and_gone(*arguments: object) -> object:
        dataset = real(*arguments)  # type: ignore[arg-type]
        (shards / gone).unlink()
        return dataset

    monkeypatch.setattr(storage, "labels_dataset", listed_and_gone)
    with pytest.raises(StorageError, match=rf"can no longer be read: .*{gone}"):
        read_labels(shards, None)


def test_a_shard_that_disappears_while_images_are_read_is_a_letter(shards: Path) -> None:
    rows = image_rows(shards)
    next(rows)
    (shards / "2.parquet").unlink()
    with pytest.raises(StorageError, match=r"can no longer be read: .*2\.parquet"):
        list(rows)


def test_labels_cut_at_every_thousandth_byte_are_refused(tmp_path: Path) -> None:
    whole = (ROOT / "sample_data" / "labels.parquet").read_bytes()
    cut = tmp_path / "labels.parquet"
    for length in range(0, len(whole), 1000):
        cut.write_bytes(whole[:length])
        with pytest.raises(TableError, match="every file must be a whole Parquet file"):
            read_labels(cut, None)


# --- the clock ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_clock_put_back_in_the_middle_gives_names_that_sort_and_no_negative_time(
    sample_cache: Path, tmp_path: Path
) -> None:
    hours = iter([12, 11, 10, 9, 8, 7, 6])
    overrides = [f"storage.runs={tmp_path / 'runs'}", f"storage.cache={sample_cache}", NO_GX]
    (tmp_path / "runs" / "2026-05-05T000000.000Z").mkdir(parents=True)
    (tmp_path / "runs" / "2026-05-05T000000.000Z" / "manifest.json").write_text("{}")
    folder = steps.clean(
        read_config(ROOT / "config.yaml", overrides), clock=lambda: datetime(2026, 5, 4, next(hours), tzinfo=UTC)
    )
    assert folder.name > "2026-05-05T000000.000Z"
    manifest = read_json(folder / "manifest.json")
    assert manifest["finished_at"] > manifest["started_at"]
    assert min(manifest["step_seconds"].values()) >= 0
