"""The steps of a run: load, one call, save. Run plainly by the CLI, wrapped as tasks by the flows.

Every step takes the run's work folder, reads what earlier steps left there and
leaves its own files. It returns False where a gate stops the run; `publish`
then publishes what was measured.
"""

from __future__ import annotations

import logging
import os
import platform
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from labelclean.arrivals import arrivals_from, files_to_read, find_arrivals, measure_repeats, whole_files
from labelclean.config import Config, config_record
from labelclean.decisions import Decision, Standing, measure_standing, reviewed_labels, standing_decisions
from labelclean.distribution import measure_distribution, measure_moves
from labelclean.errors import GateError, StorageError, TableError, listed
from labelclean.flags import build_flags
from labelclean.gates import Finding, Verdict, judge_distribution, judge_moves, judge_teacher
from labelclean.lock import run_lock
from labelclean.opinions import inspectors_record, label_opinions, review_opinions
from labelclean.outputs import (
    flag_evidence,
    flag_table,
    queue_record,
    queue_table,
    refined_table,
    refinement_record,
    review_queue,
    standing_record,
    teacher_measurements,
    teacher_record,
    teacher_table,
)
from labelclean.progress import progress
from labelclean.runs import MANIFEST, new_work_folder, publish_run, remove_leftovers
from labelclean.storage import (
    check_readable,
    image_rows,
    labels_dataset,
    make_folder,
    read_json,
    read_labels,
    read_pred_probs,
    read_table,
    write_json,
    write_table,
)
from labelclean.tables import class_names_of
from labelclean.votes import given_labels_of, samples_table

LOG = logging.getLogger("labelclean")
Step = Callable[[Path], bool]
INTERNAL = "steps"
EXPECTATIONS = "great-expectations.txt"
OPINIONS = "opinions.parquet"


@dataclass(frozen=True)
class Run:
    """A run in progress.

    Attributes:
        run_id: Its name, sorts by time.
        work: The hidden folder it works in.
        config: Its configuration.
        started_at: Start, UTC.
        started_s: The same on a clock that nobody sets, seconds.
    """

    run_id: str
    work: Path
    config: Config
    started_at: datetime
    started_s: float


