"""labelclean and its peers, each one function from a problem to an output."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.problem import (
    DECAYS,
    BoolArray,
    Estimate,
    Float32Array,
    FloatArray,
    Output,
    Problem,
    disagreement,
    log_likelihood,
)
from benchmarks.simifeat import simifeat_rank, simifeat_vote
from labelclean.arrays import IntArray
from labelclean.cleaning.clean import clean_labels
from labelclean.labels import one_hot
from labelclean.noise.top2 import top2_candidates, two_hot
from labelclean.probes.ridge import (
    LinearProbe,
    fit_cross_entropy,
    fit_gce,
    fit_ridge,
    log_shares,
    out_of_fold_logits,
    softmax,
)

AUM_EPOCHS = 40
AUM_BATCH = 64
AUM_RATES = (0.1, 1.0, 10.0)  # 0.1 is the paper's, but unit rows have small gradients
AUM_PERCENTILE = 99
ONE_JOB = {"find_label_issues_kwargs": {"n_jobs": 1}}
ROUNDS = (1, 2, 3, 4, 5)
RIDGE_PENALTIES = (0.3, 1.0, 3.0, 10.0)

Fits = Sequence[tuple[LinearProbe, ...]]


def labelclean_default(problem: Problem) -> Output:
    """Ours, through the public function with the default config."""
    return _cleaned(problem)


def labelclean_audited(problem: Problem) -> Output:
    """Ours with what a person found in a random audit."""
    return _cleaned(problem, **audit_argument(problem))


def audit_argument(problem: Problem) -> dict[str, Any]:
    """Return how a random audit is handed to `clean_labels`: the class that was found, by sample."""
    if problem.audit is None:
        raise ValueError("The audited method needs an audit, but the problem holds none.")
    rows, classes = problem.audit
    return {"audited": dict(zip(map(str, rows.tolist()), classes.tolist(), strict=True))}


def _cleaned(problem: Problem, **audit: Any) -> Output:
    """What `clean_labels` makes of all that was handed over."""
    labels = problem.given if problem.votes is None else problem.votes
    present = np.unique(labels)  # pred_probs have one column per class that somebody gave
    probs = None if problem.pred_probs is None else _shares(problem.pred_probs[:, present])
    features = problem.features if problem.features.shape[1] else None
    cleaned = clean_labels(labels, features=features, pred_probs=probs, seed=problem.seed, **audit)
    soft = np.zeros((len(problem.given), problem.num_classes))
    soft[:, np.asarray(cleaned.class_names, dtype=np.int64)] = cleaned.soft_labels
    table, errors = cleaned.table, cleaned.refinement.estimated_errors
    return Output(
        scores=table["label_score"].to_numpy(dtype=np.float64),
        is_issue=table["is_label_issue"].to_numpy(dtype=bool),
        predicted=table["predicted_label"].to_numpy(dtype=np.int64),
        soft=soft,
        has_probabilities=True,
        estimate=Estimate(errors.value, errors.low, errors.high),
    )


def cleanlab_noise_rate(problem: Problem) -> Output:
    """Cleanlab's `find_label_issues` with `prune_by_noise_rate`, its default."""
    return _cleanlab(problem, "prune_by_noise_rate")


def cleanlab_confident_learning(problem: Problem) -> Output:
    """Cleanlab's `find_label_issues` with `confident_learning`."""
    return _cleanlab(problem, "confident_learning")


def _cleanlab(problem: Problem, rule: str) -> Output:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    probs, given, names = _present(problem)
    issues = np.asarray(find_label_issues(given, probs, filter_by=rule, n_jobs=1), dtype=bool)
    scores = np.asarray(get_label_quality_scores(given, probs), dtype=np.float64)
    return Output(scores, issues, names[probs.argmax(axis=1)], problem.outside_probs, True)


def _present(problem: Problem) -> tuple[FloatArray, IntArray, IntArray]:
    """Probabilities and labels over the classes that somebody gave: cleanlab refuses others."""
    names, given = np.unique(problem.given, return_inverse=True)
    return _shares(problem.outside_probs[:, names]), given.astype(np.int64), names


