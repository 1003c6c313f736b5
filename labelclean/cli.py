"""The command line: `labelclean init`, `validate`, `run`.

Heavy libraries are imported inside the commands that use them, so that
`--help` and `validate` answer at once.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from labelclean.errors import GateError, LabelcleanError

app = typer.Typer(
    name="labelclean",
    help="Finds and corrects wrong labels of factory inspection images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The config file; `labelclean init` writes one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a config key for this call, such as refine.method=adaptive. Repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]

# set before Prefect, Great Expectations or a hub client is imported: no dependency phones home
_SILENCE = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
# threads that spin while they wait slow a busy machine down threefold
_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
_PREFECT_DEFAULTS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "labelclean",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


@app.command()
def init(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Parquet file or folder with the labels.")],
    image_root: Annotated[
        Path | None, typer.Option("--image-root", metavar="DIR", help="Folder that image_path is relative to.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="CONFIG", help="The config file to write.")] = Path(
        "config.yaml"
    ),
    overrides: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing config file.")] = False,
) -> None:
    """Look at the labels and write a config with every key explained."""
    from labelclean.setup import write_first_config

    try:
        seen = write_first_config(labels, image_root, out, overrides or [], force=force)
    except FileExistsError as fault:
        _fail(str(fault), 2)
    for sentence in seen:
        typer.echo(sentence)
    typer.echo(f"wrote {out}\nnext: labelclean validate {out}, then labelclean run {out}")


@app.command()
def validate(config: ConfigArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Check everything that can be checked without a model, in seconds."""
    from labelclean import steps
    from labelclean.storage import read_config

    report = steps.validated(read_config(config, overrides or []))
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    for sentence in report["sentences"]:
        typer.echo(sentence)
    typer.echo(f"{config}: everything that can be checked without a model is in order.")


@app.command()
def run(
    config: ConfigArgument,
    overrides: SetOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the same steps without Prefect.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Clean the labels: writes soft labels, better labels and a ranked review queue into a new run folder."""
    from labelclean import steps
    from labelclean.storage import read_config

    _log_to_stderr(logging.WARNING if quiet or as_json else logging.INFO)
    settings = read_config(config, overrides or [])
    outcome = steps.read_outcome(
        _published_folder(lambda: steps.clean(settings) if plain else _run_flow(config, overrides or []))
    )
    if as_json:
        typer.echo(json.dumps({"run_folder": str(outcome.folder)} | outcome.summary, ensure_ascii=False))
    elif not quiet:
        from labelclean.summary import print_summary

        print_summary(outcome)
    if outcome.exit_code:
        _fail(outcome.sentence, outcome.exit_code)


def _published_folder(call: Callable[[], Path]) -> Path:
    """The run folder, also of a run that a gate refused after its measurements were published."""
    try:
        return call()
    except GateError as refusal:
        if refusal.run_folder is None:
            raise
        return Path(refusal.run_folder)


def _run_flow(config: Path, overrides: list[str]) -> Path:
    """Run the Prefect flow in this process, on Prefect's embedded server unless PREFECT_API_URL names another."""
    for key, value in _PREFECT_DEFAULTS.items():
        os.environ.setdefault(key, value)
    flow: Any = importlib.import_module("labelclean.flows.clean_labels")
    return Path(flow.clean_labels(str(config.resolve()), overrides))


def _log_to_stderr(level: int) -> None:
    logger = logging.getLogger("labelclean")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)


def _fail(message: str, code: int) -> None:
    typer.echo(f"labelclean: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line; refusals end with their exit code and one message, never a traceback."""
    os.environ.update(_SILENCE)
    for key, value in _THREADS.items():
        os.environ.setdefault(key, value)
    try:
        app()
    except LabelcleanError as refusal:
        sys.stderr.write(f"labelclean: {refusal}\n")
        sys.exit(refusal.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("labelclean: stopped. Features extracted so far are kept; run again to go on.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
