"""A run and everything around it that an unattended night needs: it ends in one of few ways, and each is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labelclean.config import Config
from labelclean.errors import GateError, LabelcleanError, NothingToDo, StorageError
from labelclean.nights.notify import Attempt, RunNumbers, post_message, run_numbers, write_prometheus
from labelclean.runs.run import dataset_name, read_published
from labelclean.storage.parquet import read_config
from labelclean.storage.run_folders import good_runs, run_folders

LOG = logging.getLogger("labelclean")


@dataclass(frozen=True)
class Night:
    """How a call of `labelclean run` ended.

    Attributes:
        folder: The run folder that it published, or the good run that made it unnecessary, or None.
        nothing_to_do: Why nothing was done, or None.
    """

    folder: Path | None
    nothing_to_do: str | None = None


def run_night(
    config_path: Path,
    overrides: Sequence[str],
    clean: Callable[[Config], Path],
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
) -> Night:
    """Run once and tell the webhook and Prometheus how it ended.

    Args:
        config_path: The config file.
        overrides: `section.key=value` items.
        clean: Runs the steps, plainly or as tasks, and returns the published folder.
        environ: Environment variables; LABELCLEAN_WEBHOOK_URL is read.
        clock: Tells the time, with time zone.

    Returns:
        What came of it.

    Raises:
        LabelcleanError: Whatever the run refuses; it is told first.
    """
    try:
        config = read_config(config_path, overrides)
    except LabelcleanError as fault:
        post_message(f"labelclean, {config_path.name}: failed: {fault}", environ)
        raise
    try:
        night = Night(clean(config))
    except NothingToDo as nothing:
        night = Night(Path(nothing.run_folder) if nothing.run_folder else None, str(nothing))
    except Exception as fault:
        code = fault.exit_code if isinstance(fault, LabelcleanError) else 1
        _tell(config, environ, *_ending(fault))
        _measure(config, Attempt(clock(), code))
        raise
    if night.nothing_to_do is None and night.folder is not None:
        moved = noise_jump(night.folder, config)
        if moved is not None:
            LOG.warning("%s", moved)
            _tell(config, environ, moved, str(night.folder))
    _measure(config, Attempt(clock(), 0))
    return night


def noise_jump(folder: Path, config: Config) -> str | None:
    """Return a sentence if the share of wrong labels moved too far since the last good run.

    Args:
        folder: A published run.
        config: `notify.max_noise_change` is read.

    Returns:
        The sentence, or None where it did not move or there is nothing to compare.
    """
    now = _numbers(folder)
    earlier = next(
        (run.folder for run in good_runs(config.storage.runs, dataset_name(config)) if run.folder.name < folder.name),
        None,
    )
    before = _numbers(earlier) if earlier is not None else None
    if now is None or before is None or now.expected_share is None or before.expected_share is None:
        return None
    limit = config.notify.max_noise_change
    if abs(now.expected_share - before.expected_share) <= limit:
        return None
    return (
        f"about {now.expected_share:.1%} of the labels are expected to be wrong, but {before.expected_share:.1%} in run "
        f"{before.run_id}; that moved by more than notify.max_noise_change = {limit:g}. Look at the newest labels' source."
    )


# --- inside ---------------------------------------------------------------------------------------


def _ending(fault: Exception) -> tuple[str, str | None]:
    """How a run that did not end well is told, and the folder of its measurements if there is one."""
    if isinstance(fault, GateError) and fault.run_folder is not None:
        return f"refused: {fault}", fault.run_folder
    if isinstance(fault, LabelcleanError):
        return f"failed: {fault}", None
    return f"failed: {type(fault).__name__}, an error of labelclean itself; the log has the rest.", None


def _tell(config: Config, environ: Mapping[str, str], sentence: str, folder: str | None) -> None:
    window = f", window {config.run.window}" if config.run.window else ""
    post_message(
        f"labelclean, {dataset_name(config)}{window}: {sentence}" + (f" ({folder})" if folder else ""), environ
    )


def _measure(config: Config, attempt: Attempt) -> None:
    """Write the Prometheus file, if one is wanted."""
    path = config.notify.prometheus_file
    if path is None:
        return
    dataset = dataset_name(config)
    newest = next(reversed(run_folders(config.storage.runs)), None)
    good = next(good_runs(config.storage.runs, dataset), None)
    write_prometheus(path, dataset, attempt, _numbers(newest), _numbers(good.folder if good else None))


def _numbers(folder: Path | None) -> RunNumbers | None:
    """A run's numbers, or None where there is no whole run."""
    if folder is None:
        return None
    try:
        published = read_published(folder)
    except StorageError as fault:
        LOG.warning("%s", fault)
        return None
    return run_numbers(published.summary, published.manifest)
