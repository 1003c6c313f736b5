"""An attribute agreement study: which samples, blind sheets in another order per appraiser and trial, and strictly back."""

from __future__ import annotations

import base64
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from labelclean.arrays import BoolArray, FloatArray, IntArray
from labelclean.config import Config, DecodeConfig, recorded_config
from labelclean.errors import ConfigError, ExchangeError, LabelcleanError, StorageError, listed
from labelclean.features.decode import preview_image
from labelclean.probes.sums import hashed_parts
from labelclean.review.agreement import Ratings
from labelclean.review.decisions import Decision, Standing, measure_standing, standing_decisions
from labelclean.review.exchange.foreign_file import foreign_text
from labelclean.review.exchange.manifest import ExportItem, read_manifest, task_key
from labelclean.review.exchange.package import MAX_SIDE, PART_SIZE
from labelclean.review.exchange.tasks import QueueToExport, Task
from labelclean.review.exchange.tools import STUDY, Tool, export_tasks, import_decisions
from labelclean.storage.label_sets import GIVEN, one_label_needed
from labelclean.storage.parquet import atomic_path, make_folder, read_json, read_table, write_json
from labelclean.storage.run_folders import MANIFEST
from labelclean.storage.tables import class_names_of

StudyDesign = Literal["balanced", "random"]
StudyTool = Literal["sheet", "label-studio"]
Stratum = Literal["sure", "border", "suspected", "random"]
PLAN, ANSWERS, STANDARD = "study.json", "answers.json", "standard"
_BEGUN = ".study.json"  # in place of study.json until every sheet is there
_FORMAT = "labelclean study 1"


@dataclass(frozen=True)
class StudySample:
    """A sample of a study.

    Attributes:
        sample_id: The sample.
        content_hash: SHA-256 of its image.
        given_label: Its given label in the run.
        stratum: Why it was drawn: `sure`, `border`, `suspected`, or `random`.
    """

    sample_id: str
    content_hash: str
    given_label: str
    stratum: str


@dataclass(frozen=True)
class Study:
    """What is asked of whom.

    Attributes:
        run_id: The run that the samples come from.
        dataset: Its data set.
        class_names: The K class names in order.
        tool: `sheet` or `label-studio`.
        design: How the samples were drawn.
        seed: What the draw and the orders depend on.
        appraisers: How many people.
        trials: How often each looks at each sample.
        samples: The samples.
    """

    run_id: str
    dataset: str
    class_names: tuple[str, ...]
    tool: str
    design: str
    seed: int
    appraisers: int
    trials: int
    samples: tuple[StudySample, ...]

    def sittings(self) -> Iterator[tuple[int, int]]:
        """Yield every appraiser and trial, counted from 1, in the order in which the trials are done."""
        for trial in range(1, self.trials + 1):
            yield from ((appraiser, trial) for appraiser in range(1, self.appraisers + 1))


@dataclass(frozen=True)
class StudyWish:
    """What a study is asked to be.

    Attributes:
        num_samples: How many samples.
        appraisers: How many people, at least 1.
        trials: How often each looks at each sample, at least 1.
        design: `balanced`: a third sure, a third border, a third suspected; `random`: at random. Classes take turns.
        tool: `sheet`, or `label-studio`.
        seed: What the draw and the orders depend on; None: the run's.
    """

    num_samples: int
    appraisers: int
    trials: int
    design: StudyDesign = "balanced"
    tool: StudyTool = "sheet"
    seed: int | None = None


@dataclass(frozen=True)
class StudyImport:
    """What a file of answers brought.

    Attributes:
        file: The file.
        appraiser: Whose, counted from 1.
        trial: Of which trial, counted from 1.
        name: The appraiser's name as the file says it.
        num_answers: Answers in it.
        num_samples: Samples of the study.
    """

    file: Path
    appraiser: int
    trial: int
    name: str
    num_answers: int
    num_samples: int


def sitting_folder(study: Path, appraiser: int, trial: int) -> Path:
    """Return where an appraiser's sheet for a trial lies."""
    return study / f"appraiser_{appraiser}" / f"trial_{trial}"


