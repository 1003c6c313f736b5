"""A whole run on the sample data: what it leaves, what it finds, and every way in which it refuses."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelclean.config import Config
from labelclean.errors import ConfigError, GateError, LockError, StorageError, TableError
from labelclean.report.file import write_report
from labelclean.runs import steps
from labelclean.storage.lock import run_lock
from labelclean.storage.parquet import read_config, read_json, read_table, write_json
from labelclean.storage.tables import TABLES, class_names_of, conform, matrix

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
NO_GX = "expectations.enabled=false"
PLAIN = ("teacher.landmarks=0", "neighbours.method=none")  # where it does not matter what the teacher knows


def sample_config(tmp_path: Path, cache: Path, *overrides: str) -> Config:
    return read_config(
        ROOT / "config.yaml", [f"storage.runs={tmp_path / 'runs'}", f"storage.cache={cache}", NO_GX, *overrides]
    )


def relabelled(tmp_path: Path, num: int = 700, **columns: pa.Array) -> str:
    """The first of the sample's labels with some columns replaced, beside no images."""
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, num)
    for name, values in columns.items():
        table = table.drop_columns(name) if name in table.column_names else table
        table = table.append_column(name, values)
    pq.write_table(table, tmp_path / "labels.parquet")
    return f"data.labels={tmp_path / 'labels.parquet'}"


def test_a_run_leaves_whole_tables_that_agree_with_each_other(sample_run: Path) -> None:
    manifest, summary = read_json(sample_run / "manifest.json"), read_json(sample_run / "summary.json")
    for name in ("refined_labels", "flags", "review_queue", "class_distribution", "teacher_predictions", "rejects"):
        table = read_table(sample_run / f"{name}.parquet", name)
        conform(table, name, class_names=class_names_of(table))
        assert set(table.column_names) >= {column.name for column in TABLES[name].columns if not column.optional}
    for name, file in manifest["files"].items():
        assert hashlib.sha256((sample_run / name).read_bytes()).hexdigest() == file["sha256"]
    refined = read_table(sample_run / "refined_labels.parquet", "refined_labels")
    assert refined.num_rows == 699
    assert summary["num_rejects"] == 1
    assert summary["num_label_issues"] == pc.sum(refined.column("is_label_issue")).as_py()
    assert sum(row["num_samples"] for row in summary["label_issues"]["by_class"]) == 699


def test_soft_labels_are_distributions_and_the_prediction_is_their_best_class(sample_run: Path) -> None:
    refined = read_table(sample_run / "refined_labels.parquet", "refined_labels")
    soft = matrix(refined.column("soft_label"))
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-5)
    names = np.array(class_names_of(refined))
    assert (names[soft.argmax(axis=1)] == refined.column("predicted_label").to_numpy()).all()


def test_other_columns_are_carried_through(sample_run: Path) -> None:
    refined = read_table(sample_run / "refined_labels.parquet", "refined_labels")
    labels = pq.read_table(ROOT / "sample_data" / "labels.parquet").sort_by("sample_id")
    kept = labels.filter(pc.is_in(labels.column("sample_id"), value_set=refined.column("sample_id").combine_chunks()))
    for name in ("line", "shift", "captured_at", "group_id", "image_path"):
        assert refined.column(name).to_pylist() == kept.column(name).to_pylist()


def test_planted_errors_are_found(sample_run: Path) -> None:
    refined = read_table(sample_run / "refined_labels.parquet", "refined_labels").to_pandas()
    truth = pq.read_table(ROOT / "sample_data" / "truth.parquet").to_pandas()
    both = refined.merge(truth, on="sample_id")
    wrong = (both.given_label != both.true_label).to_numpy()
    right_now = (both.predicted_label == both.true_label).to_numpy()
    assert right_now.mean() > 1 - wrong.mean()
    issues = both.is_label_issue.to_numpy()
    assert (issues & wrong).sum() / wrong.sum() > 0.75
    assert (issues & wrong).sum() / issues.sum() > 0.6


