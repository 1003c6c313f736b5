"""Labels of one part that contradict each other though its images say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.runs.part_flags import flag_part_conflicts
from labelclean.storage.parquet import write_table


def written(folder: Path, parts: list[str | None]) -> tuple[list[Path], list[Path], list[Path], dict[str, np.ndarray]]:
    """Samples, scores and flags of images in two files, and what stands in the scores."""
    random, num = np.random.default_rng(4), len(parts)
    ids = [f"s{row:03d}" for row in range(num)]
    known: dict[str, np.ndarray] = {
        "reviewed": random.integers(0, 3, num),
        "seen": random.integers(0, 3, num),
        "best": random.uniform(0.3, 1.0, num).astype(np.float32),
    }
    files: tuple[list[Path], list[Path], list[Path]] = ([], [], [])
    for number, rows in enumerate((slice(0, num // 3), slice(num // 3, num))):
        samples = pa.table({"sample_id": ids[rows], "part_id": pa.array(parts[rows], pa.string())})
        scores = pa.table({"sample_id": ids[rows]} | {name: values[rows] for name, values in known.items()})
        flags = pa.table({"sample_id": ids[rows][:1], "reason": ["outlier"], "score": pa.array([0.5], pa.float32())})
        for kind, table, paths in zip(("samples", "scores", "flags"), (samples, scores, flags), files, strict=True):
            paths.append(folder / f"{kind}-{number}.parquet")
            pq.write_table(table, paths[-1]) if kind != "flags" else write_table(paths[-1], table, "flags")
    return *files, known


def test_it_is_what_a_slow_loop_over_pairs_finds_and_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    parts = [None if part < 0 else f"p{part}" for part in random.integers(-1, 12, 80).tolist()]
    samples, scores, flags, known = written(tmp_path, parts)
    given, seen, best = known["reviewed"], known["seen"], known["best"]
    slow = [
        any(
            parts[a] is not None
            and (parts[a], seen[a]) == (parts[b], seen[b])
            and given[a] != given[b]
            and min(best[a], best[b]) > 0.5
            for b in range(80)
        )
        for a in range(80)
    ]
    assert 0 < sum(slow) < 80
    for _ in range(2):
        found = flag_part_conflicts(samples, scores, flags, tmp_path / "spill")
        assert found == {
            "num": sum(slow),
            "num_parts": len({part for part, one in zip(parts, slow, strict=True) if one}),
        }
        told = pa.concat_tables([pq.read_table(path).replace_schema_metadata() for path in flags]).to_pylist()
        urgency = {row["sample_id"]: row["score"] for row in told if row["reason"] == "part_conflict"}
        assert urgency == {f"s{row:03d}": pytest.approx(best[row]) for row in np.flatnonzero(slow)}
        assert sum(row["reason"] == "outlier" for row in told) == 2
        queued = np.concatenate([pq.read_table(path).column("part_conflict").to_numpy() for path in scores])
        assert queued.tolist() == [bool(one) and seen[row] != given[row] for row, one in enumerate(slow)]


def test_labels_that_name_no_parts_have_no_such_flag(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sample_id": ["a"]}), tmp_path / "samples.parquet")
    assert flag_part_conflicts([tmp_path / "samples.parquet"], [], [], tmp_path / "spill") is None
