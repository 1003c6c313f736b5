"""Ridge, cross-entropy and generalised cross-entropy probes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelclean.labels import one_hot
from labelclean.probes.ridge import (
    Design,
    LinearProbe,
    build_design,
    fit_cross_entropy,
    fit_gce,
    fit_ridge,
    log_shares,
    out_of_fold_logits,
    predict_logits,
    softmax,
)


def problem(num_samples: int = 120, num_classes: int = 3) -> tuple[Design, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    true = random.integers(0, num_classes, num_samples)
    rows = (random.standard_normal((num_samples, 5)) * 0.4 + np.eye(5)[true]).astype(np.float32)
    folds = np.arange(num_samples) % 4
    return build_design(rows, folds, 4, np.zeros(5)), one_hot(true, num_classes), true


def newton_oracle(rows: np.ndarray, targets: np.ndarray, penalty: float) -> torch.Tensor:
    """Minimum of the same objective by torch's L-BFGS in float64; logits for all rows."""
    x, y = torch.tensor(rows, dtype=torch.float64), torch.tensor(targets, dtype=torch.float64)
    weights = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = -(y * torch.log_softmax(x @ weights + bias, 1)).sum() + penalty / 2 * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return torch.softmax(x @ weights + bias, 1).detach()


def test_softmax_of_huge_logits_is_finite() -> None:
    assert np.allclose(softmax(np.array([[1e4, 0.0], [0.0, -1e4]])), [[1, 0], [1, 0]])


def test_log_shares_stay_finite_for_a_class_nobody_gave() -> None:
    shares = log_shares(np.array([[1, 0], [1, 0]], dtype=np.float32))
    assert np.isfinite(shares).all()
    assert np.isclose(np.exp(shares).sum(), 1)


def test_each_fold_is_scored_by_the_probe_that_never_saw_it() -> None:
    design, targets, _ = problem()
    probes = fit_ridge(design, targets, [0.5])[0]
    changed = targets.copy()
    changed[design.folds == 2] = 1 / 3
    again = fit_ridge(design, changed, [0.5])[0]
    assert np.array_equal(probes[2].weights, again[2].weights)
    assert not np.array_equal(probes[1].weights, again[1].weights)


def test_out_of_fold_ridge_is_that_of_a_slow_loop() -> None:
    design, targets, _ = problem()
    fast = out_of_fold_logits(design, fit_ridge(design, targets, [0.5])[0])
    for fold in range(4):
        kept = design.folds != fold
        x, y = design.unit_rows[kept].astype(float), targets[kept].astype(float)
        centred = x - x.mean(0)
        weights = np.linalg.solve(centred.T @ centred + 0.5 * np.eye(5), centred.T @ (y - y.mean(0)))
        slow = y.mean(0) + (design.unit_rows[~kept] - x.mean(0)) @ weights
        assert np.allclose(fast[~kept], slow, atol=1e-4)


def test_cross_entropy_reaches_the_minimum_that_lbfgs_finds() -> None:
    design, targets, _ = problem()
    probes = fit_cross_entropy(design, targets, 1.0, steps=100)
    kept = design.folds != 0
    oracle = newton_oracle(design.unit_rows[kept], targets[kept], 1.0)
    assert np.allclose(softmax(predict_logits(probes[0], design.unit_rows[kept])), oracle, atol=2e-3)


def test_the_first_step_from_zero_is_ridge_with_twice_the_penalty_scaled() -> None:
    design, targets, _ = problem(num_samples=120)
    zero = tuple(LinearProbe(np.zeros((5, 3), np.float32), np.zeros(3, np.float32)) for _ in range(4))
    step = fit_cross_entropy(design, targets, 1.5, steps=1, start=zero)
    ridge = fit_ridge(design, targets, [3.0])[0]
    assert np.allclose(step[0].weights, 2 * ridge[0].weights, atol=1e-4)


def test_generalised_cross_entropy_resists_wrong_labels_better() -> None:
    design, targets, true = problem(num_samples=400)
    noisy = targets.copy()
    wrong = np.random.default_rng(1).random(400) < 0.35
    noisy[wrong] = one_hot((true[wrong] + 1) % 3, 3)
    plain = fit_cross_entropy(design, noisy, 0.01)
    robust = fit_gce(design, noisy, 0.01, start=plain)
    accuracy = [(out_of_fold_logits(design, fit).argmax(1) == true).mean() for fit in (plain, robust)]
    assert accuracy[1] >= accuracy[0]


def test_generalised_cross_entropy_lowers_its_own_loss() -> None:
    design, targets, _ = problem()

    def loss(probes: tuple[LinearProbe, ...]) -> float:
        kept = design.folds != 1
        probs = softmax(predict_logits(probes[1], design.unit_rows[kept]))
        data = (targets[kept] * (1 - probs**0.7) / 0.7).sum()
        return float(data + 0.1 / 2 * (probes[1].weights ** 2).sum())

    start = fit_cross_entropy(design, targets, 0.1, steps=3)
    losses = [loss(fit_gce(design, targets, 0.1, steps=steps, start=start)) for steps in (0, 10, 100)]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("fit", [fit_cross_entropy, fit_gce])
def test_a_class_missing_in_a_fold_gives_finite_probes(fit: object) -> None:
    design, targets, _ = problem()
    targets[design.folds != 0, 2] = 0
    targets[:, 0] += 1 - targets.sum(axis=1)
    probes = fit(design, targets, 0.1)  # type: ignore[operator]
    assert np.isfinite(out_of_fold_logits(design, probes)).all()
