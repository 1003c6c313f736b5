"""The queue of scores in parts: the audit that DuckDB draws is the one drawn by sorting, from all that is unsettled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config
from labelclean.review.part_queue import PartQueue, part_queue
from labelclean.review.queue import Audit, Candidates, audit_order, audit_salt, audit_size, build_queue
from labelclean.storage.tables import conform

NAMES = ("ng", "ok")
NUM = 60
IDS = [f"s{row:02d}" for row in range(NUM)]
SETTLED = np.arange(NUM) % 6 == 5  # ten
SCORES = (np.arange(NUM) / NUM).astype(np.float32)
FLAGGED = np.arange(NUM) < 20
GIVEN = np.isin(np.arange(NUM), [16, 18, 19]).astype(np.int64)  # a rare class, last among the flagged


def config(**review: object) -> Config:
    return Config.model_validate(
        {
            "data": {"labels": "/none"},
            "backbone": {"name": "none"},
            "run": {"seed": review.pop("seed", 0)},
            "storage": {"runs": "/none", "cache": "/none"},
            "review": {"class_floor": 0} | review,
        }
    )


def draw_audit(
    ids: Sequence[str], is_settled: npt.NDArray[np.bool_], wanted: int, places: int | None, *, seed: int
) -> Audit:
    """The audit by sorting all that is unsettled."""
    rows = np.flatnonzero(~is_settled)
    size = audit_size(wanted, len(rows), places)
    order = audit_order([ids[row] for row in rows.tolist()], audit_salt(seed, len(ids), len(rows)))
    return Audit(rows[order[:size]], size / max(len(rows), 1))


@pytest.fixture
def scores(tmp_path: Path) -> list[Path]:
    """Sixty samples in three files, in no order: the higher the number, the higher the score; twenty are flagged."""
    paths = []
    shuffled = np.random.default_rng(0).permutation(NUM)
    for part, rows in enumerate(np.array_split(shuffled, 3)):
        columns = {
            "number": rows,
            "sample_id": [IDS[row] for row in rows],
            "content_hash": [f"hash {row}" for row in rows],
            "conflict_set": np.full(len(rows), -1),
            "unusable": np.zeros(len(rows)),
            "given": GIVEN[rows],
            "predicted": 1 - GIVEN[rows],
            "runner_up": GIVEN[rows],
            "label_score": SCORES[rows],
            "is_label_issue": FLAGGED[rows],
            "is_settled": SETTLED[rows],
            "reading_0": SCORES[rows],
        }
        paths.append(tmp_path / f"scores-{part}.parquet")
        pq.write_table(pa.table(columns), paths[-1])
    return paths


def queue_of(scores: list[Path], settings: Config, num_looks: float = 0.0) -> PartQueue:
    flags = scores[0].parent / "flags.parquet"
    pq.write_table(pa.table({"sample_id": ["s00"], "reason": ["outlier"], "score": [0.5]}), flags)
    return part_queue(scores, [flags], NAMES, settings, scores[0].parent / "spill", num_looks)


def by_source(found: PartQueue) -> tuple[list[str], list[str]]:
    rows = found.table.to_pylist()
    drawn = [row["sample_id"] for row in rows if row["queue_source"] == "random_audit"]
    return drawn, [row["sample_id"] for row in rows if row["queue_source"] != "random_audit"]


def test_the_audit_is_drawn_from_all_that_is_unsettled_and_the_flagged_follow_without_it(scores: list[Path]) -> None:
    found = queue_of(scores, config(audit_samples=12))
    drawn, others = by_source(found)
    unsettled = [sample for sample, is_settled in zip(IDS, SETTLED, strict=True) if not is_settled]
    by_hash = sorted(unsettled, key=lambda sample: hashlib.md5(f"0/audit/60/50/{sample}".encode()).hexdigest())
    assert drawn == by_hash[:12]
    assert set(drawn) & set(IDS[:20])  # some of them are suspicious too
    assert others == [sample for sample in IDS[:20] if sample in unsettled and sample not in drawn]
    rows = conform(found.table, "review_queue", class_names=NAMES).to_pylist()
    for row in rows:
        expected = 12 / 50 if row["queue_source"] == "random_audit" else None
        assert row["inclusion_probability"] == (expected if expected is None else pytest.approx(expected))


def test_only_the_looks_that_are_missing_are_drawn(scores: list[Path]) -> None:
    assert len(by_source(queue_of(scores, config(audit_samples=12), 8.6))[0]) == 3
    assert by_source(queue_of(scores, config(audit_samples=12), 12.0))[0] == []


def test_pictures_that_look_unusable_come_first_within_their_quota(scores: list[Path]) -> None:
    for path in scores:
        table = pq.read_table(path)
        odd = [{50: 0.9, 46: 0.6, 48: 0.7, 53: 0.99}.get(row, 0.0) for row in table.column("number").to_pylist()]
        pq.write_table(table.drop_columns("unusable").append_column("unusable", pa.array(odd)), path)
    for budget, share, wanted in (
        (None, 0.05, ["s50", "s48", "s46"]),
        (10, 0.2, ["s50", "s48"]),
        (10, 0, []),
        (None, 0, []),
    ):
        found = queue_of(scores, config(audit_samples=0, budget=budget, unusable_share=share)).table.to_pylist()
        assert [row["sample_id"] for row in found if row["queue_source"] == "unusable"] == wanted  # s53 is settled
        assert [row["queue_source"] for row in found[: len(wanted)]] == ["unusable"] * len(wanted)
        assert len(found) == (budget or 17 + len(wanted))


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("budget", [None, 1, 2, 9, 40])
def test_it_is_the_draw_that_sorting_makes(scores: list[Path], seed: int, budget: int | None) -> None:
    settings = config(seed=seed, budget=budget)
    drawn, others = by_source(queue_of(scores, settings))
    wanted = draw_audit(IDS, SETTLED, 30, settings.review.places, seed=seed)
    assert drawn == [IDS[row] for row in wanted.rows.tolist()]
    assert budget is None or len(drawn) + len(others) == budget


def test_the_queue_is_that_of_all_rows_at_once_also_where_the_first_of_a_rare_class_is_drawn(
    scores: list[Path],
) -> None:
    was_drawn = 0
    for seed in range(12):
        settings = config(seed=seed, budget=8, class_floor=1)
        audit = draw_audit(IDS, SETTLED, 30, 8, seed=seed)
        candidates = Candidates(SCORES, FLAGGED, GIVEN, np.full(NUM, -1), SETTLED, np.arange(NUM))
        wanted = build_queue(candidates, audit, budget=8, class_floor=1)
        found = queue_of(scores, settings)
        assert found.table.column("sample_id").to_pylist() == [IDS[row] for row in wanted.rows.tolist()]
        assert found.queue.sources == wanted.sources
        assert "rare_class" in wanted.sources
        was_drawn += 16 in audit.rows
    assert was_drawn


def test_the_first_of_the_ranking_are_drawn_as_often_as_the_last(scores: list[Path]) -> None:
    counts = np.zeros(NUM)
    for seed in range(30):
        drawn, _ = by_source(queue_of(scores, config(seed=seed, audit_samples=10)))
        counts[[IDS.index(sample) for sample in drawn]] += 1
    # 17 of the 50 unsettled are flagged: 30 draws of 10 hold 102 of them, give or take sqrt(30 * 10 * .34 * .66 * 40 / 49)
    assert counts[SETTLED].sum() == 0
    assert abs(counts[FLAGGED].sum() - 102) < 4 * (300 * 0.34 * 0.66 * 40 / 49) ** 0.5


def test_conflicts_come_first_copies_once_and_trusted_neighbours_stand_beside(tmp_path: Path) -> None:
    num = 30
    columns = {
        "number": np.arange(num),
        "sample_id": [f"s{row:02d}" for row in range(num)],
        "content_hash": [f"hash {min(row, 24)}" for row in range(num)],  # rows 24 to 29 are one file
        "conflict_set": [7, 7, *[-1] * 22, *[24] * 6],
        "unusable": np.zeros(num),
        "given": np.arange(num) % 2,
        "predicted": np.arange(num) % 2,
        "runner_up": 1 - np.arange(num) % 2,
        "label_score": np.linspace(0.5, 1, num).astype(np.float32),
        "is_label_issue": np.arange(num) == 5,
        "is_settled": np.zeros(num, dtype=bool),
        "reading_0": np.linspace(0.5, 1, num).astype(np.float32),
        "near": pa.FixedSizeListArray.from_arrays(pa.array(np.tile([5, 2, 3, -1], num), pa.int32()), 4),
    }
    pq.write_table(pa.table(columns), tmp_path / "scores.parquet")
    found = queue_of([tmp_path / "scores.parquet"], config(audit_samples=0))
    rows = found.table.to_pylist()
    assert [row["sample_id"] for row in rows] == ["s00", "s01", "s24", "s05"]
    assert [row["queue_source"] for row in rows] == ["conflict_group"] * 3 + ["ranked"]
    assert [row["neighbour_ids"] for row in rows] == [["s02", "s03"], ["s03", "s02"], ["s02", "s03"], ["s03", "s02"]]
    assert found.numbers.tolist() == [0, 1, 24, 5]


def with_costs(scores: list[Path], saved: dict[int, float], sets: dict[int, int]) -> list[Path]:
    """The same scores with what a look saves, 0 where it is not said, and conflict sets."""
    for path in scores:
        table = pq.read_table(path, partitioning=None)
        numbers = table.column("number").to_pylist()
        table = table.set_column(3, "conflict_set", pa.array([sets.get(number, -1) for number in numbers]))
        table = table.append_column("cost_saved", pa.array([saved.get(number, 0.0) for number in numbers]))
        pq.write_table(table, path)
    return scores


def test_with_costs_the_queue_is_ordered_by_what_a_look_saves(scores: list[Path]) -> None:
    flagged = dict.fromkeys(range(20), 1.0)
    saved = flagged | {7: 90.0, 50: 40.0, 49: 5.0, 2: 30.0, 3: 10.0}  # 50 and 49 are not flagged
    found = queue_of(with_costs(scores, saved, {2: 0, 3: 0}), config(audit_samples=0))
    others = by_source(found)[1]
    # flagged and unsettled save (14 x 1 + 90 + 30 + 10) / 17 = 8.5 on average: 50 saves more, 49 does not;
    # both near-duplicates come together, after 50, for they save (30 + 10) / 2 = 20 a look
    assert others[:4] == ["s07", "s50", "s02", "s03"]
    assert "s49" not in others
    assert set(others) == {f"s{row:02d}" for row in range(20) if row % 6 != 5} | {"s50"}
    assert found.queue.sources[:4] == ("ranked", "ranked", "conflict_group", "conflict_group")
    assert found.table.column("cost_saved").to_pylist()[:4] == [90.0, 40.0, 30.0, 10.0]
    conform(found.table, "review_queue", class_names=NAMES)


def test_a_budget_takes_what_saves_most_conflicts_or_not(scores: list[Path]) -> None:
    saved = {number: float(number) for number in range(20)} | {40: 100.0}
    found = queue_of(with_costs(scores, saved, {0: 0, 1: 0}), config(audit_samples=0, budget=3))
    assert by_source(found)[1] == ["s40", "s19", "s18"]
