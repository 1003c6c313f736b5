"""`doctor`: looks at everything a night depends on and says what to do about what is not in order."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from labelclean.config import Config
from labelclean.errors import LabelcleanError, StorageError
from labelclean.nights.notify import URL_VARIABLE
from labelclean.review.ledger import check_chain, ledger_exists, ledger_schema, ledger_url
from labelclean.runs.ingest import image_root
from labelclean.storage.lock import STALE_AFTER_S, lock_sentence
from labelclean.storage.parquet import label_files, labels_dataset, read_config
from labelclean.storage.run_folders import WORK_PREFIX, file_digest, run_folders

CheckOutcome = Literal["ok", "warn", "fail"]
Diagnosis = tuple[CheckOutcome, str]
LEAST_FREE_BYTES = 500_000_000
LOW_FREE_BYTES = 5_000_000_000
CLOCK_TOLERANCE = timedelta(minutes=2)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        outcome: `ok`; `warn`: it works but look at it; `fail`: a night would fail, or a ledger was
            changed by hand.
        sentence: What was found, and what to do.
    """

    name: str
    outcome: CheckOutcome
    sentence: str


def examine(
    config_path: Path | None, overrides: Sequence[str], environ: Mapping[str, str], now: datetime
) -> tuple[Check, ...]:
    """Look at this machine, and at everything that a config names.

    Args:
        config_path: The config file, or None for the machine alone.
        overrides: `section.key=value` items.
        environ: Environment variables.
        now: The time, with time zone.

    Returns:
        The checks in the order to read them.
    """
    return tuple(
        Check(name, *_diagnosis(question)) for name, question in _questions(config_path, overrides, environ, now)
    )


def _questions(
    config_path: Path | None, overrides: Sequence[str], environ: Mapping[str, str], now: datetime
) -> Iterator[tuple[str, Callable[[], Diagnosis]]]:
    yield "python", lambda: ("ok", f"{platform.python_version()} at {sys.executable}")
    yield "versions", versions_fit
    yield "bytecode", partial(bytecode_kept, "torch", writes=not sys.dont_write_bytecode)
    config: Config | None = None
    if config_path is not None:
        try:
            config = read_config(config_path, overrides)
            yield "config", lambda: ("ok", f"{config_path} can be used")
        except LabelcleanError as fault:
            sentence = str(fault)
            yield "config", lambda: ("fail", sentence)
    yield "device", partial(_device, config.run.device if config else "auto")
    yield "prefect", _prefect
    yield (
        "webhook",
        lambda: ("ok", f"{URL_VARIABLE} is {'set' if environ.get(URL_VARIABLE) else 'not set: nobody is called'}"),
    )
    if config is None:
        return
    yield "labels", partial(_labels, config)
    yield "images", partial(_images, config)
    yield "backbone", partial(_backbone, config, environ)
    yield "offline", partial(_offline, config, environ)
    for key, folder in (("storage.runs", config.storage.runs), ("storage.cache", config.storage.cache)):
        yield key, partial(_space, folder)
    yield "ledger", partial(_ledger, ledger_url(config.ledger.url, config.storage.runs, environ))
    yield "lock", partial(_lock, config.storage.runs)
    yield "clock", partial(_clock, config.storage.runs, now)


