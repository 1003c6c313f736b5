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

import psutil
import pyarrow.parquet as pq
import pytest

from labelclean.errors import StorageError, TableError
from labelclean.runs import steps
from labelclean.storage import parquet as storage
from labelclean.storage.parquet import image_rows, read_config, read_json, read_labels
from labelclean.storage.run_folders import run_folders
from tests.preloaded import Preloaded

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.filterwarnings("default")]
NO_GX = "expectations.enabled=false"


def plain_run(runs: Path, cache: Path, *overrides: str) -> list[str]:
    items = [f"storage.runs={runs}", f"storage.cache={cache}", NO_GX, *overrides]
    return ["run", str(ROOT / "config.yaml"), "--plain", *(part for item in items for part in ("--set", item))]


def check_whole(run: Path) -> dict[str, str]:
    """Digest of every file of a published run, all as its manifest says; but for the report, which comes after it."""
    files: dict[str, dict[str, str]] = read_json(run / "manifest.json")["files"]
    digests = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in files}
    assert digests == {name: file["sha256"] for name, file in files.items()}
    assert {path.name for path in run.iterdir()} - {"report.html"} == {*files, "manifest.json"}
    return digests


def visible(runs: Path) -> list[Path]:
    return sorted(path for path in runs.iterdir() if not path.name.startswith(".")) if runs.exists() else []


# --- killed ---------------------------------------------------------------------------------------


def has_ended(command: int) -> bool:
    return bool(psutil.Process(command).status() == psutil.STATUS_ZOMBIE)


def watched(command: int, cpu_s: float) -> float:
    """Watch a process until it ends or has used that much time of the CPU, when it is killed; the time it had used.

    Its own time, not the clock's: a busy machine makes a run longer, but not this.
    """
    process, used_s = psutil.Process(command), 0.0
    while not has_ended(command):
        times = process.cpu_times()
        used_s = times.user + times.system
        if used_s >= cpu_s:
            process.kill()
            break
        time.sleep(0.002)
    return used_s


def check_kills(preloaded: Preloaded, place: Path, moments: int, *, rerun_each: bool, seed: int) -> None:
    said, cache, runs = place / "said", place / "cache", place / "runs"
    whole_s = []
    for _ in ("extracts", "finds its features"):
        command = preloaded.start(*plain_run(place / "undisturbed", place / "first cache"), said=said)
        whole_s.append(watched(command, float("inf")))
        assert preloaded.exit_code(command) == 0, said.read_text()
    wanted, also = map(check_whole, run_folders(place / "undisturbed"))
    assert wanted == also
    chance, killed, tries = random.Random(seed), 0, 0
    while killed < moments:
        tries += 1
        assert tries < 3 * moments, f"{killed} of {tries} runs killed"
        finds = tries % 2  # half of the runs extract, half find some of their features or all
        if not finds:
            shutil.rmtree(cache, ignore_errors=True)
        command = preloaded.start(*plain_run(runs, cache), said=said)
        watched(command, chance.random() * whole_s[finds])
        killed += preloaded.exit_code(command) == -signal.SIGKILL
        for run in visible(runs):
            assert check_whole(run) == wanted
        if not rerun_each and killed < moments:
            continue
        assert preloaded.run(*plain_run(runs, cache), said=said) == 0, said.read_text()
        assert check_whole(run_folders(runs)[-1]) == wanted
        assert sorted(path.name for path in runs.iterdir()) == [run.name for run in run_folders(runs)]
        print(
            f"\n{killed} runs killed in {tries} tries, within {whole_s[0]:.1f} or {whole_s[1]:.1f} s of CPU time",
            flush=True,
        )


@pytest.mark.long
def test_runs_killed_one_after_the_other_leave_nothing_and_the_next_gives_the_same_bytes(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    check_kills(preloaded, tmp_path, 5, rerun_each=False, seed=5)


@pytest.mark.soak
def test_a_run_killed_at_any_of_50_moments_is_followed_by_one_with_the_same_bytes(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    check_kills(preloaded, tmp_path, 50, rerun_each=True, seed=50)


# --- raced ----------------------------------------------------------------------------------------


@pytest.mark.long
def test_of_two_runs_started_at_once_exactly_one_runs_20_times(
    preloaded: Preloaded, sample_cache: Path, tmp_path: Path
) -> None:
    said = [tmp_path / f"said {one}" for one in "ab"]
    for number in range(20):
        runs = tmp_path / f"runs {number // 2}"  # each second pair meets the lock of a run that was killed
        pair = [preloaded.start(*plain_run(runs, sample_cache), said=one) for one in said]
        while not any(ended := [has_ended(command) for command in pair]):
            time.sleep(0.005)
        loser = ended.index(True)
        assert preloaded.exit_code(pair[loser]) == 4, said[loser].read_text()
        letter = said[loser].read_text().splitlines()[-1]
        assert letter.startswith("labelclean: ")
        assert "Wait for it to end" in letter
        if number < 19:
            assert not has_ended(pair[1 - loser])
            os.kill(pair[1 - loser], signal.SIGKILL)
            assert preloaded.exit_code(pair[1 - loser]) == -signal.SIGKILL
    assert preloaded.exit_code(pair[1 - loser]) == 0, said[1 - loser].read_text()
    (run,) = runs.iterdir()
    check_whole(run)


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
    free = [0, 4, 8, 24, 64, 128, 1500, 1600, 1700, 1900]  # the features of the run take 1,400 of it
    check_full_disk(preloaded, small_disk, sample_run, sample_cache, tmp_path / "said", free)


@pytest.mark.soak
def test_a_disk_full_at_any_size_of_free_space(
    preloaded: Preloaded,
    small_disk: Callable[[int], Path],
    sample_run: Path,
    sample_cache: Path,
    tmp_path: Path,
) -> None:
    free = [*range(0, 280, 4), *range(280, 2600, 40)]
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
    for number in range(40):  # the reader is some files ahead
        shutil.copy(shards / "2.parquet", shards / f"3-{number:02}.parquet")
    rows = image_rows(shards)
    next(rows)
    (shards / "3-39.parquet").unlink()
    with pytest.raises(StorageError, match=r"can no longer be read: .*3-39\.parquet"):
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
@pytest.mark.long
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