def _shares(values: FloatArray) -> FloatArray:
    """Rows that sum to 1."""
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def cleanlab_datalab(problem: Problem) -> Output:
    """Cleanlab's `Datalab`, label issues from the features alone."""
    from cleanlab import Datalab

    names, given = np.unique(problem.given, return_inverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab = Datalab(data={"label": given}, label_name="label", task="classification", verbosity=0)
        lab.find_issues(features=problem.features, issue_types={"label": {"clean_learning_kwargs": ONE_JOB}})
        found = lab.get_issues("label")
    predicted = names[found["predicted_label"].to_numpy(dtype=np.int64)].astype(np.int64)
    return Output(
        scores=found["label_score"].to_numpy(dtype=np.float64),
        is_issue=found["is_label_issue"].to_numpy(dtype=bool),
        predicted=predicted,
        soft=one_hot(predicted, problem.num_classes),
        has_probabilities=True,
    )


def argmax_disagreement(problem: Problem) -> Output:
    """The argmax rule on out-of-sample probabilities, ranked by P(given) - P(best other)."""
    probs, given = problem.outside_probs, problem.given
    predicted = probs.argmax(axis=1).astype(np.int64)
    return Output(label_margins(probs, given), predicted != given, predicted, probs)


def aum(problem: Problem) -> Output:
    """AUM (Pleiss et al. 2020) on the linear probe: two runs with an extra class for other threshold samples."""
    given, rng = problem.given, np.random.default_rng(problem.seed)
    num_samples, num_classes = len(given), problem.num_classes
    rate = max(AUM_RATES, key=lambda value: _held_out_likelihood(problem, value))
    size = max(num_samples // (num_classes + 1), 1)
    order = rng.permutation(num_samples)
    areas, limits = np.full((2, num_samples), np.nan), np.zeros(2)
    probs = np.zeros((num_samples, num_classes))
    for run, chosen in enumerate((order[:size], order[size : 2 * size])):
        labels = given.copy()
        labels[chosen] = num_classes
        margins, run_probs = _areas(problem, labels, rate, np.ones(num_samples, dtype=bool))
        limits[run] = np.percentile(margins[chosen], AUM_PERCENTILE)
        kept = labels < num_classes
        areas[run, kept] = margins[kept]
        probs += run_probs
    scores = np.nanmean(areas, axis=0)
    is_issue = np.nanmean(areas - limits[:, None], axis=0) < 0
    soft = probs / probs.sum(axis=1, keepdims=True)
    predicted = soft.argmax(axis=1).astype(np.int64)
    return Output(scores, is_issue, predicted, soft)


def _held_out_likelihood(problem: Problem, rate: float) -> float:
    """Log-likelihood of the given labels of fold 0 after training on the other folds."""
    held = problem.folds == 0
    probs = _areas(problem, problem.given, rate, ~held)[1]
    return log_likelihood(probs[held], problem.given[held])


def _areas(problem: Problem, labels: IntArray, rate: float, seen: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Mean margin of every seen sample over the epochs, its own update included, and everybody's last probabilities."""
    import torch

    generator = torch.Generator().manual_seed(problem.seed)
    rows, goal = torch.from_numpy(problem.space.design.unit_rows), torch.from_numpy(labels)
    weights = torch.zeros(rows.shape[1], problem.num_classes + 1, requires_grad=True)
    bias = torch.zeros(problem.num_classes + 1, requires_grad=True)
    optimiser = torch.optim.SGD([weights, bias], lr=rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
    areas, chosen = np.zeros(len(labels)), torch.from_numpy(np.flatnonzero(seen))
    for _ in range(AUM_EPOCHS):
        order = chosen[torch.randperm(len(chosen), generator=generator)]
        for start in range(0, len(order), AUM_BATCH):
            batch = order[start : start + AUM_BATCH]
            logits = rows[batch] @ weights + bias
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits, goal[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            areas[batch.numpy()] += label_margins(logits.detach().numpy(), labels[batch.numpy()])
    probs = torch.softmax((rows @ weights + bias).detach()[:, :-1], dim=1)
    return areas / AUM_EPOCHS, probs.numpy()


def label_margins(logits: FloatArray, labels: IntArray) -> FloatArray:
    """Return logit(label) - best other logit, as the `aum` package sums it (a test compares), only faster.

    Args:
        logits: float, shape (B, K).
        labels: int64, shape (B,).

    Returns:
        float, shape (B,).
    """
    rows, others = np.arange(len(labels)), logits.copy()
    others[rows, labels] = -np.inf
    return np.asarray(logits[rows, labels] - others.max(axis=1))


def gce_probe(problem: Problem) -> Output:
    """A probe trained on the given labels with generalised cross-entropy, q = 0.7."""
    return _likeliest(problem, _gce_students(problem, problem.targets))


def p1_multi_round(problem: Problem) -> Output:
    """P1's multi-round teacher in closed form; rounds and penalty by held-out likelihood of the given labels."""
    probs, probes, offset = _multi_round(problem)
    classify = problem.space.classifier(tuple(LinearProbe(p.weights, p.bias + offset) for p in probes))
    return disagreement(probs, problem.given, classify)


def _multi_round(problem: Problem) -> tuple[FloatArray, tuple[LinearProbe, ...], Float32Array]:
    """Probabilities softmax(K (scores - class shares) + log class shares), the probes and their offset."""
    num_classes, design = problem.num_classes, problem.space.design
    prior = log_shares(problem.targets)
    offset = (prior - num_classes * np.exp(prior)).astype(np.float32)
    best, found = -np.inf, (np.zeros((0, 0), dtype=np.float32), tuple[LinearProbe, ...](), offset)
    for rounds in ROUNDS:
        penalties = [num_classes * value for value in RIDGE_PENALTIES]
        for probes in fit_ridge(design, problem.targets, penalties, rounds):
            grown = tuple(LinearProbe(num_classes * p.weights, num_classes * p.bias) for p in probes)
            probs = softmax(out_of_fold_logits(design, grown) + offset)
            likelihood = log_likelihood(probs, problem.given)
            if likelihood > best:
                best, found = likelihood, (probs, grown, offset)
    return found


def p1_two_hot_ce(problem: Problem) -> Output:
    """P1's partial-label student with cross-entropy."""
    targets = _two_hot_targets(problem)
    return _likeliest(problem, [fit_cross_entropy(problem.space.design, targets, decay) for decay in DECAYS])


def p1_two_hot_gce(problem: Problem) -> Output:
    """P1's partial-label student with generalised cross-entropy."""
    return _likeliest(problem, _gce_students(problem, _two_hot_targets(problem)))


def _two_hot_targets(problem: Problem) -> Float32Array:
    """One half on each of the teacher's two likeliest classes; the teacher is the cross-entropy probe."""
    teacher = _likeliest(problem, problem.teachers)
    return two_hot(top2_candidates(teacher.soft.astype(np.float32)), problem.num_classes) / np.float32(2)


def _gce_students(problem: Problem, targets: Float32Array) -> Fits:
    """GCE probes for each weight decay, from the teacher's weights as P1 does."""
    pairs = zip(DECAYS, problem.teachers, strict=True)
    return [fit_gce(problem.space.design, targets, decay, start=teacher) for decay, teacher in pairs]


def _likeliest(problem: Problem, fits: Fits) -> Output:
    """The fit that the given labels' held-out likelihood prefers."""
    found = [softmax(out_of_fold_logits(problem.space.design, probes)) for probes in fits]
    best = int(np.argmax([log_likelihood(probs, problem.given) for probs in found]))
    return disagreement(found[best], problem.given, problem.space.classifier(fits[best]))


OURS, AUDITED, AUDIT_SIZE = "labelclean", "labelclean, 30 looked at", 30
METHODS: dict[str, Callable[[Problem], Output]] = {
    OURS: labelclean_default,
    AUDITED: labelclean_audited,
    "cleanlab noise rate": cleanlab_noise_rate,
    "cleanlab confident learning": cleanlab_confident_learning,
    "cleanlab Datalab": cleanlab_datalab,
    "argmax disagreement": argmax_disagreement,
    "SimiFeat vote": simifeat_vote,
    "SimiFeat rank": simifeat_rank,
    "AUM": aum,
    "GCE probe": gce_probe,
    "P1 multi-round": p1_multi_round,
    "P1 two-hot CE": p1_two_hot_ce,
    "P1 two-hot GCE": p1_two_hot_gce,
}
LOGISTIC, PROBES = ("outside_probs",), ("space", "teachers")
SHARED: dict[str, tuple[str, ...]] = {
    "cleanlab noise rate": LOGISTIC,
    "cleanlab confident learning": LOGISTIC,
    "argmax disagreement": LOGISTIC,
    "AUM": ("space",),
    "GCE probe": PROBES,
    "P1 multi-round": ("space",),
    "P1 two-hot CE": PROBES,
    "P1 two-hot GCE": PROBES,
}
FROM_PROBS = (OURS, AUDITED, "cleanlab noise rate", "cleanlab confident learning", "argmax disagreement")
