"""labels_v2: the original untouched, what was found beside it, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.errors import ConfigError, GateError, StorageError, TableError
from labelclean.review.apply import apply_labels
from labelclean.review.decisions import Decision
from labelclean.storage.parquet import read_json, read_table, write_json, write_table
from tests.review.exchange.conftest import NAMES, NOW, RUN_ID, SAFE, make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 6 samples whose labels table has columns of its own and is not sorted."""
    run = make_run(tmp_path, 6)
    path = tmp_path / "data" / "labels.parquet"
    table = pq.read_table(path).take([3, 0, 5, 1, 4, 2])
    table = table.append_column("ライン", pa.array([3, 1, None, 1, 2, 2])).append_column("exposure", [[0.5]] * 6)
    pq.write_table(table.replace_schema_metadata({"owner": "QA"}), path)
    return run


def decided(run: Path, sample: str, kind: str, label: str | None = None, **changes: Any) -> Decision:
    refined = read_table(run / "refined_labels.parquet", "refined_labels").to_pylist()
    row = next(row for row in refined if row["sample_id"] == sample)
    base: dict[str, Any] = {"annotator_id": "anna", "reviewed_at": NOW, "run_id": RUN_ID, "dataset": "d", "tool": "csv"}
    return Decision(
        sample_id=sample,
        content_hash=row["content_hash"],
        given_label=row["given_label"],
        decision=kind,  # type: ignore[arg-type]
        verified_label=label,
        **(base | changes),
    )


def test_original_columns_and_row_order_are_kept_and_findings_stand_beside_them(run: Path, tmp_path: Path) -> None:
    before = pq.read_table(tmp_path / "data" / "labels.parquet")
    decisions = [decided(run, "s0", "confirmed", "ok"), decided(run, "s1", "corrected", "dent & crack")]
    report = apply_labels(run, decisions, tmp_path / "labels_v2.parquet")
    after = pq.read_table(tmp_path / "labels_v2.parquet")
    assert after.select(before.column_names).equals(before)
    assert after.schema.metadata[b"owner"] == b"QA"
    rows = {row["sample_id"]: row for row in after.to_pylist()}
    assert (rows["s1"]["given_label"], rows["s1"]["predicted_label"]) == ("傷", "dent & crack")
    assert (rows["s1"]["verified_label"], rows["s1"]["review_status"]) == ("dent & crack", "corrected")
    assert (rows["s1"]["reviewed_by"], rows["s1"]["reviewed_at"], rows["s1"]["run_id"]) == (["anna"], NOW, RUN_ID)
    assert rows["s1"]["soft_label"] == pytest.approx([0.05, 0.05, 0.8, 0.05, 0.05])
    assert (rows["s2"]["verified_label"], rows["s2"]["review_status"]) == (None, "pending")
    assert report.by_status == {"confirmed": 1, "corrected": 1, "pending": 4}


def test_disagreement_and_partial_answers_are_shown_as_what_they_are(run: Path, tmp_path: Path) -> None:
    decisions = [
        decided(run, "s0", "confirmed", "ok"),
        decided(run, "s0", "corrected", "傷", annotator_id="ben", tool="cvat"),
        decided(run, "s1", "not_class", ruled_out_labels=("ok", "傷")),
        decided(run, "s2", "bad_image"),
        decided(run, "s3", "unsure"),
    ]
    apply_labels(run, decisions, tmp_path / "v2.parquet")
    rows = {row["sample_id"]: row for row in pq.read_table(tmp_path / "v2.parquet").to_pylist()}
    assert [rows[f"s{k}"]["review_status"] for k in range(5)] == [
        "disputed",
        "not_class",
        "bad_image",
        "unsure",
        "pending",
    ]
    assert rows["s0"]["verified_votes"] == [0.5, 0.5, 0, 0, 0]
    assert (rows["s0"]["verified_label"], rows["s0"]["review_tools"]) == (None, ["csv", "cvat"])
    assert rows["s1"]["candidate_labels_reviewed"] == list(NAMES[2:])


