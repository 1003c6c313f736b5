"""How well appraisers agree with themselves, with each other and with a standard, and what they let pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from labelclean.arrays import BoolArray, IntArray
from labelclean.review.facets import wilson_interval
from labelclean.review.kappas import Kappa, cohen_kappa, fleiss_kappa, one_or_other


@dataclass(frozen=True)
class Ratings:
    """What A appraisers said of N samples in up to T trials.

    Attributes:
        answers: Class of each answer, int64, shape (A, T, N): in [0, K); K for an answer that names no class (unsure, bad
            image, one of several); -1 where there is none.
        standard: Class that the samples are known to have, int64, shape (N,), -1 where it is not known.
        appraisers: Who, length A.
        sample_ids: Length N.
        class_names: The K class names in order.
        is_planned: All A x T x N answers were asked for. Of answers that happen to be there, everybody's first is compared
            with those of others and the standard.
    """

    answers: IntArray
    standard: IntArray
    appraisers: tuple[str, ...]
    sample_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    is_planned: bool = True


@dataclass(frozen=True)
class Rate:
    """A share with its interval.

    Attributes:
        num: Of how many.
        count: How many.
        low: Lower end of Wilson's 95 % interval of the share.
        high: Upper end.
    """

    num: int
    count: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Count over number."""
        return self.count / self.num


@dataclass(frozen=True)
class Agreement:
    """How often some answers to a sample are all the same.

    Attributes:
        matched: Samples on which all answers agree, of those that have all of them.
        cohen: Cohen's kappa, where two things are compared; None where it is not defined.
        fleiss: Fleiss' kappa, where several answers are; None where it is not defined.
        by_class: The same for each class alone, in class order: of the samples that the standard, or without one any of the
            answers, gives to the class, those on which all agree; None for a class that nobody named.
    """

    matched: Rate
    cohen: Kappa | None = None
    fleiss: Kappa | None = None
    by_class: tuple[Agreement | None, ...] = ()


@dataclass(frozen=True)
class Calls:
    """What one appraiser, or all, let pass and stopped, for the OK class.

    Attributes:
        effectiveness: Samples that were called OK or not OK rightly in every trial, of those with a standard.
        missed: Answers "OK" on samples that are not, of the answers to such samples; None without such samples.
        false_alarms: Answers of another class on OK samples, of the answers to those; None without OK samples.
    """

    effectiveness: Rate
    missed: Rate | None
    false_alarms: Rate | None


@dataclass(frozen=True)
class AgreementReport:
    """An attribute agreement study in numbers; each part is None where nothing can be compared.

    Attributes:
        within: Each appraiser with their own other trials.
        between: All appraisers with each other.
        pairs: Each two of them, by their places; over the samples that both answered.
        against: Each appraiser with the standard.
        all_against: All appraisers with the standard.
        calls: Each appraiser's misses and false alarms; empty without an OK class.
        all_calls: Of all together.
        num_missing: Answers that are not there, of all that the study asks for.
        disputed: Samples on which answers differ from each other or from the standard, most first, int64.
    """

    within: tuple[Agreement | None, ...]
    between: Agreement | None
    pairs: dict[tuple[int, int], Agreement | None]
    against: tuple[Agreement | None, ...]
    all_against: Agreement | None
    calls: tuple[Calls | None, ...]
    all_calls: Calls | None
    num_missing: int
    disputed: IntArray = field(repr=False)


def measure_agreement(ratings: Ratings, ok: str | None = None) -> AgreementReport:
    """Return how well appraisers agree.

    A sample counts for a comparison if every answer that it takes is there. Intervals count samples and not answers, for
    several looks at one picture tell less than looks at several.

    Args:
        ratings: The answers.
        ok: The class of parts without a defect; None for no misses and false alarms.

    Returns:
        The report.

    Raises:
        ValueError: If ``ok`` is no class.
        ConfigError: If statsmodels is not installed.
    """
    answers, standard, num_classes = ratings.answers, ratings.standard, len(ratings.class_names)
    looks = answers if ratings.is_planned else answers[:, :1]
    everyone = looks.reshape(-1, looks.shape[2])
    pairs = {(a, b): _between_two(looks[a], looks[b], num_classes) for a, b in combinations(range(len(looks)), 2)}
    callings: list[Calls | None] = []
    if ok is not None:
        place = ratings.class_names.index(ok)
        callings = [_calls(some, standard, place, num_classes) for some in (*looks, everyone)]
    return AgreementReport(
        within=tuple(_among(own, num_classes) for own in answers),
        between=_among(everyone, num_classes) if len(answers) > 1 else None,
        pairs=pairs,
        against=tuple(_against(own, standard, num_classes) for own in looks),
        all_against=_against(everyone, standard, num_classes),
        calls=tuple(callings[:-1]),
        all_calls=callings[-1] if callings else None,
        num_missing=int((answers < 0).sum()) if ratings.is_planned else 0,
        disputed=_disputed(everyone, standard),
    )


def measure_confusions(ratings: Ratings) -> IntArray:
    """Return how often each appraiser gave each class to samples of each true class.

    Args:
        ratings: The answers.

    Returns:
        Counts over all trials, int64, shape (A, K, K): appraiser, class of the standard, class given. Answers without a
        class, and samples without a standard, are left out.
    """
    num_classes = len(ratings.class_names)
    counts = np.zeros((len(ratings.appraisers), num_classes, num_classes), dtype=np.int64)
    counted = (ratings.answers >= 0) & (ratings.answers < num_classes) & (ratings.standard >= 0)
    who, _, samples = np.nonzero(counted)
    np.add.at(counts, (who, ratings.standard[samples], ratings.answers[counted]), 1)
    return counts


