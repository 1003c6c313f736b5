"""Pictures that show no part: planted in made and in real ones they come first, and clean sets are left alone."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from labelclean.config import Config
from labelclean.runs import steps
from labelclean.storage.parquet import read_config, read_json, read_table
from labelclean.storage.tables import UNUSABLE

ROOT = Path(__file__).parents[2]
KINDS = ("blurred", "black", "replaced", "cropped")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def spoiled(image: Image.Image, kind: str, other: Path, rng: np.random.Generator) -> Image.Image:
    """The picture out of focus, nearly black, another one, or a part of it."""
    if kind == "blurred":
        return image.filter(ImageFilter.GaussianBlur(max(image.size) / 60))
    if kind == "black":
        noise = rng.normal(0, 1, np.asarray(image).shape)
        return Image.fromarray(np.clip(np.asarray(image) * 0.03 + noise, 0, 255).astype(np.uint8))
    if kind == "replaced":
        return Image.open(other)
    wide, high = (max(8, side // 5) for side in image.size)
    left, top = int(rng.integers(image.size[0] - wide)), int(rng.integers(image.size[1] - high))
    return image.crop((left, top, left + wide, top + high))


def plant(labels: pd.DataFrame, source: Path, target: Path, others: Sequence[Path], num: int) -> dict[str, str]:
    """Write the labels with `num` of their pictures spoiled, a quarter each way; what was done by sample id."""
    rng, planted = np.random.default_rng(0), {}
    target.mkdir()
    is_grey = []
    for path in labels.image_path:
        with Image.open(source / path) as image:
            is_grey.append(image.mode == "L")
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, target / path)
    for place, row in enumerate(rng.permutation(np.flatnonzero(is_grey))[:num].tolist()):
        kind, file = KINDS[place % len(KINDS)], io.BytesIO()
        with Image.open(source / labels.image_path[row]) as image:
            spoiled(image, kind, others[place // len(KINDS)], rng).save(file, "PNG")
        labels.loc[row, "image_path"] = f"{labels.image_path[row]}.png"
        (target / labels.image_path[row]).write_bytes(file.getvalue())
        planted[labels.sample_id[row]] = kind
    labels.to_parquet(target / "labels.parquet")
    return planted


def settings(tmp_path: Path, cache: Path, *overrides: str) -> Config:
    always = (f"storage.runs={tmp_path / 'runs'}", f"storage.cache={cache}", "expectations.enabled=false")
    return read_config(ROOT / "config.yaml", [*always, *overrides])


def first_places(run: Path, share: float) -> set[str]:
    """Samples in the first places of the queue, as many as this share of all."""
    num = int(share * read_json(run / "summary.json")["num_samples"])
    return set(read_table(run / "review_queue.parquet", "review_queue").column("sample_id").to_pylist()[:num])


@pytest.mark.long
def test_planted_pictures_come_first_whole_in_parts_and_from_an_old_cache(sample_cache: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(sample_cache, cache)
    labels = pd.read_parquet(ROOT / "sample_data" / "labels.parquet")
    labels = labels[labels.image_path != "images/img_000642.png"].reset_index(drop=True)  # the broken one
    rng = np.random.default_rng(1)
    others = [tmp_path / f"other-{number}.png" for number in range(20)]
    for path in others:  # stripes in all directions: no part
        across, down = np.meshgrid(np.arange(128), np.arange(128))
        wave = np.sin((across * rng.normal() + down * rng.normal()) / 2)
        Image.fromarray((127 + 120 * wave).astype(np.uint8)).save(path)
    planted = plant(labels, ROOT / "sample_data", tmp_path / "made", others, 20)
    made = tmp_path / "made"
    own = (f"data.labels={made / 'labels.parquet'}", f"data.image_root={made}", "review.audit_samples=0")
    run = steps.clean(settings(tmp_path, cache, *own))
    found = read_json(run / "summary.json")["unusable"]
    flagged = {one["sample_id"] for one in found["examples"]}
    assert len(flagged & set(planted)) >= 18
    assert found["num"] - len(flagged & set(planted)) <= 7
    assert found["num_unmeasured"] == 0
    assert len(first_places(run, 0.05) & set(planted)) >= 18
    assert found["by_reason"].keys() >= {"dark", "blurred", "odd_size", "outlier"}
    html = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="unusable"' in html
    assert "Other size or shape" in html
    for looks in cache.glob("features/*/looks"):  # as an earlier version left it
        shutil.rmtree(looks)
    streamed = steps.clean(settings(tmp_path, cache, *own, "run.in_memory_samples=1"), force=True)
    again = read_json(streamed / "summary.json")["unusable"]
    assert (again["by_reason"], again["num_unmeasured"]) == (found["by_reason"], 0)
    for looks in cache.glob("features/*/looks"):
        shutil.rmtree(looks)
    off = steps.clean(settings(tmp_path, cache, *own, "review.unusable_share=0", "run.in_memory_samples=1"), force=True)
    found = read_json(off / "summary.json")["unusable"]
    assert found["num_unmeasured"] == len(labels)
    assert found["by_reason"].keys() <= {"outlier"}  # which asks the features alone
    assert "not measured" in (off / "report.html").read_text(encoding="utf-8")


def test_the_sample_data_has_hardly_a_picture_that_looks_unusable(sample_run: Path) -> None:
    assert read_json(sample_run / "summary.json")["unusable"]["num"] <= 6  # 1 % of 699


@pytest.mark.real
def test_of_real_tiles_spoiled_ones_come_first_and_few_others(real_data: Path, tmp_path: Path) -> None:
    from labelclean.trial.first_config import write_first_config

    tiles, steel = real_data / "datasets" / "magnetic_tile", real_data / "datasets" / "neu_surface"
    weights = real_data / "weights" / "mobilenetv2_100_imagenet1k.safetensors"
    labels = pd.read_parquet(tiles / "labels.parquet").drop(columns="exposure")
    parts = sorted((ROOT / "sample_data" / "images").glob("*.jpg"))[:20]
    others = [path for pair in zip(parts, sorted((steel / "images").iterdir())[:20], strict=True) for path in pair]
    # others: half of them made-up parts, so like these tiles that about every second one is not seen, half steel
    planted = plant(labels.copy(), tiles, tmp_path / "made", others, 40)  # 3 %
    runs = {}
    for name, folder in (("made", tmp_path / "made"), ("tiles", tiles), ("steel", steel)):
        out = tmp_path / f"{name}.yaml"
        write_first_config(folder / "labels.parquet", out, weights=weights)
        own = [f"storage.runs={tmp_path / name / 'runs'}", f"storage.cache={tmp_path / 'cache'}"]
        runs[name] = steps.clean(read_config(out, own))
    assert len(first_places(runs["made"], 0.05) & set(planted)) >= 0.9 * len(planted)
    for name in ("tiles", "steel"):
        flags = read_table(runs[name] / "flags.parquet", "flags").to_pandas()
        summary = read_json(runs[name] / "summary.json")
        assert flags[flags.reason.isin(UNUSABLE)].sample_id.nunique() <= 0.01 * summary["num_samples"]
