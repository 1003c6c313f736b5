"""The program: its commands in the order of `--help`, and what a refusal or Ctrl-C ends with."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from labelclean.cli import adapt, night, review, run, study, trial
from labelclean.cli.process import INTERRUPTED, SILENCE, THREADS, say_stopped
from labelclean.errors import LabelcleanError

app = typer.Typer(
    name="labelclean",
    help="Finds and corrects wrong labels of factory inspection images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"labelclean {version('labelclean')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Finds and corrects wrong labels of factory inspection images."""


# in the order of --help
app.command()(trial.init)
app.command()(run.validate)
app.command()(run.run)
app.command()(run.report)
app.command()(trial.poc)
app.command("export")(review.export_queue)
app.command("import")(review.import_answers)
app.command()(review.apply)
app.command()(review.status)
app.command()(review.history)
app.command()(review.record)
app.add_typer(study.app, name="study")
app.command()(adapt.adapt)
app.command()(night.serve)
app.command()(night.prune)
app.command()(night.doctor)


def main() -> None:
    """Run the command line; refusals end with their exit code and one message, never a traceback."""
    os.environ.update(SILENCE)
    for key, value in THREADS.items():
        os.environ.setdefault(key, value)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what systemd and Kubernetes stop with is like Ctrl-C
    try:
        app()
    except LabelcleanError as refusal:
        sys.stderr.write(f"labelclean: {refusal}\n")
        sys.exit(refusal.exit_code)
    except KeyboardInterrupt:
        say_stopped()
        sys.exit(INTERRUPTED)
    except SystemExit as end:  # typer turns Ctrl-C into an exit of its own, without a word
        if end.code == INTERRUPTED:
            say_stopped()
        raise
