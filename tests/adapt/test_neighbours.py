"""Bank, votes, gate and partner draw against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labelclean.adapt.neighbours import (
    History,
    WindowNeighbours,
    automatic_temperature,
    draw_partners,
    nearest_entries,
    partner_probs,
    recognises_itself,
    window_neighbours,
)


@pytest.fixture
def five_images() -> History:
    """Five images over three epochs, two neighbours each.

    Image 0 finds itself thrice; image 1 finds itself once and 2 thrice; image 2 finds itself twice,
    0 twice and 4 twice; image 3 never finds itself; image 4 has only ever been seen once.
    """
    index = [
        [[0, 1], [2, 1], [2, 0], [0, 1], [-1, -1]],
        [[0, 1], [2, 0], [2, 4], [1, 0], [-1, -1]],
        [[0, 2], [2, 3], [0, 4], [0, 4], [4, 3]],
    ]
    similarity = [
        [[0.9, 0.6], [0.8, 0.7], [0.9, 0.3], [0.5, 0.4], [0.0, 0.0]],
        [[0.9, 0.3], [0.8, 0.5], [0.9, 0.6], [0.6, 0.1], [0.0, 0.0]],
        [[0.9, 0.9], [0.8, 0.2], [0.6, 0.6], [0.9, 0.2], [0.6, 0.5]],
    ]
    return History(np.array(index, dtype=np.int32), np.array(similarity, dtype=np.float32))


def test_the_vote_sums_similarities_over_the_window_and_keeps_the_strongest(five_images: History) -> None:
    neighbours = window_neighbours(five_images)
    # image 0: itself 2.7, 1 .9 and 2 .9 (a tie, the lower row wins); 2: itself 1.8, 4 1.2, 0 .9; 3: 0 1.5, 1 1.0
    assert neighbours.index.tolist() == [[0, 1], [2, 1], [2, 4], [0, 1], [4, 3]]
    expected = np.array([[2.7, 0.9], [2.4, 0.7], [1.8, 1.2], [1.5, 1.0], [0.6, 0.5]]) / 3
    np.testing.assert_allclose(neighbours.score, expected, rtol=1e-6)


def test_a_fourth_epoch_pushes_the_first_one_out(five_images: History) -> None:
    five_images.index[0] = [[3, 0]] * 5  # epoch 3 stands in slot 3 modulo 3
    five_images.similarity[0] = [[0.8, 0.1]] * 5
    neighbours = window_neighbours(five_images)
    # image 0: itself .1 + .9 + .9 = 1.9, 2 .9, 3 .8 and 1 only .3 where it was .9; image 4: 3 .8 + .5 before itself .6
    assert neighbours.index[0].tolist() == [0, 2]
    np.testing.assert_allclose(neighbours.score[0], np.array([1.9, 0.9]) / 3, rtol=1e-6)
    assert neighbours.index[4].tolist() == [3, 4]
    assert not recognises_itself(neighbours)[4]


def test_only_an_image_that_is_its_own_strongest_neighbour_passes_the_gate(five_images: History) -> None:
    assert recognises_itself(window_neighbours(five_images)).tolist() == [True, False, True, False, True]


def test_partners_are_drawn_by_the_softmax_of_the_mean_vote(five_images: History) -> None:
    temperature, count = 0.2, 4000
    neighbours = window_neighbours(five_images)
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_partners(neighbours, "adaptive", temperature, rng) for _ in range(count)])
    assert (drawn[:, 1] == 1).all()  # the gate is closed
    assert (drawn[:, 3] == 3).all()
    for image, other, behind in ((0, 1, (2.7 - 0.9) / 3), (2, 4, (1.8 - 1.2) / 3), (4, 3, (0.6 - 0.5) / 3)):
        share = 1 / (1 + math.exp(behind / temperature))
        assert set(drawn[:, image]) == {image, other}
        assert abs((drawn[:, image] == other).mean() - share) < 4 * math.sqrt(share * (1 - share) / count)


def test_naive_always_takes_another_and_plain_never(five_images: History) -> None:
    neighbours = window_neighbours(five_images)
    rng = np.random.default_rng(0)
    naive = np.stack([draw_partners(neighbours, "naive", 0.001, rng) for _ in range(200)])
    assert [sorted(set(column)) for column in naive.T.tolist()] == [[1], [2], [4], [0, 1], [3]]
    assert draw_partners(neighbours, "plain", 1.0, rng).tolist() == [0, 1, 2, 3, 4]


def test_the_limits_of_the_temperature_are_itself_and_even_odds(five_images: History) -> None:
    neighbours = window_neighbours(five_images)
    assert draw_partners(neighbours, "adaptive", 0.0, np.random.default_rng(0)).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(partner_probs(neighbours, 1e9)[0], [0.5, 0.5], atol=1e-6)


def test_images_of_the_own_group_get_no_vote_but_the_image_itself_does(five_images: History) -> None:
    neighbours = window_neighbours(five_images, groups=np.array([0, 0, 1, 2, 1]))
    assert neighbours.index.tolist() == [[0, 2], [2, 1], [2, 0], [0, 1], [4, 3]]


def test_blocks_do_not_change_the_vote(five_images: History, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = window_neighbours(five_images)
    monkeypatch.setattr("labelclean.adapt.neighbours.VOTE_BLOCK", 1)
    np.testing.assert_array_equal(window_neighbours(five_images).index, whole.index)


def test_nearest_entries_are_those_of_a_slow_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelclean.adapt.neighbours.BANK_BLOCK", 7)
    draws = torch.Generator().manual_seed(0)
    bank = torch.nn.functional.normalize(torch.randn(30, 5, generator=draws), dim=1)
    is_filled = torch.arange(30) % 3 != 0
    index, similarity = nearest_entries(bank[:4], bank, is_filled, 4)
    for row in range(4):
        found = sorted((-float(bank[row] @ bank[j]), j) for j in range(30) if is_filled[j])[:4]
        assert index[row].tolist() == [j for _, j in found]
        np.testing.assert_allclose(similarity[row].numpy(), [-s for s, _ in found], rtol=1e-5)


def test_an_empty_bank_has_no_nearest_entry() -> None:
    index, similarity = nearest_entries(torch.ones(2, 3), torch.zeros(4, 3), torch.zeros(4, dtype=torch.bool), 2)
    assert index.tolist() == [[-1, -1]] * 2
    assert similarity.tolist() == [[0.0, 0.0]] * 2


def test_the_automatic_temperature_bootstraps_the_wished_share_of_the_self_retrieval_rate() -> None:
    count = 400
    own = np.arange(count, dtype=np.int32)
    index = np.stack([own, (own + 1) % count], axis=1)
    gap = np.linspace(0.0, 0.2, count, dtype=np.float32)
    neighbours = WindowNeighbours(index, np.stack([np.ones(count, dtype=np.float32), 1 - gap], axis=1))
    found = automatic_temperature(neighbours, 0.8, 0.3)
    expected = np.mean(1 / (1 + np.exp(gap / found)))
    assert abs(expected - 0.24) < 1e-4
