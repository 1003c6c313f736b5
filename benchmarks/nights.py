"""The review loop without images and people: an oracle answers what each night asks, and estimates meet the truth."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.data import DataSet, noisy_labels, real_features
from labelclean.cleaning.student import Refinement, refine_labels
from labelclean.cleaning.teacher import fit_teacher
from labelclean.config import Config
from labelclean.labels import GivenLabels, given_labels
from labelclean.probes.feature_space import FeatureSpace, build_feature_space
from labelclean.probes.neighbours import conflict_sets
from labelclean.review.decisions import Decision, measure_standing, reviewed_labels, standing_decisions
from labelclean.review.queue import (
    Audit,
    Candidates,
    Queue,
    QueueEstimate,
    audit_order,
    audit_salt,
    audit_size,
    build_queue,
    estimate_queue,
    looks_to_draw,
    measure_doubt,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

NIGHTS = 5
PER_NIGHT = 50
PENALTIES = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Handover:
    """What a factory hands over, and the truth that only the oracle knows.

    Attributes:
        name: Its name.
        features: float32, shape (N, D).
        given: Given classes, int64, shape (N,).
        true: True classes, int64, shape (N,).
    """

    name: str
    features: npt.NDArray[np.float32]
    given: IntArray
    true: IntArray

    @property
    def num_classes(self) -> int:
        """K."""
        return int(max(self.given.max(), self.true.max())) + 1


class Night(NamedTuple):
    """Where a review stands after some nights: shares of right labels, by decisions alone and by the tool's suggestion."""

    data: str
    order: str
    seed: int
    night: int
    num_reviewed: int
    num_found: int
    by_decisions: float
    by_suggestion: float


class Promise(NamedTuple):
    """What one queue promised and what it held; the interval has 90 %."""

    data: str
    kind: str
    seed: int
    queue: str
    num: int
    expected: float
    low: float
    high: float
    wrong: int
    expected_left: float
    wrong_left: int


def handed_over(name: str, cache: Path) -> Handover:
    """Return a shared set with the labels that were handed over.

    Args:
        name: Folder below ``LABELCLEAN_REAL_DATA/datasets``.
        cache: labelclean's feature store.

    Returns:
        Rows in the order of the ids.
    """
    import pandas as pd

    root = Path(os.environ["LABELCLEAN_REAL_DATA"]) / "datasets"
    features, true = real_features(name, cache)
    truth = pd.read_parquet(root / "truth" / f"{name}.parquet")
    frame = pd.read_parquet(root / name / "labels.parquet").merge(truth, on="sample_id").sort_values("sample_id")
    names = np.unique(frame.true_label.to_numpy(dtype=str))
    return Handover(name, features, np.searchsorted(names, frame.given_label.to_numpy(dtype=str)), true)


def settings(*, seed: int, budget: int | None, audit_samples: int = 30) -> Config:
    """Return the defaults with a budget; the paths lead nowhere and are not used."""
    return Config.model_validate(
        {
            "data": {"labels": "/none"},
            "backbone": {"name": "none"},
            "run": {"seed": seed},
            "storage": {"runs": "/none", "cache": "/none"},
            "review": {"budget": budget, "audit_samples": audit_samples},
        }
    )


def clean(
    space: FeatureSpace, labels: GivenLabels, is_settled: BoolArray, *configs: Config
) -> tuple[Refinement, list[tuple[Queue, QueueEstimate]]]:
    """Return what a run finds, with a queue for each config: the functions of the step `refine` in its order."""
    teacher = fit_teacher(space, labels, configs[0], seed=configs[0].run.seed)
    refinement = refine_labels(space, labels, teacher, configs[0])
    return refinement, [_queue(refinement, labels, is_settled, config) for config in configs]


def _queue(
    refinement: Refinement, labels: GivenLabels, is_settled: BoolArray, config: Config
) -> tuple[Queue, QueueEstimate]:
    """The queue of samples of which each is an image of its own, and what it should bring."""
    ids, open_rows = _ids(len(labels)), np.flatnonzero(~is_settled)
    wanted = looks_to_draw(config.review.audit_samples, refinement.trust.readings.beliefs.num_audited)
    size = audit_size(wanted, len(open_rows), config.review.places)
    salt = audit_salt(config.run.seed, len(ids), len(open_rows))
    drawn = open_rows[audit_order([ids[row] for row in open_rows.tolist()], salt)[:size]]
    scores = refinement.label_scores
    candidates = Candidates(
        scores,
        refinement.is_label_issue,
        labels.given,
        conflict_sets=conflict_sets(refinement.duplicate_sets, labels.given),
        is_settled=is_settled,
        order=np.argsort(np.argsort(np.asarray(ids, dtype=object), kind="stable"), kind="stable"),
    )
    audit, review = Audit(drawn, size / max(len(open_rows), 1)), config.review
    queue = build_queue(candidates, audit, budget=review.places, class_floor=review.class_floor)
    doubt = measure_doubt(scores, queue.rows, is_settled, refinement.judged.reading_scores)
    return queue, estimate_queue(scores, queue.rows, is_settled, doubt)