@dataclass(frozen=True)
class Outcome:
    """A published run.

    Attributes:
        folder: Its folder.
        summary: What `summary.json` says.
        manifest: What `manifest.json` says.
    """

    folder: Path
    summary: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0, or 3 where a gate refused or too many images were rejected."""
        return int(self.manifest["exit_code"])

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return str(self.summary["verdict_sentence"])


# --- the frame of a run ---------------------------------------------------------------------------


@contextmanager
def open_run(
    config: Config, *, force: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[Run]:
    """Hold the data set's lock and give a hidden work folder; a failed run leaves none behind.

    Args:
        config: The configuration.
        force: Run although a good run of this window is published.
        clock: Tells the time, with time zone.

    Yields:
        The run.

    Raises:
        NothingToDo: If the window is done or no label file is new.
        LockError: If another run holds the data set.
        StorageError: If the runs folder cannot be written.
    """
    runs = config.storage.runs
    with run_lock(runs / ".lock") as taken_over:
        if taken_over:
            LOG.warning("%s", taken_over)
        for leftover in remove_leftovers(runs):
            LOG.warning("removed %s, left by a run that died", leftover)
        arrivals = find_arrivals(config, dataset_name(config), force=force)
        started_at, started_s = clock(), time.monotonic()
        run_id, work = new_work_folder(runs, started_at)
        try:
            make_folder(work / INTERNAL)
            write_json(work / INTERNAL / "config.json", config.model_dump(mode="json"))
            write_json(work / INTERNAL / "arrivals.json", arrivals.record())
            yield Run(run_id, work, config, started_at, started_s)
        finally:
            _end_expectations(work)
            shutil.rmtree(work, ignore_errors=True)


def clean(config: Config, *, force: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Path:
    """Run all steps in this process.

    Args:
        config: The configuration.
        force: Run although a good run of this window is published.
        clock: Tells the time, with time zone.

    Returns:
        The published run folder.

    Raises:
        NothingToDo: If the window is done or no label file is new.
        LabelcleanError: If the input, a gate, the lock, the device or the disk refuses.
    """
    with open_run(config, force=force, clock=clock) as run:
        for step in STEPS:
            if not step(run.work):
                break
        folder = publish(run)
    raise_if_refused(folder)
    return folder


def publish(run: Run) -> Path:
    """Write the summary, then the manifest, and make the run visible.

    Args:
        run: The run, its steps done or stopped by a gate.

    Returns:
        The published folder.
    """
    from labelclean.report import write_report
    from labelclean.summary import build_summary

    parts = {path.stem: read_json(path) for path in sorted((run.work / INTERNAL).glob("*.json"))}
    config, arrivals = parts.pop("config"), arrivals_from(parts.pop("arrivals"))
    timings = {name: part.pop("seconds") for name, part in parts.items()}
    summary = build_summary(parts, rejects_limit=run.config.rejects.max_share)
    write_json(run.work / "summary.json", summary)
    shutil.rmtree(run.work / INTERNAL)
    facts = {
        "dataset": dataset_name(run.config),
        "window": arrivals.window,
        "since": arrivals.since,
        "config": config_record(Config.model_validate(config)),
        "seed": run.config.run.seed,
        "backbone": parts.get("extract", {}).get("backbone"),
        "device": parts.get("extract", {}).get("device"),
        "versions": {name: version(name) for name in _VERSIONED} | {"python": platform.python_version()},
    }
    write_report(run.work, facts=facts)
    manifest = facts | {
        "run_id": run.run_id,
        "verdict": summary["verdict"],
        "exit_code": 3 if summary["verdict"] in ("refused", "too_many_rejects") else 0,
        "started_at": run.started_at.isoformat(),
        "finished_at": (run.started_at + timedelta(seconds=time.monotonic() - run.started_s)).isoformat(),
        "counts": {key: summary[key] for key in ("num_samples", "num_rejects", "num_label_issues")},
        "step_seconds": timings,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "host": platform.node(),
        "labels_read": [file.path for file in arrivals.read],
        "labels_files": [asdict(file) for file in (*arrivals.unchanged, *arrivals.read)],
    }
    folder = publish_run(run.work, run.run_id, manifest)
    LOG.info("published %s", folder)
    return folder


def dataset_name(config: Config) -> str:
    """Return the name that a data set goes by in manifests and in the ledger.

    Args:
        config: The configuration.

    Returns:
        `run.dataset`, or the name of the labels' file or folder.
    """
    return config.run.dataset or config.data.labels.name


def read_outcome(folder: Path) -> Outcome:
    """Return a published run's summary and manifest.

    Args:
        folder: The run folder.

    Returns:
        The outcome.

    Raises:
        StorageError: If it is no whole run folder.
    """
    return Outcome(folder, read_json(folder / "summary.json"), read_json(folder / MANIFEST))


def raise_if_refused(folder: Path) -> None:
    """Raise if the published run must count as failed.

    Args:
        folder: The run folder.

    Raises:
        GateError: If a gate refused or too many images were rejected.
    """
    outcome = read_outcome(folder)
    if outcome.exit_code:
        raise GateError(outcome.sentence, run_folder=str(folder))


# --- the steps ------------------------------------------------------------------------------------


def validated(config: Config) -> dict[str, Any]:
    """Check everything that can be checked without a model: the table, the paths, the files the config names.

    Args:
        config: The configuration.

    Returns:
        `num_rows`, `num_samples`, `classes` (name -> samples), `missing_images`, `sentences`.

    Raises:
        TableError: If the labels break a promise; all faults are listed.
        StorageError: If a file that the config names is missing.
    """
    files = whole_files(config)
    labels, has_bytes = read_labels(config.data.labels, config.data.class_names, files, only_known=True)
    check_readable(config.data.labels, files)
    names = _class_names(labels, config)
    samples = samples_table(labels, names)
    report = measure_distribution(given_labels_of(samples, names))
    missing = [] if has_bytes else _missing_images(samples, image_root(config))
    for key, path in (("backbone.weights", config.backbone.weights), ("teacher.pred_probs", config.teacher.pred_probs)):
        if path is not None and not path.is_file():
            raise StorageError(f"{path}: {key} must name a file, but nothing is there.")
    verdict = judge_distribution(report, names, config.gates.class_distribution)
    counts = {name: round(float(count), 1) for name, count in zip(names, report.counts, strict=True)}
    sentences = [
        f"{labels.num_rows:,} rows, {samples.num_rows:,} samples, {len(names)} classes: "
        + ", ".join(f"{name} ({count:,.0f})" for name, count in counts.items())
    ]
    if missing:
        sentences.append(
            f"{len(missing):,} of {samples.num_rows:,} images are not under {image_root(config)}: {listed(missing, 3)}; "
            "they will be rejected"
        )
    sentences += [f"{finding.outcome}: {finding.sentence}" for finding in verdict.findings if finding.outcome != "pass"]
    return {
        "num_rows": labels.num_rows,
        "num_samples": samples.num_rows,
        "classes": counts,
        "missing_images": missing,
        "sentences": sentences,
    }


def samples_of(config: Config) -> tuple[pa.Table, tuple[str, ...], bool]:
    """Return the labels with one row per sample, the class names, and whether the table holds the images themselves.

    Args:
        config: The configuration.

    Returns:
        Table `samples` without content hashes, names, flag.

    Raises:
        TableError: If the labels break a promise.
    """
    labels, has_bytes = read_labels(config.data.labels, config.data.class_names)
    names = _class_names(labels, config)
    return samples_table(labels, names), names, has_bytes


def ingest(work: Path) -> bool:
    """Read and check the labels; leaves one row per sample."""
    with _recorded(work, "ingest") as (config, record):
        arrivals = arrivals_from(_part(work, "arrivals"))
        files = files_to_read(config, arrivals)
        labels, has_bytes = read_labels(config.data.labels, config.data.class_names, files)
        names = _class_names(labels, config)
        record["expectations_pid"] = _start_expectations(labels, names, config, work)
        samples = samples_table(labels, names)
        if "annotator_id" in labels.column_names:
            write_table(work / INTERNAL / OPINIONS, labels, "labels", names)
        record |= {
            "num_rows": labels.num_rows,
            "num_samples": samples.num_rows,
            "class_names": list(names),
            "has_bytes": has_bytes,
        }
        if files is not None:
            num_read = labels_dataset(config.data.labels, files).count_rows()
            record["arrivals"] = measure_repeats(config, arrivals, labels, num_read)
        write_table(work / INTERNAL / "labelled.parquet", samples, "samples", names)
    return True


def extract(work: Path) -> bool:
    """Turn images into features, reusing all that are stored; leaves the usable samples and the rejects."""
    from labelclean.backbone import choose_device, choose_precision
    from labelclean.extraction import backbone_facts, extract_missing, hash_images
    from labelclean.feature_store import feature_store
    from labelclean.image_pool import ImageSource
    from labelclean.images import decode_digest

    with _recorded(work, "extract") as (config, record):
        names = tuple(_part(work, "ingest")["class_names"])
        samples = read_table(work / INTERNAL / "labelled.parquet", "samples")
        root = image_root(config)

        def sources(wanted: set[str] | None = None) -> Iterable[ImageSource]:
            rows = (
                image_rows(config.data.labels, files_to_read(config, arrivals_from(_part(work, "arrivals"))))
                if _part(work, "ingest")["has_bytes"]
                else ((i, p, None) for i, p in zip(*_ids_and_paths(samples), strict=True))
            )
            return (ImageSource(*row) for row in rows if wanted is None or row[0] in wanted)

        with progress("reading images", samples.num_rows, "images") as advance:
            hashed = hash_images(sources(), config, root, advance)
        device = choose_device(config.run.device)
        precision = choose_precision(config.backbone.precision, device)
        backbone = backbone_facts(config.backbone, precision, config.storage.cache)
        decode = decode_digest(config.decode, backbone.input_size, config.backbone.resize)
        store = feature_store(config.storage.cache, backbone.digest, decode, backbone.num_features)
        known = store.known()
        first_with = {key: sample for sample, key in reversed(hashed.content_hashes.items()) if key not in known}
        with progress("extracting features", len(first_with), "images") as advance:
            wanted = set(first_with.values())
            refused = extract_missing(sources(wanted), store, backbone, config, root, advance) if wanted else {}
        refused_hashes = {hashed.content_hashes[sample]: reject for sample, reject in refused.items()}
        record |= {
            "num_extracted": len(first_with) - len(refused),
            "num_from_cache": len(set(hashed.content_hashes.values()) & known),
            "backbone": {"name": backbone.name, "digest": backbone.digest, "num_features": backbone.num_features},
            "decode_digest": decode,
            "store": str(store.folder),
            "device": str(device),
        }
        _save_usable(work, samples, names, hashed, refused_hashes)
        record |= _reject_counts(work)
    return True


def check_distribution(work: Path) -> bool:
    """Count the labels per class and judge the counts; leaves `class_distribution.parquet`."""
    with _recorded(work, "check_distribution") as (config, record):
        record["expectations"] = _joined_expectations(work, config)
        samples = read_table(work / INTERNAL / "samples.parquet", "samples")
        names = tuple(_part(work, "ingest")["class_names"])
        if not samples.num_rows:
            record |= _stopped("no image could be used; rejects.parquet says why for each.")
            return False
        report = measure_distribution(given_labels_of(samples, names))
        table = pa.table(
            {
                "class_name": list(names),
                "num_samples": pa.array(np.rint(report.counts).astype(np.int64)),
                "share": pa.array(report.shares, pa.float32()),
            }
        )
        write_table(work / "class_distribution.parquet", table, "class_distribution", names)
        verdict = judge_distribution(report, names, config.gates.class_distribution)
        record |= _verdict_record(verdict) | {"counts": report.counts.tolist(), "imbalance": report.imbalance}
        return _goes_on(verdict, config, record)


def refine(work: Path) -> bool:
    """Teach, judge the teacher, refine; leaves teacher predictions, refined labels and flags."""
    from labelclean.cleaning import fit_teacher, refine_labels, teacher_from_pred_probs
    from labelclean.feature_store import FeatureStore
    from labelclean.space import build_feature_space

    with _recorded(work, "refine") as (config, record):
        samples = read_table(work / INTERNAL / "samples.parquet", "samples")
        names = tuple(_part(work, "ingest")["class_names"])
        standing, decided = _standing(samples, names, config)
        record["reviewed"] = standing_record(standing)
        samples = samples.filter(pa.array(~standing.is_excluded))
        decided = [one for one, is_out in zip(decided, standing.is_excluded.tolist(), strict=True) if not is_out]
        standing = standing.take(~standing.is_excluded)
        labels = reviewed_labels(given_labels_of(samples, names), standing)
        ids = samples.column("sample_id").to_pylist()
        extracted = _part(work, "extract")
        store = FeatureStore(Path(extracted["store"]), extracted["backbone"]["num_features"])
        features = store.read(samples.column("content_hash").to_pylist())
        seed = config.run.seed
        space = build_feature_space(features, ids, groups_of(samples), config, seed=seed, device=extracted["device"])
        if config.teacher.pred_probs is not None:
            probs = read_pred_probs(config.teacher.pred_probs, ids, len(names))
            teacher = teacher_from_pred_probs(probs, labels, config)
        else:
            teacher = fit_teacher(space, labels, config, seed=seed)
        write_table(
            work / "teacher_predictions.parquet", teacher_table(ids, teacher, names), "teacher_predictions", names
        )
        earlier = Verdict(tuple(_finding(row) for row in _part(work, "check_distribution")["findings"]))
        measured = judge_teacher(teacher_measurements(teacher, labels, names), names, config.gates.top2)
        verdict = Verdict(earlier.findings + measured.findings)
        record |= {
            "findings": [_finding_record(finding) for finding in measured.findings],
            "teacher": teacher_record(teacher, labels, space, names),
        }
        if not _goes_on(verdict, config, record):
            return False
        refinement = refine_labels(space, labels, teacher, _permitted(config, verdict), allowed=verdict.allowed)
        evidence = flag_evidence(labels, teacher, refinement, space)
        flags = build_flags(evidence, config.flags, config.gates.top2.unstable_below)
        write_table(
            work / "refined_labels.parquet", refined_table(samples, refinement, space, names), "refined_labels", names
        )
        write_table(work / "flags.parquet", flag_table(ids, flags), "flags")
        queue, estimate = review_queue(ids, labels, refinement, evidence, standing.is_settled, config)
        write_table(
            work / "review_queue.parquet",
            queue_table(samples, queue, refinement, flags, space, names, config.review.neighbours),
            "review_queue",
            names,
        )
        moves = measure_moves(labels.given, refinement.predicted, len(names))
        counts = measure_distribution(labels).counts
        drained = judge_moves(moves, counts, names, config.gates.class_distribution.max_lost_share)
        record["findings"].append(_finding_record(drained))
        record |= refinement_record(config.refine.method, teacher, refinement, labels, names, moves)
        single = work / INTERNAL / OPINIONS
        labelled = label_opinions(read_table(single, "labels"), ids, names) if single.is_file() else None
        reviewed = review_opinions(decided, samples, names)
        record["inspectors"] = inspectors_record(labelled, reviewed, refinement.predicted, names)
        record |= {"queue": queue_record(queue, estimate, config.review.seconds_per_sample)}
    return True


# --- inside ---------------------------------------------------------------------------------------


@contextmanager
def _recorded(work: Path, name: str) -> Iterator[tuple[Config, dict[str, Any]]]:
    """Give the configuration and a record that is written with the step's seconds when it ends well."""
    started = time.monotonic()
    record: dict[str, Any] = {}
    yield Config.model_validate(read_json(work / INTERNAL / "config.json")), record
    record["seconds"] = round(time.monotonic() - started, 3)
    write_json(work / INTERNAL / f"{name}.json", record)


