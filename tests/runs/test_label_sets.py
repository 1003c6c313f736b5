"""Several labels on one image through a whole run: planted errors, people's sets, and a Severstal-like CSV there and back."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config
from labelclean.errors import ConfigError, TableError
from labelclean.report.file import write_report
from labelclean.report.trial_page import trial_sentences
from labelclean.review.apply import apply_labels
from labelclean.review.decisions import Decision
from labelclean.review.ledger import append_decisions, open_ledger
from labelclean.review.status import measure_status
from labelclean.review.study import StudyWish, plan_study
from labelclean.runs import extract, label_parts, steps
from labelclean.runs.gates import Verdict
from labelclean.runs.label_set_gates import ClassVerdict, set_findings
from labelclean.starting.source import Asked, first_labels
from labelclean.storage.label_sets import label_sets, set_text
from labelclean.storage.parquet import read_config, read_json, read_table, write_table
from labelclean.storage.tables import class_names_of, conform, matrix
from labelclean.texts import Texts
from labelclean.trial.backbones import try_backbones
from labelclean.trial.first_config import write_first_config
from labelclean.trial.poc import run_trial, write_trial
from sample_data.several import CLASSES, generate

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
NUM = 200
BACKBONE = [
    "backbone.name=resnet14t",
    f"backbone.weights={ROOT / 'sample_data' / 'backbone.safetensors'}",
    "backbone.options={channels: [16, 32, 64, 128], stem_width: 16, output_stride: 16, global_pool: catavgmax}",
    "backbone.pretrained=false",
    "expectations.enabled=false",
    "neighbours.method=exact",
]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with none to three defects, `train.csv` and `truth.csv`, and a config that init wrote for them."""
    folder = tmp_path_factory.mktemp("plant")
    generate(folder, NUM)
    asked = Asked(image_root=folder / "images", several_labels=True, unlisted_have_none=True)
    seen = write_first_config(folder / "train.csv", folder / "config.yaml", BACKBONE, asked=asked)
    assert any("are named by no row" in line and "they have no label" in line for line in seen)
    assert any(line.startswith("labels on an image: 0 (") for line in seen)
    return folder


def config_of(plant: Path, *overrides: str) -> Config:
    return read_config(plant / "config.yaml", overrides)


@pytest.fixture(scope="module")
def first(plant: Path) -> Path:
    return steps.clean(config_of(plant))


def sets_in(file: Path) -> dict[str, set[str]]:
    """The classes of each image in a CSV of rows per image and class."""
    found: dict[str, set[str]] = {path.name: set() for path in (file.parent / "images").iterdir()}
    with file.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            found[row["ImageId"]].add(row["ClassId"])
    return found


def answers(sets: dict[str, set[str]], ids: list[str]) -> npt.NDArray[np.bool_]:
    return np.array([[name in sets[sample] for name in CLASSES] for sample in ids])


def test_a_run_finds_planted_missing_and_invented_labels(plant: Path, first: Path) -> None:
    refined = read_table(first / "refined_labels.parquet", "refined_labels")
    ids = refined.column("sample_id").to_pylist()
    given, true = answers(sets_in(plant / "train.csv"), ids), answers(sets_in(plant / "truth.csv"), ids)
    rows = refined.to_pylist()
    assert [row["given_labels"] for row in rows] == [
        [n for n, g in zip(CLASSES, row, strict=True) if g] for row in given
    ]
    soft = matrix(refined.column("soft_label"))
    fits = np.where(given, soft, 1 - soft)
    is_wrong = given != true
    assert (
        fits[is_wrong][:, None] < fits[~is_wrong]
    ).mean() > 0.9  # of a wrong and a right answer the wrong one fits less
    assert not np.allclose(soft.sum(axis=1), 1, atol=0.2)
    predicted = answers({row["sample_id"]: set(row["predicted_labels"]) for row in rows}, ids)
    assert (predicted != true).sum() < is_wrong.sum()
    flags = read_table(first / "label_flags.parquet", "label_flags").to_pylist()
    place, k = {sample: row for row, sample in enumerate(ids)}, {name: at for at, name in enumerate(CLASSES)}
    hits = [is_wrong[place[flag["sample_id"]], k[flag["class_name"]]] for flag in flags]
    assert len(flags) > 20
    assert np.mean(hits) > 5 * is_wrong.mean()
    for flag in flags:
        row = rows[place[flag["sample_id"]]]
        assert (flag["class_name"] in row["given_labels"]) is (flag["direction"] == "spurious")
        assert flag["class_name"] in row[f"{flag['direction']}_labels"]
        assert flag["is_changed"] is (
            (flag["class_name"] in row["predicted_labels"]) != (flag["class_name"] in row["given_labels"])
        )
    assert {flag["sample_id"] for flag in flags} == {row["sample_id"] for row in rows if row["is_label_issue"]}


