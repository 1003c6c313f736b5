"""The step `extract` alone: what the feature store holds already, holds no longer, or never held."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config
from labelclean.errors import StorageError
from labelclean.runs import extract as module
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
    """How many images were extracted, and features and looks of all usable samples, by their ids."""
    with open_run(config) as run:
        assert ingest(run.work)
        assert extract(run.work)
        samples = part_paths(run.work, SAMPLES)
        features, looks = (
            np.concatenate([np.load(path(part)) for part in samples]) for path in (features_path, looks_path)
        )
        order = np.argsort(pa.concat_tables([pq.read_table(part) for part in samples]).column("sample_id").to_numpy())
        return part_of(run.work, "extract")["num_extracted"], features[order], looks[order]


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


def bytes_of(names: list[str]) -> list[bytes]:
    return [(ROOT / "sample_data" / name).read_bytes() for name in names]


@pytest.mark.parametrize("more", [(), ("run.in_memory_samples=0",)], ids=["memory", "parts"])
@pytest.mark.parametrize("later", [{0: 12}, {0: 1, 1: 0}], ids=["replaced", "swapped"])
def test_an_image_of_a_later_file_takes_the_place_of_the_earlier_one(
    tmp_path: Path, later: dict[int, int], more: tuple[str, ...]
) -> None:
    labels = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, NUM + 1).sort_by("sample_id")
    paths = labels.column("image_path").to_pylist()
    sources = [later.get(row, row) for row in range(NUM)]  # whose image each sample has in the end
    expected = extracted(config_of(tmp_path, labels.slice(0, NUM + 1)))[1][sources]
    bare = labels.select(["sample_id", "given_label"])
    folder = tmp_path / "arrived"
    folder.mkdir()
    first = bare.slice(0, NUM).append_column("image", pa.array(bytes_of(paths[:NUM])))
    pq.write_table(first, folder / "1.parquet")
    rows = list(later)
    second = bare.take(rows).append_column("image", pa.array(bytes_of([paths[later[row]] for row in rows])))
    pq.write_table(second, folder / "2.parquet")
    os.utime(folder / "1.parquet", (1, 1))
    config = config_of(tmp_path, labels, "ingest.since=last_success", *more)
    config = config.model_copy(update={"data": config.data.model_copy(update={"labels": folder})})
    _, features, _ = extracted(config)
    assert np.array_equal(features, expected)


def test_an_image_that_changes_while_it_is_read_stops_the_run_and_the_next_run_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "images"
    labels = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, NUM + 1).sort_by("sample_id")
    *paths, other = labels.column("image_path").to_pylist()
    labels = labels.slice(0, NUM)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "sample_data" / path, root / path)
    config = config_of(tmp_path, labels, f"data.image_root={root}")
    whole = module._extracted

    def after_a_change(*arguments: Any) -> Any:
        shutil.copy(ROOT / "sample_data" / other, root / paths[0])
        return whole(*arguments)

    monkeypatch.setattr(module, "_extracted", after_a_change)
    with pytest.raises(StorageError, match="all 12 usable images, but 1 are missing"):
        extracted(config)
    monkeypatch.undo()
    _, features, _ = extracted(config)
    (root / paths[0]).unlink()
    shutil.copy(ROOT / "sample_data" / other, root / paths[1])
    _, again, _ = extracted(config)  # without the first image, the second is that other one
    assert np.array_equal(features[0], again[0])
