"""What tiles are worth on large pictures with small defects: labels cleaned on one squashed picture, and on grids of tiles.

The pictures are made: 2,000 x 1,500 pixels of brushed ground with shade, grain and harmless stains, and on three of four a
scratch, a dot or a ring of 10 to 40 pixels somewhere. All grids share the noise of the labels. Truth makes pictures and
noise and measures, nothing else; no grid is chosen by it. Pictures, features and rows are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.data import _oracle, extracted, real_config
from benchmarks.extraction import best_rates, ours
from benchmarks.features import HERE, MEASURES, NOISES, FloatArray, replaced_section
from benchmarks.measures import flags, ranking
from benchmarks.noise_kinds import KINDS
from labelclean.arrays import IntArray
from labelclean.cleaning.clean import clean_labels
from labelclean.config import Config
from labelclean.features.decoder_pool import ImageSource
from labelclean.features.facts import backbone_facts
from labelclean.features.tiles import auto_grid

HEIGHT, WIDTH, LEAST_PX, MOST_PX = 1500, 2000, 10, 40
CLASSES = ("ok", "dot", "ring", "scratch")
AUTO = "{}x{}".format(*auto_grid((HEIGHT, WIDTH), (224, 224)))
VARIANTS = (
    ("last", "1", "all"),
    ("several", "1", "all"),
    ("last", "2x3", "all"),
    ("last", "3x4", "all"),
    ("last", AUTO, "all"),
    ("last", AUTO, "mean"),
    ("last", AUTO, "maximum"),
    ("several", AUTO, "all"),
)
NUM_RATED = 64


class Cell(NamedTuple):
    """One cleaning; `part` is what of the pooled tiles is taken: all, the mean or the maximum alone."""

    depth: str
    tiles: str
    part: str
    kind: str
    rate: float
    seed: int


def made_picture(number: int) -> Image.Image:
    """Return a picture; its class is ``CLASSES[number % 4]``."""
    draw = np.random.default_rng([7, number])
    pixels = draw.uniform(110, 170) + draw.uniform(10, 25) * _smooth(draw, (5, 7))
    pixels += draw.uniform(4, 10) * _smooth(draw, (HEIGHT, WIDTH // 24)) + 5 * draw.standard_normal((HEIGHT, WIDTH))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    for _ in range(draw.integers(3, 9)):
        radius, top, left = draw.uniform(60, 200), draw.uniform(0, HEIGHT), draw.uniform(0, WIDTH)
        far = ((rows - top) ** 2 + (columns - left) ** 2) / radius**2
        pixels += draw.uniform(-20, 20) * np.exp(-far)
    if number % len(CLASSES):
        pixels += draw.choice([-1, 1]) * draw.uniform(35, 70) * _defect(CLASSES[number % len(CLASSES)], draw)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _smooth(draw: np.random.Generator, size: tuple[int, int]) -> FloatArray:
    """Random values at a few places, and between them what lies between."""
    coarse = Image.fromarray(draw.standard_normal(size).astype(np.float32))
    return np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)


def _defect(name: str, draw: np.random.Generator) -> FloatArray:
    """How much of each pixel a defect covers, 0..1, its edges soft over a pixel."""
    length, turn = draw.uniform(LEAST_PX, MOST_PX), draw.uniform(0, np.pi)
    thick = draw.uniform(1.5, 3.0)
    top, left = draw.uniform(MOST_PX, HEIGHT - MOST_PX), draw.uniform(MOST_PX, WIDTH - MOST_PX)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) - np.array([top, left], np.float32)[:, None, None]
    far = np.hypot(rows, columns)
    if name == "dot":
        inside = length / 2 - far
    elif name == "ring":
        inside = thick / 2 - np.abs(far - length / 2)
    else:
        along, across = (
            rows * np.sin(turn) + columns * np.cos(turn),
            rows * np.cos(turn) - columns * np.sin(turn),
        )
        inside = np.minimum(thick / 2 - np.abs(across), length / 2 - np.abs(along))
    covered: FloatArray = np.clip(inside + 0.5, 0, 1).astype(np.float32)
    return covered


def pictures(cache: Path, count: int) -> tuple[Path, list[tuple[str, str]]]:
    """Return the folder of the pictures, made where they are not there yet, and id and name of each."""
    folder = cache / "tiles" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    names = [(f"p{number:04}", f"{number:04}.jpg") for number in range(count)]
    for number, (_, name) in enumerate(names):
        if not (folder / name).is_file():
            part = folder / f".{name}"
            made_picture(number).save(part, "JPEG", quality=92)
            part.replace(folder / name)
    return folder, names


def config_of(depth: str, tiles: str, cache: Path, **run: str) -> Config:
    """Return how features are made, in fp32."""
    config = real_config(cache, cache / "none.parquet")
    backbone = config.backbone.model_validate(
        config.backbone.model_dump() | {"depth": depth, "tiles": tiles, "precision": "fp32"}
    )
    return config.model_copy(update={"backbone": backbone, "run": config.run.model_copy(update=run)})


@lru_cache(maxsize=2)
def features_of(depth: str, tiles: str, cache: Path, count: int) -> FloatArray:
    """Return the features of all pictures, from the store or the backbone."""
    folder, names = pictures(cache, count)
    return extracted(names, config_of(depth, tiles, cache), folder)


def part_of(features: FloatArray, part: str) -> FloatArray:
    """Return what is taken of the pooled tiles."""
    half = features.shape[1] // 2
    return {"all": features, "mean": features[:, :half], "maximum": features[:, half:]}[part]


def measured(cell: Cell, cache: Path, count: int) -> dict[str, float]:
    """Clean the labels of a cell."""
    true = np.arange(count, dtype=np.int64) % len(CLASSES)
    base = _oracle("tiles", features_of("last", AUTO, cache, count), true, cache)  # people see the pictures alone
    draw = np.random.default_rng([cell.seed, round(100 * cell.rate), list(KINDS).index(cell.kind)])
    given: IntArray = KINDS[cell.kind](true, base, cell.rate, draw)
    names = np.array(CLASSES)
    features = part_of(features_of(cell.depth, cell.tiles, cache, count), cell.part)
    ids = [sample for sample, _ in pictures(cache, count)[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = clean_labels(names[given], features=features, sample_ids=ids, seed=0).table
    is_wrong = given != true
    right = table.predicted_label.to_numpy(dtype=str) == names[true]
    measures = ranking(table.label_score.to_numpy(dtype=np.float64), is_wrong)
    measures |= flags(table.is_label_issue.to_numpy(dtype=bool), is_wrong)
    return {"ap": measures["ap"], "f1": measures["f1"], "accuracy": float(right.mean())}


def taught(variant: tuple[str, str, str], cache: Path, count: int) -> dict[str, float]:
    """Share of the pictures that a probe taught on clean labels tells right, out of fold."""
    depth, tiles, part = variant
    features = part_of(features_of(depth, tiles, cache, count), part)
    true = np.arange(count, dtype=np.int64) % len(CLASSES)
    probs = _oracle(f"tiles-{depth}-{tiles}-{part}", features, true, cache)
    return {"probe": float((probs.argmax(axis=1) == true).mean()), "num_features": float(features.shape[1])}


def rated(tiles: str, cache: Path) -> dict[str, float]:
    """Images per second and CPU milliseconds per image, decoding included, by both engines; the best of two rounds."""
    config = config_of("last", tiles, cache)
    rows, columns = config.backbone.grid
    folder, names = pictures(cache, max(8, NUM_RATED // (rows * columns)))
    sources, routes = [ImageSource(*name) for name in names], {}
    for engine in ("onnx", "torch"):
        own = config_of("last", tiles, cache, engine=engine)
        routes[engine] = ours(sources, folder, backbone_facts(own), own, cache)
    best = best_rates(routes, 2)
    speeds = {f"{engine}_per_s": rate.images_per_s for engine, rate in best.items()}
    return speeds | {f"{engine}_ms": rate.cpu_ms for engine, rate in best.items()}


def section(rows: dict[str, dict[str, float]]) -> str:
    """Return the part of the page."""
    return "\n".join(_lines({tuple(json.loads(key)): value for key, value in rows.items()})) + "\n"


def _lines(rows: dict[tuple[object, ...], dict[str, float]]) -> Iterator[str]:
    cells = {Cell(*key): value for key, value in rows.items() if len(key) == len(Cell._fields)}  # type: ignore[arg-type]
    yield f"`python -m benchmarks.tiles`. {(__doc__ or '').strip()}\n"
    counts = {int(value["count"]) for value in rows.values() if "count" in value}
    seeds = sorted({cell.seed for cell in cells})
    yield (
        f"{', '.join(f'{count:,}' for count in sorted(counts))} pictures, MobileNetV2 at 224 pixels in fp32; six noises, seeds "
        f"{', '.join(map(str, seeds))}. *Probe* is taught on the true labels and asked out of fold: what there is to know "
        f"(chance: {1 / len(CLASSES):g}). `auto` takes {AUTO} here.\n"
    )
    yield "| depth | tiles | pooled | numbers | AP | F1 | predicted right | probe | cells |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    for variant in VARIANTS:
        own = [value for cell, value in cells.items() if cell[:3] == variant]
        if own:
            told = rows[variant]
            means = " | ".join(f"{np.mean([value[name] for value in own]):.4f}" for name in MEASURES)
            pooled = "" if variant[1] == "1" else {"all": "mean and maximum"}.get(variant[2], f"{variant[2]} alone")
            yield (
                f"| {variant[0]} | {variant[1]} | {pooled} | {told['num_features']:,.0f} | {means} | "
                f"{told['probe']:.4f} | {len(own)} |"
            )
    yield "\nBy noise, mean over the seeds: AP / F1 / predicted right.\n"
    noises = [f"{kind.replace('_', ' ')} {rate:g}" for kind, rate in NOISES]
    yield f"| depth | tiles | pooled | {' | '.join(noises)} |"
    yield f"|---|---|---|{'---|' * len(NOISES)}"
    for variant in VARIANTS:
        texts = []
        for noise in NOISES:
            own = [value for cell, value in cells.items() if cell[:5] == (*variant, *noise)]
            texts.append(
                " / ".join(f"{np.mean([value[name] for value in own]):.3f}" for name in MEASURES) if own else ""
            )
        if any(texts):
            yield f"| {' | '.join((*variant, *texts))} |"
    yield (
        "\nWhat it takes, decoding included, with OMP_NUM_THREADS = 1: the best of two rounds on a machine that others used "
        "too, so CPU time tells more than images per second.\n"
    )
    yield "| tiles | images/s, ONNX Runtime | CPU ms/image | images/s, torch | CPU ms/image |\n|---|---:|---:|---:|---:|"
    for tiles in dict.fromkeys(variant[1] for variant in VARIANTS):
        if speed := rows.get((tiles,)):
            names = ("onnx_per_s", "onnx_ms", "torch_per_s", "torch_ms")
            yield f"| {tiles} | {' | '.join(f'{speed[name]:,.1f}' for name in names)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--variants", type=int, nargs="+", default=list(range(len(VARIANTS))), help="places in VARIANTS"
    )
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS-features.md")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "cache" / "benchmark")
    options = parser.parse_args(arguments)
    cache = options.cache.resolve()
    store = cache / "tiles" / f"rows-{options.pictures}.json"
    rows = json.loads(store.read_text()) if store.is_file() else {}
    pictures(cache, options.pictures)

    def settle(key: Sequence[object], values: dict[str, float]) -> None:
        rows[json.dumps(list(key))] = values | {"count": float(options.pictures)}
        store.write_text(json.dumps(rows, indent=0))
        print(*key, {name: round(value, 4) for name, value in values.items()}, file=sys.stderr, flush=True)

    for variant in (VARIANTS[place] for place in options.variants):
        if json.dumps(variant) not in rows:
            settle(variant, taught(variant, cache, options.pictures))
        for cell in (Cell(*variant, *noise, seed) for noise in NOISES for seed in options.seeds):
            if json.dumps(cell) not in rows:
                settle(cell, measured(cell, cache, options.pictures))
    for tiles in dict.fromkeys(VARIANTS[place][1] for place in options.variants):
        if json.dumps([tiles]) not in rows:
            settle([tiles], rated(tiles, cache))
    options.out.write_text(replaced_section(options.out.read_text(), "Tiles for large images", section(rows)))


if __name__ == "__main__":
    main()
