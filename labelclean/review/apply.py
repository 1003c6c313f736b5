"""Writes the labels anew: every original column and row, with predicted, verified and soft labels beside them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.config import recorded_config
from labelclean.errors import ConfigError, GateError, StorageError, TableError, listed
from labelclean.noise.promise import in_points, promise_of
from labelclean.review.boxes.files import source_of
from labelclean.review.decisions import Decision, Standing, is_audit_answer, measure_standing, standing_decisions
from labelclean.review.kinds import named_kinds
from labelclean.review.label_files import Form, Labels, Written, form_of, form_of_boxes, write_labels
from labelclean.review.label_set_columns import ROWS, label_rows, set_columns
from labelclean.review.leaks import LEAK_SET, SPLIT, leaving, split_codes
from labelclean.review.part_views import PART, decisions_of_parts
from labelclean.storage.label_sets import GIVEN, given_texts, texts_of_sets
from labelclean.storage.parquet import atomic_path, labels_dataset, latest_rows, read_json, read_table
from labelclean.storage.run_folders import MANIFEST, file_digest
from labelclean.storage.spellings import respelled
from labelclean.storage.tables import BOX_COLUMNS, SET_ASIDE, class_names_of, probability_names

_TEXTS = pa.list_(pa.string())


@dataclass(frozen=True)
class ApplyReport:
    """What the new labels hold.

    Attributes:
        path: The file.
        num_rows: Its rows, as many as the original's; in COCO and a folder, the images.
        by_status: Samples of each review status.
        left_out: What the file cannot hold, or images that cannot be used -> how many.
    """

    path: Path
    num_rows: int
    by_status: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)


def apply_labels(
    run_folder: Path,
    decisions: Sequence[Decision],
    out: Path,
    *,
    prefix: str = "",
    unreviewed: bool = False,
    to: str | None = None,
    links: bool = False,
    without_leaks: bool = False,
    new_classes: Sequence[str] = (),
) -> ApplyReport:
    """Write the original labels with what the run and the reviewers found beside them.

    Added columns: `predicted_label`, `soft_label`, `label_score` and `is_label_issue` of the run;
    `verified_label` where all reviewers agree on one; `candidate_labels_reviewed` where they
    left several open; `verified_votes` per class; `review_status` (`confirmed`, `corrected`,
    `disputed`, `one_of`, `not_class`, `none_of_these`, `unsure`, `bad_image`, `skipped`, `pending`, or `rejected`
    for an image that could not be used); and where it all comes from: `reviewed_by`,
    `reviewed_at`, `review_tools`, `review_run_ids`, `run_id`. The given label stays as it is.
    Of several labels per image, `predicted_labels`, `missing_labels`, `spurious_labels` and
    `verified_labels` are lists, and the probabilities of `soft_label` do not sum to 1.

    Args:
        run_folder: A published run.
        decisions: The data set's decisions.
        out: A new file; its suffix says what is written: Parquet, CSV, Excel (.xlsx) or COCO (.json). COCO, and a folder
            of images per class, have one label per image: the verified one where people settled on it, else the predicted.
        prefix: Put before the added columns' names, for labels that have such columns already.
        unreviewed: Write also where the run cannot rule out that its predicted labels are worse than the given ones,
            and too few samples drawn at random have been looked at to tell.
        to: `folder` for a folder of images per class, `original` for the file or folder that boxes came from, in which only
            classes change, `rows` for a row per image and label, where images have several, as a table; the other forms
            stand in the suffix.
        links: Links to the images in that folder instead of copies.
        without_leaks: Leave out samples so that near-copies and pictures of one part stand in one split only, the smallest
            of theirs (`leaks.leaving`).
        new_classes: `NAME=KIND` for kinds that the run proposes: their images get NAME as predicted label.

    Returns:
        The report.

    Raises:
        ConfigError: If ``out`` does not say what to write, there is nothing to link, the run knows no splits, or a new class
            cannot be used.
        GateError: If the predicted labels may be worse than the given ones; ``unreviewed`` writes them all the same.
        TableError: If the labels changed since the run, or have a column of an added name.
        StorageError: If ``out`` exists, the run is not whole, or the disk refuses.
    """
    form = form_of(out, None if to == ROWS else to)
    if links and form != "folder":
        raise ConfigError("--links goes with --to folder: other files hold no images. Leave it out.")
    if out.exists():
        raise StorageError(f"{out}: the file must be new, but exists; nothing is overwritten. Name another --out.")
    manifest = read_json(run_folder / MANIFEST)
    data = recorded_config(manifest["config"]).data
    labels = data.labels
    refined = read_table(run_folder / "refined_labels.parquet", "refined_labels")
    names = class_names_of(refined)
    named = named_kinds(run_folder, new_classes, names)
    if (is_set := GIVEN in refined.column_names) and form in ("coco", "folder"):
        raise ConfigError(
            f"--out {out.name}: a {form} file holds one label per image, but this run's images have several. Write a .parquet, "
            ".csv or .xlsx."
        )
    if to == ROWS and not is_set:
        raise ConfigError("--to rows: each image has one label here, which is a row already. Leave it out.")
    left = _leaving(run_folder, refined) if without_leaks else pa.array([], pa.string())
    if not unreviewed:
        _check_promise(run_folder, [one for one in decisions if one.run_id == manifest["run_id"]])
    rejected = read_table(run_folder / "rejects.parquet", "rejects").column("sample_id")
    names = (*names, *dict.fromkeys(named.values()))
    read = _with_set_aside(run_folder, refined)
    added = _added_columns(read, rejected, decisions, str(manifest["run_id"]), of_part=data.label_of == "part")
    added = _with_new_classes(added, named)
    by_status = _by_status(added.filter(pc.invert(pc.is_in(added.column("sample_id"), value_set=left))))
    added = added.rename_columns([added.column_names[0], *(prefix + name for name in added.column_names[1:])])
    since = manifest["config"].get("ingest", {}).get("since")
    files = [labels / name for name in manifest["labels_read"]] if since and not labels.is_file() else None
    dataset = labels_dataset(labels, files)
    stands = latest_rows(dataset) if files else None
    _check_columns(labels, dataset.schema, added)
    given = _given_sets(labels, dataset, stands, refined, data.spellings) if is_set else None
    _check_samples(labels, dataset, stands, read, added, run_folder, data.spellings, given)
    metadata = _metadata(labels, names, manifest)
    schema = pa.schema([*dataset.schema, *added.schema.remove(0)], metadata=metadata)
    root = data.image_root or (labels if labels.is_dir() else labels.parent)
    boxes = source_of(dataset.schema, labels.parent.resolve())
    form = form_of_boxes(form, boxes, out) if BOX_COLUMNS[0] in dataset.schema.names else form
    tables = _joined(dataset, stands, added, schema, left)
    if to == ROWS:
        schema, tables = label_rows(schema, tables, prefix)
    rows = Labels(schema, tables, names, root, prefix, boxes=boxes, spellings=data.spellings)
    written = _written(form, rows, out, links=links)
    leaks = {"samples that would leak between splits": len(left)} if without_leaks else {}
    return ApplyReport(out, written.num_rows, by_status, leaks | written.left_out)


def written_digest(path: Path) -> str:
    """Return what tells a written file or folder from any other.

    Args:
        path: The file or folder.

    Returns:
        SHA-256 in hexadecimal: of the file; of a folder, of its files' names and digests, one a line.

    Raises:
        StorageError: If it cannot be read.
    """
    try:
        if path.is_file():
            return file_digest(path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = "".join(f"{file_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
    except OSError as fault:
        raise StorageError(f"{path}: must be readable to record what was written, but: {fault.strerror}.") from None
    return hashlib.sha256(lines.encode()).hexdigest()


def review_status(standing: Standing, row: int, of_sample: Sequence[Decision]) -> str:
    """Return one word for where a sample's review stands.

    Args:
        standing: What the decisions say about all samples.
        row: The sample's row.
        of_sample: Its standing decisions.

    Returns:
        A decision, `disputed` or `pending`.
    """
    if standing.is_disputed[row]:
        return "disputed"
    kinds = {decision.decision for decision in of_sample}
    for kind in ("corrected", "confirmed", "bad_image", "none_of_these", "one_of", "not_class", "unsure", "skipped"):
        if kind in kinds:
            return kind
    return "pending"


# --- inside ---------------------------------------------------------------------------------------


def _added_columns(
    refined: pa.Table, rejected: pa.ChunkedArray, decisions: Sequence[Decision], run_id: str, *, of_part: bool
) -> pa.Table:
    """One row per sample, usable ones first."""
    if GIVEN in refined.column_names:
        return _with_rejected(set_columns(refined, decisions), rejected, run_id)
    names = class_names_of(refined)
    if of_part:
        decisions = decisions_of_parts(
            decisions, *(refined.column(name).to_pylist() for name in ("sample_id", "content_hash", PART))
        )
    ids = refined.column("sample_id").to_pylist()
    hashes, given = refined.column("content_hash").to_pylist(), refined.column("given_label").to_pylist()
    standing_of = standing_decisions(decisions, ids, hashes, given)
    standing = measure_standing(standing_of, names)
    classes = np.asarray(names, dtype=object)
    reviewed: list[dict[str, Any]] = []
    for row, of_sample in enumerate(standing_of):
        verified, left = int(standing.verified[row]), standing.candidates[row]
        status = review_status(standing, row, of_sample)
        reviewed.append(
            {
                "verified_label": names[verified] if verified >= 0 else None,
                "candidate_labels_reviewed": None if left.all() or verified >= 0 else classes[left].tolist(),
                "verified_votes": standing.votes[row].tolist() if standing.votes[row].any() else None,
                "review_status": "pending" if not of_sample else status,
                "reviewed_by": [decision.annotator_id for decision in of_sample],
                "reviewed_at": max((decision.reviewed_at for decision in of_sample), default=None),
                "review_tools": sorted({decision.tool for decision in of_sample}),
                "review_run_ids": sorted({decision.run_id for decision in of_sample}),
            }
        )
    schema = pa.schema(
        [
            ("verified_label", pa.string()),
            ("candidate_labels_reviewed", _TEXTS),
            ("verified_votes", pa.list_(pa.float32(), len(names))),
            ("review_status", pa.string()),
            ("reviewed_by", _TEXTS),
            ("reviewed_at", pa.timestamp("us", tz="UTC")),
            ("review_tools", _TEXTS),
            ("review_run_ids", _TEXTS),
        ]
    )
    soft = probability_names("soft_label", refined.column_names)
    from_run = refined.select(["sample_id", "predicted_label", *soft, "label_score", "is_label_issue"])
    table = from_run.replace_schema_metadata()
    for column, values in zip(schema, pa.Table.from_pylist(reviewed, schema=schema).columns, strict=True):
        table = table.append_column(column, values)
    return _with_rejected(table, rejected, run_id)


def _with_rejected(table: pa.Table, rejected: pa.ChunkedArray, run_id: str) -> pa.Table:
    """The rows of the usable samples, and after them those of images that could not be used."""
    missing = pa.table({"sample_id": rejected, "review_status": pa.array(["rejected"] * len(rejected), pa.string())})
    table = pa.concat_tables([table, missing], promote_options="default")
    return table.append_column("run_id", pa.array([run_id] * table.num_rows, pa.string()))


def _with_set_aside(run_folder: Path, refined: pa.Table) -> pa.Table:
    """What the run judged and, with nothing but their labels and images, what people had taken out."""
    path = run_folder / f"{SET_ASIDE}.parquet"
    if not path.is_file():
        return refined
    given = GIVEN if GIVEN in refined.column_names else "given_label"
    part = [PART] if PART in pq.read_schema(path).names else []
    aside = read_table(path, SET_ASIDE, ["sample_id", given, "content_hash", *part]).replace_schema_metadata()
    both = pa.concat_tables([refined, aside], promote_options="default")
    return both.replace_schema_metadata(refined.schema.metadata)


def _with_new_classes(added: pa.Table, named: Mapping[str, str]) -> pa.Table:
    """The images of a kind that a person has named get that name as their predicted label."""
    if not named:
        return added
    ids, at = added.column("sample_id").to_pylist(), added.column_names.index("predicted_label")
    before = added.column("predicted_label").to_pylist()
    after = [named.get(sample, label) for sample, label in zip(ids, before, strict=True)]
    return added.set_column(at, "predicted_label", pa.array(after, pa.string()))


def _by_status(added: pa.Table) -> dict[str, int]:
    """The samples of each status."""
    counts = added.column("review_status").value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(counts, key=lambda row: str(row["values"]))}


def _leaving(run_folder: Path, refined: pa.Table) -> pa.Array:
    """Ids of the samples without which every set of near-copies and every part stands in one split."""
    if LEAK_SET not in refined.column_names:
        raise ConfigError(
            f"--without-leaks: the labels must have had a column {SPLIT!r} when {run_folder.name} read them, but had none, or "
            "the run is older than this version. Leave the option out, or add the column and run again."
        )
    splits, _ = split_codes(refined.column(SPLIT))
    sets = pc.fill_null(refined.column(LEAK_SET), -1).to_numpy()
    return refined.column("sample_id").combine_chunks().filter(pa.array(leaving(sets, splits)))


def _check_promise(run_folder: Path, answers: Sequence[Decision]) -> None:
    """Refuse labels that may be worse than the given ones while too few random looks have told.

    Answers to the run's own queue came after it; the next run knows them.
    """
    promise = promise_of(read_json(run_folder / "summary.json"))
    remedy = "or give --unreviewed to write them all the same. Nothing was written."
    if promise is None:
        raise GateError(
            f"{run_folder}: the run must say what its predicted labels bring, but it was made by an older labelclean, and "
            f"they may be worse than the given ones. Run again and apply that run, {remedy}"
        )
    if promise.kind != "unseen":
        return
    num_new = len({one.sample_id for one in answers if is_audit_answer(one)})
    if num_new >= promise.num_missing:
        way = f"People have looked at {num_new:,} of its queue since: run again and apply that run, {remedy}"
    elif promise.num_queued:
        way = (
            f"Its queue holds {promise.num_queued:,}, of which people have looked at {num_new:,}: export it, import the "
            f"answers, run again and apply that run, {remedy}"
        )
    else:
        way = (
            f"Its queue holds none: set review.audit_samples to {promise.num_wanted}, run, have the queue looked at, run "
            f"again and apply that run, {remedy}"
        )
    low, high = (in_points(end, is_signed=True) for end in (promise.low, promise.high))
    raise GateError(
        f"{run_folder}: predicted labels are written where they make labels better for sure, or once the run knows "
        f"{promise.num_wanted:,} samples that were drawn at random and looked at (review.audit_samples), but it knows "
        f"{promise.num_looks:,}, and the share of right labels would change by {low} to {high} points: it may fall. {way}"
    )


def _check_columns(labels: Path, schema: pa.Schema, added: pa.Table) -> None:
    taken = sorted(set(schema.names) & set(added.column_names[1:]))
    if taken:
        raise TableError(
            f"{labels}: the columns that apply adds must be new, but the labels have {listed(taken)} already. "
            "Give a --prefix; every original column is kept."
        )


def _check_samples(
    labels: Path,
    dataset: Any,
    stands: Any,
    refined: pa.Table,
    added: pa.Table,
    run_folder: Path,
    spellings: Mapping[str, str],
    sets: Mapping[str, str] | None,
) -> None:
    """Refuse labels that are not those that the run read; ``sets`` are those of now, where images have several."""
    if sets is not None:
        texts = texts_of_sets(refined.column(GIVEN), class_names_of(refined))
        pairs_read = zip(refined.column("sample_id").to_pylist(), texts, strict=True)
        differ = {sample for sample, text in pairs_read if sets.get(sample, text) != text}
        differ |= set(added.column("sample_id").to_pylist()) ^ sets.keys()
        _refuse_changed(labels, run_folder, differ)
        return
    columns = [name for name in ("sample_id", "given_label", "annotator_id") if name in dataset.schema.names]
    now = respelled(dataset.to_table(columns=columns), spellings)
    now = now if stands is None else now.filter(pa.array(stands))
    known, found = set(added.column("sample_id").to_pylist()), set(now.column("sample_id").to_pylist())
    changed = known ^ found
    if "annotator_id" not in columns:
        given = dict(zip(*(refined.column(name).to_pylist() for name in columns), strict=True))
        pairs = zip(*(now.column(name).to_pylist() for name in columns), strict=True)
        changed |= {sample for sample, label in pairs if given.get(sample, label) != label}
    _refuse_changed(labels, run_folder, changed)


def _refuse_changed(labels: Path, run_folder: Path, changed: Collection[str]) -> None:
    if changed:
        raise TableError(
            f"{labels}: the labels must be those that run {run_folder.name} read, but {len(changed):,} samples came, "
            f"went or have another given label: {listed(sorted(map(str, changed)))}. Run again; nothing was written."
        )


def _given_sets(
    labels: Path, dataset: Any, stands: Any, refined: pa.Table, spellings: Mapping[str, str]
) -> dict[str, str]:
    """Each sample's labels as they are now."""
    columns = [name for name in ("sample_id", "given_label") if name in dataset.schema.names]
    now = dataset.to_table(columns=columns)
    now = respelled(now if stands is None else now.filter(pa.array(stands)), spellings)
    return given_texts(now, class_names_of(refined), labels.name)