def _part(work: Path, name: str) -> dict[str, Any]:
    """What an earlier step recorded."""
    part: dict[str, Any] = read_json(work / INTERNAL / f"{name}.json")
    return part


def _class_names(labels: pa.Table, config: Config) -> tuple[str, ...]:
    """The classes of the config, or those found, sorted."""
    names = config.data.class_names or tuple(sorted(set(labels.column("given_label").to_pylist())))
    if len(names) < 2:
        raise TableError(f"{config.data.labels}: labels must name at least 2 classes, but name {listed(names)}.")
    return names


def image_root(config: Config) -> Path:
    """Return the folder that image paths are relative to.

    Args:
        config: The configuration.

    Returns:
        `data.image_root`, or the folder of the labels.
    """
    labels = config.data.labels
    return config.data.image_root or (labels if labels.is_dir() else labels.parent)


def _ids_and_paths(samples: pa.Table) -> tuple[list[str], list[str | None]]:
    return samples.column("sample_id").to_pylist(), samples.column("image_path").to_pylist()


def _missing_images(samples: pa.Table, root: Path) -> list[str]:
    """Image paths that name no file; whether they may be read is checked when they are."""
    paths = samples.column("image_path").to_pylist()
    return [path for path in paths if not path or not os.path.isfile(root / path)]  # noqa: PTH113 - names too long


