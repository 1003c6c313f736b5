"""The commands of an attribute agreement study: `study plan`, `study import`, `study report`."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelclean.cli.arguments import JsonOption, RunArgument, SetOption
from labelclean.cli.review import held_decisions
from labelclean.errors import ConfigError

if TYPE_CHECKING:
    from labelclean.config import Config
    from labelclean.review.agreement import Ratings

app = typer.Typer(help="Measure how well inspectors agree: attribute agreement study (gauge study for attributes).")
PICTURE_PX = 352


@app.command("plan")
def plan(
    run_folder: RunArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder; a killed plan is finished.")],
    samples: Annotated[int, typer.Option("--samples", help="How many samples.")] = 50,
    appraisers: Annotated[int, typer.Option("--appraisers", help="How many inspectors.")] = 3,
    trials: Annotated[int, typer.Option("--trials", help="How often each looks at each sample.")] = 2,
    design: Annotated[
        str,
        typer.Option("--design", help="balanced: a third sure, a third border, a third suspected; or random."),
    ] = "balanced",
    to: Annotated[str, typer.Option("--to", help="sheet or label-studio.")] = "sheet",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Feeds draw and orders; default: the run's.")
    ] = None,
) -> None:
    """Draw samples of a run and write a blind sheet for each inspector and trial, each in another order."""
    from labelclean.config import recorded_config
    from labelclean.review.study import STANDARD, StudyWish, plan_study, sitting_folder
    from labelclean.storage.parquet import read_json

    root = os.environ.get("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT")
    config = recorded_config(read_json(run_folder / "manifest.json")["config"])
    wish = StudyWish(samples, appraisers, trials, design, to, seed)  # type: ignore[arg-type]  # other words are refused
    study, num_open = plan_study(run_folder, held_decisions(config), out, wish, Path(root) if root else None)
    drawn = Counter(sample.stratum for sample in study.samples)
    counts = ", ".join(f"{stratum} {count:,}" for stratum, count in sorted(drawn.items()))
    typer.echo(f"planned {len(study.samples):,} samples ({counts}) for {appraisers} x {trials} sittings in {out}")
    page = "sheet.html" if to == "sheet" else "config.xml and part_*/tasks.json"
    typer.echo(f"each sitting: {sitting_folder(out, 1, 1)}/{page}, and so on; days between trials help to forget")
    if num_open:
        typer.echo(
            f"{num_open:,} samples have no verified label yet: whose word stands answers {out / STANDARD}, and "
            f"labelclean import ... --from {to} --export {out / STANDARD} brings it into the ledger"
        )
    typer.echo(f"next: labelclean study import FILES --study {out}")


@app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="What the sheets or projects saved.")],
    study: Annotated[Path, typer.Option("--study", metavar="DIR", help="The folder that `study plan` wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Take them in the place of earlier files.")] = False,
) -> None:
    """Bring inspectors' files into the study, strictly: all of them or none; each says which sitting it answers."""
    from datetime import UTC, datetime

    from labelclean.review.study import import_study

    for one in import_study(files, study, now=datetime.now(UTC), replace=replace):
        typer.echo(
            f"appraiser {one.appraiser} ({one.name}), trial {one.trial}: {one.num_answers:,} of {one.num_samples:,} answered"
        )
    typer.echo(f"next: labelclean study report {study} --config CONFIG")


