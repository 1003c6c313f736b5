"""A run on made parts whose labels name the part, of which one of four cameras shows the defect."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config
from labelclean.errors import ConfigError, TableError
from labelclean.report.trial_page import trial_sentences
from labelclean.review.apply import apply_labels
from labelclean.review.decisions import Decision, DecisionKind
from labelclean.review.exchange.tools import export_run
from labelclean.review.ledger import append_decisions, decisions_of, open_ledger
from labelclean.review.status import measure_status
from labelclean.runs import steps
from labelclean.runs.ingest import validated
from labelclean.storage.parquet import read_config, read_json, read_table
from labelclean.storage.tables import conform
from labelclean.texts import Texts
from labelclean.trial.backbones import try_backbones
from labelclean.trial.poc import run_trial, write_trial
from sample_data.parts import CAMERAS, Part, generate

ROOT = Path(__file__).parents[2]
NUM_PARTS = 120


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Part]]:
    folder = tmp_path_factory.mktemp("parts")
    return folder, {one.name: one for one in generate(folder, NUM_PARTS)}


COSTS = ("classes.ok=ok", "costs.escape=100")


def config_in(folder: Path, runs: Path, *overrides: str) -> Config:
    items = [f"data.labels={folder / 'labels.parquet'}", f"data.image_root={folder}", "data.class_names=null"]
    items += ["data.label_of=part", f"storage.runs={runs}", f"storage.cache={folder / 'cache'}"]
    return read_config(ROOT / "config.yaml", [*items, "expectations.enabled=false", *overrides])


@pytest.fixture(scope="module")
def first(plant: tuple[Path, dict[str, Part]]) -> Path:
    return steps.clean(config_in(plant[0], plant[0] / "runs", *COSTS))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("in_memory", [True, pytest.param(False, marks=pytest.mark.long)], ids=["memory", "parts"])
def test_parts_are_judged_and_asked_about_once(
    plant: tuple[Path, dict[str, Part]], first: Path, tmp_path: Path, in_memory: bool
) -> None:
    folder, parts = plant
    in_parts = config_in(folder, tmp_path / "runs", *COSTS, "run.in_memory_samples=0")
    run = first if in_memory else steps.clean(in_parts)
    table = read_table(run / "refined_labels.parquet", "refined_labels").sort_by("part_id")
    scores = table.column("label_score").to_numpy().reshape(NUM_PARTS, len(CAMERAS))
    assert (scores.min(axis=1) == scores.max(axis=1)).all()
    wrong = np.array([parts[name].given != parts[name].true for name in sorted(parts)])
    issues = table.column("is_label_issue").to_numpy().reshape(NUM_PARTS, len(CAMERAS))[:, 0]
    assert issues[wrong].mean() > 0.7
    assert issues[~wrong].mean() < 0.1
    summary = read_json(run / "summary.json")
    assert summary["label_of_part"] == {"num": NUM_PARTS, "num_images": NUM_PARTS * len(CAMERAS), "num_settled": 0}
    assert summary["num_label_issues"] == issues.sum()
    assert f"of {NUM_PARTS} labels" in summary["verdict_sentence"]
    kinds = [kind["expected"] for kind in summary["costs"]["kinds"].values()]
    assert sum(kinds) == pytest.approx(summary["label_issues"]["expected"], abs=0.05)
    assert not (run / "sums.npz").exists()
    queue = read_table(run / "review_queue.parquet", "review_queue")
    conform(queue, "review_queue", class_names=summary["class_names"])
    rows = queue.to_pylist()
    asked = [row["sample_id"].partition("_")[0] for row in rows]
    assert len(set(asked)) == len(asked)
    for row, name in zip(rows, asked, strict=True):
        assert sorted([row["sample_id"], *row["view_ids"]]) == sorted(f"{name}_{camera}" for camera in CAMERAS)
    shown = [row for row, name in zip(rows, asked, strict=True) if parts[name].true == row["predicted_label"] != "ok"]
    sees_it = [row["sample_id"].endswith(parts[row["sample_id"].partition("_")[0]].camera) for row in shown]
    assert np.mean(sees_it) > 0.9
    drawn = queue.column("inclusion_probability").drop_null().to_pylist()
    assert drawn[0] == pytest.approx(len(drawn) / NUM_PARTS)
    assert export_run(run, "sheet", tmp_path / "queue").num_tasks == queue.num_rows
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"Labels are those of {NUM_PARTS} parts" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_an_answer_about_one_view_is_one_about_the_part(
    plant: tuple[Path, dict[str, Part]], first: Path, tmp_path: Path
) -> None:
    folder, parts = plant
    config = config_in(folder, tmp_path / "runs", *COSTS)
    run = Path(shutil.copytree(first, tmp_path / "runs" / first.name))
    queue = read_table(run / "review_queue.parquet", "review_queue").to_pylist()
    row = next(row for row in queue if row["predicted_label"] != row["given_label"])
    odd = next(one for one in queue if one["sample_id"][:5] != row["sample_id"][:5])
    when, true = datetime(2026, 11, 30, tzinfo=UTC), parts[row["sample_id"][:5]].true
    right: DecisionKind = "confirmed" if true == row["given_label"] else "corrected"
    said = [
        Decision(row["sample_id"], row["content_hash"], row["given_label"], right, "anna", when, run.name,
                 "labels.parquet", "csv", verified_label=true),
        Decision(odd["sample_id"], odd["content_hash"], odd["given_label"], "none_of_these", "anna", when, run.name,
                 "labels.parquet", "csv", ruled_out_labels=tuple(read_json(run / "summary.json")["class_names"])),
    ]  # fmt: skip
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    append_decisions(ledger, said)
    assert measure_status(run, said).num_reviewed == 2
    again = steps.clean(config)
    summary = read_json(again / "summary.json")
    assert summary["label_of_part"] == {"num": NUM_PARTS - 1, "num_images": 4 * NUM_PARTS - 4, "num_settled": 1}
    asked = {one["sample_id"][:5] for one in read_table(again / "review_queue.parquet", "review_queue").to_pylist()}
    assert not asked & {row["sample_id"][:5], odd["sample_id"][:5]}
    apply_labels(again, tuple(decisions_of(ledger, "labels.parquet")), tmp_path / "v2.parquet", unreviewed=True)
    written = pq.read_table(tmp_path / "v2.parquet").to_pylist()
    assert [one["verified_label"] for one in written if one["part_id"] == row["sample_id"][:5]] == [true] * 4
    left = [one["review_status"] for one in written if one["part_id"] == odd["sample_id"][:5]]
    assert left == ["none_of_these"] * 4


def test_a_part_with_two_labels_is_named(plant: tuple[Path, dict[str, Part]], tmp_path: Path) -> None:
    folder, _ = plant
    rows = pq.read_table(folder / "labels.parquet").to_pylist()
    for at in (1, 42):
        rows[at]["given_label"] = "dent" if rows[at]["given_label"] != "dent" else "ok"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "torn.parquet")
    config = config_in(folder, tmp_path / "runs", f"data.labels={tmp_path / 'torn.parquet'}")
    for door in (validated, steps.clean):
        with pytest.raises(TableError, match=r"2 parts carry several: 'P0001 \(.*\)', 'P0011 \(") as told:
            door(config)
        assert "Correct these labels, or take data.label_of: image." in str(told.value)


def test_what_labels_of_parts_cannot_have_is_told_at_once_before_an_image_is_opened(
    plant: tuple[Path, dict[str, Part]], tmp_path: Path
) -> None:
    folder, _ = plant
    table = pq.read_table(folder / "labels.parquet").drop_columns(["part_id"])
    pq.write_table(table, tmp_path / "without.parquet")
    more = [f"data.labels={tmp_path / 'without.parquet'}", "data.image_root=/nowhere", "teacher.choice_rows=100"]
    config = config_in(folder, tmp_path / "runs", *more, "classes.ok=fine")
    for door in (validated, steps.clean):
        with pytest.raises(ConfigError) as told:
            door(config)
        for fault in ("classes.ok must be one of", "needs a column 'part_id'", "more than 400 samples"):
            assert fault in str(told.value)


def test_what_one_class_cannot_have_is_told_at_once_before_an_image_is_opened(
    plant: tuple[Path, dict[str, Part]], tmp_path: Path
) -> None:
    folder, _ = plant
    table = pq.read_table(folder / "labels.parquet")
    good = table.set_column(table.column_names.index("given_label"), "given_label", [["good"] * table.num_rows])
    pq.write_table(good, tmp_path / "good.parquet")
    np.save(tmp_path / "probs.npy", np.ones(1))
    more = [f"data.labels={tmp_path / 'good.parquet'}", "data.image_root=/nowhere", "neighbours.method=none"]
    config = config_in(
        folder,
        tmp_path / "runs",
        *more,
        "classes.ok=good",
        "costs.escape=5",
        f"teacher.pred_probs={tmp_path / 'probs.npy'}",
    )
    for door in (validated, steps.clean):
        with pytest.raises(ConfigError) as told:
            door(config)
        for fault in (
            "costs must not",
            "neighbours.method must not",
            "teacher.pred_probs must not",
            "data.label_of must be image",
        ):
            assert fault in str(told.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_trial_draws_whole_parts_and_counts_each_once(plant: tuple[Path, dict[str, Part]], tmp_path: Path) -> None:
    folder, parts = plant
    record = run_trial(config_in(folder, tmp_path / "runs", "classes.ok=ok"), num_samples=302, seconds_per_sample=10)
    assert (record["num_samples"], record["num_images"]) == (NUM_PARTS, 4 * NUM_PARTS)
    assert (record["num_drawn"], record["num_judged"]) == (304, 76)
    given = [one.given for one in parts.values()]
    assert {row["name"]: row["num_full"] for row in record["classes"]} == {
        name: given.count(name) for name in set(given)
    }
    page = write_trial(record, tmp_path / "poc", Texts("en")).read_text(encoding="utf-8")
    assert f"Labels are those of {NUM_PARTS} parts, which {4 * NUM_PARTS} images show" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_trial_of_one_class_names_the_oddest_and_what_looking_takes(
    plant: tuple[Path, dict[str, Part]], tmp_path: Path
) -> None:
    folder, parts = plant
    rows = [
        {name: row[name] for name in ("sample_id", "image_path")} | {"given_label": "good"}
        for row in pq.read_table(folder / "labels.parquet").to_pylist()
    ]
    shows_it = {f"images/{one.name}_{one.camera}.png" for one in parts.values() if one.true != "ok"}
    good, bad = ([row for row in rows if (row["image_path"] in shows_it) == is_bad] for is_bad in (False, True))
    pq.write_table(pa.Table.from_pylist(good[:180] + bad[:8]), tmp_path / "good.parquet")
    more = [f"data.labels={tmp_path / 'good.parquet'}", "data.label_of=image", "neighbours.odd_share=0.1"]
    config = config_in(folder, tmp_path / "runs", *more, "review.audit_samples=20")
    record = run_trial(config, num_samples=188, seconds_per_sample=36)
    assert len(shows_it & set(record["one_class"]["oddest"])) >= 5
    assert record["cost"]["errors"] == pytest.approx(18.8)
    assert record["cost"]["review_h"] == pytest.approx((18.8 + 20) * 0.01)
    for lang in ("en", "ja"):
        page = write_trial(record, tmp_path / lang, Texts(lang)).read_text(encoding="utf-8")
        assert record["one_class"]["oddest"][0] in page
        assert record["one_class"]["oddest"][0] in " ".join(trial_sentences(record, Texts(lang)))
    with pytest.raises(TableError, match="there is nothing to tell"):
        try_backbones(config, "resnet10t", num_samples=100)
