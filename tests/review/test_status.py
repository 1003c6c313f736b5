"""The status of a review: promise against outcome, the audit, and whether going on is worth it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta

from labelclean.review.decisions import Decision
from labelclean.review.status import measure_status
from labelclean.storage.parquet import write_json, write_table

SCORES = [0.1, 0.2, 0.3, 0.4, 0.95]


SOURCES = ("ranked", "ranked", "ranked", "ranked", "random_audit")


def written(folder: Path, sources: Sequence[str] = SOURCES, drawn: float | None = 0.05) -> Path:
    """A run on 20 samples of which the first four are flagged; the first five are in the queue."""
    ids = [f"s{i}" for i in range(20)]
    queue = pa.table(
        {
            "rank": list(range(1, 6)),
            "sample_id": ids[:5],
            "given_label": ["ok"] * 5,
            "predicted_label": ["ng"] * 5,
            "runner_up_label": ["ok"] * 5,
            "label_score": SCORES,
            "reasons": pa.array([["other_class"]] * 5),
            "queue_source": list(sources),
            "inclusion_probability": [drawn if source == "random_audit" else None for source in sources],
            "neighbour_ids": pa.array([[]] * 5, pa.list_(pa.string())),
            "content_hash": ["h"] * 5,
        }
    )
    refined = pa.table(
        {
            "sample_id": ids,
            "given_label": ["ok"] * 20,
            "soft_label": pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 40, pa.float32()), 2),
            "predicted_label": ["ok"] * 20,
            "label_score": [0.5] * 20,
            "is_label_issue": [True] * 4 + [False] * 16,
        }
    )
    if drawn is None:
        queue = queue.drop_columns(["inclusion_probability"])
    write_table(folder / "review_queue.parquet", queue, "review_queue", ["ng", "ok"])
    write_table(folder / "refined_labels.parquet", refined, "refined_labels", ["ng", "ok"])
    write_json(folder / "manifest.json", {"run_id": "r1"})
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four suspects and one audit sample."""
    return written(tmp_path)


def decided(sample: str, label: str, annotator: str = "taro", content: str = "h") -> Decision:
    kind = "confirmed" if label == "ok" else "corrected"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Decision(sample, content, "ok", kind, annotator, now, "r1", "d", "csv", verified_label=label)  # type: ignore[arg-type]


def test_promise_and_outcome_by_hand(run: Path) -> None:
    status = measure_status(run, [decided("s0", "ng"), decided("s1", "ok"), decided("s4", "ok")])
    assert (status.num_queue, status.num_reviewed, status.found_wrong) == (5, 3, 1)
    assert status.expected_wrong == pytest.approx(0.9 + 0.8)
    assert (status.num_audited, status.audited_wrong, status.missed_share) == (1, 0, 0.0)
    assert status.num_outside == 16
    assert status.num_next == 2
    assert status.next_wrong == pytest.approx(0.7 + 0.6)
    said = " ".join(status.sentences())
    assert "2 wrong labels were expected among the reviewed (0 to 2), 1 were found: it held" in said
    assert "audit: 0 of 1 random samples were wrong, about 0% (at most 73%) of all that were unsettled" in said
    assert "of the 1 random samples that are not flagged 0 were wrong, so about 0 (at most 12) wrong labels" in said
    assert "among the 16 that are not flagged" in said
    assert "going on is worth it" in said


def test_without_decisions_nothing_is_claimed(run: Path) -> None:
    status = measure_status(run, [])
    assert status.missed_share is None
    assert [line.split(":")[0] for line in status.sentences()] == ["run r1", "ledger", "next", "time"]


