"""Loss, centre and head against slow loops and hand numbers."""

from __future__ import annotations

import math

import numpy as np
import torch

from labelclean.adapt.loss import ProjectionHead, dino_loss, moved_centre


def test_the_loss_is_that_of_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    online, momentum, centre = rng.normal(size=(6, 5)), rng.normal(size=(6, 5)), rng.normal(size=5)
    total = 0.0
    for image in range(3):
        for crop in range(2):
            mine, other = image + 3 * crop, image + 3 * (1 - crop)
            target = [math.exp((momentum[other, p] - centre[p]) / 0.04) for p in range(5)]
            guess = [math.exp(online[mine, p] / 0.1) for p in range(5)]
            for p in range(5):
                total -= target[p] / sum(target) * math.log(guess[p] / sum(guess))
    loss = dino_loss(
        torch.from_numpy(online).float(),
        torch.from_numpy(momentum).float(),
        torch.from_numpy(centre).float(),
        online_temperature=0.1,
        momentum_temperature=0.04,
    )
    assert math.isclose(float(loss), total / 6, rel_tol=1e-4)


def test_equal_outputs_cost_the_log_of_the_number_of_prototypes() -> None:
    same = torch.zeros(4, 8)
    loss = dino_loss(same, same, torch.zeros(8), online_temperature=0.1, momentum_temperature=0.04)
    assert math.isclose(float(loss), math.log(8), rel_tol=1e-6)


def test_no_gradient_flows_into_the_momentum_outputs() -> None:
    online, momentum = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    dino_loss(online, momentum, torch.zeros(3), online_temperature=0.1, momentum_temperature=0.04).backward()  # type: ignore[no-untyped-call]
    assert online.grad is not None
    assert momentum.grad is None


def test_the_centre_moves_a_tenth_of_the_way() -> None:
    moved = moved_centre(torch.tensor([1.0, -1.0]), torch.tensor([2.0, 3.0]), 0.9)
    torch.testing.assert_close(moved, torch.tensor([1.1, -0.6]))


def test_logits_are_cosines_to_the_prototypes() -> None:
    head = ProjectionHead(4, 16, 8, 5, torch.Generator().manual_seed(0))
    features = torch.randn(3, 4)
    hidden = features
    for number, layer in enumerate(head.layers):
        hidden = layer(torch.nn.functional.gelu(hidden) if number else hidden)
    for row in range(3):
        for p in range(5):
            cosine = torch.nn.functional.cosine_similarity(hidden[row], head.prototypes[p], dim=0)
            torch.testing.assert_close(head(features)[row, p], cosine)
