"""Tiles against a slow loop over them, one tile against features without any, and a dot that only tiles can show."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labelclean.config import BackboneConfig, Config
from labelclean.features.backbone import build_backbone
from labelclean.features.boxes import Box
from labelclean.features.decode import decoded_pixels
from labelclean.features.decoder_pool import DecodeSettings, ImageSource, decoded_images, hashed_images, image_sizes
from labelclean.features.extraction import Extractor
from labelclean.features.facts import BackboneFacts, backbone_facts
from labelclean.features.forward import extract_features
from labelclean.features.pixels import quantised, resized_pixels
from labelclean.features.store import FeatureStore
from labelclean.features.tiles import auto_grid, canvas_size, pooled, pooled_images, tiles_of
from labelclean.storage.parquet import read_config

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def config_of(cache: Path, *settings: str) -> Config:
    fixed = ["run.device=cpu", "run.engine=torch", "backbone.precision=fp32", "backbone.batch_size=5"]
    return read_config(ROOT / "config.yaml", [f"storage.cache={cache}", *fixed, *settings])


def ground(number: int, height: int, width: int, channels: int = 1) -> Any:
    """Grey values of a ground with noise, float, shape (H, W, C)."""
    draw = np.random.default_rng(number)
    coarse = Image.fromarray(draw.uniform(90, 160, (6, 8)).astype(np.float32))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))[..., None]
    return np.clip(smooth + draw.normal(0, 4, (height, width, channels)), 1, 254)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Large, small, long, turned, of three channels and of 16 bits."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(ground(0, 400, 500)[..., 0].astype(np.uint8)).save(folder / "large.png")
    Image.fromarray(ground(1, 60, 80)[..., 0].astype(np.uint8)).save(folder / "small.png")
    Image.fromarray(ground(2, 90, 600, 3).astype(np.uint8)).save(folder / "long.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(ground(3, 900, 1200, 3).astype(np.uint8)).save(folder / "turned.jpg", exif=turned)
    Image.fromarray((16 * ground(4, 200, 300)[..., 0]).astype(np.uint16)).save(folder / "deep.png")
    return folder


def sources_in(folder: Path) -> list[ImageSource]:
    return [ImageSource(path.name, path.name) for path in sorted(folder.iterdir())]


def stored(config: Config, sources: list[ImageSource], root: Path, folder: Path) -> Any:
    """What the product stores of some images, float16, in their order."""
    facts = backbone_facts(config)
    store = FeatureStore(folder, facts.num_features)
    assert Extractor(store, facts, config, root).extract(iter(sources), lambda _: None) == {}
    return store.read([str(image.content_hash) for image in hashed_images(sources, root, config.decode)])


def slow_rows(config: Config, sources: list[ImageSource], root: Path, grid: tuple[int, int]) -> Any:
    """The same by a plain loop: cut a tile, give it to the network alone, keep sums and maxima."""
    backbone = build_backbone(config.backbone, "fp32")
    rows = []
    for source in sources:
        data = (root / str(source.image_path)).read_bytes()
        height, width = backbone.input_size
        most = tuple(side + (count - 1) * (side - side // 4) for side, count in zip((height, width), grid, strict=True))
        values, limits = decoded_pixels(data, config.decode, most)  # type: ignore[arg-type]
        tall, wide = (
            min(max(side, least), end) for side, least, end in zip(values.shape, (height, width), most, strict=False)
        )
        canvas = quantised(resized_pixels(values, limits, (tall, wide), config.backbone.resize))
        total, most_seen = 0.0, -np.inf
        for row in range(grid[0]):
            for column in range(grid[1]):
                top = round(row * (tall - height) / max(grid[0] - 1, 1))
                left = round(column * (wide - width) / max(grid[1] - 1, 1))
                tile = canvas[None, :, top : top + height, left : left + width]
                common: dict[str, Any] = {"batch_size": 5, "device": CPU, "precision": "fp32"}
                (said,) = extract_features(backbone.module, [tile], mean=backbone.mean, std=backbone.std, **common)
                total, most_seen = total + said[0].astype(np.float64), np.maximum(most_seen, said[0])
        rows.append(np.concatenate([total / np.linalg.norm(total), most_seen / np.linalg.norm(most_seen)]))
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "settings"),
    [
        ((2, 3), []),
        ((3, 2), ["backbone.depth=several"]),
        ((2, 2), ["backbone.resize=pad"]),
        ((1, 4), ["backbone.resize=crop"]),
    ],
)
def test_features_of_tiles_are_those_of_a_slow_loop_over_them(
    pictures: Path, tmp_path: Path, grid: tuple[int, int], settings: list[str]
) -> None:
    config = config_of(tmp_path / "cache", f"backbone.tiles={grid[0]}x{grid[1]}", *settings)
    rows = stored(config, sources_in(pictures), pictures, tmp_path / "store")
    wanted = slow_rows(config, sources_in(pictures), pictures, grid)
    assert rows.shape == wanted.shape
    np.testing.assert_allclose(rows, wanted, atol=2e-4)  # stored as float16
    assert np.abs(rows[0] - rows[1]).max() > 0.01


@pytest.mark.slow
def test_one_tile_gives_the_features_without_tiles_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path / "cache", "backbone.tiles=1x1")
    backbone = build_backbone(config.backbone, "fp32")
    settings = DecodeSettings(pictures, config.decode, backbone.input_size)
    images = [np.asarray(image.image) for image in decoded_images(sources_in(pictures), settings, 0)]
    batch = np.stack([image if len(image) == 3 else np.repeat(image, 3, axis=0) for image in images])
    common: dict[str, Any] = {"batch_size": 5, "device": CPU, "precision": "fp32"}
    (wanted,) = extract_features(backbone.module, [batch], mean=backbone.mean, std=backbone.std, **common)
    rows = stored(config, sources_in(pictures), pictures, tmp_path / "store")
    np.testing.assert_array_equal(rows, wanted.astype(np.float16))
    assert backbone_facts(config).digest == backbone.digest == backbone_facts(config_of(tmp_path / "cache")).digest


@pytest.mark.slow
@pytest.mark.long
def test_a_small_dot_in_a_large_picture_is_told_by_tiles_alone(tmp_path: Path) -> None:
    """Nearest mean of ten pictures each, asked about ten others; a dot of 12 pixels is less than 2 of 112 without tiles."""
    for number in range(40):
        pixels = ground(number, 600, 800)[..., 0]
        if number % 2:
            top, left = np.random.default_rng([number]).integers(20, 580, 2)
            rows, columns = np.mgrid[:600, :800]
            pixels[np.hypot(rows - top, columns - left) < 6] += 70
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / f"images/{number:02}.png")
    shares = {}
    for tiles in ("1", "3x4"):
        config = config_of(tmp_path / "cache", f"backbone.tiles={tiles}", "backbone.batch_size=24")
        rows = stored(config, sources_in(tmp_path / "images"), tmp_path / "images", tmp_path / tiles).astype(np.float64)
        is_dotted = np.arange(40) % 2 == 1
        known = np.arange(40) < 20
        means = [rows[known & (is_dotted == dotted)].mean(axis=0) for dotted in (False, True)]
        far = [np.linalg.norm(rows[~known] - mean, axis=1) for mean in means]
        shares[tiles] = float(((far[1] < far[0]) == is_dotted[~known]).mean())
    assert shares["3x4"] >= 0.95
    assert shares["1"] <= 0.75


@pytest.mark.slow
def test_tiles_change_the_digest_and_double_the_numbers(tmp_path: Path) -> None:
    facts = [backbone_facts(config_of(tmp_path, f"backbone.tiles={tiles}")) for tiles in ("1", "2x3", "3x2", "2x3")]
    assert [fact.num_features for fact in facts] == [1024, 2048, 2048, 2048]
    assert len({fact.digest for fact in facts}) == 3
    assert facts[1] == facts[3]


def test_few_images_wait_in_memory_however_many_tiles_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30 tiles each and batches of 5, no more than two images are read ahead of the one that is cut."""
    from labelclean.features import extraction

    config = config_of(tmp_path, "backbone.tiles=5x6")
    small = tmp_path / "images"
    small.mkdir()
    for number in range(9):
        Image.fromarray(ground(number, 20, 20)[..., 0].astype(np.uint8)).save(small / f"{number}.png")
    given, done, ahead = [0], [0], []

    def counted() -> Iterator[ImageSource]:
        for source in sources_in(small):
            given[0] += 1
            ahead.append(given[0] - done[0])
            yield source

    class Means(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            assert len(pixels) == 5
            return pixels.mean(dim=(2, 3))

    class Plain:
        mean = std = (0.5, 0.5, 0.5)

    def advance(count: int) -> None:
        done[0] += count

    monkeypatch.setattr(extraction.Extractor, "_built", lambda *_: (Plain(), Means()))
    facts = BackboneFacts("means", "x", 6, (32, 32))
    store = FeatureStore(tmp_path / "store", 6)
    Extractor(store, facts, config, small).extract(counted(), advance)
    assert len(store.known()) == 9
    assert max(ahead) <= 3


def test_a_grid_is_the_least_that_shrinks_to_no_less_than_half() -> None:
    assert auto_grid((448, 448), (224, 224)) == (1, 1)
    assert auto_grid((449, 448), (224, 224)) == (2, 1)  # 225 pixels at half size
    assert auto_grid((784, 1120), (224, 224)) == (2, 3)  # 392 and 560: 224 + 168 and 224 + 2 x 168
    rows, columns = auto_grid((9000, 12000), (224, 224))
    assert 24 <= rows * columns <= 32


def test_tiles_overlap_by_a_quarter_where_the_image_is_large_and_more_where_it_is_small() -> None:
    for size, canvas, lefts in (
        ((8, 900), (8, 20), [0, 6, 12]),  # shrunk to 8 + 2 x 6
        ((8, 14), (8, 14), [0, 3, 6]),
        ((2, 3), (8, 8), [0, 0, 0]),  # enlarged to one tile, three times the same
    ):
        assert canvas_size(size, (8, 8), (1, 3)) == canvas
        pixels = np.arange(canvas[1], dtype=np.uint16)[None, None].repeat(canvas[0], axis=1)
        tiles = list(tiles_of(pixels, (8, 8), (1, 3)))
        assert [int(tile[0, 0, 0]) for tile in tiles] == lefts
        assert {tile.shape for tile in tiles} == {(1, 8, 8)}


def test_images_are_pooled_alike_however_their_tiles_are_batched() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 7)).astype(np.float32)
    wanted = np.stack([pooled(rows[start : start + 4]) for start in (0, 4, 8)])
    for size in (1, 3, 5, 12):
        batches = [rows[start : start + size] for start in range(0, 12, size)]
        np.testing.assert_array_equal(np.concatenate(list(pooled_images(batches, 4))), wanted)
    assert [len(batch) for batch in pooled_images([rows[:3], rows[3:9], rows[9:]], 4)] == [0, 2, 1]


