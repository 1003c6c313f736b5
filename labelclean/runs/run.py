"""A run from its lock to its published folder."""

from __future__ import annotations

import logging
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelclean.config import Config, config_record
from labelclean.errors import ConfigError, GateError, LabelcleanError, TableError
from labelclean.review.decisions import Decision, Standing, measure_standing, standing_decisions
from labelclean.runs.arrivals import arrivals_from, files_to_read, find_arrivals
from labelclean.runs.plan import Plan, plan_from, plan_run
from labelclean.runs.record import INTERNAL
from labelclean.runs.tiling import settled
from labelclean.storage.lock import check_held, run_lock
from labelclean.storage.parquet import make_folder, read_json, write_json
from labelclean.storage.run_folders import MANIFEST, adopt, leftovers, new_work_folder, publish_run

LOG = logging.getLogger("labelclean")
_NO_STEPS = ("config", "arrivals", "plan")
_VERSIONED = ("labelclean", "torch", "timm", "numpy", "pandas", "pyarrow", "pillow", "prefect", "great-expectations")


@dataclass(frozen=True)
class Run:
    """A run in progress.

    Attributes:
        run_id: Its name, sorts by time.
        work: The hidden folder it works in.
        config: Its configuration.
        started_at: Start, UTC.
        started_s: The same on a clock that nobody sets, seconds.
    """

    run_id: str
    work: Path
    config: Config
    started_at: datetime
    started_s: float


@dataclass(frozen=True)
class PublishedRun:
    """A published run.

    Attributes:
        folder: Its folder.
        summary: What `summary.json` says.
        manifest: What `manifest.json` says.
    """

    folder: Path
    summary: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0, or 3 where a gate refused or too many images were rejected."""
        return int(self.manifest["exit_code"])

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return str(self.summary["verdict_sentence"])


@contextmanager
def open_run(
    config: Config, *, force: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[Run]:
    """Hold the data set's lock and give a hidden work folder; a failed run leaves none behind.

    Only a run in parts keeps it when it is stopped: the next one with the same settings and label files goes on there.

    Args:
        config: The configuration.
        force: Run although a good run of this window is published.
        clock: Tells the time, with time zone.

    Yields:
        The run.

    Raises:
        NothingToDo: If the window is done or no label file is new.
        LockError: If another run holds the data set.
        StorageError: If the runs folder cannot be written.
    """
    runs = config.storage.runs
    with run_lock(runs / ".lock") as taken_over:
        if taken_over:
            LOG.warning("%s", taken_over)
        arrivals = find_arrivals(config, dataset_name(config), force=force)
        config = settled(config, files_to_read(config, arrivals))
        plan = plan_run(config, arrivals)
        started_at, started_s = clock(), time.monotonic()
        run_id, work = new_work_folder(runs, started_at)
        _take_over_or_remove(runs, work, plan)
        is_kept = False
        try:
            make_folder(work / INTERNAL)
            write_json(work / INTERNAL / "config.json", config.model_dump(mode="json"))
            write_json(work / INTERNAL / "arrivals.json", arrivals.record())
            write_json(work / INTERNAL / "plan.json", plan.record())
            yield Run(run_id, work, config, started_at, started_s)
        except BaseException as fault:
            is_kept = plan.is_streamed and not isinstance(fault, (ConfigError, TableError))
            raise
        finally:
            if not is_kept:
                shutil.rmtree(work, ignore_errors=True)


def _take_over_or_remove(runs: Path, work: Path, plan: Plan) -> None:
    """Go on where a killed run in parts stopped; remove what other dead runs left."""
    for leftover in leftovers(runs):
        if leftover == work:
            continue
        note = leftover / INTERNAL / "plan.json"
        if plan.is_streamed and note.is_file() and plan_from(read_json(note)).digest == plan.digest:
            LOG.info("going on where %s stopped", leftover.name)
            adopt(leftover, work)
            plan = Plan()  # only one
        else:
            shutil.rmtree(leftover, ignore_errors=True)
            LOG.warning("removed %s, left by a run that died", leftover.name)


def publish(run: Run) -> Path:
    """Write the summary, then the manifest, make the run visible, and write its report there.

    A report that cannot be made is told and takes nothing from the run.

    Args:
        run: The run, its steps done or stopped by a gate.

    Returns:
        The published folder.

    Raises:
        LockError: If another run took the lock over meanwhile.
        StorageError: If the disk refuses.
    """
    from labelclean.report.file import write_report
    from labelclean.runs.summary import build_summary

    internal = {path.stem: read_json(path) for path in sorted((run.work / INTERNAL).glob("*.json"))}
    review = run.config.review
    steps = {name: record for name, record in internal.items() if name not in _NO_STEPS}
    summary = build_summary(steps, rejects_limit=run.config.rejects.max_share, audit_samples=review.audit_samples)
    write_json(run.work / "summary.json", summary)
    shutil.rmtree(run.work / INTERNAL)
    manifest = _manifest(run, internal, summary)
    check_held(run.config.storage.runs / ".lock")
    folder = publish_run(run.work, run.run_id, manifest | _spent(run))
    LOG.info("published %s", folder)
    try:
        write_report(folder)
    except (LabelcleanError, pa.ArrowException, OSError, ValueError, ArithmeticError) as fault:  # data or the disk
        LOG.warning(
            "no report: %s The labels are published; `labelclean report %s` tries it again.",
            fault or repr(fault),
            folder,
        )
    return folder


def _manifest(run: Run, internal: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was made of and how it went: `manifest.json` but for what it has taken."""
    arrivals, plan = arrivals_from(internal["arrivals"]), plan_from(internal["plan"])
    extracted = internal.get("extract", {})
    return {
        "dataset": dataset_name(run.config),
        "window": arrivals.window,
        "since": arrivals.since,
        "config": config_record(Config.model_validate(internal["config"])),
        "seed": run.config.run.seed,
        "backbone": extracted.get("backbone"),
        "device": extracted.get("device"),
        "versions": {name: version(name) for name in _VERSIONED} | {"python": platform.python_version()},
        "run_id": run.run_id,
        "verdict": summary["verdict"],
        "exit_code": 3 if summary["verdict"] in ("refused", "too_many_rejects") else 0,
        "started_at": run.started_at.isoformat(),
        "counts": {key: summary[key] for key in ("num_samples", "num_rejects", "num_label_issues")},
        "step_seconds": {name: record["seconds"] for name, record in internal.items() if name not in _NO_STEPS},
        "memory": {key: value for key, value in plan.record().items() if key != "digest"},
        "host": platform.node(),
        "labels_read": [file.path for file in arrivals.read],
        "labels_files": [asdict(file) for file in (*arrivals.unchanged, *arrivals.read)],
    }