def test_summary_queue_and_distribution_agree_with_the_tables(first: Path) -> None:
    summary, refined = read_json(first / "summary.json"), read_table(first / "refined_labels.parquet", "refined_labels")
    queue = read_table(first / "review_queue.parquet", "review_queue")
    for name, table in (("refined_labels", refined), ("review_queue", queue)):
        conform(table, name, class_names=class_names_of(table))
    flags = read_table(first / "label_flags.parquet", "label_flags").to_pylist()
    found = summary["label_issues"]
    assert summary["several_labels"] is True
    assert found["missing"] == sum(flag["direction"] == "missing" for flag in flags)
    assert found["spurious"] == sum(flag["direction"] == "spurious" for flag in flags)
    assert found["num"] == summary["num_label_issues"] == len({flag["sample_id"] for flag in flags})
    for row in found["by_class"]:
        own = [flag for flag in flags if flag["class_name"] == row["class_name"]]
        assert row["missing"] + row["spurious"] == len(own)
        assert row["num_samples"] == sum(
            row["class_name"] in names for names in refined.column("given_labels").to_pylist()
        )
    ranked = [row["label_score"] for row in queue.to_pylist() if row["queue_source"] in ("ranked", "rare_class")]
    assert ranked == sorted(ranked)
    assert sum(source == "random_audit" for source in queue.column("queue_source").to_pylist()) == 30
    shares = {
        row["class_name"]: row
        for row in read_table(first / "class_distribution.parquet", "class_distribution").to_pylist()
    }
    assert all(row["share"] == pytest.approx(row["num_samples"] / NUM) for row in shares.values())


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_report_shows_what_may_be_missing_and_too_many(first: Path, tmp_path: Path, lang: str) -> None:
    page = write_report(first, lang=lang, out=tmp_path / "report.html", top=8).read_text(encoding="utf-8")
    assert {"en": "may be missing", "ja": "付け漏れ"}[lang] in page
    assert {"en": "They do not sum to 1", "ja": "合計は 1 になりません"}[lang] in page
    assert page.count('<li class="card">') == 8
    assert 'class="badge pass"' in page


def decide(config: Config, plant: Path, run: Path, who: str = "Aiko") -> list[str]:
    """What a person who sees everything says of the queue."""
    true, said = sets_in(plant / "truth.csv"), []
    rows = read_table(run / "review_queue.parquet", "review_queue").to_pylist()
    for row in rows:
        found = tuple(name for name in CLASSES if name in true[row["sample_id"]])
        said.append(
            Decision(
                sample_id=row["sample_id"],
                content_hash=row["content_hash"],
                given_label=set_text(row["given_labels"], CLASSES),
                decision="confirmed" if list(found) == row["given_labels"] else "corrected",
                annotator_id=who,
                reviewed_at=datetime(2026, 11, 29, tzinfo=UTC),
                run_id=run.name,
                dataset="train",
                tool="sheet",
                inclusion_probability=row["inclusion_probability"],
                verified_labels=found,
            )
        )
    append_decisions(open_ledger(f"sqlite:///{config.storage.runs.parent / 'ledger.db'}"), said)
    return [row["sample_id"] for row in rows]


