"""The command that learns a backbone: `adapt`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from labelclean.cli.arguments import ConfigArgument, JsonOption, QuietOption, SetOption
from labelclean.cli.process import log_to_stderr


def adapt(
    config: ConfigArgument,
    overrides: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an adaptation that was interrupted.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare base and adapted backbone; say which one to freeze.")
    ] = False,
    adapted: Annotated[
        Path | None, typer.Option("--adapted", metavar="PATH", help="What to compare; default: the newest adaptation.")
    ] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Try temperatures and windows on a small sample.")] = False,
    sample: Annotated[int, typer.Option("--sample", min=20, help="Images of the sweep.")] = 1000,
    epochs: Annotated[int, typer.Option("--epochs", min=2, help="Epochs of each trial of the sweep.")] = 20,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn a backbone from your own unlabelled images (AdaSim), to be frozen by `run`."""
    from labelclean.adapt import command
    from labelclean.storage.parquet import read_config

    log_to_stderr(logging.WARNING if quiet or as_json else logging.INFO)
    settings = read_config(config, overrides or [])
    if sweep:
        command.run_sweep(settings, sample, epochs, tell=typer.echo, as_json=as_json)
    if compare:
        command.run_comparison(settings, adapted, tell=typer.echo, as_json=as_json)
    if not (sweep or compare):
        command.run_adaptation(settings, resume=resume, tell=typer.echo, as_json=as_json)
