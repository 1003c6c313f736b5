"""One run at a time per runs folder: an exclusive-create file with a heartbeat, which works on network file systems.

No `flock`: network file systems of factories often lack it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from labelclean.errors import LockError, StorageError

HEARTBEAT_S = 15.0
STALE_AFTER_S = 180.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host: Name of the machine.
        pid: Process id there.
        process_started: Start time of that process; tells a reused pid apart. On Linux seconds
            since the machine's start, which stay the same when its clock is set; else Unix seconds.
        token: Drawn anew for each acquisition.
        boot: The machine's present start, where it can be told.
        namespace: Where that pid counts: containers of one machine number their processes apart.
    """

    host: str
    pid: int
    process_started: float
    token: str
    boot: str = ""
    namespace: str = ""


@contextmanager
def run_lock(
    path: Path, *, heartbeat_s: float = HEARTBEAT_S, stale_after_s: float = STALE_AFTER_S
) -> Iterator[str | None]:
    """Hold the lock while the block runs.

    A lock whose process is gone on this host is taken over at once, one of another host when
    its heartbeat is older than ``stale_after_s`` by the file system's own clock.

    Args:
        path: The lock file.
        heartbeat_s: Seconds between two touches of the file.
        stale_after_s: Age of the last touch from which another host's lock counts as dead.

    Yields:
        A sentence on the lock that was taken over, or None.

    Raises:
        LockError: If a living process holds it.
        StorageError: If the folder cannot be written.
    """
    started = _process_started(os.getpid())
    me = Holder(socket.gethostname(), os.getpid(), started, os.urandom(8).hex(), *_boot_and_namespace())
    taken_over = _acquire(path, me, stale_after_s)
    _sweep(path, stale_after_s)
    stop = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(path, me, heartbeat_s, stop), daemon=True)
    beat.start()
    try:
        yield taken_over
    finally:
        stop.set()
        beat.join()
        if _read(path) == me:
            with suppress(OSError):
                path.unlink()


def check_held(path: Path) -> None:
    """Refuse to go on if this process no longer holds the lock.

    A machine that stood still for longer than its heartbeat may find another at work when it wakes.

    Args:
        path: The lock file.

    Raises:
        LockError: If the lock is another's, or gone.
    """
    holder = _read(path)
    if holder is not None and (holder.host, holder.pid, holder.boot, holder.namespace) == (
        socket.gethostname(),
        os.getpid(),
        *_boot_and_namespace(),
    ):
        return
    whose = f"process {holder.pid} on {holder.host} took it over" if holder else "it is gone"
    raise LockError(
        f"{path}: the lock must be held until the run is published, but {whose} while this run stood still. "
        "Nothing was published; start it again."
    )


def lock_sentence(path: Path, stale_after_s: float = STALE_AFTER_S) -> str | None:
    """Say what a lock means for the next run, without touching it.

    Args:
        path: The lock file.
        stale_after_s: As in `run_lock`.

    Returns:
        A sentence, or None if nobody holds it.
    """
    holder, age_s = _read(path), _age_s(path)
    if age_s is None:
        return None
    whose = f"process {holder.pid} on {holder.host}" if holder else "an unknown process"
    is_running = _is_running(holder) if holder else None
    if is_running is False or (is_running is None and age_s >= stale_after_s):
        return f"{whose} left its lock behind; the next run takes it over"
    return f"{whose} is at work (last heartbeat {age_s:.0f} s ago); until it ends a run stops with exit code 4"


def _acquire(path: Path, me: Holder, stale_after_s: float) -> str | None:
    """Create the lock file, taking over a dead one once."""
    taken_over = None
    for _ in range(3):
        try:
            _create(path, me)
            return taken_over
        except FileExistsError:
            taken_over = _take_over(path, me, stale_after_s) or taken_over
        except OSError as fault:
            raise StorageError(
                f"{path}: the run lock cannot be written: {fault.strerror}. Correct the permissions or free space."
            ) from None
    raise LockError(f"{path}: another run took the lock in the same moment. Wait for it to end.")