def test_csv_init_run_review_run_apply(plant: Path, first: Path, tmp_path: Path) -> None:
    config = config_of(plant, f"ledger.url=sqlite:///{tmp_path / 'ledger.db'}")
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"runs": tmp_path / "runs"})})
    looked_at = set(decide(config, plant, first))
    second = steps.clean(config)
    true = sets_in(plant / "truth.csv")
    refined = {
        row["sample_id"]: row for row in read_table(second / "refined_labels.parquet", "refined_labels").to_pylist()
    }
    for sample in looked_at:
        assert set(refined[sample]["predicted_labels"]) == true[sample]
        assert not refined[sample]["is_label_issue"]
    queued = read_table(second / "review_queue.parquet", "review_queue").column("sample_id").to_pylist()
    assert not looked_at & set(queued)
    summary = read_json(second / "summary.json")
    assert summary["gain"]["num_looks"] == 30
    assert summary["reviewed"]["settled"] == len(looked_at)
    decisions = tuple(_decisions(tmp_path))
    status = measure_status(first, decisions)
    assert (status.num_reviewed, status.num_audited) == (len(looked_at), 30)
    assert "images with a wrong label" in " ".join(status.sentences())
    out = tmp_path / "cleaned.parquet"
    report = apply_labels(second, decisions, out, unreviewed=True)
    assert report.num_rows == NUM
    applied = {row["sample_id"]: row for row in pq.read_table(out).to_pylist()}
    given = sets_in(plant / "train.csv")
    for sample, row in applied.items():
        assert set(row["given_label"]) == given[sample]
        assert (row["verified_labels"] is not None) is (sample in looked_at)
        assert row["verified_labels"] is None or set(row["verified_labels"]) == true[sample]
    assert report.by_status["pending"] == NUM - len(looked_at)
    rows = tmp_path / "rows.csv"
    assert apply_labels(second, decisions, rows, unreviewed=True, to="rows").num_rows > NUM
    back = first_labels(rows, Asked(image_root=plant / "images", several_labels=True))
    assert back is not None
    read_back = label_sets(back.table, (), "rows.csv")
    wanted = {row["sample_id"]: row["verified_labels"] or row["predicted_labels"] for row in applied.values()}
    wanted |= {sample: row["verified_labels"] for sample, row in applied.items() if row["verified_labels"] is not None}
    pairs = zip(*(read_back.column(name).to_pylist() for name in ("sample_id", "given_labels")), strict=True)
    assert dict(pairs) == wanted
    with pytest.raises(ConfigError, match="holds one label per image, but this run's images have several"):
        apply_labels(second, decisions, tmp_path / "x.json", unreviewed=True)
    changed = pq.read_table(config.data.labels)
    place = changed.column_names.index("given_label")
    lists = changed.column("given_label").to_pylist()
    lists[0] = [] if lists[0] else ["dent"]
    kept = config.data.labels.read_bytes()
    pq.write_table(changed.set_column(place, "given_label", pa.array(lists, pa.list_(pa.string()))), config.data.labels)
    with pytest.raises(TableError, match="have another given label"):
        apply_labels(second, decisions, tmp_path / "y.parquet", unreviewed=True)
    config.data.labels.write_bytes(kept)


def _decisions(folder: Path) -> list[Decision]:
    from labelclean.review.ledger import decisions_of

    return list(decisions_of(open_ledger(f"sqlite:///{folder / 'ledger.db'}"), "train"))