def _start_expectations(labels: pa.Table, names: tuple[str, ...], config: Config, work: Path) -> int | None:
    """Let another process run Great Expectations over the labels, for its import alone costs seconds."""
    if not config.expectations.enabled:
        return None
    write_table(work / INTERNAL / "labels.parquet", labels, "labels", names)
    command = [sys.executable, "-m", "labelclean.steps", str(work), str(os.getpid())]
    quiet = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)


def _end_expectations(work: Path) -> None:
    """End the other process of a run that failed before it waited for it; it would write into a removed folder."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if str(work) in child.cmdline():
                child.kill()
                child.wait()


def _end_with_parent(parent: int) -> None:
    """End this process when the run that started it was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def report_expectations(work: Path) -> None:
    """Run the generated suite over a run's labels and leave what it says; what the other process does.

    Args:
        work: The run's work folder.
    """
    from labelclean.expectations import check_expectations

    config = Config.model_validate(read_json(work / INTERNAL / "config.json"))
    labels = read_table(work / INTERNAL / "labels.parquet", "labels")
    docs = work / "data_docs" if config.expectations.data_docs else None
    names = class_names_of(labels)
    report = check_expectations(labels, "labels", class_names=names, limits=config.expectations, data_docs=docs)
    record = {"num_expectations": len(report.expectations), "faults": list(report.faults())}
    write_json(work / INTERNAL / EXPECTATIONS, record)