def test_a_run_whose_config_has_keys_of_an_older_version_is_applied(run: Path, tmp_path: Path) -> None:
    manifest = read_json(run / "manifest.json")
    manifest["config"]["review"] = {"audit_share": 0.05}
    write_json(run / "manifest.json", manifest)
    assert apply_labels(run, [], tmp_path / "v2.parquet").by_status == {"pending": 6}


def test_what_leaks_between_splits_can_be_left_out(run: Path, tmp_path: Path) -> None:
    refined = read_table(run / "refined_labels.parquet", "refined_labels")
    refined = refined.append_column("split", pa.array(["train", "train", "test", "train", "test", "train"]))
    refined = refined.append_column("leak_set", pa.array([0, None, 0, 1, 1, 1], pa.int64()))
    pq.write_table(refined, run / "refined_labels.parquet")
    report = apply_labels(run, [], tmp_path / "v2.parquet", without_leaks=True)
    assert pq.read_table(tmp_path / "v2.parquet").column("sample_id").to_pylist() == ["s1", "s4", "s2"]
    assert (report.num_rows, report.by_status) == (3, {"pending": 3})
    assert report.left_out == {"samples that would leak between splits": 3}


def test_a_run_without_splits_has_no_leaks_to_leave_out(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--without-leaks: the labels must have had a column 'split' when"):
        apply_labels(run, [], tmp_path / "v2.parquet", without_leaks=True)
    assert not (tmp_path / "v2.parquet").exists()


UNSAFE = SAFE | {"is_safe": False, "low": -2.0}
DRAWN = {"inclusion_probability": 0.25}


def promised(run: Path, queued: int = 2, **gain: Any) -> None:
    """Let the run promise something else."""
    queue = {"by_source": {"random_audit": queued}}
    write_json(run / "summary.json", {"gain": UNSAFE | gain, "queue": queue})


def test_labels_that_may_get_worse_are_not_written_before_people_have_looked(run: Path, tmp_path: Path) -> None:
    promised(run)
    with pytest.raises(GateError) as refusal:
        apply_labels(run, [], tmp_path / "v2.parquet")
    letter = str(refusal.value)
    assert refusal.value.exit_code == 3
    assert "once the run knows 2 samples that were drawn at random and looked at (review.audit_samples)" in letter
    assert "it knows 0, and the share of right labels would change by -2.0 to +5.0 points: it may fall" in letter
    assert "Its queue holds 2, of which people have looked at 0: export it, import the answers, run again" in letter
    assert letter.endswith("give --unreviewed to write them all the same. Nothing was written.")
    assert not [file for file in tmp_path.iterdir() if "v2" in file.name]


def test_looks_that_came_after_the_run_ask_for_a_new_run(run: Path, tmp_path: Path) -> None:
    promised(run, num_looks=1)
    answers = [
        decided(run, "s3", "confirmed", "<script>", **DRAWN),
        decided(run, "s0", "confirmed", "ok"),  # chosen, not drawn
        decided(run, "s5", "confirmed", "ok", run_id="earlier", **DRAWN),  # the run knew it
    ]
    with pytest.raises(GateError, match=r"looked at 1 of its queue since: run again and apply that run"):
        apply_labels(run, answers, tmp_path / "v2.parquet")
    with pytest.raises(GateError, match=r"Its queue holds 2, of which people have looked at 0"):
        apply_labels(run, answers[1:], tmp_path / "v2.parquet")


def test_a_run_without_an_audit_says_how_to_get_one(run: Path, tmp_path: Path) -> None:
    promised(run, queued=0, num_wanted=30)
    with pytest.raises(GateError, match=r"Its queue holds none: set review\.audit_samples to 30, run, have the queue"):
        apply_labels(run, [], tmp_path / "v2.parquet")


@pytest.mark.parametrize("summary", [{}, {"label_issues": {"num": 3}}, {"gain": None}])
def test_a_run_of_an_older_version_is_not_applied_unreviewed(run: Path, tmp_path: Path, summary: Any) -> None:
    write_json(run / "summary.json", summary)
    with pytest.raises(GateError, match=r"made by an older labelclean.*Run again and apply that run, or give --unrev"):
        apply_labels(run, [], tmp_path / "v2.parquet")
    assert apply_labels(run, [], tmp_path / "v2.parquet", unreviewed=True).num_rows == 6


@pytest.mark.parametrize(
    "gain",
    [{"is_safe": True, "low": 0.1}, {"num_looks": 2}, {"num_changed": 0, "is_safe": True}],
    ids=["safe", "looked at", "nothing changed"],
)
def test_a_run_that_is_safe_or_knows_enough_looks_is_applied(run: Path, tmp_path: Path, gain: dict[str, Any]) -> None:
    promised(run, **gain)
    assert apply_labels(run, [], tmp_path / "v2.parquet").num_rows == 6


def test_what_is_written_unreviewed_keeps_the_given_labels_too(run: Path, tmp_path: Path) -> None:
    promised(run)
    apply_labels(run, [], tmp_path / "v2.parquet", unreviewed=True)
    before, after = (pq.read_table(path) for path in (tmp_path / "data" / "labels.parquet", tmp_path / "v2.parquet"))
    assert after.select(before.column_names).equals(before)


def test_an_existing_file_is_never_overwritten(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "v2.parquet"
    out.write_text("mine")
    with pytest.raises(StorageError, match="nothing is overwritten"):
        apply_labels(run, [], out)
    assert out.read_text() == "mine"


def test_a_file_made_in_the_meantime_is_left_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelclean.review import apply

    out, real = tmp_path / "v2.parquet", apply._publish

    def late(staged: Path, target: Path) -> None:
        target.write_text("theirs")
        real(staged, target)

    monkeypatch.setattr(apply, "_publish", late)
    with pytest.raises(StorageError, match="made in the meantime"):
        apply_labels(run, [], out)
    assert out.read_text() == "theirs"
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_labels_that_changed_since_the_run_are_refused(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "labels.parquet"
    table = pq.read_table(path)
    changed = table.set_column(2, "given_label", pa.array(["ok"] * 6))
    pq.write_table(changed, path)
    with pytest.raises(TableError, match=r"4 samples came, went or have another given label.*Run again"):
        apply_labels(run, [], tmp_path / "v2.parquet")
    pq.write_table(table.slice(1), path)
    with pytest.raises(TableError, match=r"1 samples .*'s3'"):
        apply_labels(run, [], tmp_path / "v2.parquet")
    assert not (tmp_path / "v2.parquet").exists()


def test_columns_that_are_there_already_need_a_prefix(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "labels.parquet"
    pq.write_table(pq.read_table(path).append_column("verified_label", pa.array(["x"] * 6)), path)
    with pytest.raises(TableError, match=r"'verified_label' already\. Give a --prefix"):
        apply_labels(run, [], tmp_path / "v2.parquet")
    apply_labels(run, [], tmp_path / "v2.parquet", prefix="v2_")
    names = pq.read_schema(tmp_path / "v2.parquet").names
    assert {"verified_label", "v2_verified_label", "v2_run_id"} <= set(names)


def test_rows_of_several_inspectors_each_get_their_samples_findings(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "labels.parquet"
    table = pq.read_table(path)
    double = pa.concat_tables([table, table]).append_column("annotator_id", pa.array(["a"] * 6 + ["b"] * 6))
    pq.write_table(double, path)
    apply_labels(run, [decided(run, "s0", "confirmed", "ok")], tmp_path / "v2.parquet")
    rows = pq.read_table(tmp_path / "v2.parquet").to_pylist()
    assert [row["annotator_id"] for row in rows if row["verified_label"] == "ok"] == ["a", "b"]


def test_samples_whose_image_was_rejected_are_kept(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "labels.parquet"
    table = pq.read_table(path)
    extra = table.slice(0, 1).set_column(0, "sample_id", pa.array(["r1"]))
    pq.write_table(pa.concat_tables([table, extra]), path)
    from labelclean.storage.parquet import write_table

    rejects = pa.table({"sample_id": ["r1"], "image_path": ["x"], "reason_code": ["missing"], "message": ["gone."]})
    write_table(run / "rejects.parquet", rejects, "rejects")
    apply_labels(run, [], tmp_path / "v2.parquet")
    last = pq.read_table(tmp_path / "v2.parquet").to_pylist()[-1]
    assert (last["sample_id"], last["review_status"], last["soft_label"]) == ("r1", "rejected", None)


def test_a_run_of_new_files_gets_its_own_rows_and_the_later_row_of_each_sample(run: Path, tmp_path: Path) -> None:
    table = pq.read_table(tmp_path / "data" / "labels.parquet")
    (tmp_path / "parts").mkdir()
    older = table.set_column(2, "given_label", pa.array(["ok"] * 6)).slice(0, 2)
    for name, rows in (("z", older), ("b", table), ("earlier_night", older)):
        pq.write_table(rows, tmp_path / "parts" / f"{name}.parquet")
    manifest = read_json(run / "manifest.json")
    manifest["config"]["data"]["labels"] = str(tmp_path / "parts")
    manifest["config"]["ingest"] = {"since": "last_success"}
    write_json(run / "manifest.json", manifest | {"labels_read": ["z.parquet", "b.parquet"]})
    report = apply_labels(run, [], tmp_path / "v2.parquet")
    assert report.num_rows == 6
    assert pq.read_table(tmp_path / "v2.parquet").select(table.column_names).to_pylist() == table.to_pylist()


def taken_out(run: Path) -> Path:
    """The same run, whose last two samples people had called a bad image and none of these; two kinds are proposed."""
    refined = read_table(run / "refined_labels.parquet", "refined_labels")
    aside = refined.slice(4).select(["sample_id", "image_path", "given_label", "content_hash"])
    aside = aside.append_column("decision", pa.array(["bad_image", "none_of_these"]))
    write_table(run / "set_aside.parquet", aside, "set_aside")
    write_table(run / "refined_labels.parquet", refined.slice(0, 4), "refined_labels", NAMES)
    kinds = {
        "kind": [1, 1, 2], "place": [1, 2, 1], "sample_id": ["s5", "s1", "s2"],
        "given_label": ["ok"] * 3, "is_answer": [True, False, False],
    }  # fmt: skip
    write_table(run / "new_kinds.parquet", pa.table(kinds), "new_kinds")
    return run


def test_images_that_people_took_out_are_written_too_and_a_kind_gets_its_name(run: Path, tmp_path: Path) -> None:
    said = [decided(run, "s4", "bad_image"), decided(run, "s5", "none_of_these", ruled_out_labels=NAMES)]
    taken_out(run)
    apply_labels(run, said, tmp_path / "v2.parquet")
    rows = {row["sample_id"]: row for row in pq.read_table(tmp_path / "v2.parquet").to_pylist()}
    assert [rows[f"s{k}"]["review_status"] for k in (3, 4, 5)] == ["pending", "bad_image", "none_of_these"]
    assert rows["s5"]["predicted_label"] is None
    apply_labels(run, said, tmp_path / "v3.parquet", new_classes=["burr=1"])
    after = {row["sample_id"]: row for row in pq.read_table(tmp_path / "v3.parquet").to_pylist()}
    assert {sample for sample, row in after.items() if row["predicted_label"] == "burr"} == {"s1", "s5"}
    assert after["s2"] == rows["s2"]
    table = apply_labels(run, said, tmp_path / "v4.json", new_classes=["burr=1"])
    assert table.left_out == {"images that cannot be used": 1}
    plain = apply_labels(run, said, tmp_path / "v5.json")
    assert plain.left_out == {"images that cannot be used": 1, "images that are none of the classes": 1}


def test_all_faults_of_new_classes_stand_in_one_letter(run: Path, tmp_path: Path) -> None:
    taken_out(run)
    items = ["ok=1", "=2", "burr=9", "burr", "chip=1", "burr=1"]
    with pytest.raises(ConfigError) as letter:
        apply_labels(run, [], tmp_path / "v2.parquet", new_classes=items)
    told = str(letter.value)
    assert "'ok' is a class already" in told
    assert "'=2' must look like NAME=KIND" in told
    assert "'burr=9' must name a kind that the run proposes ('1', '2')" in told
    assert "kind 1 is named twice, 'chip' and 'burr'" in told
    assert not (tmp_path / "v2.parquet").exists()