def _create(path: Path, me: Holder) -> None:
    """Make the file with its content in one step: a link to a finished file fails if the name exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{me.token}")
    try:
        draft.write_text(json.dumps(asdict(me)), encoding="utf-8")
        try:
            os.link(draft, path)
        except OSError as fault:
            if isinstance(fault, FileExistsError):
                raise
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # a file system without hard links
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(me)))
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _take_over(path: Path, me: Holder, stale_after_s: float) -> str | None:
    """Remove a dead lock and say whose it was; raise if it lives."""
    holder = _read(path)
    age_s = _age_s(path)
    if age_s is None:
        return None  # released in this moment
    whose = f"process {holder.pid} on {holder.host}" if holder else "an unknown process"
    is_running = _is_running(holder) if holder else None
    if is_running:
        raise LockError(f"{path}: {whose} is running on this data set. Wait for it to end; nothing was started.")
    if is_running is False:
        why = "which is gone"
    elif age_s < stale_after_s:
        raise LockError(
            f"{path}: {whose} is running on this data set; its last heartbeat was {age_s:.0f} s ago. "
            f"Wait for it to end, or until the heartbeat is {stale_after_s:.0f} s old; nothing was started."
        )
    else:
        why = f"whose last heartbeat was {age_s:.0f} s ago"
    # Whoever removes this very lock holds a lock of that name first, by the same rules. So what is at the path
    # cannot change between the look and the removal, and a living lock is never touched, not even for a moment.
    claim = path.with_name(f"{path.name}.dead-{holder.token if holder else 'unreadable'}")
    try:
        _acquire(claim, me, stale_after_s)
    except LockError:
        raise LockError(f"{path}: another run took the lock in the same moment. Wait for it to end.") from None
    try:
        if _read(path) != holder:
            return None
        path.unlink(missing_ok=True)
    finally:
        claim.unlink(missing_ok=True)
    return f"took over the lock of {whose}, {why}"


def _heartbeat(path: Path, me: Holder, every_s: float, stop: threading.Event) -> None:
    while not stop.wait(every_s):
        with suppress(OSError):
            if _read(path) == me:  # who slept through a takeover must not keep another's lock alive
                os.utime(path)


def _age_s(path: Path) -> float | None:
    """Seconds since the last touch by the file system's own clock, which hosts share."""
    probe = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        return max(now - path.stat().st_mtime, 0.0)
    except FileNotFoundError:
        return None
    except OSError:
        return max(time.time() - path.stat().st_mtime, 0.0)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _sweep(path: Path, stale_after_s: float) -> None:
    """Remove what processes left beside the lock when they were killed in the middle of taking it."""
    for left in path.parent.glob(f"{path.name}.*"):
        holder, age_s = _read(left), _age_s(left)
        is_running = _is_running(holder) if holder else None
        if is_running is False or (is_running is None and age_s is not None and age_s > stale_after_s):
            with suppress(OSError):
                left.unlink()


def _process_started(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # no Linux, or no such process
        return round(float(psutil.Process(pid).create_time()), 1)
    ticks = int(stat.rpartition(")")[2].split()[19])  # behind the program's name, which may hold anything
    return round(ticks / os.sysconf("SC_CLK_TCK"), 2)


def _boot_and_namespace() -> tuple[str, str]:
    """What tells this start of this machine, and this container of it, from others; empty where it cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return boot, str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "", ""


def _is_running(holder: Holder) -> bool | None:
    """Whether that very process lives, by its start and not its pid alone; None where it cannot be seen from here."""
    boot, namespace = _boot_and_namespace()
    if holder.host != socket.gethostname() or (holder.boot == boot and holder.namespace != namespace):
        return None
    if holder.boot != boot:
        return False  # the machine was started again since
    try:
        return abs(_process_started(holder.pid) - holder.process_started) < 0.5
    except (psutil.Error, OSError):
        return False
