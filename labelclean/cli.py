"""The command line: `labelclean init`, `validate`, `run`, `report`, `export`, `import`, `apply`, `status`, `adapt`, `serve`, `prune`, `doctor`.

Heavy libraries are imported inside the commands that use them, so that
`--help` and `validate` answer at once.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelclean.errors import ConfigError, GateError, LabelcleanError, StorageError

if TYPE_CHECKING:
    from labelclean.config import Config
    from labelclean.decisions import Decision
    from labelclean.nightly import Night

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


def _run_folder(folder: Path) -> Path:
    if not (folder / "manifest.json").is_file():
        raise StorageError(
            f"{folder}: must be a run folder, as `labelclean run` leaves them under storage.runs, but has no "
            "manifest.json. Name one of those."
        )
    return folder


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", callback=_run_folder)]

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


INTERRUPTED = 130


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


@app.command()
def init(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="A folder with one folder of images per class, a CSV file, or Parquet (file or folder).",
        ),
    ],
    image_root: Annotated[
        Path | None,
        typer.Option(
            "--image-root", metavar="DIR", help="Folder that image_path is relative to; default: beside LABELS."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="CONFIG", help="The config file to write.")] = Path(
        "config.yaml"
    ),
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Weights of the backbone (safetensors or state dict); default: timm fetches its own at the first run.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="OURS=THEIRS",
            help="A CSV file's own column name, such as given_label=defect. Repeatable.",
        ),
    ] = None,
    class_folder: Annotated[
        int, typer.Option("--class-folder", help="Which folder of a tree names the class; -1: the one of the image.")
    ] = 1,
    overrides: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Look at the labels and write a config with every key explained."""
    from labelclean.setup import write_first_config

    pairs = {ours: theirs for ours, _, theirs in (item.partition("=") for item in columns or [])}
    try:
        seen = write_first_config(
            labels,
            image_root,
            out,
            overrides or [],
            weights=weights,
            columns=pairs,
            class_folder=class_folder,
            force=force,
        )
    except FileExistsError as fault:
        _fail(str(fault), 2)
    for sentence in seen:
        typer.echo(sentence)
    typer.echo(f"wrote {out}\nnext: labelclean run {out}   (labelclean run {out} --dry-run tells time and disk first)")


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
    from labelclean import steps
    from labelclean.storage import read_config

    _log_to_stderr(logging.WARNING if quiet or as_json else logging.INFO)
    items = list(overrides or [])
    items += [_budget_item(budget)] if budget is not None else []
    items += [f"review.reopen={json.dumps(reopen)}"] if reopen else []
    items += [f"run.window={json.dumps(window)}"] if window is not None else []
    items += [f"run.cluster={json.dumps(cluster)}"] if cluster is not None else []
    items += [f"run.max_memory={json.dumps(max_memory)}"] if max_memory is not None else []
    items += [f"run.reference={json.dumps(str(reference))}"] if reference is not None else []
    if dry_run:
        from labelclean.dry_run import forecast_record, forecast_run

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
    outcome = steps.read_outcome(night.folder)
    if as_json:
        typer.echo(json.dumps({"run_folder": str(outcome.folder)} | outcome.summary, ensure_ascii=False))
    elif not quiet:
        from labelclean.summary import print_summary

        print_summary(outcome)
    if outcome.exit_code:
        if quiet or as_json or not sys.stdout.isatty():  # else the summary has said it
            _fail(outcome.sentence, outcome.exit_code)
        raise typer.Exit(outcome.exit_code)


@app.command()
def report(
    run_folder: RunArgument,
    lang: Annotated[str, typer.Option("--lang", help="en or ja.")] = "en",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: report-RUN.html here.")] = None,
    top: Annotated[int, typer.Option("--top", min=0, help="Most samples shown with their pictures.")] = 60,
    max_mb: Annotated[float, typer.Option("--max-mb", min=0.1, help="The file is never larger.")] = 8.0,
) -> None:
    """Write a run's report as one HTML file that opens anywhere, without a network."""
    from labelclean.report import write_report

    target = out or Path(f"report-{run_folder.resolve().name}{'' if lang == 'en' else '.' + lang}.html")
    typer.echo(f"wrote {write_report(run_folder, lang=lang, max_bytes=int(max_mb * 1e6), top=top, out=target)}")