@pytest.mark.long
def test_rows_with_the_switch_and_parts_give_the_same_tables(
    plant: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_parts, "PART_ROWS", 90)
    monkeypatch.setattr(extract, "PART_ROWS", 70)
    monkeypatch.setattr(label_parts, "part_rows", lambda _: 90)
    lists = pq.read_table(config_of(plant).data.labels).to_pylist()
    rows = [{**row, "given_label": name} for row in lists for name in row["given_label"] or [None]]
    schema = pa.schema([(name, pa.string()) for name in ("sample_id", "image_path", "given_label")])
    pq.write_table(pa.Table.from_pylist(rows[::-1], schema=schema), tmp_path / "rows.parquet")
    runs = [f"storage.runs={tmp_path / 'runs'}", f"data.labels={tmp_path / 'rows.parquet'}", "data.several_labels=true"]
    again = steps.clean(config_of(plant, *runs, f"data.image_root={plant / 'images'}", "run.in_memory_samples=0"))
    for name in ("refined_labels", "label_flags", "review_queue", "class_distribution", "rejects"):
        then, now = (read_table(folder / f"{name}.parquet", name) for folder in (first, again))
        assert now.equals(then, check_metadata=True), name


def test_what_is_not_made_for_several_labels_is_refused_by_its_name(plant: Path, first: Path, tmp_path: Path) -> None:
    settings = ["run.reference=x", "refine.method=two_hot"]
    with pytest.raises(ConfigError) as told:
        steps.clean(config_of(plant, *settings))
    assert all(setting.partition("=")[0] in str(told.value) for setting in settings)
    refusals: list[Callable[[], Any]] = [
        lambda: try_backbones(config_of(plant), "resnet10t", num_samples=60),
        lambda: plan_study(first, (), tmp_path / "study", StudyWish(5, appraisers=2, trials=2)),
    ]
    for refused in refusals:
        with pytest.raises(ConfigError, match="images must have one label each"):
            refused()


def test_a_trial_of_all_images_says_what_the_run_says(plant: Path, first: Path) -> None:
    trial, run = run_trial(config_of(plant), num_samples=NUM, seconds_per_sample=6), read_json(first / "summary.json")
    found, cost = run["label_issues"], trial["cost"]
    by_class = [
        {name: row[name] for name in one} for one, row in zip(found["by_class"], trial["set_classes"], strict=True)
    ]
    assert by_class == found["by_class"]
    assert (trial["num_judged"], cost["num_suspects"], cost["num_changed"]) == (
        NUM,
        found["num"],
        found["would_change"],
    )
    assert cost["errors"] == pytest.approx(found["expected"])
    assert {name: trial["gain"][name] for name in ("points", "low", "high")} == {
        name: run["gain"][name] for name in ("points", "low", "high")
    }


