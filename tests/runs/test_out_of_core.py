"""Runs in many parts against runs of one: the same bytes; resume, memory and reference."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from labelclean.cleaning import passes, verdicts
from labelclean.cleaning.passes import Blocks
from labelclean.config import Config
from labelclean.errors import ConfigError, GateError, TableError
from labelclean.review.decisions import Decision
from labelclean.review.ledger import append_decisions, open_ledger
from labelclean.runs import extract, label_parts, steps
from labelclean.runs.night_sums import read_run_sums
from labelclean.runs.summary import choice_sentences
from labelclean.storage.parquet import read_config, read_json, read_table
from labelclean.storage.tables import TABLES, class_names_of, conform

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
STREAMED = "run.in_memory_samples=0"
BLOCKS = "teacher.choice_rows=100"  # raised to 100 per class: 600 of 700
FEW = "teacher.landmarks=40"
TABLE_NAMES = ("refined_labels", "teacher_predictions", "flags", "review_queue", "class_distribution", "rejects")


def config_in(tmp_path: Path, cache: Path, *overrides: str) -> Config:
    common = [f"storage.runs={tmp_path / 'runs'}", f"storage.cache={cache}", "expectations.enabled=false"]
    return read_config(ROOT / "config.yaml", [*common, FEW, "neighbours.method=none", *overrides])


def written(tmp_path: Path, table: pa.Table) -> str:
    pq.write_table(table, tmp_path / "labels.parquet")
    return f"data.labels={tmp_path / 'labels.parquet'}"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_parts, "PART_ROWS", 250)
    monkeypatch.setattr(extract, "PART_ROWS", 300)


def sample_labels() -> pa.Table:
    """The sample's labels; every ninth sample has a second opinion, every eleventh two candidates."""
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    given = table.column("given_label").to_pylist()
    candidates = [sorted({label, "ok", "dent"}) if row % 11 == 0 else None for row, label in enumerate(given)]
    table = table.append_column("candidate_labels", pa.array(candidates, pa.list_(pa.string())))
    first = table.append_column("annotator_id", pa.array(["ann"] * table.num_rows))
    again = first.take(pa.array(range(0, table.num_rows, 9)))
    place = again.column_names.index("annotator_id")
    again = again.set_column(place, "annotator_id", pa.array(["bob"] * again.num_rows))
    place = again.column_names.index("given_label")
    changed = ["ok" if row % 2 else label for row, label in enumerate(again.column("given_label").to_pylist())]
    changed = [label if label in (kept or [label]) else kept[0] for label, kept in zip(changed, again.column("candidate_labels").to_pylist(), strict=True)]  # fmt: skip
    return pa.concat_tables([first, again.set_column(place, "given_label", pa.array(changed))])


def decide(config: Config, folder: Path) -> None:
    """Verified labels, a partial answer and a bad image in the ledger."""
    refined = read_table(folder / "refined_labels.parquet", "refined_labels").slice(0, 40).to_pylist()
    kinds = [("confirmed", 20), ("corrected", 10), ("not_class", 5), ("bad_image", 5)]
    rows = iter(refined)
    said = []
    for kind, number in kinds:
        for _ in range(number):
            row = next(rows)
            verified = {"confirmed": row["given_label"], "corrected": row["predicted_label"]}.get(kind)
            said.append(
                Decision(
                    sample_id=row["sample_id"],
                    content_hash=row["content_hash"],
                    given_label=row["given_label"],
                    decision=kind,  # type: ignore[arg-type]
                    annotator_id="anna",
                    reviewed_at=datetime(2026, 11, 25, tzinfo=UTC),
                    run_id=folder.name,
                    dataset="labels.parquet",
                    tool="csv",
                    verified_label=verified,
                    ruled_out_labels=("stain",) if kind == "not_class" else (),
                )
            )
    append_decisions(open_ledger(f"sqlite:///{config.storage.runs.parent / 'ledger.db'}"), said)


def confirmed(row: dict[str, Any]) -> Decision:
    """What a person found in a sample that was drawn at random."""
    return Decision(
        sample_id=row["sample_id"],
        content_hash=row["content_hash"],
        given_label=row["given_label"],
        decision="confirmed",
        annotator_id="anna",
        reviewed_at=datetime(2026, 11, 25, tzinfo=UTC),
        run_id="first",
        dataset="labels.parquet",
        tool="csv",
        verified_label=row["given_label"],
        inclusion_probability=row["inclusion_probability"],
    )


