"""How the command line behaves in its process: environment, log, exit codes."""

from __future__ import annotations

import getpass
import logging
import os
import sys

import typer

# set before Prefect, Great Expectations or a hub client is imported: no dependency phones home
SILENCE = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
# threads that spin while they wait slow a busy machine down threefold
THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "labelclean",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}

INTERRUPTED = 130


def log_to_stderr(level: int) -> None:
    """Send labelclean's own log to the terminal, from a level on."""
    logger = logging.getLogger("labelclean")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)


def fail(message: str, code: int) -> None:
    """End the command with one line and an exit code."""
    typer.echo(f"labelclean: {message}", err=True)
    raise typer.Exit(code)


def user_name() -> str:
    """Return who calls; the number of an account that has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        return f"user {os.getuid()}"


def say_stopped() -> None:
    """Tell that Ctrl-C or SIGTERM has ended the call, and what is kept."""
    sys.stderr.write("labelclean: stopped. Features extracted so far are kept; run again to go on.\n")
