"""The commands before the first run: `init`, `poc`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from labelclean.cli.arguments import ConfigArgument, JsonOption, QuietOption, SetOption
from labelclean.cli.process import fail, log_to_stderr


def init(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="A folder of images per class; a CSV, list, Excel or Parquet file; or one of COCO, CVAT, FiftyOne, "
            "Hugging Face, Label Studio, Pascal VOC or YOLO.",
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
            help="A table's own column, such as given_label=defect (or its number, if it has no header; in Label Studio, the control). Repeatable.",
        ),
    ] = None,
    class_folder: Annotated[
        int | None,
        typer.Option(
            "--class-folder",
            help="Which folder of a tree names the class, from 1; -1: the one of the image; default: the first that may.",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding", metavar="NAME", help="Code page of a CSV file or list, such as euc_jp, gbk, cp1252."
        ),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option("--sheet", metavar="NAME", help="Sheet of an Excel workbook; default: the first that shows."),
    ] = None,
    boxes: Annotated[
        bool | None,
        typer.Option(
            "--boxes/--no-boxes",
            help="Every box is a sample, or whole images are; default: boxes where a file holds them and no class of whole images.",
        ),
    ] = None,
    several_labels: Annotated[
        bool,
        typer.Option(
            "--several-labels",
            help="An image may have several labels, or none: rows of one image, or marks in one row, are its labels.",
        ),
    ] = False,
    unlisted_have_none: Annotated[
        bool,
        typer.Option(
            "--unlisted-have-none",
            help="With --several-labels: images below the image root that no row names have no label, as in Severstal's train.csv.",
        ),
    ] = False,
    overrides: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Look at the labels and write a config with every key explained."""
    from labelclean.starting.source import Asked
    from labelclean.trial.first_config import write_first_config

    pairs = {ours: theirs for ours, _, theirs in (item.partition("=") for item in columns or [])}
    if not all(ours and theirs for ours, theirs in pairs.items()) or class_folder == 0 or (class_folder or 0) < -1:
        fail("--column must look like given_label=NAME, and --class-folder must be 1 or more, or -1.", 2)
    try:
        seen = write_first_config(
            labels,
            out,
            overrides or [],
            weights=weights,
            asked=Asked(
                pairs,
                class_folder,
                encoding,
                sheet,
                image_root,
                boxes,
                several_labels=several_labels,
                unlisted_have_none=unlisted_have_none,
            ),
            force=force,
        )
    except FileExistsError as fault:
        fail(str(fault), 2)
    for sentence in seen:
        typer.echo(sentence)
    typer.echo(f"wrote {out}\nnext: labelclean run {out}   (labelclean run {out} --dry-run tells time and disk first)")


def poc(
    config: ConfigArgument,
    samples: Annotated[int, typer.Option("--samples", min=60, help="Size of the random sample.")] = 1000,
    seconds: Annotated[
        float, typer.Option("--seconds-per-sample", min=0.1, help="What a person needs to review one sample.")
    ] = 10.0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where poc.html and poc.json go.")] = Path("poc"),
    lang: Annotated[str, typer.Option("--lang", help="en or ja.")] = "en",
    backbones: Annotated[
        str | None,
        typer.Option(
            "--backbones",
            metavar="A,B,...",
            help="Compare these with the configured backbone: timm names or weights files, then if wanted @PIXELS and "
            "+several (backbone.depth), then +2x3 or +auto (backbone.tiles).",
        ),
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Try a random sample: learning curve, risks, what the whole data set would cost and bring, one recommendation."""
    from labelclean.report.trial_page import trial_sentences
    from labelclean.storage.parquet import read_config
    from labelclean.texts import Texts
    from labelclean.trial.backbones import try_backbones
    from labelclean.trial.poc import run_trial, write_trial

    texts = Texts(lang)
    log_to_stderr(logging.WARNING if quiet or as_json else logging.INFO)
    settings = read_config(config, overrides or [])
    tried = try_backbones(settings, backbones, num_samples=samples) if backbones else []
    record = run_trial(settings, num_samples=samples, seconds_per_sample=seconds) | {"backbones": tried}
    page = write_trial(record, out, texts)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False))
    else:
        typer.echo("\n".join([*trial_sentences(record, texts), f"wrote {page} and {page.with_suffix('.json')}"]))
