"""Whether features are taken as they are or as their roots: a label-only choice before anything else is learned.

Pooled activations of a network are skewed: few large numbers lead every product. Tukey's ladder of powers (1977) makes
them even; the root is the usual rung for such counts. Which is better depends on backbone and parts, so the given labels decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from labelclean.arrays import FloatArray, IntArray
from labelclean.cleaning.experts import Candidate, judging_rows, most_likely, penalties_of
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.noise.targets import given_targets
from labelclean.probes.feature_space import SampleKeys
from labelclean.probes.held_out import HeldOut, hold_out
from labelclean.probes.sums import centred_unit_rows, feature_mean

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
    features: FloatArray, keys: SampleKeys, questions: Sequence[GivenLabels], config: CleaningConfig
) -> float:
    """Return the power under which ridge probes make the given labels likeliest.

    Judged on up to 2,000 samples, each scored by a probe that did not see its group, under the noise model of
    `experts.most_likely`. No truth is looked at.

    Args:
        features: Raw features, float, shape (N, D).
        keys: Keys of the N samples.
        questions: Given labels; of samples with several labels each, one yes or no for every class.
        config: `teacher.power` fixes the power; `teacher.lambdas` is read.

    Returns:
        1 or 0.5, or what the configuration says; 1 where there are fewer than two groups.
    """
    if config.teacher.power != "auto":
        return config.teacher.power
    rows = np.sort(keys.order[:CHOICE_ROWS])
    chosen, answers = keys.take(rows), [labels.take(rows) for labels in questions]
    if np.ptp(chosen.groups) == 0:
        return 1.0
    return max(POWERS, key=lambda power: _log_likelihood(powered(features[rows], power), chosen, answers, config))


def _log_likelihood(
    features: FloatArray, keys: SampleKeys, questions: Sequence[GivenLabels], config: CleaningConfig
) -> float:
    """Mean log-probability of the given labels under the likeliest penalty of each question, nats."""
    unit_rows = centred_unit_rows(features, feature_mean(features))
    held = hold_out(unit_rows, keys.groups, np.float32)
    judges = judging_rows(keys.order, sum(labels.num_classes for labels in questions))
    return sum(_likeliest(held, labels, judges, config) for labels in questions)


def _likeliest(held: HeldOut, labels: GivenLabels, judges: IntArray, config: CleaningConfig) -> float:
    targets = given_targets(labels)
    cross = held.cross(targets)
    candidates = [
        Candidate("ridge", penalty, partial(held.scores, targets, penalty, cross=cross), None)
        for penalty in penalties_of(config, labels.num_classes)
    ]
    return most_likely(candidates, judges, labels).log_likelihood