def _joined_expectations(work: Path, config: Config) -> dict[str, Any] | None:
    """What the other process found; a broken promise ends the run."""
    pid = _part(work, "ingest")["expectations_pid"]
    if pid is None:
        return None
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait()
    found = work / INTERNAL / EXPECTATIONS
    if not found.is_file():
        raise StorageError(
            f"{config.data.labels}: the Great Expectations process {pid} ended without a result, probably for lack of "
            "memory or disk. Free some, or set expectations.enabled to false: labelclean's own check of the table has passed."
        )
    record: dict[str, Any] = read_json(found)
    if record["faults"]:
        raise TableError(f"{config.data.labels.name}: " + "; ".join(record["faults"]) + ".")
    return record


def _save_usable(work: Path, samples: pa.Table, names: tuple[str, ...], hashed: Any, refused: dict[str, Any]) -> None:
    """Leave `samples.parquet` with content hashes, and `rejects.parquet` with everything else."""
    hashes = [hashed.content_hashes.get(sample) for sample in samples.column("sample_id").to_pylist()]
    usable = np.array([key is not None and key not in refused for key in hashes], dtype=bool)
    kept = samples.filter(pa.array(usable)).append_column(
        "content_hash", pa.array([key for key, ok in zip(hashes, usable, strict=True) if ok], pa.string())
    )
    write_table(work / INTERNAL / "samples.parquet", kept, "samples", names)
    rejects = {reject.sample_id: reject for reject in hashed.rejects}
    ids, paths = (
        _ids_and_paths(samples)
        if "image_path" in samples.column_names
        else (samples.column("sample_id").to_pylist(), None)
    )
    rows = []
    for row, (sample, key) in enumerate(zip(ids, hashes, strict=True)):
        reject = rejects.get(sample) or refused.get(key or "")
        if reject is not None:
            path = paths[row] if paths else None
            rows.append(
                {"sample_id": sample, "image_path": path, "reason_code": reject.reason_code, "message": reject.message}
            )
    schema = pa.schema([(name, pa.string()) for name in ("sample_id", "image_path", "reason_code", "message")])
    write_table(work / "rejects.parquet", pa.Table.from_pylist(rows, schema=schema), "rejects")


