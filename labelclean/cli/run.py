"""The commands of one run: `validate`, `run`, `report`."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelclean.cli.arguments import ConfigArgument, JsonOption, QuietOption, RunArgument, SetOption
from labelclean.cli.process import PREFECT_DEFAULTS, fail, log_to_stderr
from labelclean.errors import ConfigError, GateError, LabelcleanError

if TYPE_CHECKING:
    from labelclean.nights.night import Night


def validate(config: ConfigArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Check everything that can be checked without a model, in seconds."""
    from labelclean.runs import steps
    from labelclean.storage.parquet import read_config
    from labelclean.texts import printable

    report = steps.validated(read_config(config, overrides or []))
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    for sentence in report["sentences"]:
        typer.echo(printable(sentence))
    typer.echo(f"{config}: everything that can be checked without a model is in order.")


def run(
    config: ConfigArgument,
    overrides: SetOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the same steps without Prefect.")] = False,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Most samples in the review queue, or time to look: 45min, 1.5h.")
    ] = None,
    reopen: Annotated[
        list[str] | None,
        typer.Option("--reopen", metavar="ID", help="A settled sample that shall come back. Repeatable."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="The night or lot that this run stands for; it has one good run, then no more."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Clean the window again, into a new run folder.")] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", help="Ray cluster that does the work: auto, or HOST:PORT. Needs labelclean[cluster]."
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", metavar="SIZE", help="Most memory for the whole run, such as 2GiB; or it is refused."
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="RUN", help="Add tonight's samples to the sums of this run folder."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell images, time and disk, measured on 64 images.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Clean the labels: writes soft labels, better labels and a ranked review queue into a new run folder."""
    from labelclean.runs import steps
    from labelclean.storage.parquet import read_config

    log_to_stderr(logging.WARNING if quiet or as_json else logging.INFO)
    items = list(overrides or [])
    items += [_budget_item(budget)] if budget is not None else []
    items += [f"review.reopen={json.dumps(reopen)}"] if reopen else []
    items += [f"run.window={json.dumps(window)}"] if window is not None else []
    items += [f"run.cluster={json.dumps(cluster)}"] if cluster is not None else []
    items += [f"run.max_memory={json.dumps(max_memory)}"] if max_memory is not None else []
    items += [f"run.reference={json.dumps(str(reference))}"] if reference is not None else []
    if dry_run:
        from labelclean.trial.forecast import forecast_record, forecast_run

        forecast = forecast_run(read_config(config, items))
        typer.echo(
            json.dumps(forecast_record(forecast), ensure_ascii=False) if as_json else "\n".join(forecast.sentences)
        )
        return
    night = _night(lambda: _run_plain(config, items, force) if plain else _run_flow(config, items, force))
    if night.folder is None or night.nothing_to_do:
        record = {"run_folder": night.folder and str(night.folder), "nothing_to_do": night.nothing_to_do}
        if as_json or not quiet:
            typer.echo(json.dumps(record, ensure_ascii=False) if as_json else f"nothing to do: {night.nothing_to_do}")
        return
    published = steps.read_published(night.folder)
    if as_json:
        typer.echo(json.dumps({"run_folder": str(published.folder)} | published.summary, ensure_ascii=False))
    elif not quiet:
        from labelclean.runs.summary import print_summary

        print_summary(published)
    if published.exit_code:
        if quiet or as_json or not sys.stdout.isatty():  # else the summary has said it
            fail(published.sentence, published.exit_code)
        raise typer.Exit(published.exit_code)


def report(
    run_folder: RunArgument,
    lang: Annotated[str, typer.Option("--lang", help="en or ja.")] = "en",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: report-RUN.html here.")] = None,
    top: Annotated[int, typer.Option("--top", min=0, help="Most samples shown with their pictures.")] = 60,
    max_mb: Annotated[float, typer.Option("--max-mb", min=0.1, help="The file is never larger.")] = 8.0,
) -> None:
    """Write a run's report as one HTML file that opens anywhere, without a network."""
    from labelclean.report.file import write_report

    target = out or Path(f"report-{run_folder.resolve().name}{'' if lang == 'en' else '.' + lang}.html")
    typer.echo(f"wrote {write_report(run_folder, lang=lang, max_bytes=int(max_mb * 1e6), top=top, out=target)}")


def _budget_item(budget: str) -> str:
    """The config item that a number of samples, or a time such as 45min, stands for."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(min|h|)", budget.strip())
    if match is None or not (match[2] or match[1].isdigit()):
        raise ConfigError(f"--budget must be a number of samples, or a time such as 45min or 1.5h, but is {budget!r}.")
    if not match[2]:
        return f"review.budget={match[1]}"
    return f"review.minutes={float(match[1]) * (60 if match[2] == 'h' else 1):g}"


def _night(call: Callable[[], Night]) -> Night:
    """What came of a run, also of one that a gate refused after its measurements were published."""
    from labelclean.nights.night import Night

    try:
        return call()
    except GateError as refusal:
        if refusal.run_folder is None:
            raise
        return Night(Path(refusal.run_folder))


def _run_plain(config: Path, overrides: list[str], force: bool) -> Night:
    """Run the steps in this process."""
    from datetime import UTC, datetime

    from labelclean.nights.night import run_night
    from labelclean.runs import steps

    return run_night(
        config, overrides, lambda settings: steps.clean(settings, force=force), os.environ, lambda: datetime.now(UTC)
    )


def _run_flow(config: Path, overrides: list[str], force: bool) -> Night:
    """Run the Prefect flow in this process, on Prefect's embedded server unless PREFECT_API_URL names another."""
    from labelclean.nights.night import Night
    from labelclean.storage.parquet import read_config

    try:
        read_config(config, overrides)
    except LabelcleanError:  # the plain way tells it too, and at once
        return _run_plain(config, overrides, force)
    for key, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(key, value)
    if "PREFECT_API_URL" not in os.environ:
        logging.getLogger("labelclean").info(
            "starting Prefect's embedded server (--plain runs the same steps without it)"
        )
    flow: Any = importlib.import_module("labelclean.flows.clean_labels")
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_is_news)
    answer = flow.clean_labels(str(config.resolve()), overrides, force)
    return Night(Path(answer["run_folder"]) if answer["run_folder"] else None, answer["nothing_to_do"])


def _is_news(record: logging.LogRecord) -> bool:
    """Whether Prefect's line says what is not said at the end: a refusal and Ctrl-C are, an error of ours is not."""
    refusals = "|".join(kind.__name__ for kind in LabelcleanError.__subclasses__())
    said_at_the_end = rf"interrupt signal|exception( during execution)?:? ({refusals})\b(?!.* - Retry )"
    return re.search(said_at_the_end, record.getMessage(), re.DOTALL) is None
