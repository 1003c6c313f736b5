"""Collapse and progress measures in limit cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labelclean.adapt.measures import check_alive, effective_rank, feature_spread, neighbour_accuracy
from labelclean.config.adapt import AdaptConfig
from labelclean.errors import GateError


def test_equal_features_have_no_spread_and_rank_one() -> None:
    same = torch.nn.functional.normalize(torch.ones(10, 4), dim=1)
    assert feature_spread(same) < 1e-3
    assert effective_rank(same) == 1.0


def test_features_on_the_axes_have_the_rank_of_their_simplex() -> None:
    axes = torch.eye(4).repeat(5, 1)
    assert math.isclose(effective_rank(axes), 3.0, rel_tol=1e-6)  # centred, four corners span three directions
    assert math.isclose(feature_spread(axes), math.sqrt(0.75), rel_tol=1e-6)


def test_wide_and_tall_matrices_have_the_same_rank() -> None:
    tall = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([tall, torch.zeros(6, 3)], dim=1)
    assert math.isclose(effective_rank(tall), effective_rank(padded), rel_tol=1e-6)


def test_neighbours_tell_held_out_labels() -> None:
    bank = torch.eye(2).repeat(10, 1)
    given = np.arange(20) % 2
    assert neighbour_accuracy(bank, given, np.arange(20) < 6, 2, num_voters=3) == 1.0
    assert neighbour_accuracy(bank, 1 - given * 0, np.arange(20) < 6, 2, num_voters=3) == 1.0
    assert math.isnan(neighbour_accuracy(bank, np.full(20, -1), np.arange(20) < 6, 2))


@pytest.mark.parametrize(
    ("loss", "spread", "rank", "said"),
    [
        (math.nan, 0.5, 5.0, "must be finite, but the loss is nan"),
        (1.0, 0.001, 5.0, "min_feature_spread"),
        (1.0, 0.5, 1.1, "effective rank must be at least 1.5"),
    ],
)
def test_a_collapse_is_named_with_its_number_and_limit(loss: float, spread: float, rank: float, said: str) -> None:
    with pytest.raises(GateError, match=said):
        check_alive(loss, spread, rank, 4, AdaptConfig())
    check_alive(1.0, 0.5, 5.0, 4, AdaptConfig())
