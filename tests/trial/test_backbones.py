"""Backbones compared without truth: what is asked for, numbers by hand, and planted features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from labelclean.config import Config
from labelclean.errors import ConfigError
from labelclean.labels import given_labels
from labelclean.trial.backbones import (
    BackboneTrial,
    backbones_of,
    class_share_likelihoods,
    compared,
    label_likelihoods,
)
from labelclean.trial.trial import Material

CONFIG = Config.model_validate(
    {
        "data": {"labels": "labels.parquet"},
        "backbone": {"name": "resnet10t", "weights": "own.safetensors", "mean": [0.4, 0.4, 0.4]},
        "run": {"seed": 0},
        "storage": {"runs": "runs", "cache": "cache"},
    }
)


def test_names_files_sizes_depth_and_tiles_are_read(tmp_path: Path) -> None:
    weights = tmp_path / "net.safetensors"
    about = {"architecture": "convnext_tiny", "mean": "0.5,0.5,0.5"}
    save_file({"w": np.zeros(1, np.float32)}, weights, metadata=about)
    specs = f"vit_small_patch14_dinov2@518+2x3,resnet10t@160x320+several, {weights}+several+auto"
    own, vit, wide, file = (config.backbone for config in backbones_of(specs, CONFIG).values())
    assert own == CONFIG.backbone
    assert (vit.name, vit.pretrained, vit.input_size, vit.depth) == (
        "vit_small_patch14_dinov2",
        True,
        (518, 518),
        "last",
    )
    # the configured name keeps all that is configured of it
    assert (wide.weights, wide.mean, wide.input_size, wide.depth) == (own.weights, own.mean, (160, 320), "several")
    assert (file.name, file.weights, file.mean, file.depth) == ("convnext_tiny", weights, (0.5, 0.5, 0.5), "several")
    assert [backbone.tiles for backbone in (own, vit, wide, file)] == [1, "2x3", 1, "auto"]


def test_all_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        backbones_of("a@b,gone.safetensors,resnet18@8,resnet18+3", CONFIG)
    for sentence in (
        "such as 2x3, found '3'",
        "'a@b': cannot be read",
        "'gone.safetensors': there is no such file",
        "at least 16 pixels",
    ):
        assert sentence in str(caught.value)


def facts(rate: float) -> dict[str, object]:
    return {
        "name": "x",
        "depth": "last",
        "tiles": "1",
        "input_size": (224, 224),
        "num_features": 8,
        "images_per_s": rate,
        "compute_h": 1 / rate,
    }


def trials(fast: float, rates: tuple[float, float]) -> list[BackboneTrial]:
    """A slow backbone of 1 nat, and one that tells ``fast`` less of one label in four."""
    slow = np.zeros(100)
    other = slow - fast * (np.arange(100) % 4 == 0)
    return compared({"slow": slow, "other": other}, slow - 1, {"slow": facts(rates[0]), "other": facts(rates[1])})


def test_the_clearly_better_one_is_recommended_however_slow() -> None:
    best, second = trials(2.0, (1.0, 50.0))
    assert (best.spec, best.gain, best.behind, best.is_recommended) == ("slow", 1.0, 0.0, True)
    assert (second.gain, second.behind) == (0.5, 0.5)
    assert second.behind_error == pytest.approx(2 * np.sqrt(0.25 * 0.75 / 99))  # of a label behind by 2 in one of 4


def test_of_equals_the_fastest_is_recommended() -> None:
    """Behind by .0005 nats in the mean, half of its standard error: one label less likely by .1, one more likely by .05."""
    same = np.zeros(100)
    near = same - 0.1 * (np.arange(100) == 0) + 0.05 * (np.arange(100) == 1)
    chosen = [
        next(row.spec for row in compared({"slow": same, "fast": near}, same - 1, rates) if row.is_recommended)
        for rates in (
            {"slow": facts(1), "fast": facts(9)},
            {"slow": facts(9), "fast": facts(1)},
            {"slow": facts(8), "fast": facts(9)},  # a timing that says nothing
        )
    ]
    assert chosen == ["fast", "slow", "slow"]


def test_features_that_tell_more_make_labels_likelier() -> None:
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 400)
    given = np.where(random.random(400) < 0.1, (true + 1) % 3, true)
    noise = random.standard_normal((400, 16))
    labels, ids = given_labels(given, 3), [f"s{row}" for row in range(400)]
    gains = [
        (
            label_likelihoods(Material((noise + size * np.eye(3, 16)[true]).astype(np.float32), labels, ids), CONFIG)
            - class_share_likelihoods(labels)
        ).mean()
        for size in (0.0, 2.0, 5.0)
    ]
    assert gains[0] == pytest.approx(0, abs=0.05)
    assert gains[1] > gains[0] + 0.2
    # the noise alone is left: log 3 nats less the entropy of one label in ten that moved to a known class
    assert gains[2] == pytest.approx(np.log(3) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1), abs=0.1)
