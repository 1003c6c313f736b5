"""How inspectors agree with each other, and where each of them differs: which classes, which line, which shift, when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelclean.arrays import IntArray
from labelclean.review.facets import Facet, TimeArray, group_facet, time_facet
from labelclean.storage.samples import pair_agreement

LEAST_LABELS = 20
MAX_INSPECTORS = 40


@dataclass(frozen=True)
class Opinions:
    """Single labels by single inspectors, L of them on N samples.

    Attributes:
        rows: Sample row of each label, int64, shape (L,), in [0, N).
        inspectors: Inspector of each label, int64, shape (L,), an index into ``names``.
        labels: Class of each label, int64, shape (L,), in [0, K).
        names: The inspectors.
        groups: Column name -> index of each label's value, shape (L,), and the values (None for missing).
        times: When each label's image was taken, shape (L,), NaT where not known; None without such a column.
    """

    rows: IntArray
    inspectors: IntArray
    labels: IntArray
    names: tuple[str, ...]
    groups: Mapping[str, tuple[IntArray, Sequence[str | None]]]
    times: TimeArray | None


@dataclass(frozen=True)
class Inspector:
    """One inspector.

    Attributes:
        name: Who.
        num: Labels that could be compared.
        differing: How many of them differ from what they are compared with, in labels, may be fractional.
        confusion: Row = what it is compared with, column = what this inspector said, float64, shape (K, K).
        drift: Share that differs by line, by shift and over time, where the columns exist and there are 20 labels.
    """

    name: str
    num: int
    differing: float
    confusion: npt.NDArray[np.float64]
    drift: tuple[Facet, ...]


@dataclass(frozen=True)
class InspectorReport:
    """What is known of several inspectors.

    Attributes:
        num_shared: Samples that more than one of them labelled.
        num_disputed: Of these, samples whose labels differ.
        agreement: Mean over these samples of the share of pairs that agree, or None without any.
        against: All inspectors side by side: share that differs from what they are compared with; None if there is one.
        inspectors: Most labels first, at most 40.
    """

    num_shared: int
    num_disputed: int
    agreement: float | None
    against: Facet | None
    inspectors: tuple[Inspector, ...]


def measure_inspectors(
    opinions: Opinions, num_samples: int, num_classes: int, suggested: IntArray | None = None
) -> InspectorReport:
    """Return how inspectors agree, whom each contradicts, and where.

    Args:
        opinions: The labels.
        num_samples: N.
        num_classes: K.
        suggested: Class that the run suggests for each sample, int64, shape (N,): every label is
            compared with it. None: every label is compared with those of the other inspectors of
            the same sample, and labels that stand alone are left out.

    Returns:
        The report.
    """
    votes = np.zeros((num_samples, num_classes))
    np.add.at(votes, (opinions.rows, opinions.labels), 1.0)
    agreement = pair_agreement(votes)
    shared = ~np.isnan(agreement)
    compared = _compared_with(opinions, votes, suggested)
    is_compared: npt.NDArray[np.bool_] = np.asarray(compared.any(axis=1))
    compared, labels, who = compared[is_compared], opinions.labels[is_compared], opinions.inspectors[is_compared]
    differing = 1.0 - compared[np.arange(len(labels)), labels]
    groups = {name: (codes[is_compared], values) for name, (codes, values) in opinions.groups.items()}
    times = None if opinions.times is None else opinions.times[is_compared]
    nums = np.bincount(who, minlength=len(opinions.names))
    order = [one for one in np.lexsort((np.arange(len(nums)), -nums)).tolist() if nums[one]]
    measured = []
    for one in order[:MAX_INSPECTORS]:
        mine = who == one
        confusion = np.zeros((num_classes, num_classes))
        np.add.at(confusion.T, labels[mine], compared[mine])
        drift = _drift(groups, times, mine, differing) if mine.sum() >= LEAST_LABELS else ()
        measured.append(Inspector(opinions.names[one], int(mine.sum()), float(differing[mine].sum()), confusion, drift))
    return InspectorReport(
        num_shared=int(shared.sum()),
        num_disputed=int((agreement[shared] < 1).sum()),
        agreement=float(agreement[shared].mean()) if shared.any() else None,
        against=group_facet("annotator_id", who, opinions.names, differing, is_inspectors=True),
        inspectors=tuple(measured),
    )


def _compared_with(
    opinions: Opinions, votes: npt.NDArray[np.float64], suggested: IntArray | None
) -> npt.NDArray[np.float64]:
    """Shares of the classes that each label is compared with, shape (L, K); zero rows where there is nothing."""
    if suggested is not None:
        return np.asarray(np.eye(votes.shape[1])[suggested[opinions.rows]])
    others = votes[opinions.rows]
    others[np.arange(len(others)), opinions.labels] -= 1
    return np.asarray(others / np.maximum(others.sum(axis=1, keepdims=True), 1))


def _drift(
    groups: Mapping[str, tuple[IntArray, Sequence[str | None]]],
    times: TimeArray | None,
    mine: npt.NDArray[np.bool_],
    differing: npt.NDArray[np.float64],
) -> tuple[Facet, ...]:
    facets = [group_facet(name, codes[mine], values, differing[mine]) for name, (codes, values) in groups.items()]
    facets.append(None if times is None else time_facet("captured_at", times[mine], differing[mine]))
    return tuple(facet for facet in facets if facet is not None)
