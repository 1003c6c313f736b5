"""Three weeks of nights with an injected clock: whatever comes, no decision, sample or correction is lost.

What each night must read is worked out here, by hand, from the story; the product sees only the files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.errors import GateError, NothingToDo, TableError
from labelclean.nights.prune import prune_runs
from labelclean.review.decisions import Decision
from labelclean.review.ledger import append_decisions, decisions_of, ledger_url, open_ledger, referred_runs
from labelclean.runs import steps
from labelclean.storage.parquet import read_config, read_json, read_table
from labelclean.storage.run_folders import run_folders

ROOT = Path(__file__).parents[2]
PER_NIGHT = 70
START = datetime(2026, 11, 2, 17, 0, tzinfo=UTC)  # 02:00 in Tokyo
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("default")]


@dataclass
class Factory:
    """The factory: writes files, remembers each sample's newest label, and calls the nightly run."""

    folder: Path
    rng: np.random.Generator
    labels_of: dict[str, str] = field(default_factory=dict)
    image_of: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=lambda: ["crack", "dent", "ok", "pore", "scratch", "stain"])
    clock_shift: timedelta = timedelta(0)
    pool: dict[str, list[str]] = field(default_factory=dict)
    held_back: dict[str, str] = field(default_factory=dict)
    refused: list[Path] = field(default_factory=list)

    def now(self, night: int) -> datetime:
        return START + timedelta(days=night) + self.clock_shift

    def shard(self, night: int, name: str, rows: dict[str, str], *, broken: bool = False) -> Path:
        """Write a file as the line's export would, and note what it says unless it is broken."""
        file = self.folder / "labels" / f"date={self.now(night):%Y-%m-%d}" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {
                "sample_id": list(rows),
                "image_path": [self.image_of[sample] for sample in rows],
                "given_label": list(rows.values()),
            }
        )
        pq.write_table(table, file)
        if broken:
            file.write_bytes(file.read_bytes()[:-100])
        stamp = self.now(night).timestamp() - 3600
        os.utime(file, (stamp, stamp))
        if not broken:
            self.labels_of |= rows
        return file

    def new_samples(self, night: int, *, drifted: bool, new_class: str | None = None) -> dict[str, str]:
        """Samples of one day; one in ten has a wrong label."""
        names = sorted(self.pool)
        weights = np.array([0.05, 0.15, 0.35, 0.15, 0.2, 0.1] if not drifted else [0.05, 0.1, 0.15, 0.1, 0.5, 0.1])
        rows = {}
        for number in range(PER_NIGHT):
            kind = names[int(self.rng.choice(6, p=weights))]
            sample = f"n{night:02}-{number:02}"
            self.image_of[sample] = str(self.rng.choice(self.pool[kind]))
            wrong = self.rng.random() < 0.1
            rows[sample] = str(self.rng.choice([name for name in names if name != kind])) if wrong else kind
            if new_class is not None and kind == "pore":
                rows[sample] = new_class
        return rows

    def config(self, night: int, *overrides: str) -> list[str]:
        return [
            f"data.labels={self.folder / 'labels'}",
            f"data.image_root={ROOT / 'sample_data'}",
            f"data.class_names=[{', '.join(self.classes)}]",
            f"storage.runs={self.folder / 'runs'}",
            f"storage.cache={self.folder / 'cache'}",
            f"run.window='{self.now(night):%Y-%m-%d}'",
            "run.dataset=plates", "ingest.since=last_success", "ingest.settle_s=0", "expectations.enabled=false",
            *overrides,
        ]  # fmt: skip

    def run(self, night: int, *overrides: str) -> Path:
        config = read_config(ROOT / "config.yaml", self.config(night, *overrides))
        return steps.clean(config, clock=lambda: self.now(night))


def states(folder: Path) -> dict[str, str]:
    """The one state that a run gives each of its samples."""
    refined = read_table(folder / "refined_labels.parquet", "refined_labels", ["sample_id", "given_label"])
    rejected = read_table(folder / "rejects.parquet", "rejects").column("sample_id").to_pylist()
    told = dict(zip(*(refined.column(name).to_pylist() for name in ("sample_id", "given_label")), strict=True))
    assert not set(told) & set(rejected)
    assert len(told) == refined.num_rows
    return told | dict.fromkeys(rejected, "rejected")


def review(factory: Factory, folder: Path, night: int, kind: str) -> list[Decision]:
    """A reviewer settles the first three of the queue; the last is thrown out on some nights."""
    rows = read_table(folder / "review_queue.parquet", "review_queue").slice(0, 3).to_pylist()
    decisions = [
        Decision(
            sample_id=row["sample_id"],
            content_hash=row["content_hash"],
            given_label=row["given_label"],
            decision="confirmed" if place == 0 else kind if place == 2 else "corrected",  # type: ignore[arg-type]
            annotator_id="yamada",
            reviewed_at=factory.now(night) + timedelta(hours=8, minutes=place),
            run_id=folder.name,
            dataset="plates",
            tool="sheet",
            verified_label=row["given_label"]
            if place == 0
            else None
            if kind == "bad_image" and place == 2
            else row["predicted_label"],
        )
        for place, row in enumerate(rows)
    ]
    ledger = open_ledger(ledger_url(None, factory.folder / "runs", {}))
    assert append_decisions(ledger, decisions) == 3
    assert append_decisions(ledger, decisions) == 0
    return decisions


