"""What a method's output is worth: the only functions of the benchmark that hold truth and output together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.problem import BoolArray, Estimate, FloatArray, IntArray, Output, Space, build_space
from labelclean.labels import one_hot
from labelclean.probes.ridge import Design, fit_cross_entropy, predict_logits
from labelclean.probes.sums import spectrum

RARE = 60
QUEUE_SHARE = 0.05
CALIBRATION_BINS = 15
LEAST_PER_BIN = 200


@dataclass(frozen=True)
class Truth:
    """What no method may see.

    Attributes:
        true: True classes of the samples to clean, int64, shape (N,).
        test_features: Features of the clean part kept apart, float32, shape (M, D).
        test_true: Their true classes, int64, shape (M,).
    """

    true: IntArray
    test_features: npt.NDArray[np.float32]
    test_true: IntArray


@dataclass
class Downstream:
    """A fresh cross-entropy probe on the features to clean, judged on the clean part.

    Attributes:
        space: Coordinates of the features.
        test_rows: The clean part in the same coordinates, float32, shape (M, D).
        test_true: Its true classes, int64, shape (M,).
        known: Accuracies already computed, by labels.
    """

    space: Space
    test_rows: npt.NDArray[np.float32]
    test_true: IntArray
    known: dict[bytes, float] = field(default_factory=dict)

    def accuracy(self, targets: FloatArray, decay: float, kept: BoolArray | None = None) -> float:
        """Return the test accuracy of a probe trained on some labels.

        Args:
            targets: Probability rows, float, shape (N, K).
            decay: N lambda; the benchmark takes the one under which the given labels are likeliest.
            kept: Rows to train on, bool, shape (N,); default: all.

        Returns:
            Share of the clean part that it gets right.
        """
        rows = np.ones(len(targets), dtype=bool) if kept is None else kept
        soft = targets.astype(np.float32)
        key = soft.tobytes() + rows.tobytes() + str(decay).encode()
        if key not in self.known:
            whole = self.space.design
            # The eigenvectors of all rows bound the Hessian of fewer rows too, so one decomposition serves all.
            design = Design(whole.unit_rows[rows], whole.folds[rows], whole.sums, whole.spectra)
            probe = fit_cross_entropy(design, soft[rows], decay)[0]
            found = predict_logits(probe, self.test_rows).argmax(axis=1)
            self.known[key] = float((found == self.test_true).mean())
        return self.known[key]


def build_downstream(features: npt.NDArray[np.float32], truth: Truth) -> Downstream:
    """Return the judge of what labels are worth.

    Args:
        features: Features to clean, float32, shape (N, D).
        truth: The clean part is read.

    Returns:
        The judge.
    """
    space = build_space(features, np.zeros(len(features), dtype=np.int64))
    whole = spectrum(space.design.sums, np.ones(1))
    folds = np.ones(len(features), dtype=np.int64)  # probe 0 sees everybody: nobody lies in its fold
    judged = Space(space.mean, space.basis, Design(space.design.unit_rows, folds, space.design.sums, (whole, whole)))
    return Downstream(judged, space.coordinates(truth.test_features), truth.test_true)


def measure(
    output: Output, labels: IntArray, truth: Truth, judge: Downstream, decay: float, unseen: BoolArray
) -> dict[str, float]:
    """Return every measure of one output.

    Args:
        output: What the method said.
        labels: Given labels, int64, shape (N,).
        truth: What it had not seen.
        judge: Made of the same truth.
        decay: N lambda of the judge's probes.
        unseen: Samples that no person settled beforehand, bool, shape (N,); only these are measured on.

    Returns:
        Measures by name; those that need wrong labels are missing where there are none.
    """
    true, given, flagged = truth.true[unseen], labels[unseen], output.is_issue[unseen]
    scores, is_wrong, is_right = output.scores[unseen], true != given, output.predicted[unseen] == true
    found = {
        "flagged": float(flagged.mean()),
        "given_accuracy": float((given == true).mean()),
        "accuracy": float(is_right.mean()),
        "gain": float(is_right.mean() - (given == true).mean()),
        "brier": brier(output.soft[unseen], true),
    }
    found |= _downstream(output, labels, truth, judge, decay)
    if output.has_probabilities:
        found["ece"] = calibration_error(scores, ~is_wrong)
    if output.estimate is not None:
        found |= expectation(output.estimate, is_wrong)
    found |= ranking(scores, is_wrong) | flags(flagged, is_wrong) if is_wrong.any() else {"alarms": found["flagged"]}
    counts = [np.bincount(of, minlength=output.soft.shape[1]) for of in (truth.true, labels)]
    rare = is_wrong & ((counts[0][true] < RARE) | (counts[1][given] < RARE))
    numbers = {"wrong": is_wrong, "found": is_wrong & flagged, "rare_wrong": rare, "rare_found": rare & flagged}
    return found | {f"num_{name}": float(chosen.sum()) for name, chosen in numbers.items()}


def _downstream(output: Output, given: IntArray, truth: Truth, judge: Downstream, decay: float) -> dict[str, float]:
    """Test accuracy of fresh probes on the method's labels, and of the method's own."""
    num_classes = output.soft.shape[1]
    found = {
        "down_given": judge.accuracy(one_hot(given, num_classes), decay),
        "down_kept": judge.accuracy(one_hot(given, num_classes), decay, ~output.is_issue),
        "down_predicted": judge.accuracy(one_hot(output.predicted, num_classes), decay),
        "down_soft": judge.accuracy(output.soft, decay),
    }
    if output.classify is not None:
        own = output.classify(truth.test_features).argmax(axis=1)
        found["down_own"] = float((own == truth.test_true).mean())
    return found


def changes(predicted: IntArray, given: IntArray, true: IntArray, unseen: BoolArray) -> tuple[list[int], list[int]]:
    """Return which samples the prediction puts right, and which right ones it spoils.

    Args:
        predicted: int64, shape (N,).
        given: int64, shape (N,).
        true: int64, shape (N,).
        unseen: Samples that no person settled beforehand, bool, shape (N,); the others count as unchanged.

    Returns:
        Rows that were wrong and become right, and rows that were right and become wrong.

    Examples:
        >>> changes(np.array([0, 1, 1]), np.array([1, 0, 1]), np.array([0, 0, 0]), np.array([True, True, True]))
        ([0], [1])
    """
    was, becomes = given == true, predicted == true
    return np.flatnonzero(unseen & ~was & becomes).tolist(), np.flatnonzero(unseen & was & ~becomes).tolist()


def expectation(estimate: Estimate, is_wrong: BoolArray) -> dict[str, float]:
    """Return how far an expected number of errors is off.

    Args:
        estimate: Expected number of wrong labels and its interval.
        is_wrong: bool, shape (N,).

    Returns:
        `off`, expected less true in points of N; `off_size`, the same without sign; `held`, 1 where the interval holds
        the true number, else 0; `width`, that of the interval in points of N.

    Examples:
        >>> expectation(Estimate(3.0, 1.0, 5.0), np.array([True, True, False, False]))
        {'off': 25.0, 'off_size': 25.0, 'held': 1.0, 'width': 100.0}
    """
    wrong, points = float(is_wrong.sum()), 100 / len(is_wrong)
    off = points * (estimate.value - wrong)
    held = float(estimate.low <= wrong <= estimate.high)
    return {"off": off, "off_size": abs(off), "held": held, "width": points * (estimate.high - estimate.low)}


def ranking(scores: FloatArray, is_wrong: BoolArray) -> dict[str, float]:
    """Return average precision, AUROC and the precision among the first 5 % of the queue.

    Args:
        scores: Low = suspicious, float, shape (N,).
        is_wrong: bool, shape (N,), at least one True.

    Returns:
        `ap`, `auroc` (missing when all are wrong) and `top`.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    first = np.argsort(scores, kind="stable")[: max(1, round(QUEUE_SHARE * len(scores)))]
    found = {"ap": float(average_precision_score(is_wrong, -scores)), "top": float(is_wrong[first].mean())}
    return found if is_wrong.all() else found | {"auroc": float(roc_auc_score(is_wrong, -scores))}


