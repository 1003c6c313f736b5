"""From configuration to weights file and back: images in all kinds, resume, refusals, comparison."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from labelclean.adapt.checkpoint import write_checkpoint
from labelclean.adapt.image_cache import open_cache
from labelclean.adapt.image_set import gather_images
from labelclean.adapt.plan import check_fits, measure_needs
from labelclean.adapt.session import adapt, cache_size, start_backbone
from labelclean.config import Config
from labelclean.errors import ConfigError, DeviceError, GateError, StorageError
from labelclean.features.backbone import build_backbone
from tests.adapt import toy

NUM_LABELLED, NUM_MORE = 24, 6


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    """24 labelled images, one broken and two the same among them, and a folder of 6 without labels."""
    rng = np.random.default_rng(0)
    for name in ("labelled", "more/deep"):
        (tmp_path / name).mkdir(parents=True)
    paths = [f"{number:02}.png" for number in range(NUM_LABELLED)]
    for number, path in enumerate(paths):
        values = (rng.uniform(0, 60, (40, 30)) + 150 * (np.arange(40)[:, None] % (4 + 4 * (number % 2)) < 2)).astype(
            np.uint8
        )
        Image.fromarray(values).save(tmp_path / "labelled" / path)
    (tmp_path / "labelled" / paths[3]).write_bytes((tmp_path / "labelled" / paths[2]).read_bytes())
    (tmp_path / "labelled" / paths[5]).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    for number in range(NUM_MORE):
        deep = rng.integers(0, 65536, (40, 30)).astype(np.uint16)
        Image.fromarray(deep).save(tmp_path / "more" / "deep" / f"{number}.png")
    table = {
        "sample_id": paths,
        "image_path": paths,
        "given_label": ["wide" if n % 2 else "fine" for n in range(NUM_LABELLED)],
    }
    pq.write_table(
        pa.table(table | {"group_id": [f"part {n // 4}" for n in range(NUM_LABELLED)]}), tmp_path / "labels.parquet"
    )
    return tmp_path


def config(factory: Path, **adapt_settings: Any) -> Config:
    small = {"channels": [8, 8, 8, 8], "stem_width": 8, "in_chans": 1}
    settings = toy.SMALL | {"from_scratch": True, "epochs": 2, "window": 1, "out": factory / "adapted"} | adapt_settings
    return Config.model_validate(
        {
            "data": {"labels": factory / "labels.parquet", "image_root": factory / "labelled"},
            "backbone": {
                "name": "resnet14t",
                "options": small,
                "input_size": 32,
                "mean": [0.5],
                "std": [0.25],
                "workers": 0,
            },
            "run": {"seed": 0, "device": "cpu"},
            "storage": {"runs": factory / "runs", "cache": factory / "cache"},
            "adapt": settings,
        }
    )


def test_images_of_all_kinds_come_into_the_cache_once(factory: Path) -> None:
    settings = config(factory, images=factory / "more", cache_scale=1.0)
    images, rejects = gather_images(settings, cache_size(settings))
    cache = open_cache(images.cache)
    assert [reject.sample_id for reject in rejects] == ["05.png"]
    assert len(images.groups) == NUM_LABELLED - 2 + NUM_MORE  # one broken, one twin
    assert (
        images.given[:4] == [0, 1, 0, 0]
    ).all()  # 03 is 02 again; its label says the other class, the first one counts
    assert (images.given >= 0).sum() == NUM_LABELLED - 2
    assert images.groups[0] == images.groups[2]  # one part
    assert cache.array.dtype == np.uint16
    pixels = cache.pixels(np.array([len(images.groups) - 1]))
    assert pixels.shape == (1, 1, 32, 32)
    assert len(np.unique(pixels & 0xFF)) > 100  # nothing of 16 bits is lost


def test_a_colour_image_widens_the_cache(factory: Path) -> None:
    values = np.random.default_rng(1).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    Image.fromarray(values).save(factory / "more" / "colour.png")
    settings = config(factory, images=factory / "more", cache_bits=8)
    images, _ = gather_images(settings, cache_size(settings))
    pixels = open_cache(images.cache).pixels(np.arange(len(images.groups)))
    assert pixels.shape[1] == 3
    assert pixels.dtype == np.uint8
    assert (pixels[0, 0] == pixels[0, 2]).all()
    assert any((one[0] != one[2]).any() for one in pixels)


def test_an_adaptation_leaves_weights_that_a_run_can_freeze(factory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "labelclean"):
        folder = adapt(config(factory))
    assert "time: " in caplog.text
    assert "history V x N x k = 1 x 22 x 3" in caplog.text
    assert sorted({file.name for file in folder.iterdir()} - {"tensorboard"}) == [  # where that is installed
        "backbone.safetensors",
        "curves.svg",
        "epochs.jsonl",
        "manifest.json",
        "report.html",
        "task.json",
    ]
    rows = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    weights = folder / "backbone.safetensors"
    frozen = config(factory).backbone.model_copy(update={"weights": weights})
    assert build_backbone(frozen, "fp32").num_features == 32


NETWORKS = {
    "vit": ("test_vit", {"in_chans": 1, "img_size": 32, "patch_size": 8}, 64, 0.1),
    "cnn of three channels": ("test_efficientnet", {}, 256, 0.0),
}


@pytest.mark.training
@pytest.mark.parametrize("network", list(NETWORKS))
def test_any_timm_network_learns_from_grey_images_of_16_bits(factory: Path, network: str) -> None:
    name, options, num_features, drop_path = NETWORKS[network]
    settings = config(factory, images=factory / "more", epochs=1, drop_path=drop_path)
    channels = int(options.get("in_chans", 3))
    changed = {"name": name, "options": options, "mean": (0.5,) * channels, "std": (0.25,) * channels}
    settings = settings.model_copy(update={"backbone": settings.backbone.model_copy(update=changed)})
    weights = adapt(settings) / "backbone.safetensors"
    frozen = build_backbone(settings.backbone.model_copy(update={"weights": weights}), "fp32")
    begun = start_backbone(settings).module.state_dict()
    assert frozen.num_features == num_features
    assert any(not torch.equal(value, begun[key]) for key, value in frozen.module.state_dict().items())


@pytest.mark.training
def test_a_killed_adaptation_resumes_to_the_same_weights(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_file(adapt(config(factory, mode="naive", out=factory / "whole")) / "backbone.safetensors")
    store, calls = write_checkpoint, []

    def dying(*args: Any) -> None:
        store(*args)
        calls.append(args)
        if len(calls) == 3:  # before the first step, then two steps on
            raise KeyboardInterrupt

    monkeypatch.setattr("labelclean.adapt.session.write_checkpoint", dying)
    interrupted = config(factory, mode="naive", checkpoint_minutes=0)
    with pytest.raises(KeyboardInterrupt):
        adapt(interrupted)
    with pytest.raises(ConfigError, match="Go on with it by --resume"):
        adapt(interrupted)
    with pytest.raises(ConfigError, match=r"'adapt\.neighbours' changed"):
        adapt(config(factory, mode="naive", neighbours=2), resume=True)
    found = load_file(adapt(interrupted, resume=True) / "backbone.safetensors")
    assert all(np.array_equal(found[name], value) for name, value in whole.items())
    with pytest.raises(ConfigError, match="there is none"):
        adapt(interrupted, resume=True)


def test_a_collapse_keeps_the_last_good_weights(factory: Path) -> None:
    with pytest.raises(GateError, match="training has collapsed"):
        adapt(config(factory, min_feature_spread=0.9999))
    (work,) = (factory / "adapted").glob(".work-*")
    assert (work / "checkpoint.pt").is_file()  # the state before the collapse


def test_what_cannot_fit_is_refused_with_its_numbers(factory: Path, tmp_path: Path) -> None:
    setup = toy.setup()
    with pytest.raises(DeviceError, match=r"main memory must hold the training's state, 1,616\.1 GB"):
        check_fits(measure_needs(1_000_000_000, 384, 1_000_000, (64, 1, 10)), setup, tmp_path)
    with pytest.raises(StorageError, match=r"history of 2 epochs x 24 images x 3 neighbours 400,000\.0 GB"):
        check_fits(measure_needs(1_000_000, 4, 1000, (64, 5_000_000, 10)), setup, tmp_path)


def test_a_batch_that_processes_cannot_share_is_refused(factory: Path) -> None:
    from labelclean.adapt.session import build_setup
    from labelclean.adapt.world import World

    settings = config(factory, batch_size=7)
    images, _ = gather_images(settings, cache_size(settings))
    with pytest.raises(ConfigError, match="multiple of the 2 processes, but is 7"):
        build_setup(settings, images, start_backbone(settings), World(0, 2))
