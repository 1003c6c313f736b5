"""Kernel rows against the kernel itself, and a problem that no straight probe solves."""

from __future__ import annotations

import numpy as np

from labelclean.cleaning.clean import clean_labels
from labelclean.probes.kernel import fit_kernel, raw_kernel_rows


def kernel_rows(rows: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    found = raw_kernel_rows(fit_kernel(rows[np.sort(landmarks)]), rows)
    centred: np.ndarray = found - found.mean(axis=0, dtype=np.float64).astype(np.float32)
    return centred


def test_products_of_kernel_rows_are_gaussian_similarities_when_all_samples_are_landmarks() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    found = kernel_rows(rows, np.arange(40)).astype(np.float64)
    squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    kernel = np.exp(-squared / (2 * 0.5 * np.median(squared)))
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    assert np.abs(found @ found.T - centred).max() < 1e-3


def test_the_order_of_the_landmarks_does_not_matter() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    some = np.array([3, 40, 17, 8])
    assert np.array_equal(kernel_rows(rows, some), kernel_rows(rows, some[::-1]))


def test_classes_in_alternating_quarters_are_cleaned_by_the_curved_probe_alone() -> None:
    rng = np.random.default_rng(2)
    angle = rng.uniform(0, 2 * np.pi, 600)
    true = (np.sin(2 * angle) > 0).astype(np.int64)
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    given = np.where(rng.random(600) < 0.1, 1 - true, true)
    right = {}
    for landmarks in (0, 500):
        config = {"teacher": {"landmarks": landmarks}, "neighbours": {"method": "none"}}
        cleaned = clean_labels(given, features=features, seed=0, config=config)
        right[landmarks] = (cleaned.table.predicted_label == true).mean()
    assert right[500] > 0.97 > right[0]
