"""Ranks flagged samples into a review queue under a budget, mixes in the audit slice, and estimates what the queue will find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.labels import BoolArray, FloatArray, IntArray

Z_90 = 1.645


@dataclass(frozen=True)
class Queue:
    """Samples in the order to look at them.

    Attributes:
        rows: Sample row of each place, int64, shape (Q,), first = look first, each row once.
        sources: Why each is in the queue, shape (Q,): `conflict_group`, `rare_class`, `ranked`
            or `random_audit`.
    """

    rows: IntArray
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Doubt:
    """How far an expected number of wrong labels may be off as a whole, relative to it.

    Attributes:
        least: Smallest expectation over the readings of a disagreement, as a factor, at most 1.
        most: Largest, at least 1.
        rate_error: Relative standard error of the estimated noise rate.
    """

    least: float
    most: float
    rate_error: float


CERTAIN = Doubt(1.0, 1.0, 0.0)


@dataclass(frozen=True)
class QueueEstimate:
    """What reviewing the queue should bring.

    Attributes:
        expected_errors: Expected number of wrong labels in the queue.
        low: Lower end of its 90 % interval.
        high: Upper end of its 90 % interval.
        expected_left: Expected number of wrong labels outside the queue.
        doubt: What the interval allows for beside chance.
    """

    expected_errors: float
    low: float
    high: float
    expected_left: float
    doubt: Doubt = CERTAIN


def build_queue(
    label_scores: FloatArray,
    is_label_issue: BoolArray,
    given: IntArray,
    *,
    conflict_sets: IntArray,
    is_settled: BoolArray,
    order: IntArray,
    budget: int | None,
    audit_share: float,
    class_floor: int,
    seed: int,
    audit_pool: IntArray | None = None,
) -> Queue:
    """Return the review queue: conflict groups first, then by label score, with a floor per class and a blind audit.

    Args:
        label_scores: Probability that the given label is right, shape (N,), low = suspicious.
        is_label_issue: Flagged samples, shape (N,).
        given: Given class, shape (N,).
        conflict_sets: Number of the near-duplicate set whose labels conflict, shape (N,), -1
            for samples in none.
        is_settled: Samples that must not come (verified earlier), shape (N,).
        order: Rank of each sample's id, shape (N,); breaks ties so that row order never matters.
        budget: Most places; None takes every flagged sample and conflict group.
        audit_share: Share of all places that is drawn at random from the rest, at least one
            when above zero.
        class_floor: Places kept for each given class's most doubtful samples, flagged or not
            conflicting, as far as the class has flagged samples.
        seed: Feeds the audit draw.
        audit_pool: Rows that the audit may draw from, where these samples are not the whole data set.

    Returns:
        The queue.
    """
    suspicion = np.lexsort((order, label_scores))
    suspicion = suspicion[~is_settled[suspicion]]
    flagged = suspicion[is_label_issue[suspicion]]
    conflicts = _conflicts_first(conflict_sets, label_scores, order)
    conflicts = conflicts[~is_settled[conflicts]]
    places, num_audit = _places(len(np.union1d(conflicts, flagged)), len(suspicion), budget, audit_share)
    conflicts = conflicts[:places]
    floor = _rare_first(flagged, given, class_floor)
    ranked = _without(_first_seen(floor, flagged, suspicion), conflicts)[: places - len(conflicts)]
    ranked = suspicion[np.isin(suspicion, ranked)]
    certain = flagged[: places - len(conflicts)]
    rest = _without(suspicion, np.concatenate([conflicts, ranked]))
    audit = _audit_draw(rest if audit_pool is None else rest[np.isin(rest, audit_pool)], order, num_audit, seed)
    source = np.full(len(given), "ranked", dtype=object)
    source[_without(ranked, certain)] = "rare_class"
    source[conflicts] = "conflict_group"
    source[audit] = "random_audit"
    rows = _spread(np.concatenate([conflicts, ranked]), audit)
    return Queue(rows, tuple(source[rows]))


def measure_doubt(
    label_scores: FloatArray,
    rows: IntArray,
    is_settled: BoolArray,
    reading_scores: FloatArray | None,
    total: float | None = None,
) -> Doubt:
    """Return how far the expected number of wrong labels in the queue may be off as a whole.

    Two things move all scores together, so that adding coins does not average them out. Labels alone cannot
    tell an ambiguous image from a wrong label: each reading of a disagreement gives its own number. And the
    noise rate was estimated from about as many errors as are expected in the whole data set, E, so it has a
    relative standard error of 1 / sqrt(E), as any count has.

    Args:
        label_scores: Probability that the given label is right, shape (N,).
        rows: Rows in the queue, shape (Q,).
        is_settled: Samples verified earlier, shape (N,); they count as right.
        reading_scores: The same probability in each reading, shape (R, N); None where only one is known.
        total: Expected number of wrong labels in the whole data set; default: among these samples.

    Returns:
        The doubt.

    Examples:
        >>> scores, readings = np.array([0.5, 0.5]), np.array([[0.6, 0.6], [0.5, 0.3]])
        >>> doubt = measure_doubt(scores, np.array([0, 1]), np.zeros(2, dtype=bool), readings)
        >>> round(doubt.least, 3), round(doubt.most, 3), doubt.rate_error
        (0.8, 1.2, 1.0)
    """
    wrong = _wrong_chance(label_scores, is_settled)
    expected, total = float(wrong[rows].sum()), float(wrong.sum()) if total is None else total
    rate_error = 1.0 / float(np.sqrt(max(total, 1.0)))
    if reading_scores is None or expected <= 0:
        return Doubt(1.0, 1.0, rate_error)
    ratios = [float(_wrong_chance(reading, is_settled)[rows].sum()) / expected for reading in reading_scores]
    return Doubt(min(1.0, *ratios), max(1.0, *ratios), rate_error)


def estimate_queue(
    label_scores: FloatArray,
    rows: IntArray,
    is_settled: BoolArray,
    doubt: Doubt = CERTAIN,
    total: float | None = None,
) -> QueueEstimate:
    """Return the expected number of wrong labels in and outside the queue.

    Given the scores, the number of wrong labels is a sum of independent coins (Poisson-binomial); the
    doubt moves all of them together. The interval is the normal approximation of both.

    Args:
        label_scores: Probability that the given label is right, shape (N,).
        rows: Rows in the queue, shape (Q,).
        is_settled: Samples verified earlier, shape (N,); they count as right.
        doubt: How far the scores may be off as a whole.
        total: Expected number of wrong labels in the whole data set; default: among these samples.

    Returns:
        Expectation, 90 % interval within 0..Q, and what is left behind.

    Examples:
        >>> estimate_queue(np.array([0.5, 0.5, 1.0]), np.array([0, 1]), np.zeros(3, dtype=bool)).expected_errors
        1.0
    """
    wrong = _wrong_chance(label_scores, is_settled)
    inside = wrong[rows]
    expected = float(inside.sum())
    variance = float((inside * (1 - inside)).sum()) + (doubt.rate_error * expected) ** 2
    spread = Z_90 * float(np.sqrt(variance))
    low, high = doubt.least * expected - spread, doubt.most * expected + spread
    left = (float(wrong.sum()) if total is None else total) - expected
    return QueueEstimate(expected, max(low, 0.0), min(high, float(len(rows))), left, doubt)


def _wrong_chance(scores: FloatArray, is_settled: BoolArray) -> FloatArray:
    return np.where(is_settled, 0.0, 1.0 - np.asarray(scores, dtype=np.float64))


def _places(wanted: int, available: int, budget: int | None, audit_share: float) -> tuple[int, int]:
    """Places for doubtful samples and for the audit slice."""
    if budget is None:
        num_audit = int(np.ceil(audit_share * wanted))
        return wanted, min(num_audit, available - wanted)
    total = min(budget, available)
    num_audit = min(int(np.ceil(audit_share * total)), max(total - 1, 0))
    return total - num_audit, num_audit


def _conflicts_first(sets: IntArray, scores: FloatArray, order: IntArray) -> IntArray:
    """Members of conflicting near-duplicate sets, set by set, the most doubtful set first."""
    members = np.flatnonzero(sets >= 0)
    if not len(members):
        return members
    worst = np.full(int(sets.max()) + 1, np.inf)
    np.minimum.at(worst, sets[members], scores[members])
    first = np.full(len(worst), len(order))
    np.minimum.at(first, sets[members], order[members])
    return members[np.lexsort((order[members], first[sets[members]], worst[sets[members]]))]


def _rare_first(flagged: IntArray, given: IntArray, floor: int) -> IntArray:
    """The first `floor` flagged samples of each given class."""
    kept = [flagged[given[flagged] == k][:floor] for k in np.unique(given)]
    return np.concatenate(kept)


def _first_seen(*lists: IntArray) -> IntArray:
    """All rows of the lists, each where it first stands."""
    rows = np.concatenate(lists)
    return rows[np.sort(np.unique(rows, return_index=True)[1])]


def _without(rows: IntArray, excluded: IntArray) -> IntArray:
    return rows[~np.isin(rows, excluded)]


def _audit_draw(pool: IntArray, order: IntArray, size: int, seed: int) -> IntArray:
    """Random rows of the pool, independent of the row order."""
    rows = pool[np.argsort(order[pool])]
    return np.random.default_rng(seed).permutation(rows)[:size]


def _spread(ranked: IntArray, audit: IntArray) -> IntArray:
    """Audit samples spread evenly over the queue, so that their place tells nothing."""
    at = np.linspace(0, len(ranked), num=len(audit) + 2)[1:-1].round().astype(np.int64)
    return np.insert(ranked, at, audit)
