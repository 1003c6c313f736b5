"""The advice: adapted only where it is surely better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelclean.adapt.compare import BackboneWorth, compare, compared, worth_of
from labelclean.adapt.sweep import Trial, advice, told_by_neighbours
from labelclean.labels import given_labels
from tests.adapt.test_session import config, factory

__all__ = ["factory"]


def features(separation: float, given: np.ndarray, seed: int = 0) -> np.ndarray:
    """Two clouds, the further apart the better."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(len(given), 8)) + separation * given[:, None]).astype(np.float32)


def judgement(name: str, separation: float, factory: Path, seed: int = 0) -> BackboneWorth:
    given = np.arange(200) % 2
    ids = [str(row) for row in range(200)]
    return worth_of(name, features(separation, given, seed), ids, None, given_labels(given, 2), config(factory))


def test_better_features_are_frozen_and_worse_are_not(factory: Path) -> None:
    good, bad = judgement("good", 3.0, factory), judgement("bad", 0.3, factory)
    assert good.is_told_by_probe.mean() > 0.95
    assert compared(bad, good, Path("w")).freeze_adapted
    worse = compared(good, bad, Path("w"))
    assert not worse.freeze_adapted
    assert worse.sentences()[-1] == "Keep the base: it is better than the adapted backbone."


def test_equal_features_keep_the_base(factory: Path) -> None:
    same = compared(judgement("a", 1.0, factory, 0), judgement("b", 1.0, factory, 1), Path("w"))
    assert not same.freeze_adapted
    assert same.sentences()[-1] == "Keep the base: the adapted backbone is not surely better."


def test_the_standard_error_takes_a_group_as_one() -> None:
    zero, one = np.zeros(4, bool), np.array([True, True, False, False])
    groups = np.array([0, 0, 2, 3])
    found = compared(BackboneWorth("b", zero, zero, 0, groups), BackboneWorth("a", one, one, 0, groups), Path("w"))
    # differences 1 1 0 0, mean .5; group sums of the residuals 1, -.5, -.5: sqrt(1.5) / 4
    assert found.gain == 0.5
    assert found.standard_error == pytest.approx(1.5**0.5 / 4)


def test_base_and_untrained_weights_are_compared_from_a_config(factory: Path) -> None:
    from labelclean.adapt.session import adapt

    settings = config(factory, epochs=1)
    folder = adapt(settings)
    found = compare(settings)
    assert found.weights == (folder / "backbone.safetensors").resolve()
    assert len(found.base.is_told_by_probe) == 23
    with pytest.raises(Exception, match="must name a weights file"):
        compare(settings, factory / "nothing")


def test_neighbours_of_the_own_group_do_not_tell() -> None:
    angle = np.repeat([0.0, 0.1, 2.0, 2.1], 2)
    bank = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    given = np.array([0, 1, 0, 1, 1, 0, 1, 0])
    groups = np.arange(8)
    groups[1::2] = groups[::2]
    assert told_by_neighbours(bank, groups, given, 2).shape == (8,)


def test_the_sweep_advises_only_what_is_surely_better() -> None:
    plain = Trial(0.0, 1, 0.80, 0.01, 0.0, 0.9, 10.0)
    slightly, clearly = plain._replace(temperature=0.1, accuracy=0.81), plain._replace(temperature=0.1, accuracy=0.9)
    collapsed = plain._replace(temperature=1.0, accuracy=float("nan"))
    assert "keep the defaults" in advice([plain, slightly, collapsed])
    assert advice([plain, clearly, collapsed]) == "Best here: --set adapt.temperature=0.1 --set adapt.window=1"
