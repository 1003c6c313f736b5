"""Agreement beyond chance: Cohen's and Fleiss' kappa by statsmodels (its one home), with intervals over samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelclean.arrays import IntArray
from labelclean.errors import ConfigError
from labelclean.review.facets import wilson_interval

_NO_DISSENT = 1.0 - 1e-12


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance: 1 where nobody disagrees, 0 for what chance alone brings.

    Attributes:
        value: Kappa, in [-1, 1].
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def fleiss_kappa(answers: IntArray, num_classes: int) -> Kappa | None:
    """Return Fleiss' kappa of several answers to each sample (Fleiss 1971 [20]).

    Args:
        answers: R answers to each of N samples, int64, shape (R, N), in [0, K).
        num_classes: K.

    Returns:
        Kappa with its interval; None with fewer than two answers or samples, or where all name one class.

    Raises:
        ConfigError: If statsmodels is not installed.
    """
    if len(answers) < 2:
        return None
    kappa_of = _statsmodels().fleiss_kappa
    counts = np.stack([(answers == k).sum(axis=0) for k in range(num_classes)], axis=1)

    def value(kept: IntArray) -> float:
        return float(kappa_of(kept)) if np.count_nonzero(kept.sum(axis=0)) > 1 else 1.0

    return _with_interval(counts, value, counts.sum(axis=0))


def cohen_kappa(first: IntArray, second: IntArray, num_classes: int) -> Kappa | None:
    """Return Cohen's kappa of pairs of answers (Cohen 1960 [19]).

    Args:
        first: One answer of each of P pairs on each of N samples, int64, shape (P, N), in [0, K).
        second: The other answers, of the same shape.
        num_classes: K.

    Returns:
        Kappa with its interval; None without a pair, with fewer than two samples, or where all name one class.

    Raises:
        ConfigError: If statsmodels is not installed.
    """
    if not len(first):
        return None
    kappa_of = _statsmodels().cohens_kappa
    pairs, num_cells = first * num_classes + second, num_classes * num_classes
    counts = np.stack([(pairs == cell).sum(axis=0) for cell in range(num_cells)], axis=1)

    def value(kept: IntArray) -> float:
        table = kept.sum(axis=0).reshape(num_classes, num_classes)
        return 1.0 if table.max() == np.trace(table) == table.sum() else float(kappa_of(table, return_results=False))

    table = counts.sum(axis=0).reshape(num_classes, num_classes)
    return _with_interval(counts, value, table.sum(axis=0) + table.sum(axis=1))


def one_or_other(answers: IntArray, label: int) -> IntArray:
    """Return answers as 1 for a class and 0 for any other: their kappa is the kappa of the class.

    Args:
        answers: Classes, int64, any shape.
        label: The class.

    Returns:
        int64, of the same shape.

    Examples:
        >>> one_or_other(np.array([0, 2, 1]), 2)
        array([0, 1, 0])
    """
    return np.asarray(answers == label, dtype=np.int64)


# --- inside ---------------------------------------------------------------------------------------


def _with_interval(counts: IntArray, value_of: Callable[[IntArray], float], named: IntArray) -> Kappa | None:
    """A kappa with the interval of the delete-one jackknife over samples (Fleiss and Davies 1982 [21]).

    statsmodels has no interval for Fleiss' kappa, and its interval for Cohen's takes every answer as a sample of its
    own; two looks at one picture tell less than looks at two. So a sample goes with all of its answers. ``counts``,
    shape (N, cells), holds one row per sample; samples with the same row need one left-out value.
    """
    num = len(counts)
    if num < 2 or np.count_nonzero(named) < 2:
        return None
    value = value_of(counts)
    if value > _NO_DISSENT:  # nothing varies; what may be missed is what Wilson's interval of the agreement leaves open
        chance = float(((named / named.sum()) ** 2).sum())
        return Kappa(1.0, (wilson_interval(num, num)[0] - chance) / (1.0 - chance), 1.0)
    _, rows, times = np.unique(counts, axis=0, return_index=True, return_counts=True)
    left = np.array([value_of(np.delete(counts, row, axis=0)) for row in rows])
    spread = float((times * (left - (left * times).sum() / num) ** 2).sum())
    half = _t_quantile(num - 1) * float(np.sqrt((num - 1) / num * spread))
    return Kappa(value, max(value - half, -1.0), min(value + half, 1.0))


def _t_quantile(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


def _statsmodels() -> Any:
    try:
        from statsmodels.stats import inter_rater
    except ImportError:
        raise ConfigError(
            "study report: kappas need the package statsmodels, which is not installed. pip install 'labelclean[study]'."
        ) from None
    return inter_rater