@pytest.mark.long
@pytest.mark.parametrize("more", [(), (BLOCKS,)], ids=["whole", "blocks"])
def test_a_run_in_parts_gives_what_one_in_memory_gives(
    sample_cache: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    labels = written(tmp_path, sample_labels())
    common = [labels, f"data.image_root={ROOT / 'sample_data'}", "neighbours.method=auto", *more]
    one = config_in(tmp_path, sample_cache, *common)
    decide(one, steps.clean(one))
    inside, outside = steps.clean(one), steps.clean(config_in(tmp_path, sample_cache, *common, STREAMED))
    for name in TABLE_NAMES:
        then, now = (read_table(folder / f"{name}.parquet", name) for folder in (inside, outside))
        conform(now, name, class_names=class_names_of(now))
        if not more:
            assert now.equals(then, check_metadata=True)
    then, now = (read_table(folder / "refined_labels.parquet", "refined_labels") for folder in (inside, outside))
    assert now.num_rows == 694
    gaps = np.abs(now.column("label_score").to_numpy() - then.column("label_score").to_numpy())
    assert np.quantile(gaps, 0.95) < 1e-4  # sums in another order, and few samples make a steep curve of scores
    assert gaps.max() < (5e-3 if more else 1e-9)
    for name in ("predicted_label", "is_label_issue", "duplicate_set"):
        assert now.column(name).equals(then.column(name))
    first, second = (read_json(folder / "summary.json") for folder in (inside, outside))
    for key in ("num_samples", "num_rejects", "class_names", "rejects", "reviewed", "verdict", "inspectors"):
        assert second[key] == first[key]
    assert first["reviewed"] == {"settled": 30, "partial": 5, "disputed": 0, "bad_image": 0} | first["reviewed"]
    queue = read_table(outside / "review_queue.parquet", "review_queue").to_pylist()
    drawn = [row for row in queue if row["queue_source"] == "random_audit"]
    assert len(drawn) == 30
    assert {row["inclusion_probability"] for row in drawn} == {float(np.float32(30 / (694 - 30)))}
    assert any(row["neighbour_ids"] for row in queue)
    assert not [path for path in outside.iterdir() if path.name not in {path.name for path in inside.iterdir()}]


@pytest.mark.long
def test_a_stopped_run_goes_on_where_it_stopped(
    sample_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_in(tmp_path, sample_cache, STREAMED, BLOCKS)
    monkeypatch.setattr(passes, "CHECKPOINT_ROWS", 1)
    read: list[int] = []
    blocks = Blocks.of

    def stops(self: Blocks, number: int):  # type: ignore[no-untyped-def]
        read.append(number)
        if len(read) in (3, 9):  # in the first and in the last pass
            raise KeyboardInterrupt
        return blocks(self, number)

    monkeypatch.setattr(Blocks, "of", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            steps.clean(config)
        assert [path.name[:6] for path in (tmp_path / "runs").iterdir()] == [".work-"]
    before = len(read)
    folder = steps.clean(config)
    assert read[before:] == [1, 2]  # parts 1 and 2 of the outputs; sums and part 0 were there
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]
    monkeypatch.undo()
    monkeypatch.setattr(label_parts, "PART_ROWS", 250)
    whole = steps.clean(config)
    for name in TABLE_NAMES:
        assert read_table(folder / f"{name}.parquet", name).equals(read_table(whole / f"{name}.parquet", name))


@pytest.mark.long
def test_answers_to_an_earlier_draw_are_heard_by_a_run_that_goes_on(
    sample_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "PART_ROWS", 150)
    root = f"data.image_root={ROOT / 'sample_data'}"
    first, second = (config_in(tmp_path, sample_cache, half, root, STREAMED) for half in halves(tmp_path))
    queue = read_table(steps.clean(first) / "review_queue.parquet", "review_queue").to_pylist()
    tonight = pq.read_table(second.data.labels).column("sample_id").to_pylist()
    drawn = [row for row in queue if row["queue_source"] == "random_audit" and row["sample_id"] not in tonight]
    written_parts: list[int] = []
    write = verdicts._write_part

    def stops(folder: Path, number: int, *args: Any) -> Any:
        written_parts.append(number)
        if number == 1 and len(written_parts) < 4:
            raise KeyboardInterrupt
        return write(folder, number, *args)

    monkeypatch.setattr(verdicts, "_write_part", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            steps.clean(second)
    assert written_parts == [0, 1, 1]
    append_decisions(open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}"), [confirmed(row) for row in drawn])
    steps.clean(second)
    assert written_parts[3:] == [0, 1]


@pytest.mark.long
def test_what_a_killed_run_left_is_not_taken_by_one_with_other_settings(
    sample_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(self: Blocks, number: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Blocks, "of", stops)
        with pytest.raises(KeyboardInterrupt):
            steps.clean(config_in(tmp_path, sample_cache, STREAMED, BLOCKS))
    folder = steps.clean(config_in(tmp_path, sample_cache, STREAMED, BLOCKS, "run.seed=7"))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]


@pytest.mark.long
def test_a_run_that_is_killed_in_earnest_goes_on(sample_cache: Path, tmp_path: Path) -> None:
    items = [f"storage.runs={tmp_path / 'runs'}", f"storage.cache={sample_cache}", STREAMED, FEW, BLOCKS]
    command = [sys.executable, "-m", "labelclean.cli", "run", str(ROOT / "config.yaml"), "--plain", "--quiet"]
    command += [part for item in items for part in ("--set", item)]
    child = subprocess.Popen(command)
    while child.poll() is None and not list((tmp_path / "runs").glob(".work-*/steps/stream/given.npz")):
        time.sleep(0.01)
    child.kill()  # never a process that was given its number later
    assert child.wait() == -signal.SIGKILL
    (left,) = (tmp_path / "runs").glob(".work-*")
    kept = (left / "steps" / "ingest.json").read_bytes()
    said = subprocess.run(command[:-12] + command[-10:], check=True, capture_output=True, text=True)
    assert f"going on where {left.name} stopped" in said.stderr
    assert kept
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_too_little_memory_is_refused_before_anything_starts(sample_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least [\d,]+ MiB for 700 samples .* Nothing was started"):
        steps.clean(config_in(tmp_path, sample_cache, "run.max_memory=200MiB"))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == []


def test_what_needs_all_samples_in_memory_is_refused_beyond_them_with_all_faults(
    sample_cache: Path, tmp_path: Path
) -> None:
    overrides = ["neighbours.method=exact", "teacher.left_out=group", BLOCKS]
    with pytest.raises(
        ConfigError,
        match=r"teacher\.left_out must be auto or fold with more than 600 samples .* and there are 700: .*; "
        r"neighbours\.method must be .* Nothing was started",
    ):
        steps.clean(config_in(tmp_path, sample_cache, *overrides))


@pytest.fixture(scope="module")
def before(sample_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the first half of the sample."""
    folder = tmp_path_factory.mktemp("before")
    return steps.clean(config_in(folder, sample_cache, halves(folder)[0], f"data.image_root={ROOT / 'sample_data'}"))


def test_what_cannot_be_added_to_earlier_sums_is_refused_with_all_faults(
    before: Path, sample_cache: Path, tmp_path: Path
) -> None:
    second, root = halves(tmp_path)[1], f"data.image_root={ROOT / 'sample_data'}"
    overrides = ["refine.method=adaptive", "teacher.left_out=group"]
    with pytest.raises(
        ConfigError,
        match=r"teacher\.left_out must be .* run\.reference.*; refine\.method must not be adaptive .* Nothing was started",
    ):
        steps.clean(config_in(tmp_path, sample_cache, second, root, f"run.reference={before}", *overrides))
    exact = ["neighbours.method=exact", BLOCKS]  # the night's 300 alone are fewer than 600
    with pytest.raises(
        ConfigError, match=r"exact compares all pairs; (399|400) of these samples are those that run.reference kept"
    ):
        steps.clean(config_in(tmp_path, sample_cache, second, root, f"run.reference={before}", *exact))


def test_all_kinds_of_faulty_labels_are_refused_out_of_core(sample_cache: Path, tmp_path: Path) -> None:
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    twice = written(tmp_path, pa.concat_tables([table, table.slice(3, 2)]))
    with pytest.raises(TableError, match=r"key sample_id must be unique, but 2 keys stand in 4 rows|must be unique"):
        steps.clean(config_in(tmp_path, sample_cache, twice, STREAMED))
    classes = "data.class_names=[ok, dent, pore, scratch, stain]"
    with pytest.raises(TableError, match="'crack'"):
        steps.clean(config_in(tmp_path, sample_cache, classes, STREAMED))
    assert not list((tmp_path / "runs").glob(".work-*"))


@pytest.mark.long
def test_image_bytes_and_expectations_work_out_of_core(sample_run: Path, sample_cache: Path, tmp_path: Path) -> None:
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    files = [(ROOT / "sample_data" / path).read_bytes() for path in table.column("image_path").to_pylist()]
    labels = written(tmp_path, table.append_column("image", pa.array(files, pa.binary())))
    folder = steps.clean(config_in(tmp_path, sample_cache, labels, STREAMED, "expectations.enabled=true"))
    refined = read_table(folder / "refined_labels.parquet", "refined_labels")
    wanted = read_table(sample_run / "refined_labels.parquet", "refined_labels")
    assert refined.column("content_hash").equals(wanted.column("content_hash"))
    assert read_table(folder / "rejects.parquet", "rejects").equals(
        read_table(sample_run / "rejects.parquet", "rejects")
    )


def halves(tmp_path: Path) -> tuple[str, str]:
    """The sample's labels in two files, a tenth of them in both."""
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    paths = []
    for name, rows in (("first", slice(0, 400)), ("second", slice(330, 300))):
        (tmp_path / name).mkdir()
        pq.write_table(table.slice(rows.start, rows.stop), tmp_path / name / "labels.parquet")
        paths.append(f"data.labels={tmp_path / name / 'labels.parquet'}")
    return paths[0], paths[1]


@pytest.mark.long
def test_a_night_is_added_to_the_sums_of_its_reference(sample_cache: Path, tmp_path: Path) -> None:
    first, second = halves(tmp_path)
    root = f"data.image_root={ROOT / 'sample_data'}"
    before = steps.clean(config_in(tmp_path, sample_cache, first, root))
    folder = steps.clean(config_in(tmp_path, sample_cache, second, root, f"run.reference={before}"))
    old, new = read_run_sums(before), read_run_sums(folder)
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, 630)
    assert new.sums.features[0].count.sum() == len(set(table.column("sample_id").to_pylist())) - 1  # one is rejected
    assert new.counts.sum() == new.sums.features[0].count.sum()  # what is there again counts once
    assert (old.runs, new.runs) == ((), (before.name,))
    assert np.array_equal(new.sums.features[0].mean, old.sums.features[0].mean)
    record = read_json(folder / "summary.json")["reference"]
    assert record["num_repeated"] in (69, 70)
    assert record["feature_drift"]["num_tonight"] > 200
    assert {one["column"] for one in record["noise_shifts"]} == {"line", "shift"}
    assert record["share_shift"]["psi"] < 0.25
    distribution = read_table(folder / "class_distribution.parquet", "class_distribution").to_pylist()
    assert sum(row["reference_share"] for row in distribution) == pytest.approx(1, abs=1e-5)
    # the same samples, centred alike, in one run: their sums are those of both nights
    joined = written(tmp_path, table)
    at_once = read_run_sums(steps.clean(config_in(tmp_path, sample_cache, joined, root)))
    gap = np.abs(at_once.sums.features[0].count - new.sums.features[0].count)
    assert gap.max() == 0  # the folds hang on the ids alone
    assert set(TABLES["refined_labels"].key) == {"sample_id"}


@pytest.mark.long
def test_a_night_hears_what_people_said_of_the_nights_before(sample_cache: Path, tmp_path: Path) -> None:
    first, second = halves(tmp_path)
    root = f"data.image_root={ROOT / 'sample_data'}"
    config = config_in(tmp_path, sample_cache, first, root)
    before = steps.clean(config)
    decide(config, before)  # about the first 40 of 400, of which the second night has none again
    folder = steps.clean(config_in(tmp_path, sample_cache, second, root, f"run.reference={before}"))
    old, new = read_run_sums(before).kept, read_run_sums(folder).kept
    assert old is not None
    assert new is not None
    gone = np.setdiff1d(old.labels.lots, new.labels.lots)
    verified = new.labels.labels(np.arange(len(new.labels)), 6).is_verified
    assert len(gone) == 5  # the bad images
    assert verified.sum() == 30  # confirmed and corrected
    assert np.isin(new.labels.lots[verified], old.labels.lots).all()


def test_a_reference_that_means_something_else_is_refused_by_name(
    before: Path, sample_cache: Path, tmp_path: Path
) -> None:
    second, root = halves(tmp_path)[1], f"data.image_root={ROOT / 'sample_data'}"
    tonight = [second, root, f"run.reference={before}"]
    with pytest.raises(
        ConfigError,
        match=r"another way \(what differs: decode\.window is 'percentile', there '\w+'\); run\.seed is 9, there 0",
    ):
        steps.clean(config_in(tmp_path, sample_cache, *tonight, "run.seed=9", "decode.window=percentile"))
    classes = "data.class_names=[ok, dent, pore, scratch, stain, crack, burr]"
    with pytest.raises(ConfigError, match=r"the class list differs: 'burr' is new, nothing is gone"):
        steps.clean(config_in(tmp_path, sample_cache, *tonight, classes))
    with pytest.raises(
        ConfigError,
        match=r"others \(what differs: backbone\.mean is \[0\.4\], there \[0\.5, 0\.5, 0\.5\], backbone\.std is",
    ):
        steps.clean(config_in(tmp_path, sample_cache, *tonight, "backbone.mean=[0.4]", "backbone.std=[0.3]"))


@pytest.mark.long
def test_blocks_find_what_the_whole_finds(sample_cache: Path, tmp_path: Path) -> None:
    index = ("neighbours.method=index", "flags.outlier_z=2")
    outside = steps.clean(config_in(tmp_path, sample_cache, BLOCKS, *index))
    inside = steps.clean(config_in(tmp_path, sample_cache, *index))
    found, wanted = (read_json(folder / "summary.json") for folder in (outside, inside))
    assert found["teacher"]["neighbours"]["method"] == "index"
    assert found["teacher"]["neighbours"]["recall_at_10"] > 0.9
    assert found["label_issues"]["expected"] == pytest.approx(wanted["label_issues"]["expected"], rel=0.15)
    flagged = []
    for folder in (outside, inside):
        flags = read_table(folder / "flags.parquet", "flags")
        flagged.append(
            {
                reason: set(flags.filter(pc.equal(flags.column("reason"), reason)).column("sample_id").to_pylist())
                for reason in ("neighbours_disagree", "outlier", "other_class")
            }
        )
    for reason, samples in flagged[1].items():
        apart, either = samples ^ flagged[0][reason], samples | flagged[0][reason]
        assert len(apart) <= max(1, 0.25 * len(either)), reason  # one may lie at the very limit
    assert "the index held" in " ".join(choice_sentences(found))
    assert not (outside / "steps").exists()


@pytest.mark.parametrize(
    "streamed", [pytest.param([STREAMED], marks=pytest.mark.long), []], ids=["out of core", "in memory"]
)
def test_names_that_look_alike_are_refused_and_joined_by_spellings(
    sample_cache: Path, tmp_path: Path, streamed: list[str]
) -> None:
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    before = table.column("given_label").to_pylist()
    given = ["OK" if label == "ok" and row % 2 else label for row, label in enumerate(before)]
    place = table.column_names.index("given_label")
    mixed = written(tmp_path, table.set_column(place, "given_label", pa.array(given)))
    common = [mixed, f"data.image_root={ROOT / 'sample_data'}", *streamed]
    with pytest.raises(GateError) as refused:
        steps.clean(config_in(tmp_path, sample_cache, *common, "data.class_names=null"))
    assert "'OK' (171) and 'ok' (163)" in str(refused.value)
    made = {path.name for path in Path(str(refused.value.run_folder)).iterdir()}
    assert made == {"manifest.json", "summary.json", "report.html"}  # no image was looked at
    folder = steps.clean(config_in(tmp_path, sample_cache, *common, "data.spellings={OK: ok}"))
    rows = (
        read_table(folder / "refined_labels.parquet", "refined_labels").select(["sample_id", "given_label"]).to_pylist()
    )
    truth = dict(zip(table.column("sample_id").to_pylist(), before, strict=True))
    assert all(truth[row["sample_id"]] == row["given_label"] for row in rows)
