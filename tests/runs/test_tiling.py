"""How many tiles `auto` takes: by the headers of the first thousand images, by a reference, and written out for a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelclean.config import Config
from labelclean.runs import tiling
from labelclean.runs.run import open_run
from labelclean.runs.tiling import first_sources, measured_tiling, settled
from labelclean.storage.parquet import read_config, read_json, write_json

ROOT = Path(__file__).parents[2]
SIZES = [(300, 400), (300, 400), (400, 300), (80, 90), (2000, 3000)]  # rows and columns; medians 300 and 400


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Labels of five pictures, each seen by two inspectors; a sixth is missing."""
    (tmp_path / "images").mkdir()
    for number, size in enumerate(SIZES):
        Image.fromarray(np.full(size, 7, np.uint8)).save(tmp_path / f"images/{number}.png")
    rows = [
        {
            "sample_id": f"s{number}",
            "image_path": f"images/{number}.png",
            "annotator_id": who,
            "given_label": "ab"[number % 2],
        }
        for number in range(6)
        for who in ("ann", "bob")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    return tmp_path / "labels.parquet"


def config_of(labels: Path, *settings: str) -> Config:
    folders = [f"storage.{name}={labels.parent / name}" for name in ("runs", "cache")]
    data = [f"data.labels={labels}", f"data.image_root={labels.parent}", "data.class_names=[a, b]", "run.device=cpu"]
    return read_config(ROOT / "config.yaml", [*folders, *data, "backbone.tiles=auto", *settings])


@pytest.mark.slow
def test_auto_looks_at_the_median_size_and_says_so(labels: Path) -> None:
    found = measured_tiling(config_of(labels))
    assert (found.num_images, found.size, found.input_size) == (5, (300, 400), (112, 112))
    assert found.grid == (2, 3)  # 150 of 112, and 200 of 112 + 84
    assert settled(config_of(labels)).backbone.tiles == "2x3"
    assert found.sentence == (
        "the first 5 images have 400 x 300 pixels (width x height, median), the network sees 112 x 112"
    )
    assert settled(config_of(labels, "backbone.input_size=224")).backbone.tiles == 1


def test_what_is_configured_is_not_looked_up(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "measured_tiling", lambda *_: pytest.fail("nothing is to be measured"))
    for tiles in ("1", "3x4"):
        config = config_of(labels, f"backbone.tiles={tiles}")
        assert settled(config) is config


def test_no_more_than_a_thousand_samples_are_looked_at_each_once(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [source.sample_id for source in first_sources(config_of(labels))] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    monkeypatch.setattr(tiling, "NUM_SIZED", 4)
    ids = ["a", "a", "a", "b", "c", "d", "e", "f"]
    pq.write_table(pa.table({"sample_id": ids, "image_path": ids}), labels)
    assert [source.sample_id for source in first_sources(config_of(labels))] == ["a", "b", "c", "d"]


def test_boxes_count_as_what_is_cut_out_and_what_no_run_would_take_is_passed_over(labels: Path) -> None:
    boxes: dict[str, list[Any]] = {
        "sample_id": ["a", "b", "c"],
        "image_path": ["images/0.png", "images/0.png", None],
        "given_label": ["a", "b", "a"],
        "box_x_px": [10.0, None, 1.0],
        "box_y_px": [20.0, 1.0, 1.0],
        "box_width_px": [100.0, 1.0, 1.0],
        "box_height_px": [200.0, 1.0, 1.0],
    }
    pq.write_table(pa.table(boxes), labels)
    (source,) = first_sources(config_of(labels))
    assert source.box == (10, 20, 100, 200)


def test_a_night_takes_the_tiles_of_its_reference(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "measured_tiling", lambda *_: pytest.fail("nothing is to be measured"))
    before = labels.parent / "before"
    before.mkdir()
    config = config_of(labels, f"run.reference={before}")
    for backbone, tiles in (({"tiles": "4x5"}, "4x5"), ({}, 1)):  # an older run knew no tiles
        write_json(before / "manifest.json", {"config": {"backbone": backbone}})
        assert settled(config).backbone.tiles == tiles


@pytest.mark.slow
def test_a_run_has_the_tiles_written_out(labels: Path) -> None:
    with open_run(config_of(labels)) as run:
        assert run.config.backbone.tiles == "2x3"
        assert read_json(run.work / "steps" / "config.json")["backbone"]["tiles"] == "2x3"


@pytest.mark.slow
def test_images_that_cannot_be_read_leave_one_tile_and_the_run_says_why_later(labels: Path) -> None:
    assert measured_tiling(config_of(labels, f"data.image_root={labels.parent / 'images'}")).grid == (1, 1)


@pytest.mark.slow
def test_a_run_that_squashes_large_images_says_what_is_lost(labels: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiling.tell_large(config_of(labels, "backbone.tiles=2x3"))
    tiling.tell_large(config_of(labels, "backbone.tiles=1", "backbone.input_size=224"))
    assert not caplog.messages
    tiling.tell_large(config_of(labels, "backbone.tiles=1"))
    assert "what has fewer than 4 pixels is less than one to it" in caplog.text  # 400 of 112 pixels
    assert "backbone.tiles auto would take 2x3: 6 tiles per image" in caplog.text
