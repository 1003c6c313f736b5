"""Clouds of scores: apart or overlapping, whatever the labels say."""

from __future__ import annotations

import numpy as np

from labelclean.noise.clouds import fit_clouds


def probs_of(side: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(np.stack([side, -side], axis=1))), dtype=np.float32)


def test_clouds_that_stand_apart_are_decided_though_their_labels_differ() -> None:
    random = np.random.default_rng(0)
    probs = probs_of(np.repeat([-1.0, 1.0], 200) + 0.1 * random.standard_normal(400))
    assert probs.max() < 0.8
    assert fit_clouds(probs).probs(probs).max(axis=1).min() > 0.99


def test_clouds_that_overlap_stay_unclear() -> None:
    side = np.random.default_rng(0).standard_normal(400)
    probs = probs_of(side)
    assert fit_clouds(probs).probs(probs)[np.abs(side) < 0.1].max() < 0.75


def test_one_step_is_linear_discriminant_analysis_of_the_likeliest_classes() -> None:
    """The oracle: Gaussian densities with the pooled covariance, worked out point by point."""
    random = np.random.default_rng(1)
    probs = random.dirichlet([1.0, 1.0, 1.0], 60).astype(np.float32)
    points = np.log(probs.astype(np.float64))
    points -= points.mean(axis=1, keepdims=True)
    best = probs.argmax(axis=1)
    centres = np.stack([points[best == k].mean(axis=0) for k in range(3)])
    spread = sum(np.outer(p - centres[k], p - centres[k]) for p, k in zip(points, best, strict=True)) / 60
    inverse = np.linalg.inv(spread + 1e-3 * np.eye(3))
    density = np.array(
        [
            [(best == k).mean() * np.exp(-0.5 * (p - centres[k]) @ inverse @ (p - centres[k])) for k in range(3)]
            for p in points
        ]
    )
    wanted = density / density.sum(axis=1, keepdims=True)
    assert np.allclose(fit_clouds(probs, steps=1).probs(probs), wanted, atol=2e-3)