def _reject_counts(work: Path) -> dict[str, Any]:
    codes = read_table(work / "rejects.parquet", "rejects").column("reason_code").value_counts().to_pylist()
    return {"rejects": {row["values"]: row["counts"] for row in sorted(codes, key=lambda row: row["values"])}}


def groups_of(samples: pa.Table) -> list[str] | None:
    """Group of each sample; a sample without one is its own."""
    if "group_id" not in samples.column_names:
        return None
    pairs = zip(samples.column("group_id").to_pylist(), samples.column("sample_id").to_pylist(), strict=True)
    return [f"group {group}" if group is not None else f"sample {sample}" for group, sample in pairs]


def _permitted(config: Config, verdict: Verdict) -> Config:
    """The configuration with a refinement that the gates rule out replaced by `auto`."""
    if config.refine.method in ("auto", *verdict.allowed):
        return config
    return config.model_copy(update={"refine": config.refine.model_copy(update={"method": "auto"})})


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(**(row | {"forbids": tuple(row["forbids"])}))


def _standing(
    samples: pa.Table, names: tuple[str, ...], config: Config
) -> tuple[Standing, Sequence[tuple[Decision, ...]]]:
    """What people have decided about these samples as they are now, and their single decisions."""
    from labelclean.ledger import decisions_of, ledger_exists, ledger_url, open_ledger

    decisions: tuple[Decision, ...] = ()
    url = ledger_url(config.ledger.url, config.storage.runs, os.environ)
    if ledger_exists(url):
        decisions = decisions_of(open_ledger(url), dataset_name(config))
    ids, hashes, given = (samples.column(name).to_pylist() for name in ("sample_id", "content_hash", "given_label"))
    decided = standing_decisions(decisions, ids, hashes, given, config.review.reopen)
    return measure_standing(decided, names), decided


def _stopped(sentence: str) -> dict[str, Any]:
    return {"stopped": sentence}


def _finding_record(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"forbids": list(finding.forbids)}


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome,
        "allowed": list(verdict.allowed),
        "findings": [_finding_record(finding) for finding in verdict.findings],
    }


def _goes_on(verdict: Verdict, config: Config, record: dict[str, Any]) -> bool:
    """Whether the run may refine as asked, or may fall back; writes the refusal into the record otherwise."""
    method = config.refine.method
    blocking = verdict.why_not(method) if method != "auto" else ()
    if verdict.allowed == ("none",):
        blocking = verdict.why_not("posterior")
    if not blocking or method == "none" or config.gates.on_refusal == "fall_back":
        return True
    record |= _stopped("refused: " + " ".join(finding.sentence for finding in blocking) + " (gates.on_refusal = stop)")
    return False


_VERSIONED = ("labelclean", "torch", "timm", "numpy", "pandas", "pyarrow", "pillow", "prefect", "great-expectations")
STEPS: tuple[Step, ...] = (ingest, extract, check_distribution, refine)
TOUCHES_THE_WORLD: tuple[Step, ...] = (ingest, extract)

if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, args=(int(sys.argv[2]),), daemon=True).start()
    report_expectations(Path(sys.argv[1]))