def rate(count: int, num: int, num_samples: int | None = None) -> Rate:
    """Return a share with Wilson's interval.

    Args:
        count: How many.
        num: Of how many, at least 1.
        num_samples: Samples that they are about, where several are about one; default: ``num``.

    Returns:
        The rate.

    Examples:
        >>> rate(45, 50).share, [round(end, 3) for end in (rate(45, 50).low, rate(45, 50).high)]
        (0.9, [0.786, 0.957])
    """
    size = num_samples or num
    return Rate(num, count, *wilson_interval(count / num * size, size))


# --- inside ---------------------------------------------------------------------------------------


def _among(answers: IntArray, num_classes: int) -> Agreement | None:
    """Several answers with each other, shape (R, N); rows without any answer are left out."""
    answers = answers[(answers >= 0).any(axis=1)]
    answers = answers[:, (answers >= 0).all(axis=0)]
    if len(answers) < 2 or not answers.shape[1]:
        return None
    first, second = answers[:1], answers[1:]
    return Agreement(
        matched=_matched((answers == first).all(axis=0)),
        cohen=cohen_kappa(first, second, num_classes + 1) if len(second) == 1 else None,
        fleiss=fleiss_kappa(answers, num_classes + 1),
        by_class=tuple(_among_of(answers, label) for label in range(num_classes)),
    )


def _among_of(answers: IntArray, label: int) -> Agreement | None:
    ones = one_or_other(answers, label)
    if not ones.any():
        return None
    cohen = cohen_kappa(ones[:1], ones[1:], 2) if len(ones) == 2 else None
    return Agreement(_all_named(ones), cohen, fleiss_kappa(ones, 2))


def _between_two(first: IntArray, second: IntArray, num_classes: int) -> Agreement | None:
    """Two appraisers, trial by trial: shape (T, N) each; over the trials that both have had."""
    had: BoolArray = np.asarray(((first >= 0) & (second >= 0)).any(axis=1))
    first, second = first[had], second[had]
    both = ((first >= 0) & (second >= 0)).all(axis=0)
    first, second = first[:, both], second[:, both]
    if not first.size:
        return None
    everything = np.concatenate([first, second])
    return Agreement(
        _matched((everything == everything[0]).all(axis=0)),
        cohen_kappa(first, second, num_classes + 1),
        by_class=tuple(_pair_of(first, second, label) for label in range(num_classes)),
    )


def _pair_of(first: IntArray, second: IntArray, label: int) -> Agreement | None:
    one, other = one_or_other(first, label), one_or_other(second, label)
    both = np.concatenate([one, other])
    return Agreement(_all_named(both), cohen_kappa(one, other, 2)) if both.any() else None


def _against(answers: IntArray, standard: IntArray, num_classes: int) -> Agreement | None:
    """Several answers, shape (R, N), with the standard: Cohen's kappa over the answers, each beside the standard."""
    answers = answers[(answers >= 0).any(axis=1)]
    counted = (answers >= 0).all(axis=0) & (standard >= 0)
    answers, standard = answers[:, counted], standard[counted]
    if not answers.size:
        return None
    right = answers == standard
    truth = np.broadcast_to(standard, answers.shape)
    return Agreement(
        _matched(right.all(axis=0)),
        cohen_kappa(answers, truth, num_classes + 1),
        by_class=tuple(_against_of(answers, truth, label) for label in range(num_classes)),
    )


def _against_of(answers: IntArray, truth: IntArray, label: int) -> Agreement | None:
    ours = truth[0] == label
    if not ours.any():
        return None
    kappa = cohen_kappa(one_or_other(answers, label), one_or_other(truth, label), 2)
    return Agreement(_matched((answers == label).all(axis=0)[ours]), kappa)


def _calls(answers: IntArray, standard: IntArray, ok: int, num_classes: int) -> Calls | None:
    """What some answers, shape (R, N), make of OK samples and of others; an answer without a class is neither call."""
    answers = answers[(answers >= 0).any(axis=1)]
    counted = (answers >= 0).all(axis=0) & (standard >= 0)
    answers, is_ok = answers[:, counted], standard[counted] == ok
    if not answers.size:
        return None
    passed = answers == ok
    stopped = ~passed & (answers < num_classes)
    return Calls(
        effectiveness=_matched(np.where(is_ok, passed, stopped).all(axis=0)),
        missed=_share_of(passed[:, ~is_ok]),
        false_alarms=_share_of(stopped[:, is_ok]),
    )


def _share_of(calls: BoolArray) -> Rate | None:
    return rate(int(calls.sum()), calls.size, calls.shape[1]) if calls.size else None


def _all_named(ones: IntArray) -> Rate:
    """Samples that all answers give to a class, of those that any does; shape (R, N), 1 for the class."""
    named = ones.sum(axis=0)
    return rate(int((named == len(ones)).sum()), int((named > 0).sum()))


def _matched(same: BoolArray) -> Rate:
    return rate(int(same.sum()), len(same))


def _disputed(answers: IntArray, standard: IntArray) -> IntArray:
    """Samples by how many of their answers differ from the standard, or from the most frequent answer without one."""
    differing = np.array(
        [_num_differing(answers[:, n], int(standard[n])) for n in range(answers.shape[1])], dtype=np.int64
    )
    order = np.argsort(-differing, kind="stable")
    return np.asarray(order[: np.count_nonzero(differing)], dtype=np.int64)


def _num_differing(answers: IntArray, standard: int) -> int:
    given = answers[answers >= 0]
    if not len(given):
        return 0
    return int((given != standard).sum()) if standard >= 0 else int(len(given) - np.bincount(given).max())
