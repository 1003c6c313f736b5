"""A forecast is measured on real images, agrees with what is stored afterwards, and keeps nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelclean.features.decoder_pool import ImageSource
from labelclean.runs.ingest import samples_of
from labelclean.storage.parquet import read_config
from labelclean.trial.forecast import forecast_run, measure_images, some_sources

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


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of six pictures of 400 x 300 pixels, for a network that sees 112 x 112."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (300, 400), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    paths = sorted(path.name for path in folder.iterdir())
    table = pa.table({"sample_id": paths, "image_path": paths, "given_label": ["a", "b"] * 3})
    pq.write_table(table, folder / "labels.parquet")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("tiles", "words"),
    [
        (
            "auto",
            r"^{sizes}: backbone\.tiles auto takes 2x3, 6 tiles per image: [0-9.]+ times the time of one squashed picture",
        ),
        (
            "2x2",
            r"^backbone\.tiles: 2x2, 4 tiles per image: [0-9.]+ times the time of one squashed picture \([0-9,]+ ms",
        ),
        (
            "1",
            r"^{sizes}: what has fewer than 4 pixels is less than one to it\. backbone\.tiles auto would take 2x3: 6 tiles",
        ),
    ],
)
def test_the_dry_run_says_into_how_many_tiles_images_are_cut_and_what_that_takes(
    large: Path, tmp_path: Path, tiles: str, words: str
) -> None:
    settings = [f"data.labels={large}/labels.parquet", f"data.image_root={large}", "data.class_names=[a, b]"]
    settings += [f"storage.cache={tmp_path}", f"backbone.tiles={tiles}", "run.engine=torch", "backbone.batch_size=4"]
    forecast = forecast_run(read_config(ROOT / "config.yaml", [*settings, "teacher.landmarks=0"]))
    sizes = r"the first 6 images have 400 x 300 pixels \(width x height, median\), the network sees 112 x 112"
    assert [line for line in forecast.sentences if re.search(words.replace("{sizes}", sizes), line)]
    assert forecast.images.num_features == (1024 if tiles == "1" else 2048)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_of_images_no_larger_than_twice_the_input_the_dry_run_says_nothing_of_tiles(
    large: Path, tmp_path: Path
) -> None:
    settings = [f"data.labels={large}/labels.parquet", f"data.image_root={large}", "data.class_names=[a, b]"]
    settings += [f"storage.cache={tmp_path}", "backbone.input_size=200", "run.engine=torch", "backbone.batch_size=4"]
    forecast = forecast_run(read_config(ROOT / "config.yaml", settings))
    assert not [line for line in forecast.sentences if "tiles" in line]
