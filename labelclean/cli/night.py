"""The commands around many nights: `serve`, `prune`, `doctor`."""

from __future__ import annotations

import importlib
import json
import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from labelclean.cli.arguments import ConfigArgument, JsonOption, SetOption
from labelclean.cli.process import PREFECT_DEFAULTS, fail, log_to_stderr


def serve(
    config: ConfigArgument,
    cron: Annotated[str, typer.Option("--cron", help="When to run, in cron's five fields: '0 2 * * *'.")],
    timezone: Annotated[str, typer.Option("--timezone", help="Where that time is told: Asia/Tokyo.")] = "UTC",
    window: Annotated[
        str,
        typer.Option("--window", help="What names a run's window: day, hour or minute it was due; none: no window."),
    ] = "day",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the Prefect deployment; default: data set.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Run every night, by a Prefect server's schedule, until stopped."""
    if window not in ("day", "hour", "minute", "none"):
        fail(f"--window must be day, hour, minute or none, but is {window!r}.", 2)
    for key, value in PREFECT_DEFAULTS.items():
        if key != "PREFECT_LOGGING_LEVEL":  # the server's pages show what each run said
            os.environ.setdefault(key, value)
    log_to_stderr(logging.INFO)
    schedule: Any = importlib.import_module("labelclean.flows.schedule")
    typer.echo(f"serving {config} at '{cron}' {timezone}; stop with Ctrl-C or SIGTERM")
    schedule.serve_nightly(
        config,
        overrides or [],
        cron=cron,
        timezone=timezone,
        window=None if window == "none" else window,
        name=name,
    )


def prune(
    config: ConfigArgument,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many of the newest runs stay.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old runs, never the newest good one nor one that a decision refers to."""
    from dataclasses import asdict

    from labelclean.nights.prune import prune_runs, remove_leftovers
    from labelclean.review.ledger import ledger_exists, ledger_url, open_ledger, referred_runs
    from labelclean.storage.lock import run_lock
    from labelclean.storage.parquet import read_config

    settings = read_config(config, overrides or [])
    runs = settings.storage.runs
    with run_lock(runs / ".lock"):
        remove_leftovers(runs)
        url = ledger_url(settings.ledger.url, runs, os.environ)
        referred = referred_runs(open_ledger(url)) if ledger_exists(url) else set()
        done = prune_runs(runs, keep, referred, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    for name, why in done.kept.items():
        typer.echo(f"kept {name}: {why}")
    verb = "would remove" if dry_run else "removed"
    typer.echo(
        f"{verb} {len(done.removed):,} runs, {done.num_bytes / 1e6:,.1f} MB"
        + "".join(f"\n  {name}" for name in done.removed)
    )


def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Also look at all that a config names.")
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at all that a night depends on, and say what to do; exit code 2 if something would fail."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from labelclean.nights.doctor import examine

    checks = examine(config, overrides or [], os.environ, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], ensure_ascii=False))
    else:
        for check in checks:
            typer.echo(f"{check.outcome:4}  {check.name}: {check.sentence}")
    if any(check.outcome == "fail" for check in checks):
        raise typer.Exit(2)