@pytest.mark.long
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_trial_of_half_the_images_counts_for_all_and_is_told(plant: Path, tmp_path: Path, lang: str) -> None:
    config = config_of(plant, "run.in_memory_samples=150")  # a run would work in parts, a trial never does
    trial = run_trial(config, num_samples=NUM // 2, seconds_per_sample=6)
    given, true = (sets_in(plant / name) for name in ("train.csv", "truth.csv"))
    wrong = sum(len(given[image] ^ true[image]) for image in true)
    assert trial["num_judged"] == NUM // 2
    assert trial["cost"]["errors_low"] < wrong < trial["cost"]["errors_high"]
    assert [row["num_full"] for row in trial["set_classes"]] == [
        sum(name in one for one in given.values()) for name in CLASSES
    ]
    page = write_trial(trial, tmp_path / "poc", Texts(lang)).read_text(encoding="utf-8")
    assert all(sentence in page for sentence in trial_sentences(trial, Texts(lang))[:3])
    assert ('id="curve"' in page, page.count('<th scope="row"><bdi>')) == (False, len(CLASSES))


@pytest.mark.long
@pytest.mark.parametrize("in_memory", [100_000, 0], ids=["whole", "parts"])
@pytest.mark.parametrize("as_rows", [False, True], ids=["lists", "rows"])
def test_a_later_file_wins_whole_sets_and_what_came_again_is_told(
    plant: Path, first: Path, tmp_path: Path, in_memory: int, as_rows: bool
) -> None:
    lists = pq.read_table(config_of(plant).data.labels).to_pylist()
    labels = tmp_path / "labels"
    labels.mkdir()

    def write(name: str, rows: list[dict[str, Any]], at: int) -> None:
        if as_rows:
            rows = [{**row, "given_label": label} for row in rows for label in row["given_label"] or [None]]
        kind = pa.string() if as_rows else pa.list_(pa.string())
        schema = pa.schema([("sample_id", pa.string()), ("image_path", pa.string()), ("given_label", kind)])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), labels / name)
        os.utime(labels / name, (at, at))

    write("1.parquet", lists[:100], 100)
    changed = [{**row, "given_label": ["pore", "stain"]} for row in lists[:2]]
    write("2.parquet", [*changed, *lists[100:]], 200)
    settings = [
        f"data.labels={labels}", f"data.image_root={plant / 'images'}", f"storage.runs={tmp_path / 'runs'}",
        f"data.several_labels={str(as_rows).lower()}", "ingest.since=last_success", "ingest.settle_s=0",
        f"run.in_memory_samples={in_memory}", "teacher.landmarks=20",
    ]  # fmt: skip
    run = steps.clean(config_of(plant, *settings))
    told = read_json(run / "summary.json")["arrivals"]
    refined = {
        row["sample_id"]: row["given_labels"]
        for row in read_table(run / "refined_labels.parquet", "refined_labels").to_pylist()
    }
    assert [refined[row["sample_id"]] for row in lists[:2]] == [["pore", "stain"]] * 2
    lost = sum(max(len(row["given_label"]), 1) if as_rows else 1 for row in lists[:2])
    assert (told["num_superseded"], told["num_repeated"]) == (lost, 0)
    write("3.parquet", [lists[0], *lists[2:60]], 300)
    again = steps.clean(config_of(plant, *settings))
    told = read_json(again / "summary.json")["arrivals"]
    assert (told["num_superseded"], told["num_repeated"], told["num_relabelled"]) == (0, 59, 1)
    apply_labels(again, (), tmp_path / "out.parquet", unreviewed=True)
    written = pq.read_table(tmp_path / "out.parquet")
    assert set(written.column("sample_id").to_pylist()) == {row["sample_id"] for row in [lists[0], *lists[2:60]]}


def test_the_users_own_model_takes_the_place_of_the_teacher(plant: Path, tmp_path: Path) -> None:
    true = sets_in(plant / "truth.csv")
    rng = np.random.default_rng(3)
    is_there = answers(true, sorted(true)).astype(np.float64)
    own = np.clip(0.9 * is_there + 0.05 + rng.normal(0, 0.04, is_there.shape), 0.001, 0.999)
    table = pa.table({"sample_id": sorted(true)} | {name: own[:, k] for k, name in enumerate(CLASSES)})
    pq.write_table(table, tmp_path / "own.parquet")
    settings = [f"teacher.pred_probs={tmp_path / 'own.parquet'}", f"storage.runs={tmp_path / 'runs'}"]
    run = steps.clean(config_of(plant, *settings))
    rows = read_table(run / "refined_labels.parquet", "refined_labels").to_pylist()
    predicted = answers({row["sample_id"]: set(row["predicted_labels"]) for row in rows}, sorted(true))
    assert (predicted != is_there.astype(bool)).mean() < 0.02
    pq.write_table(table.set_column(1, "dent", pa.array(own[:, 0] + 1)), tmp_path / "own.parquet")
    with pytest.raises(TableError, match="4 probabilities in class order, each within 0 and 1, but do not for"):
        steps.clean(config_of(plant, *settings))


