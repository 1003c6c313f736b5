"""A forecast is measured on real images, agrees with what is stored afterwards, and keeps nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.features.decoder_pool import ImageSource
from labelclean.runs.ingest import samples_of
from labelclean.storage.parquet import read_config
from labelclean.trial.forecast import measure_images, some_sources

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_images_are_measured_and_the_broken_one_is_told(sample_run: Path, sample_cache: Path, tmp_path: Path) -> None:
    config = read_config(ROOT / "config.yaml", [f"storage.cache={sample_cache}"])
    (reject,) = pq.read_table(sample_run / "rejects.parquet").to_pylist()
    samples, _, has_bytes = samples_of(config, None)
    paths = samples.column("image_path").to_pylist()
    sources = [ImageSource(path, path) for path in [*paths[:9], reject["image_path"], *paths[9:20]]]
    before = sorted(path.name for path in sample_cache.rglob("*"))
    cost = measure_images(config, sources)
    assert sorted(path.name for path in sample_cache.rglob("*")) == before
    assert [str(found.reason_code) for found in cost.rejects] == [reject["reason_code"]]
    assert cost.num_measured == 13
    assert cost.num_stored == 12  # the run has stored all but the broken one
    stored = sum(file.stat().st_size for file in sample_cache.rglob("part-*.parquet")) / 699
    assert stored == pytest.approx(cost.feature_bytes, rel=0.5)
    assert cost.extract_s > 0
    assert cost.start_s > 0
    assert not has_bytes


def test_the_measured_images_are_spread_over_the_table() -> None:
    config = read_config(ROOT / "config.yaml")
    ids = [f"s{row:04}" for row in range(1000)]
    sources = some_sources(config, pa.table({"sample_id": ids, "image_path": ids}), has_bytes=False)
    places = np.array([int(source.sample_id[1:]) for source in sources])
    assert len(places) == 72
    assert (places[0], places[-1]) == (0, 999)
    assert np.diff(places).max() <= 15


def test_copies_of_an_image_are_measured_and_stored_once(sample_cache: Path) -> None:
    config = read_config(ROOT / "config.yaml", [f"storage.cache={sample_cache}"])
    path = samples_of(config, None)[0].column("image_path")[0].as_py()
    cost = measure_images(config, [ImageSource(f"copy {number}", path) for number in range(4)])
    assert (cost.num_measured, cost.rejects) == (2, ())
    assert cost.feature_bytes > 0