@app.command()
def poc(
    config: ConfigArgument,
    samples: Annotated[int, typer.Option("--samples", min=60, help="Size of the random sample.")] = 1000,
    seconds: Annotated[
        float, typer.Option("--seconds-per-sample", min=0.1, help="What a person needs to review one sample.")
    ] = 10.0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where poc.html and poc.json go.")] = Path("poc"),
    lang: Annotated[str, typer.Option("--lang", help="en or ja.")] = "en",
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Try a random sample: learning curve, risks, what the whole data set would cost and bring, one recommendation."""
    from labelclean.poc import run_trial, write_trial
    from labelclean.report.texts import Texts
    from labelclean.report.trial_page import trial_sentences
    from labelclean.storage import read_config

    texts = Texts(lang)
    _log_to_stderr(logging.WARNING if quiet or as_json else logging.INFO)
    record = run_trial(read_config(config, overrides or []), num_samples=samples, seconds_per_sample=seconds)
    page = write_trial(record, out, texts)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False))
    else:
        typer.echo("\n".join([*trial_sentences(record, texts), f"wrote {page} and {page.with_suffix('.json')}"]))


@app.command("export")
def export_queue(
    run_folder: RunArgument,
    to: Annotated[str, typer.Option("--to", help="sheet, label-studio, cvat, fiftyone, huggingface or csv.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder; a killed export is finished.")],
    suggestions: Annotated[
        bool, typer.Option("--suggestions/--no-suggestions", help="Show what the run thinks; audits are always blind.")
    ] = True,
    max_side: Annotated[int, typer.Option("--max-side", min=16, help="Longest side of the previews in pixels.")] = 2048,
    push: Annotated[bool, typer.Option("--push", help="Send it to the Label Studio at LABEL_STUDIO_URL.")] = False,
) -> None:
    """Write a run's review queue for an annotation tool."""
    from labelclean.exchange import export_run

    root = os.environ.get("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT")
    done = export_run(
        run_folder,
        to,  # type: ignore[arg-type]  # an unknown tool is refused with the list of tools
        out,
        suggestions=suggestions,
        document_root=Path(root) if root else None,
        max_side=max_side,
    )
    typer.echo(
        f"exported {done.num_tasks:,} samples in {done.num_parts} parts to {done.folder} ({done.num_blind:,} blind)"
    )
    for missing in done.unreadable:
        typer.echo(f"not exported: {missing}", err=True)
    if push:
        from labelclean.exchange.label_studio_server import push_export

        typer.echo(f"pushed to Label Studio project {push_export(out, os.environ)}")
    else:
        typer.echo(f"next: {done.next_step}")


@app.command("import")
def import_answers(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What the tool exported; with --pull, where to write it.")
    ],
    config: Annotated[Path, typer.Option("--config", metavar="CONFIG", help="The config whose ledger remembers.")],
    from_tool: Annotated[str, typer.Option("--from", help="The tool, as in export --to.")],
    export: Annotated[Path, typer.Option("--export", metavar="DIR", help="The folder that `labelclean export` wrote.")],
    annotator: Annotated[
        str | None, typer.Option("--annotator", help="Who answered, where the file does not say.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take what can be used instead of all or nothing.")
    ] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Fetch FILE from Label Studio first.")] = False,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring annotators' answers back into the ledger, strictly by the export's manifest."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from labelclean.exchange import import_decisions
    from labelclean.ledger import append_decisions, ledger_url, open_ledger
    from labelclean.storage import read_config

    settings = read_config(config, overrides or [])
    if pull:
        from labelclean.exchange.label_studio_server import pull_answers

        pull_answers(export, file, os.environ)
    now = datetime.now(UTC)
    told, decisions = import_decisions(
        file,
        from_tool,  # type: ignore[arg-type]  # an unknown tool is refused with the list of tools
        export,
        now=now,
        annotator=annotator,
        partial=partial,
    )
    ledger = open_ledger(ledger_url(settings.ledger.url, settings.storage.runs, os.environ), now)
    added = append_decisions(ledger, decisions)
    if as_json:
        typer.echo(json.dumps(asdict(told) | {"num_new": added}, ensure_ascii=False))
        return
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(told.by_decision.items()))
    typer.echo(
        f"{told.num_decisions:,} decisions read ({kinds}), {added:,} new in the ledger, {told.num_unanswered:,} unanswered"
    )
    for label, problems in (
        ("unmatched", told.unmatched),
        ("conflicting", told.conflicting),
        ("unknown", told.unknown_labels),
    ):
        for problem in problems:
            typer.echo(f"{label}: {problem}", err=True)
    typer.echo(f"next: labelclean run {config}")


