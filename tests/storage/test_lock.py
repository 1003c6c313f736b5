"""The run lock: exclusive, dead locks taken over, living ones never."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import psutil
import pytest

import labelclean.storage.lock
from labelclean.errors import LockError
from labelclean.storage.lock import check_held, lock_sentence, run_lock


def test_a_second_run_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with run_lock(tmp_path / "lock") as taken_over:
        assert taken_over is None
        with pytest.raises(LockError, match=f"process {os.getpid()} on .* is running"), run_lock(tmp_path / "lock"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_released_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run_lock(tmp_path / "lock"):
        raise RuntimeError
    assert lock_sentence(tmp_path / "lock") is None


def test_a_lock_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path: Path) -> None:
    gone = 2**22 + 1  # no process has a number above 2**22
    write_lock(tmp_path / "lock", socket.gethostname(), gone, time.time())
    with run_lock(tmp_path / "lock") as taken_over:
        assert taken_over is not None
        assert f"process {gone}" in taken_over
        assert "gone" in taken_over


def test_a_reused_pid_does_not_keep_a_dead_lock_alive(tmp_path: Path) -> None:
    write_lock(tmp_path / "lock", socket.gethostname(), os.getpid(), 1.0)
    with run_lock(tmp_path / "lock") as taken_over:
        assert taken_over is not None


def test_another_hosts_lock_holds_until_its_heartbeat_is_old(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    write_lock(lock, "elsewhere", 1, 1.0)
    with pytest.raises(LockError, match="process 1 on elsewhere is running"), run_lock(lock):
        pass
    os.utime(lock, (time.time() - 200, time.time() - 200))
    with run_lock(lock) as taken_over:
        assert taken_over is not None
        assert "heartbeat" in taken_over


def test_a_run_that_slept_through_a_takeover_publishes_nothing_and_leaves_the_taker_alone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with run_lock(lock, heartbeat_s=0.02):
        check_held(lock)
        lock.unlink()
        with pytest.raises(LockError, match="but it is gone while this run stood still"):
            check_held(lock)
        write_lock(lock, "elsewhere", 1, 1.0)
        os.utime(lock, (1.0, 1.0))
        with pytest.raises(LockError, match="process 1 on elsewhere took it over"):
            check_held(lock)
        time.sleep(0.2)
    assert lock.stat().st_mtime == 1.0


def test_the_heartbeat_touches_the_file(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with run_lock(lock, heartbeat_s=0.02):
        os.utime(lock, (1.0, 1.0))
        deadline = time.monotonic() + 60
        while lock.stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert lock.stat().st_mtime > 2


def test_a_taker_that_looked_too_early_never_touches_the_lock_of_the_one_that_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock"
    write_lock(lock, "elsewhere", 1, 1.0)
    os.utime(lock, (time.time() - 200, time.time() - 200))
    age = labelclean.storage.lock._age_s

    def while_someone_is_faster(path: Path) -> float | None:
        stale = age(path)
        if path == lock and stale and stale > 100:
            lock.unlink()
            started = labelclean.storage.lock._process_started(os.getppid())
            own = labelclean.storage.lock._boot_and_namespace()
            write_lock(lock, socket.gethostname(), os.getppid(), started, *own)
            touched.append(lock.stat())
        return stale

    touched: list[os.stat_result] = []
    monkeypatch.setattr(labelclean.storage.lock, "_age_s", while_someone_is_faster)
    with pytest.raises(LockError, match=f"process {os.getppid()} on .* is running"), run_lock(lock):
        pass
    assert len(touched) == 1
    assert (lock.stat().st_ino, lock.stat().st_ctime_ns) == (touched[0].st_ino, touched[0].st_ctime_ns)
    assert list(tmp_path.iterdir()) == [lock]


def test_a_taker_that_died_while_taking_over_blocks_nobody(tmp_path: Path) -> None:
    write_lock(tmp_path / "lock", socket.gethostname(), 2**22 + 1, 1.0)
    write_lock(tmp_path / "lock.dead-x", socket.gethostname(), 2**22 + 2, 1.0)
    with run_lock(tmp_path / "lock") as taken_over:
        assert taken_over is not None
        assert f"process {2**22 + 1}" in taken_over
    assert list(tmp_path.iterdir()) == []


def test_setting_the_clock_does_not_make_a_living_lock_look_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_lock(tmp_path / "lock"):
        real = psutil._psplatform.boot_time()
        for jump in (-86_400.0, 3_600.0):  # psutil adds the time of the machine's start, which moves with the clock
            monkeypatch.setattr(psutil._psplatform, "boot_time", lambda moved=real + jump: moved)
            with pytest.raises(LockError, match="is running"), run_lock(tmp_path / "lock"):
                pass


def test_a_lock_from_before_the_machine_was_started_again_is_dead(tmp_path: Path) -> None:
    with run_lock(tmp_path / "lock"):
        held = json.loads((tmp_path / "lock").read_text())
    (tmp_path / "lock").write_text(json.dumps(held | {"boot": "another"}))
    with run_lock(tmp_path / "lock") as taken_over:
        assert taken_over is not None


def test_a_pid_of_another_container_says_nothing_and_its_heartbeat_counts(tmp_path: Path) -> None:
    with run_lock(tmp_path / "lock"):
        held = json.loads((tmp_path / "lock").read_text())
    (tmp_path / "lock").write_text(json.dumps(held | {"namespace": "pid:[1]", "pid": 2**22 + 1}))
    with pytest.raises(LockError, match=r"last heartbeat was \d+ s ago"), run_lock(tmp_path / "lock"):
        pass
    assert "is at work" in str(lock_sentence(tmp_path / "lock"))


def test_what_a_killed_taker_left_beside_the_lock_is_swept_and_a_living_ones_draft_is_not(tmp_path: Path) -> None:
    write_lock(tmp_path / "lock.dead-1", socket.gethostname(), 2**22 + 1, 1.0)
    (tmp_path / "lock.old").touch()
    os.utime(tmp_path / "lock.old", (1, 1))
    (tmp_path / "lock.young").touch()
    with run_lock(tmp_path / "lock"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "lock.young"]


@pytest.mark.slow
def test_of_many_runs_started_at_once_exactly_one_runs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results, others_told = context.Barrier(4), context.Queue(), context.Event()
    write_lock(tmp_path / "lock", socket.gethostname(), 2**22 + 1, 1.0)  # a dead one, so that all try to take over
    runs = [
        context.Process(target=try_lock, args=(str(tmp_path / "lock"), barrier, results, others_told)) for _ in range(4)
    ]
    for run in runs:
        run.start()
    assert [results.get(timeout=60) for _ in runs[1:]] == ["locked"] * 3  # while the first still holds it
    others_told.set()
    assert results.get(timeout=60) == "ran"
    for run in runs:
        run.join(timeout=60)


def try_lock(path: str, barrier: Barrier, results: Queue[str], others_told: Event) -> None:
    barrier.wait(60)
    try:
        with run_lock(Path(path)):
            others_told.wait(60)
            results.put("ran")
    except LockError:
        results.put("locked")


def write_lock(path: Path, host: str, pid: int, started: float, boot: str = "", namespace: str = "") -> None:
    record = {"host": host, "pid": pid, "process_started": started, "token": "x", "boot": boot, "namespace": namespace}
    path.write_text(json.dumps(record))
