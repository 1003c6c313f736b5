"""Votes against class shares, and blocks without what a reference holds."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.cleaning.stage import Block, OwnModel, Voters, log_odds_of, vote_shares, votes_against_shares, votes_of
from labelclean.labels import given_labels
from labelclean.probes.neighbours import Neighbours

HALVES = np.log([0.5, 0.5])


def block(**more: object) -> Block:
    given = given_labels(np.array([0, 1, 1]), 2)
    return Block((np.ones((3, 2), np.float32),), np.zeros(3, int), np.zeros(3, int), given, np.arange(3), **more)  # type: ignore[arg-type]


def test_votes_against_class_shares_by_hand() -> None:
    pair = Neighbours(np.array([[1], [0]]), np.array([[0.5], [0.5]], np.float32))
    values = votes_against_shares(votes_of(np.eye(2, dtype=np.float32))(pair), HALVES)
    # (0.5 [0, 1] + 0.5 [1/2, 1/2]) / 1 = [1/4, 3/4] against shares of 1/2
    assert np.allclose(values[0], np.log([0.5, 1.5]), atol=1e-6)


def test_a_sample_without_neighbours_says_nothing() -> None:
    alone = Neighbours(np.full((2, 1), -1), np.zeros((2, 1), np.float32))
    votes = votes_of(np.eye(2, dtype=np.float32))(alone)
    assert np.allclose(votes_against_shares(votes, HALVES), 0, atol=1e-6)
    assert vote_shares(votes).tolist() == [[0, 0], [0, 0]]


def test_only_the_nearest_vote_and_the_scale_multiplies() -> None:
    near = Neighbours(np.array([[1, 0]] * 3), np.array([[0.5, 0.4]] * 3, np.float32))
    voters = Voters(votes_of(np.eye(2, dtype=np.float32)), 1, HALVES, 2.0)
    assert voters.values(block(near=near)) == pytest.approx(np.tile(2 * np.log([0.5, 1.5]), (3, 1)), abs=1e-5)


def test_a_models_probabilities_count_against_the_class_shares() -> None:
    probs = np.array([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]], np.float32)
    found = OwnModel(np.log([0.9, 0.1])).values(block(pred_probs=probs))
    assert found[:2] == pytest.approx(np.log([[0.5 / 0.9, 5.0], [1.0, 1.0]]), abs=1e-5)
    assert np.isfinite(found).all()
    assert np.array_equal(found, log_odds_of(probs, np.log([0.9, 0.1])))


def test_what_an_expert_needs_and_a_block_lacks_is_said() -> None:
    with pytest.raises(ValueError, match="the samples' neighbours, but got None"):
        Voters(votes_of(np.eye(2, dtype=np.float32)), 1, HALVES, 1.0).values(block())
    with pytest.raises(ValueError, match="its probabilities, but got None"):
        OwnModel(HALVES).values(block())


def test_samples_that_a_reference_holds_are_left_out_of_every_field() -> None:
    near = Neighbours(np.arange(6).reshape(3, 2), np.ones((3, 2), np.float32))
    new = block(near=near, is_old=np.array([False, True, False])).new
    assert (new.samples.tolist(), new.labels.given.tolist(), len(new.rows[0])) == ([0, 2], [0, 1], 2)
    assert new.near is not None
    assert new.near.index.tolist() == [[0, 1], [4, 5]]
    assert block().new.samples.tolist() == [0, 1, 2]