def _diagnosis(question: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return question()
    except LabelcleanError as fault:
        return "fail", str(fault)
    except Exception as fault:  # whatever a broken installation raises is what the doctor is asked about
        return "fail", f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"


def versions_fit() -> Diagnosis:
    """Return whether the installed packages are within what labelclean was built for.

    Returns:
        Outcome and sentence; the bounds are those of the package's own metadata.
    """
    wrong, seen = [], []
    for line in requires("labelclean") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is not installed")
            continue
        if wanted.name.lower() in ("prefect", "sqlalchemy", "torch", "timm"):
            seen.append(f"{wanted.name} {installed}")
        if not wanted.specifier.contains(installed, prereleases=True):
            wrong.append(f"{wanted.name} must be {wanted.specifier}, but is {installed}")
    if wrong:
        return "fail", f"{'; '.join(wrong)}. Install again: pip install -c constraints.txt ."
    return "ok", f"labelclean {version('labelclean')}, {', '.join(sorted(seen, key=str.lower))}"


def bytecode_kept(package: str, *, writes: bool) -> Diagnosis:
    """Return whether a package is compiled once or by every process anew (measured: 23 s of a run of 700 images, not 14).

    Args:
        package: Looked for as a sign for all; not imported.
        writes: Whether this Python keeps what it compiles.

    Returns:
        Outcome and sentence.
    """
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.cached is not None and Path(spec.cached).is_file():
        return "ok", "the packages are compiled"
    if writes:
        return "ok", "the first run compiles the packages and keeps that"
    return "warn", (
        "every process compiles the packages anew, some ten seconds per run, for PYTHONDONTWRITEBYTECODE is set. "
        f"Unset it, or compile them once: {sys.executable} -m compileall -q {sysconfig.get_path('purelib')}"
    )


# --- inside ---------------------------------------------------------------------------------------


def _device(wanted: str) -> Diagnosis:
    from labelclean.features.backbone import choose_device

    device = choose_device(wanted)
    if device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return "ok", f"{torch.cuda.get_device_name(device)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
    return "ok", f"CPU, {os.cpu_count()} cores"


def _prefect() -> Diagnosis:
    schedule = importlib.import_module("labelclean.flows.schedule")
    url = schedule.server_url()
    if url is None:
        return "ok", "no server is named (PREFECT_API_URL): run starts its own; labelclean serve needs one"
    schedule.check_server()
    return "ok", "the server of PREFECT_API_URL answers"


def _labels(config: Config) -> Diagnosis:
    files = label_files(config.data.labels)
    if config.ingest.since is None:
        labels_dataset(config.data.labels)
    return "ok", f"{len(files):,} Parquet file{'s' if len(files) > 1 else ''} at {config.data.labels}"


def _images(config: Config) -> Diagnosis:
    files = label_files(config.data.labels)
    schema = labels_dataset(config.data.labels, files[-1:]).schema
    if "image" in schema.names:
        return "ok", "the labels hold the images"
    root = image_root(config)
    if not root.is_dir():
        return "fail", f"{root}: data.image_root must be a folder, but is not there. Is the share mounted?"
    head = labels_dataset(config.data.labels, files[-1:]).head(200, columns=["image_path"])
    paths = [path for path in head.column("image_path").to_pylist() if path]
    num_there = sum((root / path).is_file() for path in paths)
    sentence = f"{num_there:,} of the first {len(paths):,} images of the newest label file are under {root}"
    if not num_there:
        return "fail", f"{sentence}. Correct data.image_root, or mount the share."
    return ("ok" if num_there == len(paths) else "warn"), sentence


def _backbone(config: Config, environ: Mapping[str, str]) -> Diagnosis:
    settings = config.backbone
    if settings.weights is None:
        weights = _kept_weights(config, environ)
        if weights is not None:
            return "ok", f"the weights of {settings.name} are in {weights}; they are used without a network"
        return "warn", (
            f"the weights of {settings.name} are fetched at the first run, which needs the network once. Without one, "
            "copy a file here and set backbone.weights and backbone.sha256."
        )
    if not settings.weights.is_file():
        return "fail", f"{settings.weights}: backbone.weights must name a file, but nothing is there. Copy it again."
    digest = file_digest(settings.weights)
    if settings.sha256 not in (None, digest):
        return (
            "fail",
            f"{settings.weights}: backbone.sha256 says {settings.sha256}, but the file has {digest}. Copy it again.",
        )
    if settings.weights.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(settings.weights, framework="numpy"):
                pass
        except SafetensorError as fault:
            return "fail", f"{settings.weights}: the file is damaged ({fault}). Copy it again."
    held = "as backbone.sha256 says" if settings.sha256 else "set backbone.sha256 to hold it"
    return "ok", f"{settings.name} from {settings.weights.name}, no network needed; sha256 {digest} ({held})"


def _kept_weights(config: Config, environ: Mapping[str, str]) -> Path | None:
    """Where timm keeps the weights that it fetched, if it did."""
    hub = Path(environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    return hub if any(hub.glob(f"models--timm--{config.backbone.name}*")) else None


def _offline(config: Config, environ: Mapping[str, str]) -> Diagnosis:
    """Whom a night calls beyond this machine; by host, for addresses may hold secrets."""
    if config.backbone.weights is None and _kept_weights(config, environ) is None:
        return (
            "warn",
            "the first night must fetch the backbone's weights, see backbone; all other nights need no internet",
        )
    ledger = urlsplit(ledger_url(config.ledger.url, config.storage.runs, environ)).hostname
    prefect = urlsplit(importlib.import_module("labelclean.flows.schedule").server_url() or "").hostname
    webhook = urlsplit(environ.get(URL_VARIABLE, "")).hostname
    called = [
        f"{what} at {host}"
        for what, host in (
            ("the ledger", ledger),
            ("Prefect", prefect),
            ("the webhook, whose failure fails no run,", webhook),
        )
        if host and host != "localhost" and not host.startswith("127.") and host != "::1"
    ]
    return "ok", f"a night calls {' and '.join(called) or 'nobody'} beyond this machine, and needs no internet"


def _space(folder: Path) -> Diagnosis:
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as fault:
        return "fail", f"{place}: cannot be written: {fault.strerror}. Correct the permissions."
    free = shutil.disk_usage(place).free
    sentence = f"{free / 1e9:,.1f} GB free at {folder}"
    if free < LEAST_FREE_BYTES:
        return "fail", f"{sentence}. Free space: labelclean prune removes old runs; the cache may be deleted."
    return ("ok", sentence) if free >= LOW_FREE_BYTES else ("warn", f"{sentence}; labelclean prune removes old runs")


def _ledger(url: str) -> Diagnosis:
    if not ledger_exists(url):
        return "ok", "nobody has decided anything yet; the first import makes the ledger"
    schema, newest_schema, num_decisions = ledger_schema(url)
    if schema > newest_schema:
        raise StorageError(
            f"the ledger has schema {schema}, but this labelclean knows {newest_schema}. Update labelclean."
        )
    sentence = f"{num_decisions:,} decisions, schema {schema}"
    chain = check_chain(url)
    if chain is None:
        return "ok", f"{sentence}; the next import or run brings it to {newest_schema} and chains its rows"
    if chain.faults:
        return "fail", (
            f"{sentence}, but somebody changed it by hand (places: {len(chain.faults):,}), such as: {'; '.join(map(str, chain.faults[:3]))}. Put "
            "it back from the backup, or find out who changed it; until then nobody can vouch for its decisions."
        )
    return "ok", f"{sentence}, every row as it was written{f' ({chain.digest[:12]}…)' if chain.digest else ''}"


def _lock(runs: Path) -> Diagnosis:
    sentence = lock_sentence(runs / ".lock")
    if sentence is not None:
        return "warn", sentence
    left = sorted(path.name for path in runs.glob(f"{WORK_PREFIX}*")) if runs.is_dir() else []
    return (
        ("warn", f"no run is at work, but one died and left {', '.join(left)}; the next run removes it")
        if left
        else (
            "ok",
            f"no run is at work; another host's lock would count as dead after {STALE_AFTER_S:.0f} s",
        )
    )


def _clock(runs: Path, now: datetime) -> Diagnosis:
    newest = run_folders(runs)[-1:]
    for folder in newest:
        with suppress(ValueError):
            made = datetime.strptime(folder.name, "%Y-%m-%dT%H%M%S.%fZ").replace(tzinfo=now.tzinfo)
            if made - now > CLOCK_TOLERANCE:
                return "fail", (
                    f"it is {now:%Y-%m-%d %H:%M} UTC here, but run {folder.name} is from later. Correct the clock (NTP); "
                    "runs go on and keep their order, but schedules and times are wrong."
                )
    place = next(parent for parent in (runs, *runs.parents) if parent.exists())
    with tempfile.TemporaryFile(dir=place) as probe:
        there = os.fstat(probe.fileno()).st_mtime
    apart = timedelta(seconds=abs(there - now.timestamp()))
    if apart > CLOCK_TOLERANCE:
        return (
            "warn",
            f"the clock of the disk at {place} is {apart.total_seconds():,.0f} s from this machine's. Correct one (NTP).",
        )
    return "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC, no run is from later"