def test_sizes_are_those_of_upright_images_and_of_cut_boxes_and_refused_files_are_left_out(pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data = io.BytesIO()
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(data, "BMP")
    sources = [
        *sources_in(pictures),  # broken, deep, large, long, small, turned
        ImageSource("box", "large.png", None, Box(10, 20, 100, 40)),
        ImageSource("bytes", None, data.getvalue()),
        ImageSource("gone", "gone.png"),
    ]
    sizes = image_sizes(sources, pictures, config_of(pictures).decode, 0.1)
    assert sizes.tolist() == [[200, 300], [400, 500], [90, 600], [60, 80], [1200, 900], [48, 120], [30, 40]]


@pytest.mark.parametrize(("tiles", "grid"), [(1, (1, 1)), ("1", (1, 1)), ("1x1", (1, 1)), ("2x13", (2, 13))])
def test_tiles_are_rows_by_columns(tiles: Any, grid: tuple[int, int]) -> None:
    assert BackboneConfig(name="x", tiles=tiles).grid == grid


@pytest.mark.parametrize("tiles", [0, 2, True, "2", "0x3", "2x", "2 x 3", "100x1", None])
def test_what_are_no_tiles_is_refused(tiles: Any) -> None:
    with pytest.raises(ValueError, match=r"must be auto, 1, or rows x columns up to 99x99, such as 2x3, found"):
        BackboneConfig(name="x", tiles=tiles)


def test_auto_must_be_settled_before_features_are_made() -> None:
    with pytest.raises(ValueError, match="must be settled by the sizes of images"):
        _ = BackboneConfig(name="x", tiles="auto").grid