@app.command("report")
def report(
    config: Annotated[
        Path, typer.Option("--config", metavar="CONFIG", help="The config whose ledger is the standard.")
    ],
    study: Annotated[
        Path | None, typer.Argument(metavar="STUDY", help="The folder that `study plan` wrote; or --rows.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option("--rows", help="Without a study: labels (by annotator_id), or ledger (repeated decisions)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the report goes; default: STUDY/report.")
    ] = None,
    ok: Annotated[
        str | None,
        typer.Option(
            "--ok", metavar="CLASS", help="Class of parts without a defect; default: study.ok, else classes.ok."
        ),
    ] = None,
    lang: Annotated[str, typer.Option("--lang", help="en or ja.")] = "en",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how well inspectors agree with themselves, each other and the verified labels: HTML, CSV, Excel, JSON."""
    from labelclean.report.study_page import study_sentences, write_study
    from labelclean.review.agreement import measure_agreement
    from labelclean.review.agreement_record import agreement_record, check_ok_class
    from labelclean.storage.parquet import read_config
    from labelclean.texts import Texts

    if (study is None) == (rows is None) or rows not in (None, "labels", "ledger"):
        raise ConfigError(
            f"study report: must be given a STUDY, or --rows labels or --rows ledger, but got STUDY {study and str(study)!r} "
            f"and --rows {rows!r}. Give one of them."
        )
    texts = Texts(lang)
    settings = read_config(config, [*(overrides or []), *([f"study.ok={json.dumps(ok)}"] if ok is not None else [])])
    ratings, facts = _planned(study, settings) if study else _there_already(str(rows), settings)
    limits = settings.study
    limits = limits if limits.ok is not None else limits.model_copy(update={"ok": settings.classes.ok})
    check_ok_class(limits.ok, ratings.class_names)
    record = agreement_record(ratings, measure_agreement(ratings, limits.ok), limits, facts)
    target = out or (study or Path("study")) / "report"
    written = write_study(record, _pictures(record, study, settings), target, texts)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False))
    else:
        typer.echo("\n".join([*study_sentences(record, texts), f"wrote {', '.join(map(str, written))}"]))


def _planned(study: Path, settings: Config) -> tuple[Ratings, dict[str, Any]]:
    from datetime import UTC, datetime

    from labelclean.review.study import study_ratings

    planned, ratings = study_ratings(study, held_decisions(settings), now=datetime.now(UTC))
    drawn = Counter(sample.stratum for sample in planned.samples)
    return ratings, {
        "source": "study",
        "dataset": planned.dataset,
        "run_id": planned.run_id,
        "design": planned.design,
        "seed": planned.seed,
        "trials": planned.trials,
        "strata": dict(sorted(drawn.items())),
        "seconds_per_sample": settings.review.seconds_per_sample,
    }


def _there_already(rows: str, settings: Config) -> tuple[Ratings, dict[str, Any]]:
    from labelclean.review.ratings import label_ratings, named_classes, review_ratings, verified_labels
    from labelclean.runs.steps import dataset_name
    from labelclean.storage.run_folders import good_runs

    decisions, dataset, seed = held_decisions(settings), dataset_name(settings), settings.run.seed
    newest = next((run.folder for run in good_runs(settings.storage.runs, dataset)), None)
    names, labels = named_classes(settings, decisions)
    if rows == "ledger":
        ratings = review_ratings(decisions, names, seed=seed)
    else:
        ratings = label_ratings(labels, names, verified_labels(newest, decisions), seed=seed)
    if ratings is None:
        where = "the ledger" if rows == "ledger" else f"{settings.data.labels} (column annotator_id)"
        raise ConfigError(
            f"study report --rows {rows}: at least two answers to one sample are needed to compare, but {where} holds none. "
            "Plan a study: labelclean study plan RUN --out DIR."
        )
    return ratings, {
        "source": rows,
        "dataset": dataset,
        "trials": int((ratings.answers >= 0).any(axis=(0, 2)).sum()),
        "seconds_per_sample": settings.review.seconds_per_sample,
    }


def _pictures(record: dict[str, Any], study: Path | None, settings: Config) -> dict[str, str]:
    """The disputed samples' pictures: those of the study, else those of the newest run."""
    from labelclean.review.pictures import image_places, pictures
    from labelclean.review.study import study_pictures
    from labelclean.storage.run_folders import good_runs

    wanted = [one["sample_id"] for one in record["disputed"]]
    if study is not None:
        return study_pictures(study, wanted, PICTURE_PX)
    newest = next((run for run in good_runs(settings.storage.runs, record["dataset"])), None)
    if newest is None:
        return {}
    places = image_places(newest.folder, wanted)
    made = pictures(dict.fromkeys(places, frozenset({PICTURE_PX})), places, newest.manifest.get("config") or {})
    return {sample: picture.source for (sample, _), picture in made.items() if picture.source}