def plan_study(
    run_folder: Path,
    decisions: Sequence[Decision],
    out: Path,
    wish: StudyWish,
    document_root: Path | None = None,
) -> tuple[Study, int]:
    """Draw a study's samples and write a blind sheet for each appraiser and trial.

    Samples without a verified label go into one more sheet, `standard`: a person whose word stands decides them, and the
    answers come back as decisions like any others.

    Args:
        run_folder: A published run.
        decisions: The data set's decisions.
        out: New folder; one that a killed plan left is finished, and one that a fault stopped is removed.
        wish: What the study is asked to be.
        document_root: Label Studio's document root for local files; default: the folder above ``out``.

    Returns:
        The study, and how many of its samples have no verified label yet.

    Raises:
        ConfigError: If a number, the design or the tool is not possible.
        ExchangeError: If ``out`` holds something else.
        StorageError: If the run is not whole or the disk refuses.
    """
    _check_plan(wish)
    run = _studied_run(run_folder, decisions)
    study, is_open, paths = _drawn_study(run, wish)
    sheets = _Sheets(run, study, wish.tool, paths, document_root)
    undecided = [sample for sample, open_ in zip(study.samples, is_open.tolist(), strict=True) if open_]
    with _own_folder(out, study):
        for appraiser, trial in study.sittings():
            ids, purpose = [one.sample_id for one in study.samples], f"study/{appraiser}/{trial}"
            order = np.argsort(hashed_parts(ids, 2**62, seed=study.seed, purpose=purpose))
            sitting = {STUDY: {"appraiser": appraiser, "trial": trial}}
            folder, samples = sitting_folder(out, appraiser, trial), [study.samples[n] for n in order]
            sheets.write(folder, _sitting_run(study, appraiser, trial), samples, sitting)
        if undecided:
            sheets.write(out / STANDARD, study.run_id, undecided, {})
    return study, len(undecided)