def flags(flagged: BoolArray, is_wrong: BoolArray) -> dict[str, float]:
    """Return precision (0 when nothing is flagged), recall and F1.

    Args:
        flagged: bool, shape (N,).
        is_wrong: bool, shape (N,), at least one True.

    Returns:
        `precision`, `recall` and `f1`.
    """
    hits = float((flagged & is_wrong).sum())
    return {
        "precision": hits / max(float(flagged.sum()), 1.0),
        "recall": hits / float(is_wrong.sum()),
        "f1": 2 * hits / float(flagged.sum() + is_wrong.sum()),
    }


def brier(soft: FloatArray, true: IntArray) -> float:
    """Return the mean squared distance of soft labels to the truth, in [0, 2].

    Args:
        soft: float, shape (N, K).
        true: int64, shape (N,).

    Returns:
        The score, low = good.
    """
    return float(((soft - one_hot(true, soft.shape[1])) ** 2).sum(axis=1).mean())


def calibration_error(scores: FloatArray, is_right: BoolArray) -> float:
    """Return the expected calibration error over at most 15 bins of equal size, at least 200 each.

    Args:
        scores: Claimed probability, float, shape (N,).
        is_right: bool, shape (N,).

    Returns:
        Mean distance between claim and share, in [0, 1].
    """
    order = np.argsort(scores, kind="stable")
    bins = max(1, min(CALIBRATION_BINS, len(order) // LEAST_PER_BIN))
    parts = np.array_split(order, bins)
    return float(sum(len(p) / len(order) * abs(scores[p].mean() - is_right[p].mean()) for p in parts))
