"""The loop: plain DINO as the limit, momentum, window, records, collapse."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from labelclean.adapt.neighbours import new_history
from labelclean.adapt.state import EpochRecord, State, build_state
from labelclean.adapt.train import train
from labelclean.errors import GateError
from tests.adapt import toy


def weights(of: State) -> list[torch.Tensor]:
    return [*of.momentum.state_dict().values(), *of.online.state_dict().values(), of.centre, of.bank]


def same_bits(one: State, other: State) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_temperature_zero_is_plain_dino_bit_for_bit() -> None:
    plain, _, _ = toy.trained(toy.setup(mode="plain"))
    cold, _, _ = toy.trained(toy.setup(mode="adaptive", temperature=0.0))
    warm, records, _ = toy.trained(toy.setup(mode="adaptive", temperature=1.0))
    assert same_bits(plain, cold)
    assert any(isinstance(one, EpochRecord) and one.bootstrapped_share > 0 for one in records)
    assert not same_bits(plain, warm)


def test_partners_come_from_epoch_v_on() -> None:
    _, records, _ = toy.trained(toy.setup(mode="naive", window=2))
    shares = [one.bootstrapped_share for one in records if isinstance(one, EpochRecord)]
    assert shares[:2] == [0.0, 0.0]
    assert min(shares[2:]) > 0.5


def test_the_same_seed_gives_the_same_bits() -> None:
    assert same_bits(toy.trained(toy.setup())[0], toy.trained(toy.setup())[0])


def test_partners_do_not_hang_on_what_others_draw() -> None:
    def partners(drop_path: float = 0.0) -> torch.Tensor:
        setup = toy.setup(mode="naive", epochs=2, window=2, learning_rate=1e-9, drop_path=drop_path)
        return toy.trained(setup)[0].partners

    first = partners()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert torch.equal(first, partners())
    assert torch.equal(first, partners(0.1))
    setup = toy.setup(mode="naive", epochs=2, window=2, learning_rate=1e-9)
    assert not torch.equal(first, toy.trained(dataclasses.replace(setup, seed=4))[0].partners)


def test_the_history_is_a_window_of_v_epochs() -> None:
    setup = toy.setup(epochs=5, window=2)
    state, history, pixels = toy.state(setup), new_history(2, setup.num_images, 3), toy.images()
    seen: list[np.ndarray] = []
    for record in train(state, setup, lambda rows: pixels[rows], history):
        seen.append(state.near_index.numpy().copy())
        epoch = record.epoch - 1
        np.testing.assert_array_equal(history.index[epoch % 2], seen[epoch])
        if epoch:
            np.testing.assert_array_equal(history.index[(epoch - 1) % 2], seen[epoch - 1])
    assert not np.array_equal(seen[0], seen[4])


def test_neighbours_are_looked_for_before_the_own_entry_is_replaced() -> None:
    setup = toy.setup(epochs=1, batch_size=24)
    state, _, _ = toy.trained(setup)
    assert (state.near_index == -1).all()  # in the first epoch's one step the bank was still empty
    assert bool(state.is_filled.all())


def test_the_momentum_network_follows_by_the_formula() -> None:
    setup = toy.setup(epochs=1, batch_size=24, momentum=0.75, freeze_epochs=0)
    before = [value.clone() for value in toy.state(setup).momentum.parameters()]
    state, _, _ = toy.trained(setup)
    for old, online, new in zip(before, state.online.parameters(), state.momentum.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * online.detach())
    assert not torch.equal(before[0], next(state.online.parameters()))


@pytest.mark.parametrize("from_scratch", [False, True])
def test_norms_keep_the_statistics_that_came_with_the_weights(from_scratch: bool) -> None:
    def normed() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(toy.Tiny(), nn.BatchNorm1d(4))

    setup, zeros, ones = toy.setup(epochs=1, from_scratch=from_scratch), torch.zeros(4), torch.ones(4)
    state, pixels = build_state(setup, normed(), normed()), toy.images()
    list(train(state, setup, lambda rows: pixels[rows], new_history(2, setup.num_images, 3)))
    for network in (state.online, state.momentum):
        norm = network.backbone.get_submodule("1")
        kept = all(torch.equal(value, start) for value, start in zip(norm.buffers(), (zeros, ones), strict=False))
        assert kept is not from_scratch
    learned = state.online.backbone.get_submodule("1").get_parameter("weight")  # they still learn
    assert not torch.equal(learned, ones)


def test_the_centre_moves_towards_the_mean_momentum_logit_of_each_step() -> None:
    setup = toy.setup(epochs=2, window=2, batch_size=24, centre_momentum=0.75)
    state, pixels, means = toy.state(setup), toy.images(), []
    state.momentum.register_forward_hook(lambda _, __, out: means.append(out[1].mean(dim=0)))
    list(train(state, setup, lambda rows: pixels[rows], new_history(2, 24, 3)))
    by_hand = 0.75 * (0.25 * means[0]) + 0.25 * means[1]
    torch.testing.assert_close(state.centre, by_hand)
    assert len(means) == 2


def test_prototypes_stand_still_while_frozen() -> None:
    setup = toy.setup(epochs=2, freeze_epochs=1, window=1)
    state, first = toy.state(setup), toy.state(setup).online.head.prototypes.clone()
    pixels, history = toy.images(), new_history(1, setup.num_images, 3)
    steps = train(state, setup, lambda rows: pixels[rows], history)
    next(steps)
    assert torch.equal(state.online.head.prototypes, first)
    next(steps)
    assert not torch.equal(state.online.head.prototypes, first)


def test_partners_of_the_own_group_are_reported_and_can_be_excluded() -> None:
    _, allowed, _ = toy.trained(toy.setup(mode="naive", exclude_group=False))
    _, excluded, _ = toy.trained(toy.setup(mode="naive", exclude_group=True))
    last = [records[-1] for records in (allowed, excluded)]
    assert last[0].same_group_share > 0  # type: ignore[union-attr]
    assert last[1].same_group_share == 0  # type: ignore[union-attr]


def test_nan_stops_the_training_before_it_can_be_stored() -> None:
    setup = toy.setup(learning_rate=1e30, clip=1e30, freeze_epochs=0)
    state, pixels = toy.state(setup), toy.images()
    with pytest.raises(GateError, match="must be finite"):
        list(train(state, setup, lambda rows: pixels[rows], new_history(2, 24, 3)))


def test_a_collapse_stops_the_training() -> None:
    setup = toy.setup(min_feature_spread=0.999)
    state, pixels = toy.state(setup), toy.images()
    with pytest.raises(GateError, match=r"epoch 1: training has collapsed: the feature spread must be at least 0.999"):
        list(train(state, setup, lambda rows: pixels[rows], new_history(2, 24, 3)))


def test_labels_are_measured_with_and_never_learned_from() -> None:
    with_labels, records, _ = toy.trained(toy.setup())
    setup = toy.setup()
    without = toy.state(setup)
    setup.given[:] = -1
    pixels = toy.images()
    found = list(train(without, setup, lambda rows: pixels[rows], new_history(2, 24, 3)))
    assert same_bits(with_labels, without)
    assert math.isnan(found[-1].neighbour_accuracy)  # type: ignore[union-attr]
    assert 0 <= records[-1].neighbour_accuracy <= 1  # type: ignore[union-attr]
