"""The step `extract` alone: what the feature store holds already, holds no longer, or never held."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config
from labelclean.runs.extract import extract
from labelclean.runs.ingest import ingest
from labelclean.runs.part_files import SAMPLES, features_path, looks_path, part_paths
from labelclean.runs.record import part_of
from labelclean.runs.run import open_run
from labelclean.storage.parquet import read_config
from labelclean.storage.tables import BOX_COLUMNS

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
NUM = 12


def config_of(tmp_path: Path, labels: pa.Table, *overrides: str) -> Config:
    pq.write_table(labels, tmp_path / "labels.parquet")
    places = [f"storage.runs={tmp_path / 'runs'}", f"storage.cache={tmp_path / 'cache'}"]
    data = [f"data.labels={tmp_path / 'labels.parquet'}", f"data.image_root={ROOT / 'sample_data'}"]
    return read_config(ROOT / "config.yaml", [*places, *data, "expectations.enabled=false", *overrides])


def extracted(config: Config) -> tuple[int, np.ndarray, np.ndarray]:
    """How many images were extracted, and features and looks of all usable samples."""
    with open_run(config) as run:
        assert ingest(run.work)
        assert extract(run.work)
        samples = part_paths(run.work, SAMPLES)
        features, looks = (
            np.concatenate([np.load(path(part)) for part in samples]) for path in (features_path, looks_path)
        )
        return part_of(run.work, "extract")["num_extracted"], features, looks


def first_labels() -> pa.Table:
    return pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, NUM)


@pytest.mark.parametrize("more", [(), ("run.in_memory_samples=0",)], ids=["memory", "parts"])
def test_images_whose_stored_features_are_damaged_are_extracted_again(tmp_path: Path, more: tuple[str, ...]) -> None:
    config = config_of(tmp_path, first_labels(), *more)
    num, features, _ = extracted(config)
    assert num == NUM
    (part,) = (tmp_path / "cache" / "features").glob("*/part-*.parquet")
    part.write_bytes(part.read_bytes()[:200])
    num, again, _ = extracted(config)
    assert num == NUM
    assert np.array_equal(again, features)
    assert part.with_suffix(".damaged").exists()


def test_boxes_that_were_stored_before_pictures_were_measured_are_measured_as_boxes(tmp_path: Path) -> None:
    labels = first_labels()
    for name, side in zip(BOX_COLUMNS, (10.0, 20.0, 40.0, 30.0), strict=True):
        labels = labels.append_column(name, pa.array([side + row for row in range(NUM)]))
    config = config_of(tmp_path, labels)
    _, _, looks = extracted(config)
    assert not np.isnan(looks).any()
    (folder,) = (tmp_path / "cache" / "features").glob("*/looks")
    shutil.rmtree(folder)
    num, _, again = extracted(config)
    assert num == 0
    assert np.array_equal(again, looks)