def test_a_carried_column_shows_where_wrong_labels_come_from(first: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(first, run)
    refined = read_table(run / "refined_labels.parquet", "refined_labels")
    lines = pa.array(["L1" if score < 0.5 else "L2" for score in refined.column("label_score").to_pylist()])
    names = class_names_of(refined)
    write_table(run / "refined_labels.parquet", refined.append_column("line", lines), "refined_labels", names)
    page = write_report(run, out=tmp_path / "report.html", top=1).read_text(encoding="utf-8")
    assert "Expected share of images with a wrong label" in page
    assert '<span class="badge warn">higher</span>' in page


def test_validate_counts_images_by_class_and_refuses_a_class_that_is_not_known(plant: Path) -> None:
    report = steps.validated(config_of(plant))
    assert report["num_samples"] == NUM
    assert report["classes"] == {
        name: sum(name in found for found in sets_in(plant / "train.csv").values()) for name in CLASSES
    }
    with pytest.raises(TableError, match=r"'stain' \(\d+\)"):
        steps.validated(config_of(plant, "data.class_names=[dent, pore, scratch]"))


def test_a_run_of_single_labels_has_nothing_of_sets(sample_run: Path) -> None:
    assert "several_labels" not in read_json(sample_run / "summary.json")
    assert not (sample_run / "label_flags.parquet").exists()
    for name in ("refined_labels", "review_queue", "flags", "teacher_predictions"):
        table = read_table(sample_run / f"{name}.parquet", name)
        assert [column for column in table.column_names if column.endswith("_labels")] == []


def test_findings_name_the_classes_that_nothing_can_be_said_of() -> None:
    verdicts = {
        "dent": ClassVerdict("judged", Verdict(()), 0.1),
        "pore": ClassVerdict("chance"),
        "crack": ClassVerdict("closed"),
        "stain": ClassVerdict("judged", Verdict(()), 0.7, is_alone=True),
    }
    moves = {"dent": (1, 2, 40), "stain": (30, 0, 50)}
    found = {one.check: one for one in set_findings(verdicts, moves, 0.6, 0.5)}
    assert {check: (one.outcome, one.facts["names"]) for check, one in found.items()} == {
        "set_skill": ("warn", ["pore"]),
        "set_closed": ("warn", ["crack"]),
        "set_one_group": ("warn", ["stain"]),
        "set_noise": ("warn", ["stain"]),
        "set_lost": ("warn", ["stain"]),
    }
    assert json.loads(json.dumps(found["set_lost"].facts)) == {"names": ["stain"], "lost": 30, "gained": 0, "total": 50}


def test_an_image_that_people_took_out_is_known_to_apply(plant: Path, first: Path, tmp_path: Path) -> None:
    config = config_of(plant, f"ledger.url=sqlite:///{tmp_path / 'ledger.db'}")
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"runs": tmp_path / "runs"})})
    row = read_table(first / "review_queue.parquet", "review_queue").to_pylist()[0]
    bad = Decision(
        sample_id=row["sample_id"],
        content_hash=row["content_hash"],
        given_label=set_text(row["given_labels"], CLASSES),
        decision="bad_image",
        annotator_id="Aiko",
        reviewed_at=datetime(2026, 11, 29, tzinfo=UTC),
        run_id=first.name,
        dataset="train",
        tool="sheet",
    )
    append_decisions(open_ledger(f"sqlite:///{config.storage.runs.parent / 'ledger.db'}"), [bad])
    second = steps.clean(config)
    assert (
        bad.sample_id
        not in read_table(second / "refined_labels.parquet", "refined_labels").column("sample_id").to_pylist()
    )
    out = tmp_path / "cleaned.parquet"
    apply_labels(second, _decisions(tmp_path), out, unreviewed=True)
    status = {one["sample_id"]: one["review_status"] for one in pq.read_table(out).to_pylist()}
    assert len(status) == NUM
    assert status[bad.sample_id] == "bad_image"
