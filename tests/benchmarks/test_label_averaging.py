"""The reproduction of P1's story: its ideal model by hand, its training against the optimum's own equation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import label_averaging
from benchmarks.block_model import (
    block_gram,
    exact_labels,
    rounds_bound,
    shrinkage,
    superclass_noise,
    two_hot_margin,
)
from benchmarks.label_averaging import everybody, trained
from benchmarks.panels import Panel, draw, numbers
from labelclean.labels import one_hot
from labelclean.probes.ridge import fit_cross_entropy, fit_ridge, predict_logits, softmax

TRUE = np.repeat(np.arange(4), 3)  # two superclasses of two classes of three


def small_problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((12, 5)).astype(np.float32), one_hot(rng.integers(0, 3, 12), 3)


def test_noise_matrices_by_hand() -> None:
    noisy = superclass_noise([0.7, 0.2, 0.1], 2)
    assert noisy[:3, :3].tolist() == [[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]]
    assert not noisy[:3, 3:].any()
    assert (noisy[3:, 3:] == noisy[:3, :3]).all()
    flips = label_averaging.noise("pair flip", 0.3)
    assert (flips[3, 4], flips[4, 0], flips[4, 5]) == (0.3, 0.3, 0.0)
    for kind in ("uniform", "superclass", "pair flip"):
        np.testing.assert_allclose(label_averaging.noise(kind, 0.4).sum(axis=1), 1)


def test_exact_labels_hold_the_counts_in_every_class() -> None:
    true, given = exact_labels((3, 2, 1), 2)
    counts = np.zeros((6, 6))
    np.add.at(counts, (true, given), 1)
    assert (counts == superclass_noise([3, 2, 1], 2)).all()


def test_drawn_labels_follow_their_noise_matrix() -> None:
    matrix = np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8]])
    true = np.repeat(np.arange(3), 20_000)
    shares = np.stack([label_averaging.drawn(true, matrix)[true == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(shares, matrix, atol=0.015)


def test_the_block_gram_has_the_eigenvalues_of_hand() -> None:
    values = np.linalg.eigvalsh(block_gram(TRUE, 2, within=0.5, between=0.25))
    # own 1 - .5 (8 times), class .5 + 3 (.5 - .25) (twice), superclass 1.25 + 6 * .25 (twice)
    np.testing.assert_allclose(values, [0.5] * 8 + [1.25] * 2 + [2.75] * 2)
    assert shrinkage(3, 0.5, 0.25, penalty=0.75) == (0.5 / 1.25, 1.25 / 2.0)


def test_the_bound_and_the_margin_by_hand() -> None:
    matrix = np.array([[0.6, 0.3, 0.1], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]])
    assert rounds_bound(matrix, p=0.3, q=0.6) == pytest.approx(np.log2(1 + 1 / 0.3))  # class 0 is the worst
    assert two_hot_margin(matrix, p=0.3, q=0.6) == pytest.approx(0.15 * 0.05)  # class 1: 1 - .9 - .05
    assert rounds_bound(np.array([[0.5, 0.5], [0.5, 0.5]]), 0.3, 0.6) == np.inf
    assert two_hot_margin(superclass_noise([0.7, 0.3, 0.0], 1), 0.3, 0.6) == pytest.approx(0)  # pair flip ties


@pytest.mark.parametrize("rounds", [1, 3])
def test_everybody_s_probe_is_the_smoother_on_the_centred_gram(rounds: int) -> None:
    rows = np.linalg.cholesky(block_gram(TRUE, 2, 0.5, 0.25)).astype(np.float32)
    targets = one_hot(np.array([0, 0, 1, 1, 1, 0, 2, 2, 3, 3, 2, 3]), 4)
    away = np.eye(12) - 1 / 12
    values, vectors = np.linalg.eigh(away @ block_gram(TRUE, 2, 0.5, 0.25) @ away)
    shrunk = vectors @ np.diag((values / (values + 0.4)) ** rounds) @ vectors.T
    expected = targets.mean(axis=0) + shrunk @ (targets - targets.mean(axis=0))
    probe = fit_ridge(everybody(rows), targets, [0.4], rounds)[0][0]
    np.testing.assert_allclose(predict_logits(probe, rows), expected, atol=1e-5)


def test_training_ends_where_the_gradient_is_zero_and_where_our_own_steps_end() -> None:
    rows, targets = small_problem()
    probe = trained(rows, targets, decay=0.5)
    pull = softmax(predict_logits(probe, rows)) - targets
    np.testing.assert_allclose(rows.T @ pull + 0.5 * probe.weights, 0, atol=1e-4)
    np.testing.assert_allclose(pull.sum(axis=0), 0, atol=1e-4)
    ours = fit_cross_entropy(everybody(rows), targets, 0.5, steps=300)[0]
    np.testing.assert_allclose(probe.weights, ours.weights, atol=1e-3)


def test_closed_form_and_training_meet_at_strong_decay() -> None:
    rows = small_problem()[0]
    targets = one_hot(np.arange(12) % 3, 3)  # level classes: the closed form's case
    closed = predict_logits(fit_ridge(everybody(rows), targets, [3 * 1000.0])[0][0], rows) - 1 / 3
    steps = softmax(predict_logits(trained(rows, targets, 1000.0), rows)) - 1 / 3
    np.testing.assert_allclose(steps, closed, atol=0.02 * np.abs(closed).max())


def test_a_plot_is_the_same_bytes_twice_and_holds_its_words(tmp_path: Path) -> None:
    panel = Panel("Two\nlines", "rounds", [1, 2], {"trained, slow": [0.2, 0.5], "b": [1.0]}, (1.5,))
    drawn = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        draw(tmp_path / name / "plot.svg", [panel])
        drawn.append((tmp_path / name / "plot.svg").read_bytes())
    assert drawn[0] == drawn[1]
    assert b"trained, slow" in drawn[0]
    assert numbers(panel).endswith(
        "| rounds | 1 | 2 |\n| --- | --- | --- |\n| trained, slow | 0.200 | 0.500 |\n| b | 1.000 |"
    )
