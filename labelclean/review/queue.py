"""Draws the audit, ranks flagged samples into a review queue under a budget, and estimates what the queue will find."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, FloatArray, IntArray

Z_90 = 1.645
MOST_COMPARED = 20  # near-duplicates with conflicting labels that people look at side by side


@dataclass(frozen=True)
class Audit:
    """Samples drawn at random from all that nobody has settled, whatever the run thinks of them.

    Attributes:
        rows: Their rows in the order of the draw, int64, shape (A,).
        inclusion_probability: Samples drawn / samples that could be, 0..1.
    """

    rows: IntArray
    inclusion_probability: float


@dataclass(frozen=True)
class Candidates:
    """Samples of which some will stand in the queue; row i of each array is sample i.

    Attributes:
        label_scores: Probability that the given label is right, shape (N,), low = suspicious.
        is_label_issue: Flagged samples, shape (N,).
        given: Given class, shape (N,).
        conflict_sets: Number of the near-duplicate set whose labels conflict, shape (N,), -1 for samples in none.
        is_settled: Samples that must not come (verified earlier, or shown as a copy), shape (N,).
        order: Rank of each sample's id, shape (N,); breaks ties so that row order never matters.
    """

    label_scores: FloatArray
    is_label_issue: BoolArray
    given: IntArray
    conflict_sets: IntArray
    is_settled: BoolArray
    order: IntArray


@dataclass(frozen=True)
class Queue:
    """Samples in the order to look at them.

    Attributes:
        rows: Sample row of each place, int64, shape (Q,), first = look first, each row once.
        sources: Why each is in the queue, shape (Q,): `unusable`, `conflict_group`, `rare_class`, `ranked`
            or `random_audit`.
        inclusion_probabilities: With which probability each was drawn for the audit, float32, shape (Q,), 0..1, NaN
            where it was not drawn.
    """

    rows: IntArray
    sources: tuple[str, ...]
    inclusion_probabilities: npt.NDArray[np.float32]


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


def looks_to_draw(audit_samples: int, num_looks: float) -> int:
    """Return how many random looks are missing.

    Args:
        audit_samples: Looks wanted.
        num_looks: Looks that the run rests on already; old ones count for less.

    Returns:
        At least 0.

    Examples:
        >>> looks_to_draw(30, 24.6), looks_to_draw(30, 41.0)
        (5, 0)
    """
    return max(audit_samples - round(num_looks), 0)


def audit_size(audit_samples: int, num_unsettled: int, places: int | None) -> int:
    """Return how many samples the audit draws: at most half of the places, where these are limited.

    Args:
        audit_samples: Samples wanted.
        num_unsettled: Samples that nobody has settled.
        places: Most samples in the queue, or None.

    Returns:
        At most ``num_unsettled``.

    Examples:
        >>> audit_size(30, 1_000, None), audit_size(30, 20, None), audit_size(30, 1_000, 51), audit_size(30, 1_000, 1)
        (30, 20, 25, 0)
    """
    return min(audit_samples, num_unsettled, num_unsettled if places is None else places // 2)


def unusable_places(share: float, places: int) -> int:
    """Return the most places for pictures that look unusable.

    Args:
        share: `review.unusable_share`.
        places: Most samples in the queue, or all samples where nothing limits it.

    Returns:
        At least 1 where the share is above 0.

    Examples:
        >>> unusable_places(0.05, 1_344), unusable_places(0.05, 10), unusable_places(0.0, 10)
        (68, 1, 0)
    """
    return int(np.ceil(share * places))


def audit_salt(seed: int, num_samples: int, num_unsettled: int) -> str:
    """Return what stands before a sample's id when the audit is drawn by a hash of both.

    The counts make each night's draw a new one: with the same order of the ids every night, samples
    that came later would be drawn before those that earlier nights passed over.

    Args:
        seed: Any integer.
        num_samples: N.
        num_unsettled: Samples that nobody has settled.

    Returns:
        The salt.
    """
    return f"{seed}/audit/{num_samples}/{num_unsettled}/"


def audit_order(sample_ids: Sequence[str], salt: str) -> IntArray:
    """Return the order in which samples are drawn, by a hash of their ids: whatever their rows and scores are.

    Args:
        sample_ids: Their ids, length N, each once.
        salt: From `audit_salt`.

    Returns:
        Rows, int64, shape (N,), first = drawn first.
    """
    digests = b"".join(
        hashlib.md5((salt + sample).encode(), usedforsecurity=False).digest() for sample in sample_ids
    )  # MD5 because DuckDB knows it too
    return np.argsort(np.frombuffer(digests, dtype="S16"), kind="stable")


def repeated_images(conflict_sets: IntArray, images: IntArray, label_scores: FloatArray, order: IntArray) -> BoolArray:
    """Return the samples that need no look because another of their conflict set shows the same image.

    People decide an image once: of copies of a file, the first by its id is shown. Of near-duplicates people compare up to
    20; a set of more is one picture that stands for many, a black one or a placeholder, and is shown once.

    Args:
        conflict_sets: Number of the near-duplicate set whose labels conflict, shape (N,), -1 for samples in none.
        images: Number of each sample's image, int64, shape (N,), equal for copies.
        label_scores: Probability that the given label is right, shape (N,), low = suspicious.
        order: Rank of each sample's id, shape (N,).

    Returns:
        bool, shape (N,).

    Examples:
        >>> repeated_images(np.array([0, 0, 0, -1]), np.array([5, 5, 6, 7]), np.array([0.9, 0.2, 0.4, 0.1]), np.arange(4))
        array([False,  True, False, False])
    """
    rows = _conflicts_first(conflict_sets, label_scores, order)
    sets = conflict_sets[rows]
    shown = np.where(np.bincount(sets, minlength=1)[sets] > MOST_COMPARED, -1 - sets, images[rows])
    is_repeated = np.zeros(len(images), dtype=bool)
    is_repeated[rows] = True
    is_repeated[rows[np.unique(shown, return_index=True)[1]]] = False
    return is_repeated


def build_queue(
    candidates: Candidates, audit: Audit, *, budget: int | None, class_floor: int, unusable: IntArray | None = None
) -> Queue:
    """Return the review queue: unusable pictures, conflict groups, then by label score, with a floor per class and the audit.

    A sample that was drawn for the audit stands in the queue once, as `random_audit`, however suspicious it is.

    Args:
        candidates: N samples.
        audit: Samples drawn before anything was ranked, none of them settled; they are spread over the queue.
        budget: Most places; None takes every flagged sample, every conflict group and the audit.
        class_floor: Places kept for each given class's most doubtful samples, flagged or not
            conflicting, as far as the class has flagged samples.
        unusable: Rows whose pictures look unusable, not more than may take places, int64, the oddest first; None: none.

    Returns:
        The queue.
    """
    label_scores, given, order = candidates.label_scores, candidates.given, candidates.order
    is_settled = candidates.is_settled
    odd = np.empty(0, np.int64) if unusable is None else _without(unusable[~is_settled[unusable]], audit.rows)
    conflicts = _conflicts_first(candidates.conflict_sets, label_scores, order)
    suspicion = np.lexsort((order, label_scores))
    suspicion = _without(suspicion[~is_settled[suspicion]], audit.rows)
    flagged = suspicion[candidates.is_label_issue[suspicion]]
    conflicts = _without(conflicts[~is_settled[conflicts]], audit.rows)
    places = len(_first_seen(odd, conflicts, flagged)) if budget is None else max(budget - len(audit.rows), 0)
    first = _first_seen(odd, conflicts)[:places]
    floor = _rare_first(flagged, given, class_floor)
    ranked = _without(_first_seen(floor, flagged, suspicion), first)[: places - len(first)]
    ranked = suspicion[np.isin(suspicion, ranked)]
    certain = _without(flagged, odd)[: places - len(first)]
    source = np.full(len(given), "ranked", dtype=object)
    source[_without(ranked, certain)] = "rare_class"
    source[conflicts] = "conflict_group"
    source[odd] = "unusable"
    source[audit.rows] = "random_audit"
    probabilities = np.full(len(given), np.nan, dtype=np.float32)
    probabilities[audit.rows] = audit.inclusion_probability
    rows = _spread(np.concatenate([first, ranked]), audit.rows)
    return Queue(rows, tuple(source[rows]), probabilities[rows])


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
    first = [flagged[given[flagged] == k][:floor] for k in np.unique(given)]
    return np.concatenate(first)


def _first_seen(*lists: IntArray) -> IntArray:
    """All rows of the lists, each where it first stands."""
    rows = np.concatenate(lists)
    return rows[np.sort(np.unique(rows, return_index=True)[1])]


def _without(rows: IntArray, excluded: IntArray) -> IntArray:
    return rows[~np.isin(rows, excluded)]


def _spread(ranked: IntArray, audit: IntArray) -> IntArray:
    """Audit samples spread evenly over the queue, so that their place tells nothing."""
    at = np.linspace(0, len(ranked), num=len(audit) + 2)[1:-1].round().astype(np.int64)
    return np.insert(ranked, at, audit)