@app.command()
def apply(
    run_folder: RunArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet file to write; never overwritten.")],
    config: Annotated[Path, typer.Option("--config", metavar="CONFIG", help="The config whose ledger is read.")],
    prefix: Annotated[str, typer.Option("--prefix", help="Put before the new columns' names.")] = "",
    unreviewed: Annotated[
        bool,
        typer.Option(
            "--unreviewed",
            help="Write also what may be worse than the given labels and nobody has looked at.",
        ),
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Write the original labels with given, predicted, verified and soft labels side by side.

    Refused with exit code 3 where labels may get worse and fewer than review.audit_samples random looks are in the run.
    """
    from labelclean.apply import apply_labels
    from labelclean.storage import read_config

    decisions = _decisions(read_config(config, overrides or []))
    done = apply_labels(run_folder, decisions, out, prefix=prefix, unreviewed=unreviewed)
    counts = ", ".join(f"{status} {count:,}" for status, count in sorted(done.by_status.items()))
    typer.echo(f"wrote {done.path}: {done.num_rows:,} rows ({counts})")


@app.command()
def status(config: ConfigArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Say how the newest run's estimate held against the decisions and whether going on is worth it."""
    from dataclasses import asdict

    from labelclean.runs import run_folders
    from labelclean.status import measure_status
    from labelclean.storage import read_config

    settings = read_config(config, overrides or [])
    reviewable = [run for run in run_folders(settings.storage.runs) if (run / "review_queue.parquet").is_file()]
    if not reviewable:
        raise StorageError(
            f"{settings.storage.runs}: no run with a review queue is there yet. Start one: labelclean run {config}."
        )
    decisions = _decisions(settings)
    answered = {decision.run_id for decision in decisions}
    newest = next((run for run in reversed(reviewable) if run.name in answered), reviewable[-1])
    measured = measure_status(newest, decisions, seconds_per_sample=settings.review.seconds_per_sample)
    typer.echo(json.dumps(asdict(measured)) if as_json else "\n".join(measured.sentences()))


def _budget_item(budget: str) -> str:
    """The config item that a number of samples, or a time such as 45min, stands for."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(min|h|)", budget.strip())
    if found is None or not (found[2] or found[1].isdigit()):
        raise ConfigError(f"--budget must be a number of samples, or a time such as 45min or 1.5h, but is {budget!r}.")
    if not found[2]:
        return f"review.budget={found[1]}"
    return f"review.minutes={float(found[1]) * (60 if found[2] == 'h' else 1):g}"


@app.command()
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
    from labelclean.storage import read_config

    _log_to_stderr(logging.WARNING if quiet or as_json else logging.INFO)
    settings = read_config(config, overrides or [])
    if sweep:
        command.run_sweep(settings, sample, epochs, tell=typer.echo, as_json=as_json)
    if compare:
        command.run_comparison(settings, adapted, tell=typer.echo, as_json=as_json)
    if not (sweep or compare):
        command.run_adaptation(settings, resume=resume, tell=typer.echo, as_json=as_json)


@app.command()
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
        _fail(f"--window must be day, hour, minute or none, but is {window!r}.", 2)
    for key, value in _PREFECT_DEFAULTS.items():
        if key != "PREFECT_LOGGING_LEVEL":  # the server's pages show what each run said
            os.environ.setdefault(key, value)
    _log_to_stderr(logging.INFO)
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


@app.command()
def prune(
    config: ConfigArgument,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many of the newest runs stay.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old runs, never the newest good one nor one that a decision refers to."""
    from dataclasses import asdict

    from labelclean.ledger import ledger_exists, ledger_url, open_ledger, referred_runs
    from labelclean.lock import run_lock
    from labelclean.runs import prune_runs, remove_leftovers
    from labelclean.storage import read_config

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
    said = "would remove" if dry_run else "removed"
    typer.echo(
        f"{said} {len(done.removed):,} runs, {done.num_bytes / 1e6:,.1f} MB"
        + "".join(f"\n  {name}" for name in done.removed)
    )


@app.command()
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

    from labelclean.doctor import examine

    checks = examine(config, overrides or [], os.environ, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], ensure_ascii=False))
    else:
        for check in checks:
            typer.echo(f"{check.outcome:4}  {check.name}: {check.sentence}")
    if any(check.outcome == "fail" for check in checks):
        raise typer.Exit(2)


