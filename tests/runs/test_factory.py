"""A run on the sample data that is told which class is OK, what errors cost, and that some images are none of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config
from labelclean.review.apply import apply_labels
from labelclean.review.decisions import Decision
from labelclean.review.exchange.tools import export_run
from labelclean.review.ledger import append_decisions, open_ledger
from labelclean.runs import steps
from labelclean.runs.ingest import validated
from labelclean.storage.parquet import read_config, read_json, read_table
from labelclean.storage.tables import TABLES, conform

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
KNOWN = ("crack", "dent", "ok", "pore", "scratch")


def without_stains(folder: Path) -> Path:
    """The sample's labels of a plant that has no name for stains: half of them are called pore, half scratch."""
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    given = table.column("given_label").to_pylist()
    given = [label if label != "stain" else KNOWN[3 + row % 2] for row, label in enumerate(given)]
    table = table.set_column(table.column_names.index("given_label"), "given_label", [given])
    pq.write_table(table, folder / "labels.parquet")
    return folder / "labels.parquet"


def config_in(folder: Path, cache: Path, *overrides: str) -> Config:
    items = [f"storage.runs={folder / 'runs'}", f"storage.cache={cache}", "expectations.enabled=false"]
    items += [f"data.labels={folder / 'labels.parquet'}", f"data.image_root={ROOT / 'sample_data'}"]
    return read_config(ROOT / "config.yaml", [*items, f"data.class_names=[{', '.join(KNOWN)}]", *overrides])


def stains() -> set[str]:
    """Samples that really show a stain."""
    rows = pq.read_table(ROOT / "sample_data" / "truth.parquet").to_pylist()
    return {row["sample_id"] for row in rows if row["true_label"] == "stain"}


def answer(config: Config, run: Path, samples: list[str], names: Sequence[str] = KNOWN) -> None:
    """A person who knows what stains are says none of these."""
    rows = read_table(run / "refined_labels.parquet", "refined_labels").to_pylist()
    labels = pq.read_table(config.data.labels).to_pylist()
    given = {row["sample_id"]: row["given_label"] for row in labels}
    now = datetime(2026, 11, 25, tzinfo=UTC)
    said = [
        Decision(row["sample_id"], row["content_hash"], given[row["sample_id"]], "none_of_these", "anna", now, run.name,
                 "labels.parquet", "csv", ruled_out_labels=tuple(names))
        for row in rows if row["sample_id"] in samples
    ]  # fmt: skip
    append_decisions(open_ledger(f"sqlite:///{config.storage.runs.parent / 'ledger.db'}"), said)


def test_costs_and_new_kinds_of_one_run(sample_run: Path, sample_cache: Path, tmp_path: Path) -> None:
    without_stains(tmp_path)
    config = config_in(tmp_path, sample_cache, "classes.ok=ok", "costs.escape=100")
    shown = sorted(stains())[:12]
    answer(config, sample_run, shown)
    run = steps.clean(config)
    summary = read_json(run / "summary.json")
    issues, costs = summary["label_issues"], summary["costs"]
    kinds = [costs["kinds"][kind] for kind in ("escape", "overkill", "wrong_kind")]
    assert sum(kind["expected"] for kind in kinds) == pytest.approx(issues["expected"], abs=0.05)
    assert all(kind["low"] <= kind["expected"] <= kind["high"] <= issues["high"] + 0.01 for kind in kinds)
    assert costs["cost"] == pytest.approx(
        100 * kinds[0]["expected"] + kinds[1]["expected"] + kinds[2]["expected"], rel=0.01
    )
    queue = read_table(run / "review_queue.parquet", "review_queue")
    saved = queue.column("cost_saved").to_numpy()
    ranked = np.array([source in ("ranked", "rare_class") for source in queue.column("queue_source").to_pylist()])
    assert (np.diff(saved[ranked]) <= 1e-6).all()
    assert costs["queue_saves"] == pytest.approx(saved.sum(), abs=0.01)
    assert summary["reviewed"]["none_of_these"] == len(shown)
    for name in ("set_aside", "new_kinds"):
        table = read_table(run / f"{name}.parquet", name)
        conform(table, name)
        parts_aside = {"part_id"}  # only where labels are those of parts
        assert set(table.column_names) == {column.name for column in TABLES[name].columns} - parts_aside
    found = read_table(run / "new_kinds.parquet", "new_kinds").to_pylist()
    assert {row["sample_id"] for row in found if row["is_answer"]} == set(shown)
    assert not set(shown) & set(
        read_table(run / "refined_labels.parquet", "refined_labels").column("sample_id").to_pylist()
    )
    assert np.mean([row["sample_id"] in stains() for row in found]) > 0.8
    page = (run / "report.html").read_text(encoding="utf-8")
    assert all(word in page for word in ("Escapes and overkill", "New kinds", "--new-class NAME=1"))


@pytest.mark.long
def test_a_named_class_is_learned_from_the_answers(sample_run: Path, sample_cache: Path, tmp_path: Path) -> None:
    without_stains(tmp_path)
    config = config_in(tmp_path, sample_cache)
    answer(config, sample_run, sorted(stains())[:20])
    names = f"data.class_names=[{', '.join((*KNOWN, 'stain'))}]"
    run = steps.clean(config_in(tmp_path, sample_cache, names))
    rows = read_table(run / "refined_labels.parquet", "refined_labels").to_pylist()
    named = [row["sample_id"] in stains() for row in rows if row["predicted_label"] == "stain"]
    assert sum(named) > 40  # twenty were answered
    assert np.mean(named) > 0.9