def our_nights(data: Handover, order: str, seed: int) -> list[Night]:
    """Return five nights of review, each followed by a run that starts from the decisions.

    Args:
        data: The set.
        order: `labelclean` (the queue as it is), `labelclean, no audit`, or `random`.
        seed: Feeds folds, audit and the random order.

    Returns:
        Six stands, the first before any review.
    """
    config = settings(seed=seed, budget=PER_NIGHT, audit_samples=0 if order.endswith("no audit") else 30)
    ids = _ids(len(data.true))
    names = [str(k) for k in range(data.num_classes)]
    hashes, given = [f"hash {one}" for one in ids], [names[k] for k in data.given]
    space = build_feature_space(data.features, ids, None, config, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    decisions: list[Decision] = []
    nights: list[Night] = []
    for night in range(NIGHTS + 1):
        standing = measure_standing(standing_decisions(decisions, ids, hashes, given), names)
        labels = reviewed_labels(given_labels(data.given, data.num_classes), standing)
        refinement, ((queue, _),) = clean(space, labels, standing.is_settled, config)
        nights.append(_stand(data, order, seed, night, standing.is_settled, refinement.predicted))
        rows = queue.rows if order != "random" else shuffled[night * PER_NIGHT : (night + 1) * PER_NIGHT]
        if standing.is_settled[rows].any() or len(set(rows.tolist())) != len(rows):
            raise RuntimeError(f"night {night} of {order} asks about a sample twice")
        drawn = dict(zip(queue.rows.tolist(), queue.inclusion_probabilities.tolist(), strict=True))
        decisions += [_answer(data, row, ids, hashes, names, drawn.get(row, math.nan)) for row in rows.tolist()]
    return nights


def cleanlab_nights(data: Handover, order: str, seed: int) -> list[Night]:
    """Return the same five nights with cleanlab's order, run again each night on the corrected labels.

    Its probabilities come from a five-fold logistic regression whose penalty is chosen on the first
    night by the likelihood of the given labels. First come the issues that `find_label_issues` finds,
    then the rest, both by label quality; what was reviewed is left out.

    Args:
        data: The set.
        order: Its name in the table.
        seed: Draws the folds.

    Returns:
        Six stands; the suggestion is the likeliest class of an unreviewed issue.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels, is_reviewed = data.given.copy(), np.zeros(len(data.given), dtype=bool)
    penalty = max(PENALTIES, key=lambda c: _likelihood(_logistic_probs(data.features, data.given, c, seed), data.given))
    nights = []
    for night in range(NIGHTS + 1):
        probs = _logistic_probs(data.features, labels, penalty, seed)
        is_issue = np.asarray(find_label_issues(labels, probs, n_jobs=1), dtype=bool) & ~is_reviewed
        suggested = np.where(is_issue, probs.argmax(axis=1), labels)
        nights.append(_stand(data, order, seed, night, is_reviewed, suggested))
        quality = get_label_quality_scores(labels, probs)
        rows = np.lexsort((quality, ~is_issue, is_reviewed))[:PER_NIGHT]
        if is_reviewed[rows].any():
            raise RuntimeError(f"night {night} of {order} asks about a sample twice")
        is_reviewed[rows] = True
        labels[rows] = data.true[rows]
    return nights


ORDERS: dict[str, Callable[[Handover, str, int], list[Night]]] = {
    "labelclean": our_nights,
    "labelclean, no audit": our_nights,
    "cleanlab": cleanlab_nights,
    "random": our_nights,
}


def promises(data: DataSet, kind: str, rate: float, seed: int) -> list[Promise]:
    """Return what the whole queue and the first 50 places promise on planted noise, and what they hold.

    Args:
        data: A set with its truth.
        kind: One of `benchmarks.noise_kinds.KINDS`.
        rate: Expected share of wrong labels.
        seed: Feeds the noise and the run.

    Returns:
        One promise per queue.
    """
    given = noisy_labels(data, kind, rate, seed)
    is_wrong, nobody = given != data.true, np.zeros(len(given), dtype=bool)
    labels = given_labels(given, data.num_classes)
    budgets = {"whole": None, f"first {PER_NIGHT}": PER_NIGHT}
    configs = [settings(seed=seed, budget=budget) for budget in budgets.values()]
    space = build_feature_space(data.features, _ids(len(given)), None, configs[0], seed=seed)
    found = []
    for name, (queue, estimate) in zip(budgets, clean(space, labels, nobody, *configs)[1], strict=True):
        rows = queue.rows
        wrong = int(is_wrong[rows].sum())
        promise = (estimate.expected_errors, estimate.low, estimate.high)
        left = (estimate.expected_left, int(is_wrong.sum()) - wrong)
        found.append(Promise(data.name, kind, seed, name, len(rows), *promise, wrong, *left))
    return found


def _ids(num: int) -> list[str]:
    return [f"{row:06d}" for row in range(num)]


def _answer(
    data: Handover, row: int, ids: list[str], hashes: list[str], names: list[str], inclusion_probability: float
) -> Decision:
    """The truth about a row; NaN where it was not drawn for the audit."""
    given, true = int(data.given[row]), int(data.true[row])
    kind = "confirmed" if given == true else "corrected"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    said = (ids[row], hashes[row], names[given], kind, "oracle", now, "run", data.name, "csv")
    drawn = None if math.isnan(inclusion_probability) else inclusion_probability
    return Decision(*said, verified_label=names[true], inclusion_probability=drawn)  # type: ignore[arg-type]


def _stand(data: Handover, order: str, seed: int, night: int, is_reviewed: BoolArray, suggested: IntArray) -> Night:
    is_wrong = data.given != data.true
    found = int((is_wrong & is_reviewed).sum())
    by_decisions = float((~is_wrong | is_reviewed).mean())
    by_suggestion = float((np.where(is_reviewed, data.true, suggested) == data.true).mean())
    return Night(data.name, order, seed, night, int(is_reviewed.sum()), found, by_decisions, by_suggestion)


def _logistic_probs(features: FloatArray, labels: IntArray, penalty: float, seed: int) -> FloatArray:
    """Out-of-fold probabilities of scikit-learn's logistic regression on scaled features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=150))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stops at 150 steps is good enough to compare
        probs = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    return np.asarray(probs, dtype=np.float64)


def _likelihood(probs: FloatArray, labels: IntArray) -> float:
    return float(np.log(probs[np.arange(len(labels)), labels] + 1e-9).mean())