def written(factory: Factory, night: int) -> set[str]:
    """What the factory writes on a day, wanted or not; the files that are new or changed."""
    rows = factory.new_samples(night, drifted=night >= 12, new_class="burr" if night in (8, 9) else None)
    files = [factory.shard(night, "line1", rows, broken=night == 5)]
    if night == 5:
        factory.held_back = rows
    if night == 6:  # the export that died half-way is repaired
        factory.shard(5, "line1", factory.held_back)
    if night == 10:  # corrected rows of an earlier night, in a file of their own
        files.append(factory.shard(10, "corrections", {f"n03-{number:02}": "ok" for number in range(5)}))
    if night == 15:  # an old file is rewritten in place
        old = {sample: label for sample, label in factory.labels_of.items() if sample.startswith("n11-")}
        files.append(factory.shard(11, "line1", old | {"n11-00": "dent"}))
        os.utime(files[-1], (factory.now(15).timestamp(),) * 2)
    return {file.relative_to(factory.folder / "labels").as_posix() for file in files}


def went(factory: Factory, night: int) -> Path | None:
    """Call the nightly run and see it end as the story says; the folder of a good run."""
    if night == 13:  # the machine was off
        return None
    if night == 5:  # the half file is all there is
        with pytest.raises(NothingToDo, match=r"1 wait for the next run .*it has no Parquet footer yet"):
            factory.run(night)
        return None
    if night == 8:  # a class that nobody told us
        with pytest.raises(TableError, match=r"'burr' \(\d+\)"):
            factory.run(night)
        factory.classes = sorted([*factory.classes, "burr"])  # which the operator adds in the morning
        return None
    if night == 17:  # the share with the images was gone: published as refused
        (factory.folder / "empty").mkdir()
        with pytest.raises(GateError) as gone:
            factory.run(night, f"data.image_root={factory.folder / 'empty'}")
        factory.refused.append(Path(str(gone.value.run_folder)))
        return None
    overrides = []
    if night == 19:  # the clock was put back by two days, to a window that is done
        factory.clock_shift = timedelta(days=-2)
        overrides = ["run.window=clock-was-wrong"]
    folder = factory.run(night, *overrides)
    with pytest.raises(NothingToDo):
        factory.run(night, *overrides)
    factory.clock_shift = timedelta(0)
    return folder


def check_night(factory: Factory, folder: Path, files: set[str], decisions: list[Decision]) -> None:
    """The run read the files that it had to, gave each sample one state, and asked no question twice."""
    assert set(read_json(folder / "manifest.json")["labels_read"]) == files
    tables = [pq.read_table(factory.folder / "labels" / path, partitioning=None) for path in files]
    there = {sample for table in tables for sample in table.column("sample_id").to_pylist()}
    excluded = {decision.sample_id for decision in decisions if decision.decision == "bad_image"} & there
    told = states(folder)
    assert set(told) | excluded == there
    assert read_json(folder / "summary.json")["num_samples"] == len(there)
    queue = set(read_table(folder / "review_queue.parquet", "review_queue").column("sample_id").to_pylist())
    for decision in decisions:  # what is settled comes back only with a label that nobody has judged
        if decision.sample_id in queue:
            assert factory.labels_of[decision.sample_id] not in (decision.given_label, decision.verified_label)


def test_three_weeks_lose_nothing(tmp_path: Path) -> None:
    factory = Factory(tmp_path, np.random.default_rng(7))
    truth = pq.read_table(ROOT / "sample_data" / "truth.parquet").select(["sample_id", "true_label"]).to_pandas()
    known = pq.read_table(ROOT / "sample_data" / "labels.parquet").to_pandas().merge(truth, on="sample_id")
    factory.pool = {str(name): list(rows.image_path) for name, rows in known.groupby("true_label")}
    good: dict[int, Path] = {}
    unread: set[str] = set()
    decisions: list[Decision] = []
    for night in range(21):
        unread |= written(factory, night)
        folder = went(factory, night)
        if folder is not None:
            check_night(factory, folder, unread, decisions)
            decisions += review(factory, folder, night, "bad_image" if night == 11 else "corrected")
            good[night], unread = folder, set()
    arrivals = {night: read_json(folder / "summary.json")["arrivals"] for night, folder in good.items()}
    assert arrivals[10]["num_repeated"] == 5
    assert arrivals[15]["changed"] == ["date=2026-11-13/line1.parquet"]
    assert {night: arrivals[night]["num_files"] for night in (6, 9, 14, 18)} == dict.fromkeys((6, 9, 14, 18), 2)

    # every sample stands in a good run, and the newest that has it holds its newest label
    last: dict[str, str] = {}
    for folder in good.values():
        last |= states(folder)
    excluded = {decision.sample_id for decision in decisions if decision.decision == "bad_image"}
    assert set(last) == set(factory.labels_of)
    assert len(last) == 21 * PER_NIGHT
    wrong = {sample for sample, label in last.items() if label not in ("rejected", factory.labels_of[sample])}
    assert not wrong - excluded

    # the counts add up: what was read is what was written, and what was written again
    read = sum(read_json(folder / "summary.json")["num_samples"] for folder in good.values())
    assert read == 21 * PER_NIGHT + 5 + PER_NIGHT

    # names sort by time though the clock went back, and no decision is lost, with the runs that they are about
    in_order = [folder.name for _, folder in sorted({**good, 17: factory.refused[0]}.items())]
    assert [folder.name for folder in run_folders(tmp_path / "runs")] == in_order
    ledger = open_ledger(ledger_url(None, tmp_path / "runs", {}))
    kept = decisions_of(ledger, "plates")
    assert sorted(kept, key=str) == sorted(decisions, key=str)
    assert len(kept) == 3 * len(good)
    assert prune_runs(tmp_path / "runs", 5, referred_runs(ledger)).removed == ()
    assert prune_runs(tmp_path / "runs", 3, referred_runs(ledger)).removed == (factory.refused[0].name,)
