"""The commands around people: `export`, `import`, `apply`, `status`, `history`, `record`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelclean.cli.arguments import ConfigArgument, JsonOption, RunArgument, SetOption
from labelclean.cli.process import user_name
from labelclean.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from labelclean.config import Config
    from labelclean.review.decisions import Decision
    from labelclean.review.record import LedgerRow


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
    from labelclean.review.exchange.tools import export_run

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
        from labelclean.review.exchange.label_studio_server import push_export

        typer.echo(f"pushed to Label Studio project {push_export(out, os.environ)}")
    else:
        typer.echo(f"next: {done.next_step}")


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

    from labelclean.review.exchange.tools import import_decisions
    from labelclean.review.ledger import append_decisions, ledger_url, open_ledger
    from labelclean.storage.parquet import read_config

    settings = read_config(config, overrides or [])
    if pull:
        from labelclean.review.exchange.label_studio_server import pull_answers

        pull_answers(export, file, os.environ)
    now = datetime.now(UTC)
    report, decisions = import_decisions(
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
        typer.echo(json.dumps(asdict(report) | {"num_new": added}, ensure_ascii=False))
        return
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(report.by_decision.items()))
    typer.echo(
        f"{report.num_decisions:,} decisions read ({kinds}), {added:,} new in the ledger, {report.num_unanswered:,} unanswered"
    )
    for label, problems in (
        ("unmatched", report.unmatched),
        ("conflicting", report.conflicting),
        ("unknown", report.unknown_labels),
    ):
        for problem in problems:
            typer.echo(f"{label}: {problem}", err=True)
    typer.echo(f"next: labelclean run {config}")


def apply(
    run_folder: RunArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="File to write, never overwritten: .parquet, .csv, .xlsx or .json (COCO); of boxes, the format they came in.",
        ),
    ],
    config: Annotated[Path, typer.Option("--config", metavar="CONFIG", help="The config whose ledger is read.")],
    prefix: Annotated[str, typer.Option("--prefix", help="Put before the new columns' names.")] = "",
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FORM",
            help="folder: --out is a folder of images per class; original: the file or folder that boxes came from, with only "
            "classes changed; rows: one row per image and label.",
        ),
    ] = None,
    links: Annotated[bool, typer.Option("--links", help="With --to folder: links to the images, no copies.")] = False,
    unreviewed: Annotated[
        bool,
        typer.Option(
            "--unreviewed",
            help="Write also what may be worse than the given labels and nobody has looked at.",
        ),
    ] = False,
    without_leaks: Annotated[
        bool,
        typer.Option(
            "--without-leaks",
            help="Leave samples out so that near-copies and pictures of one part stand in one split only.",
        ),
    ] = False,
    new_class: Annotated[
        list[str] | None,
        typer.Option(
            "--new-class", metavar="NAME=KIND", help="Name a kind that the run proposes; may be given several times."
        ),
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Write the original labels with given, predicted, verified and soft labels side by side; the ledger remembers it.

    Refused with exit code 3 where labels may get worse and fewer than review.audit_samples random looks are in the run.
    """
    from datetime import UTC, datetime
    from importlib.metadata import version

    from labelclean.review.apply import apply_labels, written_digest
    from labelclean.review.ledger import Application, append_application, ledger_url, open_ledger
    from labelclean.storage.parquet import read_config, read_json

    settings = read_config(config, overrides or [])
    ledger = open_ledger(ledger_url(settings.ledger.url, settings.storage.runs, os.environ))
    decisions = held_decisions(settings)
    done = apply_labels(
        run_folder,
        decisions,
        out,
        prefix=prefix,
        unreviewed=unreviewed,
        to=to,
        links=links,
        without_leaks=without_leaks,
        new_classes=new_class or (),
    )
    manifest = read_json(run_folder / "manifest.json")
    application = Application(
        run_id=str(manifest["run_id"]),
        dataset=str(manifest["dataset"]),
        applied_at=datetime.now(UTC),
        applied_by=user_name(),
        tool=f"labelclean {version('labelclean')}" + " --without-leaks" * without_leaks,
        path=str(done.path.absolute()),
        file_digest=written_digest(done.path),
        num_rows=done.num_rows,
        unreviewed=unreviewed,
    )
    append_application(ledger, application)
    counts = ", ".join(f"{status} {count:,}" for status, count in sorted(done.by_status.items()))
    typer.echo(f"wrote {done.path}: {done.num_rows:,} rows ({counts})")
    for what, number in done.left_out.items():
        typer.echo(f"left out: {number:,} {what}")
    if new_class:
        added = sorted({item.rpartition("=")[0].strip() for item in new_class})
        typer.echo(
            f"next: add {', '.join(added)} to data.class_names and run again; what people have answered keeps its meaning"
        )