def test_what_the_flags_miss_is_told_by_the_drawn_samples_that_are_not_flagged(tmp_path: Path) -> None:
    # two drawn of ten that were unsettled: one flagged and wrong, one not flagged and right
    run = written(tmp_path, ("ranked", "random_audit", "ranked", "ranked", "random_audit"), 0.2)
    status = measure_status(run, [decided("s0", "ng"), decided("s1", "ng"), decided("s4", "ok")])
    assert (status.num_audited, status.audited_wrong) == (2, 1)
    assert (status.num_audited_outside, status.missed_wrong, status.missed_share) == (1, 0, 0.0)
    assert status.num_outside == 10 - 4
    assert (status.found_wrong, status.num_next) == (1, 2)  # what was drawn is no suspect
    assert "1 of 2 random samples were wrong, about 50%" in " ".join(status.sentences())


def test_the_audit_of_an_old_run_tells_nothing_because_it_was_drawn_from_the_rest(tmp_path: Path) -> None:
    status = measure_status(written(tmp_path, drawn=None), [decided("s0", "ng"), decided("s4", "ng")])
    assert (status.num_audited, status.missed_share, status.found_wrong) == (0, None, 1)
    assert not any(line.startswith(("audit", "missed")) for line in status.sentences())


def test_the_ledgers_audit_answers_are_counted_over_all_runs(run: Path) -> None:
    drawn = [replace(decided(f"t{i}", "ng"), inclusion_probability=0.1, run_id="r0") for i in range(3)]
    answers = [
        *drawn,
        replace(drawn[0], annotator_id="ben"),
        replace(drawn[0], sample_id="t9", decision="unsure", verified_label=None),
        decided("s0", "ng"),
    ]
    status = measure_status(run, answers)
    assert status.num_audit_answers == 3
    assert "ledger: 3 samples of this data set have an audit answer." in status.sentences()


def test_the_majority_of_inspectors_decides_and_another_image_does_not_count(run: Path) -> None:
    votes = [decided("s0", "ng", "a"), decided("s0", "ng", "b"), decided("s0", "ok", "c")]
    assert measure_status(run, votes).found_wrong == 1
    assert measure_status(run, [decided("s0", "ng", content="another")]).num_reviewed == 0


def test_time_is_measured_from_the_answers_or_taken_from_the_config(run: Path) -> None:
    plain = measure_status(run, [decided("s0", "ng")], seconds_per_sample=30)
    assert (plain.seconds_per_sample, plain.is_pace_measured, plain.num_waiting) == (30, False, 4)
    assert "4 samples wait, about 2 min at 30 s each (review.seconds_per_sample)" in plain.sentences()[-1]
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    # two people at once: gaps of 4, 4, ... and of 8, 8, ...; a lunch break; one answer sent twice
    answers = [
        replace(decided(f"t{i}", "ng", who), reviewed_at=begun + timedelta(seconds=step * i + (1800 if i > 6 else 0)))
        for who, step in (("a", 4), ("b", 8), ("b", 8))
        for i in range(11)
    ]
    measured = measure_status(run, answers, seconds_per_sample=30)
    assert measured.is_pace_measured
    assert measured.seconds_per_sample == 6.0  # nine gaps of 4 and nine of 8
    assert not measure_status(run, [replace(one, file_digest="d") for one in answers]).is_pace_measured


def test_what_the_run_said_of_its_scores_as_a_whole_widens_the_promise(run: Path) -> None:
    doubt = {"least": 0.5, "most": 2.0, "rate_error": 0.0}
    write_json(run / "summary.json", {"queue": {"doubt": doubt}})
    status = measure_status(run, [decided(f"s{i}", "ng") for i in range(4)])
    spread = 1.645 * (0.9 * 0.1 + 0.8 * 0.2 + 0.7 * 0.3 + 0.6 * 0.4) ** 0.5
    assert math.floor(3 - spread) == 1  # what chance alone would allow
    assert (status.low, status.high) == (math.floor(0.5 * 3 - spread), 4)


UNSAFE = {
    "points": 2.0, "low": -3.0, "high": 6.0, "low_after": 0.5, "high_after": 4.0,
    "is_safe": False, "num_changed": 4, "num_looks": 0, "num_wanted": 2,
}  # fmt: skip


