"""Whether features are taken as they are or as their roots: a label-only choice before anything else is learned.

Pooled activations of a network are skewed: few large numbers lead every product. Tukey's ladder of powers (1977) makes
them even; the root is the usual rung for such counts. Which is better depends on backbone and parts, so the given labels decide.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np

from labelclean.arrays import FloatArray, IntArray
from labelclean.cleaning.views import PENALTIES, most_likely
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.noise.targets import given_targets
from labelclean.probes.held_out import hold_out
from labelclean.probes.sums import centred_unit_rows, feature_mean, hashed_parts

POWERS = (1.0, 0.5)
CHOICE_ROWS = 2_000


def powered(features: FloatArray, power: float) -> FloatArray:
    """Return sign(x) |x|^power.

    Args:
        features: float, shape (N, D).
        power: In (0, 1]; 1 gives the features themselves.

    Returns:
        float, shape (N, D).

    Examples:
        >>> powered(np.array([[4.0, -9.0]]), 0.5)
        array([[ 2., -3.]])
    """
    if power == 1.0:
        return features
    roots = np.abs(np.asarray(features, dtype=np.result_type(features, np.float32)))
    np.power(roots, power, out=roots)
    return np.asarray(np.copysign(roots, features, out=roots))


def choose_power(
    features: FloatArray,
    sample_ids: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    labels: GivenLabels,
    config: CleaningConfig,
    *,
    seed: int,
) -> float:
    """Return the power under which a ridge probe makes the given labels likeliest.

    Judged on up to 2,000 samples, each scored by a probe that did not see its group, under the noise model of
    `views.ridge_view`. No truth is looked at.

    Args:
        features: Raw features, float, shape (N, D).
        sample_ids: Id of each sample, length N.
        groups: Group of each sample, length N, or None.
        labels: Given labels.
        config: `teacher.power` fixes the power; `teacher.lambdas` is read.
        seed: Salts the hash that chooses the samples.

    Returns:
        1 or 0.5, or what the configuration says; 1 where there are fewer than two groups.
    """
    if config.teacher.power != "auto":
        return config.teacher.power
    lots = hashed_parts(list(sample_ids), 2**62, seed=seed, purpose="selection")
    rows = np.sort(np.argsort(lots, kind="stable")[:CHOICE_ROWS])
    together = _numbers(sample_ids if groups is None else groups, rows)
    if together.max(initial=0) < 1:
        return 1.0
    some = labels.take(rows)
    order = np.argsort(lots[rows], kind="stable")
    return max(POWERS, key=lambda power: _log_likelihood(powered(features[rows], power), together, order, some, config))


def _log_likelihood(
    features: FloatArray, groups: IntArray, order: IntArray, labels: GivenLabels, config: CleaningConfig
) -> float:
    """Mean log-probability of a given label under the likeliest penalty, nats."""
    unit_rows = centred_unit_rows(features, feature_mean(features))
    held, targets = hold_out(unit_rows, groups), given_targets(labels)
    penalties = [labels.num_classes * value for value in config.teacher.lambdas or PENALTIES]
    cross = held.cross(targets)
    candidates = [("ridge", penalty, partial(held.scores, targets, penalty, cross=cross)) for penalty in penalties]
    return most_likely(candidates, order, labels).log_likelihood


def _numbers(keys: Sequence[Hashable], rows: IntArray) -> IntArray:
    """The keys of some rows as numbers."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(keys[row], len(first)) for row in rows.tolist()], dtype=np.int64)