def status(config: ConfigArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Say how the newest run's estimate held against the decisions and whether going on is worth it."""
    from dataclasses import asdict

    from labelclean.review.status import measure_status
    from labelclean.storage.parquet import read_config
    from labelclean.storage.run_folders import run_folders

    settings = read_config(config, overrides or [])
    reviewable = [run for run in run_folders(settings.storage.runs) if (run / "review_queue.parquet").is_file()]
    if not reviewable:
        raise StorageError(
            f"{settings.storage.runs}: no run with a review queue is there yet. Start one: labelclean run {config}."
        )
    decisions = held_decisions(settings)
    answered = {decision.run_id for decision in decisions}
    newest = next((run for run in reversed(reviewable) if run.name in answered), reviewable[-1])
    measured = measure_status(newest, decisions, seconds_per_sample=settings.review.seconds_per_sample)
    typer.echo(json.dumps(asdict(measured)) if as_json else "\n".join(measured.sentences()))


def history(
    sample: Annotated[str, typer.Argument(metavar="SAMPLE", help="A sample_id.")],
    config: Annotated[
        Path, typer.Option("--config", metavar="CONFIG", help="The config whose ledger and runs are read.")
    ],
    lang: Annotated[str, typer.Option("--lang", help="en or ja.")] = "en",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell everything that happened to a sample: labels, runs, decisions, applications, oldest first."""
    from labelclean.report.record_page import event_line, event_record
    from labelclean.review.record import sample_history
    from labelclean.runs.steps import dataset_name
    from labelclean.storage.parquet import read_config
    from labelclean.texts import Texts

    texts = Texts(lang)
    settings = read_config(config, overrides or [])
    events = sample_history(settings, dataset_name(settings), _ledger_rows(settings), sample)
    if not events:
        raise ConfigError(
            f"history: the sample must be in a run, the labels or the ledger of data set {dataset_name(settings)!r}, but "
            f"{sample!r} is in none. Check the sample_id, and that --config names its data set."
        )
    for event in events:
        typer.echo(json.dumps(event_record(event), ensure_ascii=False) if as_json else event_line(event, texts))


def record(
    config: Annotated[
        Path, typer.Option("--config", metavar="CONFIG", help="The config whose ledger and runs are read.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="New file: .html or .csv.")],
    lang: Annotated[str, typer.Option("--lang", help="en or ja.")] = "en",
    overrides: SetOption = None,
) -> None:
    """Write the record for an auditor: every label, run, decision and application, and whether the ledger is as written."""
    from datetime import UTC, datetime

    from labelclean.report.record_page import chain_sentence, write_record
    from labelclean.review.ledger import check_chain, ledger_exists, ledger_url
    from labelclean.review.record import record_events
    from labelclean.runs.steps import dataset_name
    from labelclean.storage.parquet import read_config
    from labelclean.texts import Texts

    texts = Texts(lang)
    settings = read_config(config, overrides or [])
    events, labels = record_events(settings, dataset_name(settings), _ledger_rows(settings))
    url = ledger_url(settings.ledger.url, settings.storage.runs, os.environ)
    chain = check_chain(url) if ledger_exists(url) else None
    num = write_record(events, labels, chain, out, texts, dataset=dataset_name(settings), now=datetime.now(UTC))
    typer.echo(f"wrote {out}: {num:,} entries\n{chain_sentence(chain, texts)}")


def _ledger_rows(settings: Config) -> list[LedgerRow]:
    """What the ledger holds on the data set of a config, brought to the newest schema."""
    from labelclean.review.ledger import chained_rows, ledger_exists, ledger_url, open_ledger
    from labelclean.runs.steps import dataset_name

    url = ledger_url(settings.ledger.url, settings.storage.runs, os.environ)
    return chained_rows(open_ledger(url), dataset_name(settings)) if ledger_exists(url) else []


def held_decisions(settings: Config) -> tuple[Decision, ...]:
    """What the ledger holds on the data set of a config."""
    from labelclean.review.ledger import decisions_of, ledger_exists, ledger_url, open_ledger
    from labelclean.runs import steps

    url = ledger_url(settings.ledger.url, settings.storage.runs, os.environ)
    return decisions_of(open_ledger(url), steps.dataset_name(settings)) if ledger_exists(url) else ()
