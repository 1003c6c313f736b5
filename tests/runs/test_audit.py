"""Random looks across nights: kept until people have answered, fading, never counted twice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from labelclean.config import Config
from labelclean.labels import given_labels
from labelclean.noise.readings import fit_readings
from labelclean.review.decisions import Decision
from labelclean.runs.audit import draws_table, earlier_draws, evidence_of, write_draws
from labelclean.storage.parquet import write_json

NAMES = ("dent", "ok")
PROBS = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]], np.float32)
GIVEN = np.array([0, 1, 1, 1])
MATRIX = np.array([[0.9, 0.1], [0.2, 0.8]])


def settings(folder: Path) -> Config:
    return Config.model_validate(
        {
            "data": {"labels": folder / "labels.parquet"},
            "backbone": {"name": "none"},
            "run": {"seed": 0},
            "storage": {"runs": folder / "runs", "cache": folder},
        }
    )


def samples(*ids: str) -> pa.Table:
    given = [NAMES[k] for k in GIVEN]
    return pa.table({"sample_id": list(ids), "given_label": given, "content_hash": [f"hash {one}" for one in ids]})


def night(folder: Path, name: str, ids: tuple[str, ...], rows: list[int]) -> None:
    """A published run that drew some of its samples."""
    work, labels = folder / "runs" / name, given_labels(GIVEN, 2)
    work.mkdir(parents=True)
    earlier = earlier_draws(settings(folder), NAMES, pa.array(ids, pa.string()))
    readings = fit_readings(PROBS, labels, MATRIX)
    drawn = samples(*ids).take(pa.array(rows))
    write_draws(work, draws_table(drawn, readings, PROBS[rows], labels.take(np.array(rows))), earlier, NAMES)
    write_json(work / "manifest.json", {"exit_code": 0, "dataset": "labels.parquet"})


def answer(
    sample: str, verified: str, *, probability: float | None = 0.5, who: str = "a", given: str = "ok"
) -> Decision:
    return Decision(
        sample, f"hash {sample}", given, "confirmed" if verified == given else "corrected", who,
        datetime(2026, 1, 2, tzinfo=UTC), "run", "labels.parquet", "sheet", verified, inclusion_probability=probability,
    )  # fmt: skip


def test_answers_that_come_after_the_night_weigh_the_next_one(tmp_path: Path) -> None:
    night(tmp_path, "1", ("a", "b", "c", "d"), [1, 3])
    draws = earlier_draws(settings(tmp_path), NAMES, pa.array(["e", "f"], pa.string()))
    assert draws is not None
    assert sorted(draws.column("sample_id").to_pylist()) == ["b", "d"]
    looks = evidence_of(draws, [answer("b", "dent")], NAMES)
    by_hand = 0.8 * 0.1 / (0.8 * 0.1 + 0.2 * 0.8)  # P C[., ok] of dent
    assert looks.likelihood[0] == pytest.approx([by_hand], rel=1e-5)
    assert looks.likelihood[2] == pytest.approx([0.8])
    assert looks.likelihood[3] == pytest.approx([0.0])
    assert looks.given_probs[0] == pytest.approx([1 - by_hand], rel=1e-5)
    assert looks.given_probs[2:, 0] == pytest.approx([0.2, 1.0])
    assert looks.is_wrong.tolist() == [True]
    assert looks.weights == pytest.approx([0.5 ** (1 / 30)])


def test_a_look_fades_night_by_night_and_stays_until_it_is_answered(tmp_path: Path) -> None:
    night(tmp_path, "1", ("a", "b", "c", "d"), [1])
    night(tmp_path, "2", ("e", "f", "g", "h"), [0])
    draws = earlier_draws(settings(tmp_path), NAMES, pa.array([], pa.string()))
    looks = evidence_of(draws, [answer("b", "ok"), answer("e", "dent", given="dent")], NAMES)
    assert sorted(looks.weights.tolist()) == pytest.approx([0.5 ** (2 / 30), 0.5 ** (1 / 30)])
    assert not looks.is_wrong.any()


def test_samples_of_tonight_are_read_anew_and_not_counted_twice(tmp_path: Path) -> None:
    night(tmp_path, "1", ("a", "b", "c", "d"), [1, 3])
    draws = earlier_draws(settings(tmp_path), NAMES, pa.array(["a", "b"], pa.string()))
    assert draws is not None
    assert draws.column("sample_id").to_pylist() == ["d"]


def test_only_random_looks_count_and_only_where_people_agree(tmp_path: Path) -> None:
    night(tmp_path, "1", ("a", "b", "c", "d"), [0, 1, 3])
    draws = earlier_draws(settings(tmp_path), NAMES, pa.array([], pa.string()))
    ranked = answer("b", "dent", probability=None)
    disputed = [answer("d", "dent"), answer("d", "ok", who="b")]
    assert evidence_of(draws, [ranked, *disputed], NAMES).weights.size == 0


def test_readings_of_another_class_list_are_left_out(tmp_path: Path) -> None:
    night(tmp_path, "1", ("a", "b", "c", "d"), [1])
    assert earlier_draws(settings(tmp_path), ("crack", "dent", "ok"), pa.array([], pa.string())) is None


def test_draws_of_a_run_with_another_class_order_keep_their_meaning(tmp_path: Path) -> None:
    night(tmp_path, "1", ("a", "b", "c", "d"), [1, 3])
    before = earlier_draws(settings(tmp_path), NAMES, pa.array([], pa.string()))
    after = earlier_draws(settings(tmp_path), NAMES[::-1], pa.array([], pa.string()))
    looks = [evidence_of(before, [answer("b", "dent")], NAMES), evidence_of(after, [answer("b", "dent")], NAMES[::-1])]
    assert looks[0].likelihood.tolist() == looks[1].likelihood.tolist()
    assert looks[0].given_probs.tolist() == looks[1].given_probs.tolist()
