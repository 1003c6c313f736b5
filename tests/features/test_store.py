"""Features come back by content, in any order, from any part; a damaged part costs only itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from labelclean.errors import ConfigError, StorageError
from labelclean.features.store import FeatureStore, feature_store


def store(tmp_path: Path) -> FeatureStore:
    return feature_store(tmp_path, "b" * 64, "d" * 64, 3)


def test_rows_come_back_in_the_order_asked_for_with_repeats(tmp_path: Path) -> None:
    cache = store(tmp_path)
    cache.append(["a", "b"], np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32))
    cache.append(["c"], np.array([[7, 8, 9.5]], dtype=np.float32))
    assert cache.read(["c", "a", "c"]).tolist() == [[7, 8, 9.5], [1, 2, 3], [7, 8, 9.5]]
    assert cache.known() == {"a", "b", "c"}


def test_another_backbone_or_decode_policy_has_its_own_store(tmp_path: Path) -> None:
    store(tmp_path).append(["a"], np.ones((1, 3), dtype=np.float32))
    assert feature_store(tmp_path, "c" * 64, "d" * 64, 3).known() == set()
    assert feature_store(tmp_path, "b" * 64, "e" * 64, 3).known() == set()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    store(tmp_path).append(["a"], np.ones((1, 3), dtype=np.float32))
    with pytest.raises(StorageError, match="must hold all 2 images, but 1 are missing: 'z'"):
        store(tmp_path).read(["a", "z"])


def test_a_damaged_part_is_put_aside_and_the_rest_still_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = store(tmp_path)
    cache.append(["a"], np.ones((1, 3), dtype=np.float32))
    cache.append(["b"], np.ones((1, 3), dtype=np.float32))
    first = sorted(cache.folder.glob("part-*.parquet"))[0]
    first.write_bytes(first.read_bytes()[:40])
    assert len(cache.known()) == 1
    assert "put aside" in caplog.text
    assert first.with_suffix(".damaged").exists()


def test_values_beyond_half_precision_are_refused_not_made_infinite(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="65,504"):
        store(tmp_path).append(["a"], np.array([[1e6, 0, 0]], dtype=np.float32))


def test_half_written_parts_of_killed_runs_are_swept_and_young_ones_are_left(tmp_path: Path) -> None:
    for name in (".part-old.parquet.1.tmp", ".part-young.parquet.2.tmp"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".part-old.parquet.1.tmp", (1, 1))
    FeatureStore(tmp_path, 2).append(["a"], np.zeros((1, 2)))
    assert [path.name for path in tmp_path.glob(".part*")] == [".part-young.parquet.2.tmp"]