@pytest.mark.long
@pytest.mark.parametrize("more", [(), ("run.in_memory_samples=0",)], ids=["memory", "parts"])
def test_labels_that_contradict_each_other_inside_a_part_are_flagged(
    sample_cache: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet").drop_columns(["group_id"])
    truth = {
        row["sample_id"]: row["true_label"] for row in pq.read_table(ROOT / "sample_data" / "truth.parquet").to_pylist()
    }
    shown = [truth[sample] for sample in table.column("sample_id").to_pylist()]
    order = sorted(range(len(shown)), key=lambda row: shown[row])  # four images that show the same are a part
    part = {row: f"part {place // 4}" for place, row in enumerate(order)}
    table = table.append_column("part_id", [[part[row] for row in range(len(shown))]])
    pq.write_table(table, tmp_path / "labels.parquet")
    items = [f"data.labels={tmp_path / 'labels.parquet'}", f"data.image_root={ROOT / 'sample_data'}"]
    items += [f"storage.runs={tmp_path / 'runs'}", f"storage.cache={sample_cache}", "expectations.enabled=false"]
    run = steps.clean(read_config(ROOT / "config.yaml", [*items, *more]))
    flags = read_table(run / "flags.parquet", "flags").to_pylist()
    flagged = {row["sample_id"] for row in flags if row["reason"] == "part_conflict"}
    rows = {row["sample_id"]: row for row in read_table(run / "refined_labels.parquet", "refined_labels").to_pylist()}
    wrong = {sample for sample, row in rows.items() if row["given_label"] != truth[sample]}
    mixed = {rows[sample]["part_id"] for sample in wrong}
    assert len(wrong & flagged) > 0.7 * len(wrong)
    assert np.mean([rows[sample]["part_id"] in mixed for sample in flagged]) > 0.9
    assert read_json(run / "summary.json")["part_conflicts"]["num"] == len(flagged)
    queue = read_table(run / "review_queue.parquet", "review_queue").to_pylist()
    assert any("part_conflict" in row["reasons"] for row in queue)


@pytest.mark.parametrize(
    "more", [(), pytest.param(("run.in_memory_samples=0",), marks=pytest.mark.long)], ids=["memory", "parts"]
)
def test_a_run_of_one_class_ranks_its_images_and_suggests_nothing(
    sample_cache: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    rows = pq.read_table(ROOT / "sample_data" / "labels.parquet").to_pylist()
    truth = {
        row["sample_id"]: row["true_label"] for row in pq.read_table(ROOT / "sample_data" / "truth.parquet").to_pylist()
    }
    good = [row for row in rows if truth[row["sample_id"]] == "ok"]
    names = ("crack", "dent", "pore", "scratch", "stain")
    odd = [row for name in names for row in [one for one in rows if truth[one["sample_id"]] == name][:2]]
    pq.write_table(
        pa.Table.from_pylist([row | {"given_label": "good"} for row in good + odd]), tmp_path / "labels.parquet"
    )
    items = [f"data.labels={tmp_path / 'labels.parquet'}", f"data.image_root={ROOT / 'sample_data'}"]
    items += [f"storage.runs={tmp_path / 'runs'}", f"storage.cache={sample_cache}", "expectations.enabled=false"]
    config = read_config(ROOT / "config.yaml", [*items, "data.class_names=null", "neighbours.odd_share=0.05", *more])
    assert validated(config)["classes"] == {"good": float(len(good) + len(odd))}
    run = steps.clean(config)
    table = read_table(run / "refined_labels.parquet", "refined_labels")
    conform(table, "refined_labels", class_names=("good",))
    found = table.to_pylist()
    assert {row["predicted_label"] for row in found} == {"good"}
    issues = [row["sample_id"] for row in found if row["is_label_issue"]]
    assert len(issues) == round(0.05 * len(found))
    assert sum(truth[sample] != "ok" for sample in issues) >= 6
    summary = read_json(run / "summary.json")
    assert "with one class no label can be suggested" in summary["verdict_sentence"]
    queue = read_table(run / "review_queue.parquet", "review_queue").to_pylist()
    assert {row["sample_id"] for row in queue if row["queue_source"] == "ranked"} <= set(issues)
    assert "no label can be suggested" in (run / "report.html").read_text(encoding="utf-8")
    apply_labels(run, [], tmp_path / "v2.parquet")
    export = export_run(run, "sheet", tmp_path / "queue")
    assert export.num_tasks == len(queue)
    if not more:  # an image that is taken out is known to the next run's tables
        taken = issues[:2]
        answer(config, run, taken, ["good"])
        again = steps.clean(config)
        assert not set(taken) & set(
            read_table(again / "refined_labels.parquet", "refined_labels")["sample_id"].to_pylist()
        )
        left = pq.read_table(again / "refined_labels.parquet").column("is_label_issue").to_pylist()
        assert sum(left) == len(issues) - len(taken)  # of a share that is stated, what was found is found
        apply_labels(again, [], tmp_path / "v3.parquet")
        assert pq.read_metadata(tmp_path / "v3.parquet").num_rows == len(good) + len(odd)