def _spent(run: Run) -> dict[str, Any]:
    """What the run has taken so far."""
    return {
        "finished_at": (run.started_at + timedelta(seconds=time.monotonic() - run.started_s)).isoformat(),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def dataset_name(config: Config) -> str:
    """Return the name that a data set goes by in manifests and in the ledger.

    Args:
        config: The configuration.

    Returns:
        `run.dataset`, or the name of the labels' file or folder.
    """
    return config.run.dataset or config.data.labels.name


def known_decisions(config: Config) -> tuple[Decision, ...]:
    """Return all that people have decided about a data set.

    Args:
        config: Sections `ledger`, `run` and `storage` are read.

    Returns:
        Decisions; none where there is no ledger yet.
    """
    from labelclean.review.ledger import decisions_of, ledger_exists, ledger_url, open_ledger

    url = ledger_url(config.ledger.url, config.storage.runs, os.environ)
    return tuple(decisions_of(open_ledger(url), dataset_name(config))) if ledger_exists(url) else ()


def standing_of(
    samples: pa.Table, names: Sequence[str], config: Config, decisions: Sequence[Decision]
) -> tuple[Standing, Sequence[tuple[Decision, ...]]]:
    """Return what people have decided about these samples as they are now, and their single decisions.

    Args:
        samples: Table `samples` with content hashes.
        names: The K class names.
        config: `review.reopen` is read.
        decisions: All decisions of the data set.

    Returns:
        Both, rows aligned with the samples.
    """
    ids, hashes, given = (samples.column(name).to_pylist() for name in ("sample_id", "content_hash", "given_label"))
    decided = standing_decisions(decisions, ids, hashes, given, config.review.reopen)
    return measure_standing(decided, names), decided


def read_published(folder: Path) -> PublishedRun:
    """Return a published run's summary and manifest.

    Args:
        folder: The run folder.

    Returns:
        Both, with the folder.

    Raises:
        StorageError: If it is no whole run folder.
    """
    return PublishedRun(folder, read_json(folder / "summary.json"), read_json(folder / MANIFEST))


def raise_if_refused(folder: Path) -> None:
    """Raise if the published run must count as failed.

    Args:
        folder: The run folder.

    Raises:
        GateError: If a gate refused or too many images were rejected.
    """
    published = read_published(folder)
    if published.exit_code:
        raise GateError(published.sentence, run_folder=str(folder))