def _metadata(labels: Path, names: Sequence[str], manifest: dict[str, Any]) -> dict[bytes, bytes]:
    """The original's metadata and where the new columns come from."""
    own = pq.read_schema(labels).metadata if labels.is_file() else None
    columns = {
        b"labelclean.classes": json.dumps(list(names)).encode(),
        b"labelclean.run_id": str(manifest["run_id"]).encode(),
        b"labelclean.dataset": str(manifest["dataset"]).encode(),
    }
    return {**(own or {}), **columns}


def _joined(dataset: Any, stands: Any, added: pa.Table, schema: pa.Schema, left: pa.Array) -> Iterator[pa.Table]:
    """The original a batch at a time, without some samples, each row with its sample's added columns."""
    ids = added.column("sample_id").combine_chunks()
    added = added.drop_columns(["sample_id"]).combine_chunks()
    start = 0
    for batch in dataset.to_batches(batch_size=8_192, batch_readahead=1, fragment_readahead=1):
        if stands is not None:
            start, batch = start + batch.num_rows, batch.filter(pa.array(stands[start : start + batch.num_rows]))
        batch = batch.filter(pc.invert(pc.is_in(batch.column("sample_id").cast(pa.string()), value_set=left)))
        beside = added.take(pc.index_in(batch.column("sample_id").cast(pa.string()), value_set=ids))
        yield pa.table([*(batch.column(name) for name in dataset.schema.names), *beside.columns], schema=schema)


def _written(form: Form, labels: Labels, out: Path, *, links: bool) -> Written:
    """The file or folder, whole or not at all."""
    staged = out.with_name(f".{out.name}.{os.getpid()}.staged")
    is_folder = form == "folder" or (form == "original" and labels.boxes is not None and labels.boxes.path.is_dir())
    try:
        if is_folder:
            written = write_labels(form, labels, staged, links=links)
        else:
            with atomic_path(staged) as temporary:
                written = write_labels(form, labels, temporary)
        _publish(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True) if staged.is_dir() else staged.unlink(missing_ok=True)
    return written


def _publish(staged: Path, out: Path) -> None:
    """Give the file or folder its name only if nobody took that name in the meantime."""
    try:
        if staged.is_dir():
            out.mkdir()  # an empty folder gives way to another in one step
            staged.rename(out)
        else:
            os.link(staged, out)
    except FileExistsError:
        raise StorageError(f"{out}: the file must be new, but was made in the meantime; it was left alone.") from None
    except OSError as fault:
        if out.exists():
            raise StorageError(f"{out}: cannot be written: {fault.strerror}; nothing was overwritten.") from None
        staged.rename(out)  # a file system without hard links
