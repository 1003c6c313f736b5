"""The status of a review: promise against outcome, the audit, and whether going on is worth it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from labelclean.decisions import Decision
from labelclean.status import measure_status, wilson_high
from labelclean.storage import write_json, write_table

SCORES = [0.1, 0.2, 0.3, 0.4, 0.95]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four suspects and one audit sample of a run on 20 samples."""
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
            "queue_source": ["ranked"] * 4 + ["random_audit"],
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
            "is_label_issue": [False] * 20,
        }
    )
    write_table(tmp_path / "review_queue.parquet", queue, "review_queue", ["ng", "ok"])
    write_table(tmp_path / "refined_labels.parquet", refined, "refined_labels", ["ng", "ok"])
    write_json(tmp_path / "manifest.json", {"run_id": "r1"})
    return tmp_path


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
    assert "0 of 1 random samples were wrong" in said
    assert "going on is worth it" in said


def test_without_decisions_nothing_is_claimed(run: Path) -> None:
    status = measure_status(run, [])
    assert status.missed_share is None
    assert len(status.sentences()) == 2


def test_the_majority_of_inspectors_decides_and_another_image_does_not_count(run: Path) -> None:
    votes = [decided("s0", "ng", "a"), decided("s0", "ng", "b"), decided("s0", "ok", "c")]
    assert measure_status(run, votes).found_wrong == 1
    assert measure_status(run, [decided("s0", "ng", content="another")]).num_reviewed == 0


def test_a_finished_queue_says_run_again(run: Path) -> None:
    status = measure_status(run, [decided(f"s{i}", "ng") for i in range(5)])
    assert "run again" in status.sentences()[-1]


def test_wilson_against_the_textbook() -> None:
    # 5 of 10 at z = 1.645: (0.5 + z^2/20 + z sqrt(0.025 + z^2/400)) / (1 + z^2/10)
    assert wilson_high(5, 10) == pytest.approx(0.7304, abs=1e-3)
    assert wilson_high(10, 10) == 1.0