def draw_samples(
    label_scores: FloatArray, is_issue: BoolArray, given: IntArray, order: IntArray, num: int, design: StudyDesign
) -> tuple[IntArray, tuple[Stratum, ...]]:
    """Return which samples a study shows; the given classes take turns, so that rare ones are there too.

    Args:
        label_scores: Probability that each given label is right, shape (N,).
        is_issue: Which labels are suspected, bool, shape (N,).
        given: Given class of each sample, int64, shape (N,).
        order: A random number for each sample, shape (N,): lower goes first.
        num: How many, at most N.
        design: `balanced`: a third suspected, drawn at random; a third border, those that are not suspected with the
            lowest scores; a third sure, drawn at random from the better half of the others. Where a third has too few,
            the others fill up. `random`: at random over all.

    Returns:
        Rows, int64, shape (num,), in no order that tells the stratum, and the stratum of each.

    Examples:
        >>> scores, issue = np.array([0.1, 0.6, 0.9, 0.95]), np.array([True, False, False, False])
        >>> rows, strata = draw_samples(scores, issue, np.zeros(4, int), np.arange(4), 3, "balanced")
        >>> dict(zip(rows.tolist(), strata))
        {0: 'suspected', 1: 'border', 3: 'sure'}
    """
    every = np.arange(len(given))
    if design == "random":
        rows = _in_turn(every, given, order)[:num]
        return rows, tuple("random" for _ in rows)
    suspected = _in_turn(every[is_issue], given, order)[: num // 3]
    border = _in_turn(every[~is_issue], given, label_scores)[: num // 3]
    rest = np.setdiff1d(every[~is_issue], border)
    better = rest[label_scores[rest] >= np.median(label_scores[rest])] if len(rest) else rest
    sure = _in_turn(better, given, order)[: num - len(suspected) - len(border)]
    stratum: dict[int, Stratum] = dict.fromkeys(suspected.tolist(), "suspected")
    stratum |= dict.fromkeys(border.tolist(), "border") | dict.fromkeys(sure.tolist(), "sure")
    left = np.setdiff1d(every, np.array(list(stratum), dtype=np.int64))
    for row in _in_turn(left, given, order)[: num - len(stratum)].tolist():
        stratum[row] = "suspected" if is_issue[row] else "border"
    rows = np.array(sorted(stratum, key=lambda row: int(order[row])), dtype=np.int64)
    return rows, tuple(stratum[row] for row in rows.tolist())


def read_study(folder: Path) -> Study:
    """Return a planned study.

    Args:
        folder: The folder that `plan_study` wrote.

    Returns:
        The study.

    Raises:
        ExchangeError: If there is none.
    """
    return _study_of(folder / PLAN)


def import_study(files: Sequence[Path], folder: Path, *, now: datetime, replace: bool = False) -> list[StudyImport]:
    """Bring appraisers' files into a study: all of them, or none.

    Args:
        files: What the sheets' Download decisions saved, or Label Studio's JSON exports; which sitting each answers, it
            says itself.
        folder: The study.
        now: Time of the import, with time zone.
        replace: Take a file in the place of an earlier one of the same sitting.

    Returns:
        What each brought.

    Raises:
        ExchangeError: If a file answers no sitting of this study, one that is answered already, or two people share one.
        StorageError: If the disk refuses.
    """
    study = read_study(folder)
    brought, faults = [], []
    for file in files:
        try:
            appraiser, trial = _sitting_of(file, study)
            brought.append(_read_sitting(study, folder, file, appraiser, trial, now)[0])
        except ExchangeError as fault:
            faults.append(str(fault))
            continue
        target = sitting_folder(folder, appraiser, trial) / ANSWERS
        if not replace and target.exists() and target.read_bytes() != file.read_bytes():
            faults.append(
                f"{file}: trial {trial} of appraiser {appraiser} must have one file of answers, but has another already. "
                "Give --replace to take this one in its place."
            )
    sittings = [(one.appraiser, one.trial) for one in brought]
    faults += [f"{listed(list(map(str, files)))}: two files answer one sitting."] * (len(set(sittings)) < len(sittings))
    held = [one for one, _ in _answered(study, folder, now) if (one.appraiser, one.trial) not in sittings]
    faults += _mixed_people([*held, *brought])
    if faults:
        raise ExchangeError("\n".join(faults) + "\nNothing was imported.")
    for one in brought:
        with atomic_path(sitting_folder(folder, one.appraiser, one.trial) / ANSWERS) as temporary:
            temporary.write_bytes(one.file.read_bytes())
    return brought


def study_ratings(folder: Path, decisions: Sequence[Decision], *, now: datetime) -> tuple[Study, Ratings]:
    """Return a study's answers, with the labels that the ledger holds as verified for its images as standard.

    Args:
        folder: The study.
        decisions: The data set's decisions.
        now: The time, with time zone.

    Returns:
        The study and its ratings.

    Raises:
        ExchangeError: If there is no study, nobody has answered, or a file of answers was changed into something else.
    """
    study = read_study(folder)
    ids = tuple(sample.sample_id for sample in study.samples)
    place = {sample: n for n, sample in enumerate(ids)}
    answers = np.full((study.appraisers, study.trials, len(ids)), -1, dtype=np.int64)
    names = [f"appraiser {n}" for n in range(1, study.appraisers + 1)]
    sittings = _answered(study, folder, now)
    if not sittings:
        raise ExchangeError(
            f"{folder}: the study must have answers, but nobody's have come back. Bring them in with: labelclean study import."
        )
    for sitting, said in sittings:
        names[sitting.appraiser - 1] = sitting.name
        for one in sorted(said, key=lambda one: one.reviewed_at):
            answers[sitting.appraiser - 1, sitting.trial - 1, place[one.sample_id]] = class_said(one, study.class_names)
    standing = measure_standing(
        standing_decisions(
            decisions, ids, [one.content_hash for one in study.samples], [one.given_label for one in study.samples]
        ),
        study.class_names,
    )
    return study, Ratings(answers, standing.verified, tuple(names), ids, study.class_names)


def study_pictures(folder: Path, sample_ids: Sequence[str], px: int) -> dict[str, str]:
    """Return small pictures of a study's samples.

    Args:
        folder: The study.
        sample_ids: The samples.
        px: Longest side.

    Returns:
        `data:` addresses of JPEGs by sample id; samples whose preview is gone are left out.
    """
    place = sitting_folder(folder, 1, 1)
    key_of = {item.sample_id: item.key for item in read_manifest(place).items}
    addresses = {}
    for sample in sample_ids:
        for preview in sorted(place.glob(f"part_*/images/{key_of[sample]}.png")):
            jpeg = preview_image(preview.read_bytes(), DecodeConfig(), px, "JPEG")
            addresses[sample] = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return addresses


def class_said(decision: Decision, class_names: Sequence[str]) -> int:
    """Return the class that a decision verifies, K where it names none or one that is not there."""
    label = decision.verified_label
    return class_names.index(label) if label in class_names else len(class_names)


# --- inside ---------------------------------------------------------------------------------------


def _study_of(path: Path) -> Study:
    """The study in a file."""
    try:
        record = read_json(path)
        if record.pop("format") != _FORMAT:
            raise ValueError("another format")
        record["class_names"] = tuple(record["class_names"])
        record["samples"] = tuple(StudySample(**row) for row in record["samples"])
        return Study(**record)
    except (StorageError, KeyError, TypeError, ValueError, AttributeError) as fault:
        raise ExchangeError(
            f"{path.parent}: must be the folder of an agreement study, with its {PLAN}, but: {str(fault).removesuffix('.')}. "
            "Name the folder that `labelclean study plan` wrote."
        ) from None


@dataclass(frozen=True)
class _StudiedRun:
    """A run whose samples are studied.

    Attributes:
        folder: Its folder.
        manifest: Its manifest.
        config: Its configuration.
        names: The K class names.
        table: Table `refined_labels` of the samples that can be shown.
        standing: What people have decided about these.
    """

    folder: Path
    manifest: Mapping[str, Any]
    config: Config
    names: tuple[str, ...]
    table: pa.Table
    standing: Standing


@dataclass(frozen=True)
class _Sheets:
    """Writes the sheets of a study.

    Attributes:
        run: The run that its samples come from.
        study: The study.
        tool: What people answer in.
        paths: Image path by sample id; None where the images lie in the labels table.
        document_root: Label Studio's document root for local files.
    """

    run: _StudiedRun
    study: Study
    tool: StudyTool
    paths: Mapping[str, str | None]
    document_root: Path | None

    def write(self, folder: Path, run_id: str, samples: Sequence[StudySample], sitting: Mapping[str, Any]) -> None:
        """Write the sheet of one sitting; its tasks name ``run_id`` as their run."""
        tasks = tuple(
            _task(sample, rank, run_id, self.study, self.paths) for rank, sample in enumerate(samples, start=1)
        )
        queue = QueueToExport(run_id, self.study.dataset, self.run.names, self.run.config, tasks)
        settings = {"suggestions": False, "max_side": MAX_SIDE, "part_size": PART_SIZE, **sitting}
        source = self.run.folder
        done = export_tasks(queue, self.tool, folder, settings, run_folder=source, document_root=self.document_root)
        if done.unreadable:
            first = done.unreadable[0]
            raise StorageError(
                f"{source}: every image of a study must be readable, but {len(done.unreadable):,} are not; first "
                f"sample_id {first.sample_id!r}: {first.message} Put the images back, or run again, and plan anew."
            )


def _studied_run(folder: Path, decisions: Sequence[Decision]) -> _StudiedRun:
    """What a published run says of the samples that people have not thrown out."""
    manifest = read_json(folder / MANIFEST)
    config = recorded_config(manifest["config"])
    if not (folder / "refined_labels.parquet").is_file():
        raise StorageError(f"{folder}: the run has no refined_labels.parquet; a gate stopped it. Name another run.")
    table = read_table(folder / "refined_labels.parquet", "refined_labels")
    if GIVEN in table.column_names:
        raise one_label_needed("study plan", f"run {folder.name}")
    names = class_names_of(table)
    standing, table = _usable(table, decisions, names)
    return _StudiedRun(folder, manifest, config, names, table, standing)


def _drawn_study(run: _StudiedRun, wish: StudyWish) -> tuple[Study, BoolArray, dict[str, str | None]]:
    """The study, which of its samples have no verified label yet, and the image paths of these samples."""
    table, names = run.table, run.names
    if wish.num_samples > table.num_rows:
        raise ConfigError(
            f"study plan: --samples must be at most the number of different usable images of run {run.folder.name}, "
            f"{table.num_rows:,}, but is {wish.num_samples:,}. Ask for fewer."
        )
    seed = run.config.run.seed if wish.seed is None else wish.seed
    ids, given, hashes = (table.column(name).to_pylist() for name in ("sample_id", "given_label", "content_hash"))
    rows, strata = draw_samples(
        table.column("label_score").to_numpy(),
        table.column("is_label_issue").to_numpy(),
        np.array([names.index(label) for label in given]),
        hashed_parts(ids, 2**62, seed=seed, purpose="study"),
        wish.num_samples,
        wish.design,
    )
    drawn = tuple(StudySample(ids[r], hashes[r], given[r], why) for r, why in zip(rows.tolist(), strata, strict=True))
    identity = (str(run.manifest["run_id"]), str(run.manifest["dataset"]), names)
    study = Study(*identity, wish.tool, wish.design, seed, wish.appraisers, wish.trials, drawn)
    paths = table.column("image_path").to_pylist() if "image_path" in table.column_names else [None] * table.num_rows
    return study, run.standing.verified[rows] < 0, {ids[row]: paths[row] for row in rows.tolist()}


def _check_plan(wish: StudyWish) -> None:
    numbers = {"--samples": wish.num_samples, "--appraisers": wish.appraisers, "--trials": wish.trials}
    faults = [f"{name} must be at least 1, but is {value}" for name, value in numbers.items() if value < 1]
    if wish.appraisers == wish.trials == 1:
        faults.append("two looks at each sample are needed to compare: --appraisers or --trials must be 2 or more")
    for name, value, known in (
        ("--design", wish.design, get_args(StudyDesign)),
        ("--to", wish.tool, get_args(StudyTool)),
    ):
        if value not in known:
            faults.append(f"{name} must be one of {', '.join(sorted(known))}, but is {value!r}")
    if faults:
        raise ConfigError(f"study plan: {'; '.join(faults)}.")


@contextmanager
def _own_folder(out: Path, study: Study) -> Iterator[None]:
    """Claim a folder for a plan: a kill leaves it for the next call to finish, a fault removes what is the plan's alone."""
    for name in (PLAN, _BEGUN):
        if (out / name).is_file() and _study_of(out / name) != study:
            raise ExchangeError(f"{out}: must be a new folder, but holds another study. Name another --out.")
    is_planned, is_begun, was_there = (out / PLAN).is_file(), (out / _BEGUN).is_file(), out.is_dir()
    if not (is_planned or is_begun):
        make_folder(out)
        if holds := sorted(entry.name for entry in out.iterdir()):
            raise ExchangeError(f"{out}: must be a new or empty folder, but holds {listed(holds)}. Name another --out.")
        write_json(out / _BEGUN, {"format": _FORMAT} | asdict(study))
    try:
        yield
    except (LabelcleanError, OSError):
        if not is_planned:
            shutil.rmtree(out, ignore_errors=True)
        if was_there:
            make_folder(out)
        raise
    if not is_planned:
        (out / _BEGUN).replace(out / PLAN)


def _usable(table: pa.Table, decisions: Sequence[Decision], names: tuple[str, ...]) -> tuple[Standing, pa.Table]:
    """Samples that people have not thrown out, one of each image: copies would be a repetition in disguise."""
    columns = ("sample_id", "content_hash", "given_label")
    ids, hashes, given = (table.column(name).to_pylist() for name in columns)
    standing = measure_standing(standing_decisions(decisions, ids, hashes, given), names)
    first = np.unique(np.array(hashes, dtype=object).astype(str), return_index=True)[1]
    rows = np.intersect1d(first, np.flatnonzero(~standing.is_excluded))
    return standing.take(rows), table.take(pa.array(rows))


def _in_turn(rows: IntArray, given: IntArray, order: FloatArray | IntArray) -> IntArray:
    """Rows so that the classes take turns, each by its order."""
    rows = rows[np.argsort(order[rows], kind="stable")]
    turn = np.zeros(len(rows), dtype=np.int64)
    for label in np.unique(given[rows]):
        mine = given[rows] == label
        turn[mine] = np.arange(mine.sum())
    return np.asarray(rows[np.argsort(turn, kind="stable")], dtype=np.int64)


def _sitting_run(study: Study, appraiser: int, trial: int) -> str:
    """What a sitting's tasks name as their run, so that no tool's file can be taken for another sitting's."""
    return f"{study.run_id}.study-{appraiser}-{trial}"


def _task(sample: StudySample, rank: int, run_id: str, study: Study, paths: Mapping[str, str | None]) -> Task:
    key = task_key(run_id, study.dataset, sample.sample_id, sample.content_hash)
    item = ExportItem(key, sample.sample_id, sample.content_hash, sample.given_label)  # never drawn for the audit
    return Task(item, rank, paths[sample.sample_id], None)


def _sitting_of(file: Path, study: Study) -> tuple[int, int]:
    """The sitting that a file's tasks name."""
    run = re.sub(r"[^A-Za-z0-9.-]", "-", study.run_id)
    named = set(re.findall(rf"{re.escape(run)}\.study-(\d+)-(\d+)_[0-9a-f]{{20}}", foreign_text(file)))
    sittings = [(int(appraiser), int(trial)) for appraiser, trial in sorted(named)]
    if len(sittings) != 1 or sittings[0] not in set(study.sittings()):
        found = listed([f"appraiser {a}, trial {t}" for a, t in sittings]) if sittings else "no task of it"
        raise ExchangeError(
            f"{file}: must answer one sitting of the study of run {study.run_id!r}, but names {found}. "
            "Give the file that this sitting's sheet or project saved."
        )
    return sittings[0]


def _read_sitting(
    study: Study, folder: Path, file: Path, appraiser: int, trial: int, now: datetime
) -> tuple[StudyImport, tuple[Decision, ...]]:
    place = sitting_folder(folder, appraiser, trial)
    tool: Tool = "label-studio" if study.tool == "label-studio" else "sheet"
    _, said = import_decisions(file, tool, place, now=now, annotator=f"appraiser {appraiser}", is_study=True)
    people = sorted({one.annotator_id for one in said})
    if len(people) != 1:
        found = listed(people) if people else "holds no answers"
        raise ExchangeError(
            f"{file}: one person must answer trial {trial} of appraiser {appraiser}, but the file has: {found}. "
            "Each appraiser needs a sheet of their own."
        )
    num = len({one.sample_id for one in said})
    return StudyImport(file, appraiser, trial, people[0], num, len(read_manifest(place).items)), said


def _answered(study: Study, folder: Path, now: datetime) -> list[tuple[StudyImport, tuple[Decision, ...]]]:
    """All sittings whose answers are there."""
    places = [(*one, sitting_folder(folder, *one) / ANSWERS) for one in study.sittings()]
    return [_read_sitting(study, folder, file, a, t, now) for a, t, file in places if file.is_file()]


def _mixed_people(sittings: Sequence[StudyImport]) -> list[str]:
    """Appraisers who are two people, and people who are two appraisers."""
    names, numbers = defaultdict(set), defaultdict(set)
    for one in sittings:
        names[one.appraiser].add(one.name)
        numbers[one.name].add(one.appraiser)
    faults = [
        f"appraiser {number} must be one person in all trials, but is {listed(sorted(people))}. Check the names."
        for number, people in sorted(names.items())
        if len(people) > 1
    ]
    return faults + [
        f"{name!r} must be one appraiser, but is appraisers {listed([str(n) for n in sorted(found)])}. Check the names."
        for name, found in sorted(numbers.items())
        if len(found) > 1
    ]
