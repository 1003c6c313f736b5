"""P1's ideal model: a block Gram matrix, noise inside superclasses, and what it says of rounds and of two-hot labels.

The margin and the bound are derived: ridge on this Gram matrix shrinks a sample's own label by p and
its class's mean label by q > p a round, and superclass means are level when every class gives as it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.problem import FloatArray, IntArray


def superclass_noise(shares: Sequence[float], num_superclasses: int) -> FloatArray:
    """Return the noise matrix in which class k of a superclass becomes its next but j with probability shares[j].

    (1 - r, r/4, r/4, r/4, r/4) is superclass noise at rate r, (1 - r, r, 0, 0, 0) is pair-flip noise.
    """
    block = np.stack([np.roll(shares, k) for k in range(len(shares))])
    return np.kron(np.eye(num_superclasses), block)


def exact_labels(counts: Sequence[int], num_superclasses: int) -> tuple[IntArray, IntArray]:
    """Return true and given labels in which counts[j] samples of each class become its superclass's next but j."""
    group = len(counts)
    true = np.repeat(np.arange(group * num_superclasses), sum(counts))
    steps = np.tile(np.repeat(np.arange(group), counts), group * num_superclasses)
    return true, true // group * group + (true + steps) % group


def block_gram(true: IntArray, group: int, within: float, between: float) -> FloatArray:
    """Return P1's ideal Gram matrix: 1 with itself, ``within`` a class, ``between`` classes of a superclass, else 0."""
    same, near = true[:, None] == true, true[:, None] // group == true // group
    gram = np.where(same, within, np.where(near, between, 0.0))
    np.fill_diagonal(gram, 1.0)
    return gram


def shrinkage(per_class: int, within: float, between: float, penalty: float) -> tuple[float, float]:
    """Return p and q: what a round of ridge with this penalty leaves of a sample's own and of its class's part."""
    own = 1 - within
    shared = own + per_class * (within - between)
    return own / (own + penalty), shared / (shared + penalty)


def rounds_bound(matrix: FloatArray, p: float, q: float) -> float:
    """Return what t must pass to recover every wrong label: ln[1 + 1 / (C_kk - max C_kj)] / ln(q / p), worst class."""
    others = np.where(np.eye(len(matrix), dtype=bool), -np.inf, matrix).max(axis=1)
    margin = float((np.diag(matrix) - others).min())
    return float(np.log1p(1 / margin) / np.log(q / p)) if margin > 0 else np.inf


def two_hot_margin(matrix: FloatArray, p: float, q: float) -> float:
    """Return the student's least margin for the true class in the ideal model, (q - p) / 2 (1 - C_kk - max C_kj)."""
    return float((q - p) / 2 * (1 - np.sort(matrix, axis=1)[:, -2:].sum(axis=1)).min())