def _decisions(settings: Config) -> tuple[Decision, ...]:
    """What the ledger holds on the data set of a config."""
    from labelclean import steps
    from labelclean.ledger import decisions_of, ledger_exists, ledger_url, open_ledger

    url = ledger_url(settings.ledger.url, settings.storage.runs, os.environ)
    return decisions_of(open_ledger(url), steps.dataset_name(settings)) if ledger_exists(url) else ()


def _night(call: Callable[[], Night]) -> Night:
    """What came of a run, also of one that a gate refused after its measurements were published."""
    from labelclean.nightly import Night

    try:
        return call()
    except GateError as refusal:
        if refusal.run_folder is None:
            raise
        return Night(Path(refusal.run_folder))


def _run_plain(config: Path, overrides: list[str], force: bool) -> Night:
    """Run the steps in this process."""
    from datetime import UTC, datetime

    from labelclean import steps
    from labelclean.nightly import run_night

    return run_night(
        config, overrides, lambda settings: steps.clean(settings, force=force), os.environ, lambda: datetime.now(UTC)
    )


def _run_flow(config: Path, overrides: list[str], force: bool) -> Night:
    """Run the Prefect flow in this process, on Prefect's embedded server unless PREFECT_API_URL names another."""
    from labelclean.nightly import Night
    from labelclean.storage import read_config

    try:
        read_config(config, overrides)
    except LabelcleanError:  # the plain way tells it too, and at once
        return _run_plain(config, overrides, force)
    for key, value in _PREFECT_DEFAULTS.items():
        os.environ.setdefault(key, value)
    if "PREFECT_API_URL" not in os.environ:
        logging.getLogger("labelclean").info(
            "starting Prefect's embedded server (--plain runs the same steps without it)"
        )
    flow: Any = importlib.import_module("labelclean.flows.clean_labels")
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_is_news)
    told = flow.clean_labels(str(config.resolve()), overrides, force)
    return Night(Path(told["run_folder"]) if told["run_folder"] else None, told["nothing_to_do"])


def _is_news(record: logging.LogRecord) -> bool:
    """Whether Prefect's line says what is not said at the end: a refusal and Ctrl-C are, an error of ours is not."""
    refusals = "|".join(kind.__name__ for kind in LabelcleanError.__subclasses__())
    said_at_the_end = rf"interrupt signal|exception( during execution)?:? ({refusals})\b(?!.* - Retry )"
    return re.search(said_at_the_end, record.getMessage(), re.DOTALL) is None


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


def _say_stopped() -> None:
    sys.stderr.write("labelclean: stopped. Features extracted so far are kept; run again to go on.\n")


def main() -> None:
    """Run the command line; refusals end with their exit code and one message, never a traceback."""
    os.environ.update(_SILENCE)
    for key, value in _THREADS.items():
        os.environ.setdefault(key, value)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what systemd and Kubernetes stop with is like Ctrl-C
    try:
        app()
    except LabelcleanError as refusal:
        sys.stderr.write(f"labelclean: {refusal}\n")
        sys.exit(refusal.exit_code)
    except KeyboardInterrupt:
        _say_stopped()
        sys.exit(INTERRUPTED)
    except SystemExit as end:  # typer turns Ctrl-C into an exit of its own, without a word
        if end.code == INTERRUPTED:
            _say_stopped()
        raise


if __name__ == "__main__":
    main()