def told(run: Path, gain: dict[str, Any], *answers: Decision) -> dict[str, str]:
    """The status by the first word of each line, of a run that expects 4 wrong labels of 20, 1 to 15 by its readings."""
    beliefs = {"num_audited": 0.0, "num_audited_wrong": 0.0}
    issues = {"num": 4, "expected": 4.0, "low": 1.0, "high": 15.0}
    summary = {"num_samples": 22, "num_rejects": 2, "label_issues": issues, "refinement": {"beliefs": beliefs}}
    write_json(run / "summary.json", summary | {"gain": gain})
    return dict(line.split(": ", 1) for line in measure_status(run, answers).sentences())


def test_what_more_random_looks_would_bring_is_said_with_numbers(run: Path) -> None:
    high = beta(4.5, 16.5).ppf(0.975)  # 20 more looks, all there are, find 4 wrong
    low = beta(4.5, 16.5).ppf(0.025)
    assert told(run, UNSAFE)["looks"] == (
        f"between 5.0% and 75.0% of what is unsettled is wrong; 20 more random looks would narrow that to about {low:.1%} to "
        f"{high:.1%}, and what applying brings from -3.0 to +6.0 points to about +0.5 to +4.0, if they bear out what the run "
        "believes."
    )


def test_looks_that_are_there_count_before_the_next_run(run: Path) -> None:
    found = told(run, UNSAFE, decided("s4", "ng"))
    assert found["looks"].startswith(
        f"between {beta(1.5, 0.5).ppf(0.025):.1%} and 75.0% of what is unsettled is wrong; 19 more"
    )


def test_changes_wait_for_random_looks_where_they_may_do_harm(run: Path) -> None:
    assert told(run, UNSAFE)["changes"].startswith("they wait for 2 more random looks (0 of 2 are there)")
    assert told(run, UNSAFE | {"num_looks": 1}, decided("s4", "ng"))["changes"].endswith("these looks; run again.")
    assert "changes" not in told(run, UNSAFE | {"num_looks": 2})
    assert "changes" not in told(run, UNSAFE | {"is_safe": True, "low": 0.5})


def test_a_run_that_would_change_nothing_speaks_of_the_share_alone(run: Path) -> None:
    found = told(run, UNSAFE | {"num_changed": 0, "is_safe": True})
    assert "points" not in found["looks"]
    assert "changes" not in found


def test_images_that_fit_no_class_or_show_nothing_are_looked_at(run: Path) -> None:
    """None of these: the given label is wrong. A bad image waits no longer, and tells nothing of labels."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    answers = [
        Decision(f"s{row}", "h", "ok", kind, "taro", now, "r1", "d", "csv", ruled_out_labels=ruled_out)  # type: ignore[arg-type]
        for row, kind, ruled_out in ((0, "none_of_these", ("ng", "ok")), (1, "bad_image", ()))
    ]
    status = measure_status(run, answers)
    assert (status.num_reviewed, status.found_wrong, status.num_waiting) == (2, 1, 3)
    assert status.expected_wrong == pytest.approx(1 - SCORES[0])


def test_a_finished_queue_says_run_again(run: Path) -> None:
    status = measure_status(run, [decided(f"s{i}", "ng") for i in range(5)])
    assert "run again" in status.sentences()[-1]


def test_a_further_hour_saves_what_the_next_samples_cost_by_hand(run: Path) -> None:
    assert measure_status(run, []).hour_saves is None
    queue = pq.read_table(run / "review_queue.parquet", partitioning=None)
    queue = queue.append_column("cost_saved", pa.array([40.0, 20.0, 10.0, 5.0, 2.0], pa.float32()))
    write_table(run / "review_queue.parquet", queue, "review_queue", ["ng", "ok"])
    status = measure_status(run, [decided("s0", "ng")], seconds_per_sample=1800)  # two in an hour
    assert (status.hour_saves, status.num_hour) == (30.0, 2)
    assert "cost: a further hour of looking is expected to save about 30 (2 samples)." in status.sentences()
    rest = measure_status(run, [decided("s0", "ng")], seconds_per_sample=60)
    assert "cost: looking at all that wait, 4 min, is expected to save about 37 (4 samples)." in rest.sentences()