def test_the_broken_image_is_rejected_with_its_reason(sample_run: Path) -> None:
    (reject,) = read_table(sample_run / "rejects.parquet", "rejects").to_pylist()
    assert reject["reason_code"] == "truncated"
    assert reject["image_path"] in reject["message"]


def test_a_second_run_extracts_nothing_and_leaves_the_same_bytes(
    sample_run: Path, sample_cache: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(sample_cache, cache)
    stored = sorted(path.name for path in cache.rglob("part-*.parquet"))
    again = steps.clean(sample_config(tmp_path, cache, "expectations.enabled=true"))
    first, second = (read_json(run / "manifest.json")["files"] for run in (sample_run, again))
    assert second == first
    assert sorted(path.name for path in cache.rglob("part-*.parquet")) == stored
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [again.name]


def test_too_many_rejects_keep_everything_and_end_with_code_3(sample_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"more than rejects\.max_share = 0\.001: truncated \(1\)") as told:
        steps.clean(sample_config(tmp_path, sample_cache, "rejects.max_share=0.001", *PLAIN))
    folder = Path(str(told.value.run_folder))
    assert read_json(folder / "manifest.json")["exit_code"] == 3
    assert (folder / "refined_labels.parquet").is_file()


def test_where_one_class_is_left_the_run_says_so(sample_cache: Path, tmp_path: Path) -> None:
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    is_dent = pc.equal(table.column("given_label"), "dent")
    paths = pc.if_else(is_dent, table.column("image_path"), "none.png")
    labels = relabelled(tmp_path, image_path=paths)
    config = sample_config(tmp_path, sample_cache, labels, f"data.image_root={ROOT / 'sample_data'}")
    with pytest.raises(GateError, match="only 'dent' has images that can be used"):
        steps.clean(config)


def test_when_no_image_can_be_used_the_reasons_are_published(sample_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = sample_config(tmp_path, sample_cache, f"data.image_root={tmp_path / 'empty'}")
    with pytest.raises(GateError, match="no image could be used") as told:
        steps.clean(config)
    rejects = read_table(Path(str(told.value.run_folder)) / "rejects.parquet", "rejects")
    assert set(rejects.column("reason_code").to_pylist()) == {"missing"}
    assert rejects.num_rows == 700


@pytest.mark.long
def test_a_refused_method_falls_back_and_says_so(sample_cache: Path, tmp_path: Path) -> None:
    strict = "gates.top2.min_agreement=1"  # no teacher's pairs stand still in every refit
    folder = steps.clean(sample_config(tmp_path, sample_cache, "refine.method=two_hot", strict))
    summary = read_json(folder / "summary.json")
    assert summary["verdict"] == "fell_back"
    assert summary["refinement"]["method"] != "two_hot"
    assert any("two_hot" in gate["forbids"] for gate in summary["gates"])


@pytest.mark.long
def test_two_classes_work_and_two_hot_is_refused_there(sample_cache: Path, tmp_path: Path) -> None:
    given = pq.read_table(ROOT / "sample_data" / "labels.parquet").column("given_label")
    binary = pc.if_else(pc.equal(given, "ok"), "ok", "ng")
    labels = relabelled(tmp_path, given_label=binary)
    overrides = [labels, "data.class_names=[ng, ok]", "gates.on_refusal=stop"]
    with pytest.raises(GateError, match="with two classes both always stand in the top-2 pair"):
        steps.clean(sample_config(tmp_path, sample_cache, *overrides, "refine.method=two_hot"))
    folder = steps.clean(sample_config(tmp_path, sample_cache, *overrides))
    assert read_json(folder / "summary.json")["num_label_issues"] > 10


@pytest.mark.long
@pytest.mark.parametrize("method", ["multi_round", "adaptive", "posterior", "none"])
def test_every_refinement_can_be_asked_for(sample_cache: Path, tmp_path: Path, method: str) -> None:
    folder = steps.clean(sample_config(tmp_path, sample_cache, f"refine.method={method}"))
    assert read_json(folder / "summary.json")["refinement"]["method"] == method
    refined = read_table(folder / "refined_labels.parquet", "refined_labels")
    if method == "none":
        assert refined.column("predicted_label").to_pylist() == refined.column("given_label").to_pylist()


@pytest.mark.long
def test_labels_with_image_bytes_give_the_same_result_as_paths(
    sample_run: Path, sample_cache: Path, tmp_path: Path
) -> None:
    paths = pq.read_table(ROOT / "sample_data" / "labels.parquet").column("image_path").to_pylist()
    files = [(ROOT / "sample_data" / path).read_bytes() for path in paths]
    labels = relabelled(tmp_path, image=pa.array(files, pa.binary()))
    folder = steps.clean(sample_config(tmp_path, sample_cache, labels))
    table = "refined_labels.parquet"
    assert (folder / table).read_bytes() == (sample_run / table).read_bytes()


@pytest.mark.long
def test_votes_of_several_inspectors_become_soft_given_labels(sample_cache: Path, tmp_path: Path) -> None:
    labels = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    second = labels.set_column(
        labels.column_names.index("given_label"), "given_label", pa.array(["ok"] * labels.num_rows)
    )
    both = pa.concat_tables(
        [
            labels.append_column("annotator_id", pa.array(["first"] * labels.num_rows)),
            second.append_column("annotator_id", pa.array(["second"] * labels.num_rows)),
        ]
    )
    pq.write_table(both, tmp_path / "labels.parquet")
    config = sample_config(tmp_path, sample_cache, f"data.labels={tmp_path / 'labels.parquet'}")
    folder = steps.clean(config)
    refined = read_table(folder / "refined_labels.parquet", "refined_labels")
    assert refined.num_rows == 699
    assert set(matrix(refined.column("given_votes")).sum(axis=1).tolist()) == {2.0}
    reasons = read_table(folder / "flags.parquet", "flags").column("reason").to_pylist()
    assert "annotators_disagree" in reasons
    agreement = refined.column("annotator_agreement").to_pylist()
    same = [row == "ok" for row in labels.column("given_label").to_pylist()]
    assert sum(value == 1.0 for value in agreement) == pytest.approx(sum(same), abs=1)  # one image is rejected
    first, lazy = sorted(
        steps.read_published(folder).summary["inspectors"]["labels"]["inspectors"], key=lambda one: float(one["share"])
    )
    assert (first["name"], lazy["name"], lazy["stands_out"]) == ("first", "second", 1)
    assert {facet["column"] for facet in lazy["drift"]} == {"line", "shift", "captured_at"}


@pytest.mark.long
def test_own_predictions_can_take_the_teachers_place(sample_run: Path, sample_cache: Path, tmp_path: Path) -> None:
    probs = read_table(sample_run / "teacher_predictions.parquet", "teacher_predictions").select(
        ["sample_id", "pred_probs"]
    )
    pq.write_table(probs, tmp_path / "probs.parquet")
    config = sample_config(tmp_path, sample_cache, f"teacher.pred_probs={tmp_path / 'probs.parquet'}")
    assert read_json(steps.clean(config) / "summary.json")["num_label_issues"] > 10
    pq.write_table(probs.slice(0, 5), tmp_path / "probs.parquet")
    with pytest.raises(TableError, match="every sample must have a row, but 694 have none"):
        steps.clean(config)


def test_no_carried_column_and_no_report_takes_anything_from_a_run(
    sample_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exact = pa.array([1_700_000_000_123_456_789 + row for row in range(250)], pa.timestamp("ns"))
    far = pa.array([253_402_300_800_000] * 2 + [1_700_000_000] * 248, pa.timestamp("s"))
    lists, bytes_ = pa.array([["A"], ["B"]] * 125), pa.array([b"\xff"] * 250)
    labels = relabelled(tmp_path, 250, exported=exact, captured_at=far, line=lists, shift=bytes_)
    reports: list[Path] = []

    def broken_at_its_end(folder: Path) -> None:
        reports.append(write_report(folder))
        raise pa.ArrowInvalid("a chart that nobody thought of.")

    monkeypatch.setattr("labelclean.report.file.write_report", broken_at_its_end)
    folder = steps.clean(sample_config(tmp_path, sample_cache, labels, *PLAIN))
    refined = pq.read_table(folder / "refined_labels.parquet")
    assert set(refined.column("exported").to_pylist()) <= set(exact.to_pylist())
    assert "2 times of column 'captured_at' are not drawn" in caplog.text
    assert "no chart of column 'line'" in caplog.text
    assert "no chart of column 'shift', which holds binary" in caplog.text
    assert (
        f"no report: a chart that nobody thought of. The labels are published; `labelclean report {folder}`"
        in caplog.text
    )
    assert reports == [folder / "report.html"]


def test_a_placeholder_in_several_classes_is_one_conflict_and_one_place_in_the_queue(
    sample_cache: Path, tmp_path: Path
) -> None:
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, 300)
    paths = np.array(table.column("image_path").to_pylist(), dtype=object)
    paths[::25] = paths[0]  # 12 of 300
    labels = relabelled(tmp_path, 300, image_path=pa.array(paths.tolist()))
    folder = steps.clean(sample_config(tmp_path, sample_cache, labels, "teacher.landmarks=0"))
    flags = read_table(folder / "flags.parquet", "flags").to_pandas()
    copies = set(table.column("sample_id").to_pylist()[::25])
    assert copies <= set(flags.loc[flags["reason"] == "conflict_group", "sample_id"])
    queue = read_table(folder / "review_queue.parquet", "review_queue").to_pandas()
    shown = queue[queue["sample_id"].isin(copies)]
    assert shown["queue_source"].tolist() == ["conflict_group"]


def test_a_held_lock_stops_a_second_run(sample_cache: Path, tmp_path: Path) -> None:
    config = sample_config(tmp_path, sample_cache)
    with run_lock(tmp_path / "runs" / ".lock"), pytest.raises(LockError, match="is running on this data set"):
        steps.clean(config)


def test_a_failed_run_leaves_nothing_behind(sample_cache: Path, tmp_path: Path) -> None:
    config = sample_config(tmp_path, sample_cache, f"backbone.weights={tmp_path / 'gone.safetensors'}")
    with pytest.raises(StorageError, match=r"backbone\.weights"):
        steps.clean(config)
    assert list((tmp_path / "runs").iterdir()) == []


def test_validate_tells_counts_missing_images_and_missing_files(sample_cache: Path, tmp_path: Path) -> None:
    labels = relabelled(tmp_path, image_path=pa.array([f"images/none_{i}.png" for i in range(700)]))
    report = steps.validated(sample_config(tmp_path, sample_cache, labels))
    assert report["num_samples"] == 700
    assert report["classes"]["ok"] == 334
    assert "700 of 700 images are not under" in report["sentences"][1]
    with pytest.raises(StorageError, match=r"teacher\.pred_probs must name a file"):
        steps.validated(sample_config(tmp_path, sample_cache, f"teacher.pred_probs={tmp_path / 'gone'}"))
    with pytest.raises(TableError, match=r"'crack' \(24\)"):
        steps.validated(sample_config(tmp_path, sample_cache, "data.class_names=[ok, dent, pore, scratch, stain]"))


def split_labels(tmp_path: Path, *, planted: bool) -> tuple[str, set[str]]:
    """The sample's labels, every second part for testing; planted: copies of 10 images, and 5 parts, on both sides."""
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet").sort_by("sample_id").slice(0, 300)
    parts = {part: k % 4 == 0 for k, part in enumerate(sorted(set(table.column("group_id").to_pylist())))}
    rows = [row | {"split": "test" if parts[row["group_id"]] else "train"} for row in table.to_pylist()]
    leaking: set[str] = set()
    if planted:
        by_part: dict[str, list[dict[str, object]]] = {}
        for row in rows:
            by_part.setdefault(str(row["group_id"]), []).append(row)
        for own in [own for own in by_part.values() if len(own) > 1][:5]:
            own[0]["split"] = "test" if own[0]["split"] == "train" else "train"
            leaking |= {str(row["sample_id"]) for row in own}
        for row in [own[0] for own in by_part.values() if len(own) == 1 or str(own[0]["sample_id"]) not in leaking][
            :10
        ]:
            other = "test" if row["split"] == "train" else "train"
            copy = row | {
                "sample_id": f"copy_{row['sample_id']}",
                "group_id": f"copy_{row['group_id']}",
                "split": other,
            }
            rows.append(copy)
            leaking |= {str(one["sample_id"]) for one in (*by_part[str(row["group_id"])], copy)}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    return f"data.labels={tmp_path / 'labels.parquet'}", leaking


def test_splits_that_share_no_part_and_no_copy_leak_nothing(sample_cache: Path, tmp_path: Path) -> None:
    labels, _ = split_labels(tmp_path, planted=False)
    root = f"data.image_root={ROOT / 'sample_data'}"
    run = steps.clean(sample_config(tmp_path, sample_cache, labels, root, "teacher.landmarks=0"))
    summary = read_json(run / "summary.json")
    assert (summary["leaks"]["num_sets"], summary["leaks"]["between"]) == (0, [])
    assert [gate["outcome"] for gate in summary["gates"] if gate["check"] == "split_leaks"] == ["pass"]
    assert "split_leak" not in read_table(run / "flags.parquet", "flags").column("reason").to_pylist()


@pytest.mark.parametrize(
    "how",
    [
        (),
        pytest.param(
            ("run.in_memory_samples=0", "teacher.choice_rows=100", "neighbours.method=auto"), marks=pytest.mark.long
        ),
    ],
    ids=["whole", "blocks"],
)
def test_planted_leaks_between_splits_are_flagged_counted_and_shown(
    sample_cache: Path, tmp_path: Path, how: tuple[str, ...]
) -> None:
    labels, leaking = split_labels(tmp_path, planted=True)
    root = f"data.image_root={ROOT / 'sample_data'}"
    run = steps.clean(sample_config(tmp_path, sample_cache, labels, root, "teacher.landmarks=0", *how))
    flags = read_table(run / "flags.parquet", "flags").to_pylist()
    flagged = {row["sample_id"] for row in flags if row["reason"] == "split_leak"}
    refined = read_table(run / "refined_labels.parquet", "refined_labels")
    assert flagged == leaking
    assert len(leaking) == 30
    for row in refined.filter(pc.is_valid(refined.column("leak_set"))).to_pylist():
        mates = refined.filter(pc.equal(refined.column("leak_set"), row["leak_set"]))
        assert set(mates.column("split").to_pylist()) == {"test", "train"}
    record = read_json(run / "summary.json")["leaks"]
    assert record["num_samples"] == len(flagged)
    assert "Leaks between splits" in (run / "report.html").read_text(encoding="utf-8")
    gate = next(gate for gate in read_json(run / "summary.json")["gates"] if gate["check"] == "split_leaks")
    assert (gate["outcome"], gate["value"]) == ("warn", len(flagged))


def told(run: Path) -> dict[str, Any]:
    """What is above chance, the one that tells most first."""
    return {one["name"]: one for one in read_json(run / "summary.json")["shortcuts"] if one["exceeds_chance"]}


def test_nothing_else_tells_the_label_of_the_sample_data(sample_run: Path) -> None:
    summary = read_json(sample_run / "summary.json")
    measured = {one["name"] for one in summary["shortcuts"]}
    assert measured >= {
        "line",
        "shift",
        "captured_at",
        "brightness",
        "contrast",
        "image_size",
        "file_type",
        "file_bytes",
    }
    assert told(sample_run) == {}
    assert [gate["outcome"] for gate in summary["gates"] if gate["check"] == "shortcuts"] == ["pass"]


def test_planted_columns_and_a_planted_brightness_are_named_and_shown(sample_cache: Path, tmp_path: Path) -> None:
    rows = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, 220).to_pylist()
    rng = np.random.default_rng(0)
    most = max({row["given_label"] for row in rows}, key=lambda name: sum(row["given_label"] == name for row in rows))
    for row in rows:
        with Image.open(ROOT / "sample_data" / str(row["image_path"])) as image:
            try:
                pixels = np.asarray(image)
            except OSError:  # the broken one
                continue
        is_most = row["given_label"] == most
        row["camera"] = "new" if is_most and rng.random() < 0.8 else str(rng.choice(["left", "right"]))
        row["captured_at"] = datetime(2026, 3 if is_most else 4, 1 + int(rng.integers(28)), tzinfo=UTC)
        row["annotator_id"] = "kim" if is_most else "lee"
        row["image_path"] = f"{row['sample_id']}.png"
        shade = 0.5 if is_most else 1.0
        Image.fromarray((pixels * shade).astype(pixels.dtype)).save(tmp_path / str(row["image_path"]))
    pq.write_table(pa.Table.from_pylist([row for row in rows if "camera" in row]), tmp_path / "labels.parquet")
    own = (f"data.labels={tmp_path / 'labels.parquet'}", f"data.image_root={tmp_path}")
    run = steps.clean(sample_config(tmp_path, sample_cache, *own, *PLAIN))
    found = told(run)
    assert set(found) >= {"captured_at", "camera", "annotator_id", "brightness"}
    assert not set(found) & {"line", "shift", "image_size"}
    gains = [one["gain"] for one in found.values()]
    assert gains == sorted(gains, reverse=True)
    gate = next(gate for gate in read_json(run / "summary.json")["gates"] if gate["check"] == "shortcuts")
    assert gate["outcome"] == "warn"
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "camera = new" in html


@pytest.mark.long
def test_what_inspectors_were_measured_to_do_goes_into_the_noise_model(
    sample_run: Path, sample_cache: Path, tmp_path: Path
) -> None:
    names = ["crack", "dent", "ok", "pore", "scratch", "stain"]
    study = tmp_path / "agreement.json"
    counts = np.diag([100] * 6)
    counts[0, [0, 4]] = 50  # half of the cracks are called scratches
    write_json(study, {"classes": names, "counts": {"kim": counts.tolist()}})
    own = (f"study.measured={study}", "study.worth=200")
    matrix, plain = (
        np.array(read_json(run / "summary.json")["refinement"]["noise_matrix"])
        for run in (steps.clean(sample_config(tmp_path, sample_cache, *own)), sample_run)
    )
    assert abs(matrix[0, 4] - 0.5) < abs(plain[0, 4] - 0.5)
    assert matrix[0, 4] > 0.4


def test_a_study_of_other_classes_and_a_missing_one_are_refused(sample_cache: Path, tmp_path: Path) -> None:
    study = tmp_path / "agreement.json"
    write_json(study, {"classes": ["burr"], "counts": {"kim": [[3]]}})
    own = (f"study.measured={study}", "study.worth=200")
    with pytest.raises(ConfigError, match=r"study\.measured, .*agreement\.json: it must be about the classes"):
        steps.clean(sample_config(tmp_path, sample_cache, *own))
    with pytest.raises(StorageError, match="must be whole JSON"):
        steps.clean(sample_config(tmp_path, sample_cache, "study.measured=none.json"))
