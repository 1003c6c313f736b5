"""From sums and features to soft labels, predicted labels and label scores: the one place where layer 2 meets."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labelclean.config import CleaningConfig
from labelclean.errors import GateError
from labelclean.evidence import choose_noise_model
from labelclean.gram import Float32Array, Float64Array, build_feature_sums, build_target_sums
from labelclean.inputs import check_inputs, class_names_of, cleaning_settings
from labelclean.labels import BoolArray, FloatArray, GivenLabels, IntArray, class_indices
from labelclean.labels import given_labels as unreviewed
from labelclean.neighbours import label_votes, mean_similarity
from labelclean.noise import (
    NoiseModel,
    fit_noise_matrix,
    fit_plain_model,
    posterior,
    true_class_probs,
)
from labelclean.power import choose_power, powered
from labelclean.probe import log_shares
from labelclean.refine import adaptive_targets, given_targets, read_disagreement, two_hot_targets
from labelclean.scores import ErrorEstimate, calibration_error, error_estimate, score_limit, scores_by_rank
from labelclean.space import FeatureSpace, build_feature_space, fold_buckets
from labelclean.top2 import Top2Report, measure_top2, top2_agreement, top2_candidates, top2_margin
from labelclean.views import View, kernel_view, multi_round_view, ridge_view, student_probs, two_hot_view, vote_view

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("posterior", "adaptive", "multi_round", "two_hot", "none")
WITHOUT_FEATURES = ("posterior", "none")
LEAST_PROB = 1e-7


@dataclass(frozen=True)
class Teacher:
    """What a probe and the neighbours say about every sample, its own label left out.

    Attributes:
        pred_probs: Probabilities of the *given* label (calibrated to given labels), float32, shape (N, K).
        views: The evidence behind them, float32, shape (V, N, K).
        view_names: What each view is.
        noise: Noise model fitted to the views: C, view weights, likelihood.
        top1: Most probable class, int64, shape (N,).
        runner_up: Second class, int64, shape (N,).
        top2_margin: p(top1) - p(runner-up), float32, shape (N,).
        top2_agreement: Share of refits that agree on the pair, float32, shape (N,); None without features.
        top2: The figures of the stability check.
        penalty: c of the ridge probe; None without features.
        log_likelihood: Mean log-probability of a given label under ``pred_probs``, nats.
        likelihood_gain: The same minus that of the bare class shares, nats.
        estimated_noise: Estimated share of wrong labels, in [0, 1].
        calibration_error: Expected calibration error of ``pred_probs`` against the given labels.
    """

    pred_probs: Float32Array
    views: Float32Array
    view_names: tuple[str, ...]
    noise: NoiseModel
    top1: IntArray
    runner_up: IntArray
    top2_margin: Float32Array
    top2_agreement: Float32Array | None
    top2: Top2Report
    penalty: float | None
    log_likelihood: float
    likelihood_gain: float
    estimated_noise: float
    calibration_error: float


@dataclass(frozen=True)
class TriedMethod:
    """One refinement that was computed.

    Attributes:
        method: Its name.
        log_likelihood: Mean log-probability of a given label under its noise model, nats.
        estimated_errors: Expected number of wrong labels under it.
        is_comparable: Whether its likelihood is out of fold, so that `auto` may compare it.
    """

    method: str
    log_likelihood: float
    estimated_errors: float
    is_comparable: bool


@dataclass(frozen=True)
class Refinement:
    """Refined labels; all arrays have one row per sample, in the order of the input.

    Attributes:
        method: The refinement that was used.
        why: One sentence that says why.
        soft_labels: Probability of the true class, the given label counted as evidence, averaged over the
            readings of what a disagreement means (`refine.Readings`), float32, shape (N, K).
        predicted: Its best class, int64, shape (N,).
        label_scores: Calibrated probability that the given label is right, float32, shape (N,),
            low = suspicious; 1 for verified samples.
        reading_scores: Score of the given label in each reading of a disagreement by itself, float32, shape (R, N).
        is_label_issue: Score under its class's limit, bool, shape (N,); never a verified sample.
        pred_probs: The student's P(true class | image), given label left out, float32, shape (N, K).
        noise_matrix: C, float64, shape (K, K), row true class, column given class.
        estimated_errors: How many labels are probably wrong.
        class_limits: Score under which a label of this class is an issue, float64, shape (K,).
        tried: Every refinement computed, with its likelihood.
        neighbour_votes: Share of the neighbours' given labels by class, float32, shape (N, K); None without neighbours.
        neighbour_similarity: Mean cosine similarity to the neighbours, float32, shape (N,); None without neighbours.
        duplicate_sets: Number of the near-duplicate set, int64, shape (N,), -1 for samples in none.
    """

    method: str
    why: str
    soft_labels: Float32Array
    predicted: IntArray
    label_scores: Float32Array
    reading_scores: Float32Array
    is_label_issue: BoolArray
    pred_probs: Float32Array
    noise_matrix: Float64Array
    estimated_errors: ErrorEstimate
    class_limits: Float64Array
    tried: tuple[TriedMethod, ...]
    neighbour_votes: Float32Array | None
    neighbour_similarity: Float32Array | None
    duplicate_sets: IntArray


@dataclass(frozen=True)
class CleanedLabels:
    """What `clean_labels` returns.

    Attributes:
        table: Frame `sample_id, given_label, predicted_label, label_score, is_label_issue`, in the order of the input.
        soft_labels: float32, shape (N, K), columns in the order of ``class_names``.
        class_names: The K class names as given, sorted.
        refinement: All other results.
        teacher: The teacher behind it.
    """

    table: pd.DataFrame
    soft_labels: Float32Array
    class_names: list[Any]
    refinement: Refinement
    teacher: Teacher


def fit_teacher(space: FeatureSpace, labels: GivenLabels, config: CleaningConfig, *, seed: int) -> Teacher:
    """Return the out-of-fold teacher: ridge probes, straight and curved, and the neighbours' votes, joined by likelihood.

    Args:
        space: Features, folds and neighbours of the N samples.
        labels: Their given labels.
        config: Sections `neighbours`, `teacher` and `gates` are read.
        seed: Draws the bootstrap of the stability check.

    Returns:
        The teacher.
    """
    targets = given_targets(labels)
    views = _views(space, targets, labels, config)
    penalty = views[0].setting
    agreement = bootstrap_agreement(space, targets, penalty, config, seed=seed)
    return _teacher(views, labels, agreement, penalty, config, space.selection)


def teacher_from_pred_probs(pred_probs: FloatArray, labels: GivenLabels, config: CleaningConfig) -> Teacher:
    """Return a teacher made of somebody else's out-of-sample probabilities.

    Args:
        pred_probs: Out-of-sample probabilities, float, shape (N, K), rows sum to 1.
        labels: Given labels of the same samples.
        config: Section `gates` is read.

    Returns:
        The teacher; its only view is the log-probability against the class shares.
    """
    values = np.log(np.maximum(pred_probs, LEAST_PROB)) - log_shares(given_targets(labels))
    view = View("pred_probs", values.astype(np.float32), 0.0, 0.0)
    return _teacher([view], labels, None, None, config, None)


def refine_labels(
    space: FeatureSpace | None,
    labels: GivenLabels,
    teacher: Teacher,
    config: CleaningConfig,
    *,
    allowed: Collection[str] | None = None,
) -> Refinement:
    """Return soft labels, predicted labels, label scores and issues.

    Args:
        space: Features, folds and neighbours; None when only probabilities are known.
        labels: Given labels of the N samples.
        teacher: The teacher of the same samples.
        config: `refine` and `gates.on_refusal` are read.
        allowed: Refinements that the gates allow; default: all that the data permit.

    Returns:
        The refinement.

    Raises:
        GateError: If `refine.method` names a method that is not allowed and `gates.on_refusal`
            is `stop`.
    """
    method, why = chosen_method(METHODS if space is not None else WITHOUT_FEATURES, labels, teacher, config, allowed)
    views, is_comparable = _student_views(method, space, labels, teacher, config)
    model = teacher.noise
    if views is not teacher.views:
        views, model = choose_noise_model(
            views, labels, fit_plain_model(views, labels), None if space is None else space.selection
        )
    teacher_probs = probs = true_class_probs(model, views)
    sure, matrix = posterior(probs, labels, model.matrix), model.matrix
    if method == "posterior" and space is not None:
        for _ in range(config.refine.rounds or 1):
            probs = student_probs(space, posterior(probs, labels, matrix), labels, config)
            matrix = fit_noise_matrix(probs, labels, shrinkage=model.shrinkage)
    readings = read_disagreement(teacher_probs, sure, probs, labels, matrix, model.shrinkage)
    given, rows = labels.given, np.arange(len(labels))
    soft = readings.hedged
    scores = scores_by_rank(readings.rank, soft[rows, given])
    unseen = ~labels.is_verified
    limit = score_limit(scores[unseen])
    is_issue = (scores < limit) & unseen
    scores = np.where(labels.is_verified, np.float32(1), scores)
    others = [np.where(labels.is_verified, np.float32(1), other) for other in readings.scores]
    estimate = error_estimate(scores, given, labels.num_classes, others)
    soft = given_targets(labels) if method == "none" else soft
    near = None if space is None else space.neighbours
    return Refinement(
        method=method,
        why=why,
        soft_labels=soft,
        predicted=soft.argmax(axis=1).astype(np.int64),
        label_scores=scores,
        reading_scores=readings.scores,
        is_label_issue=is_issue,
        pred_probs=probs,
        noise_matrix=matrix,
        estimated_errors=estimate,
        class_limits=np.full(labels.num_classes, limit),
        tried=(TriedMethod(method, model.log_likelihood, estimate.value, is_comparable),),
        neighbour_votes=_neighbour_shares(space, labels),
        neighbour_similarity=None if near is None else mean_similarity(near),
        duplicate_sets=np.full(len(labels), -1) if space is None else space.duplicate_sets,
    )


def clean_labels(
    given_labels: npt.ArrayLike,
    *,
    features: npt.ArrayLike | None = None,
    pred_probs: npt.ArrayLike | None = None,
    sample_ids: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int,
    config: CleaningConfig | Mapping[str, Any] | None = None,
) -> CleanedLabels:
    """Find and correct wrong labels from the features, or the out-of-sample probabilities, of a model.

    Args:
        given_labels: Label of each sample, strings or integers, length N, possibly wrong.
        features: One feature row per sample, float, shape (N, D), not normalised.
        pred_probs: Out-of-sample class probabilities, float, shape (N, K), columns in sorted
            order of the labels; used in place of a teacher. At least one of the two is needed.
        sample_ids: Distinct ids, length N; default: "0", "1", ...
        groups: Samples of one group (part, lot) never vouch for each other, length N.
        seed: Feeds the hashes of folds and the bootstrap.
        config: Sections `neighbours`, `teacher`, `refine`, `gates`; default: the defaults.

    Returns:
        Table, soft labels and class names.

    Raises:
        TableError: If the inputs do not fit together; all faults are listed.
        ConfigError: If ``config`` has unknown keys or values.
        GateError: If `refine.method` names a refinement that the data do not permit and
            `gates.on_refusal` is `stop`.
    """
    import pandas as pd

    settings = cleaning_settings(config)
    names = np.asarray(given_labels)
    ids: list[Hashable] = [str(row) for row in range(names.size)] if sample_ids is None else list(sample_ids)
    matrix = None if features is None else np.asarray(features)
    probs = None if pred_probs is None else np.asarray(pred_probs)
    check_inputs(names, matrix, probs, ids, groups)
    class_names = class_names_of(names)
    labels = unreviewed(class_indices(names.tolist(), class_names), len(class_names))
    space = None
    if matrix is not None:
        power = choose_power(matrix, ids, groups, labels, settings, seed=seed)
        space = build_feature_space(powered(matrix, power), ids, groups, settings, seed=seed)
    if space is None or probs is not None:
        teacher = teacher_from_pred_probs(np.asarray(probs, dtype=np.float64), labels, settings)
    else:
        teacher = fit_teacher(space, labels, settings, seed=seed)
    refinement = refine_labels(space, labels, teacher, settings)
    table = pd.DataFrame(
        {
            "sample_id": ids,
            "given_label": names,
            "predicted_label": np.array(class_names, dtype=names.dtype)[refinement.predicted],
            "label_score": refinement.label_scores,
            "is_label_issue": refinement.is_label_issue,
        }
    )
    return CleanedLabels(table, refinement.soft_labels, class_names, refinement, teacher)


def _views(space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig) -> list[View]:
    """Probe and votes for some targets, judged by the given labels."""
    kinds = (ridge_view, vote_view, kernel_view)
    views = [kind(space, targets, labels, config) for kind in kinds]
    return [view for view in views if view is not None]


def _teacher(
    views: list[View],
    labels: GivenLabels,
    agreement: Float32Array | None,
    penalty: float | None,
    config: CleaningConfig,
    order: IntArray | None,
) -> Teacher:
    """The teacher that some views make."""
    values = np.stack([view.values for view in views])
    plain = fit_plain_model(values, labels)
    values, noise = choose_noise_model(values, labels, plain, order)
    return joined_teacher(tuple(view.name for view in views), values, plain, noise, labels, agreement, penalty, config)


def joined_teacher(
    names: Sequence[str],
    values: Float32Array,
    plain: NoiseModel,
    noise: NoiseModel,
    labels: GivenLabels,
    agreement: Float32Array | None,
    penalty: float | None,
    config: CleaningConfig,
) -> Teacher:
    """Return the teacher that views and the models fitted to them make.

    Args:
        names: What each view is, without the pattern view.
        values: The views, float32, shape (V, N, K), the pattern view last where ``noise`` has one.
        plain: Model of the given labels on the views without pattern.
        noise: Model of the true class.
        labels: Given labels of the N samples.
        agreement: Top-2 agreement, float32, shape (N,), or None.
        penalty: c of the ridge probe, or None.
        config: Section `gates` is read.

    Returns:
        The teacher.
    """
    probs, given = true_class_probs(plain, values[: len(names)]), labels.given
    pair = top2_candidates(probs)
    soft = posterior(true_class_probs(noise, values), labels, noise.matrix)
    shares = log_shares(labels.votes)
    return Teacher(
        pred_probs=probs,
        views=values,
        view_names=(*names, "pattern")[: len(values)],
        noise=noise,
        top1=pair[:, 0],
        runner_up=pair[:, 1],
        top2_margin=top2_margin(probs),
        top2_agreement=agreement,
        top2=measure_top2(probs, agreement, given, config.gates.top2.unstable_below),
        penalty=penalty,
        log_likelihood=plain.log_likelihood,
        likelihood_gain=plain.log_likelihood - float((labels.votes @ shares).mean()),
        estimated_noise=float(1.0 - soft[np.arange(len(labels)), given].mean()),
        calibration_error=calibration_error(probs.max(axis=1), pair[:, 0] == given),
    )


def bootstrap_agreement(
    space: FeatureSpace, targets: Float32Array, penalty: float, config: CleaningConfig, *, seed: int
) -> Float32Array:
    """Return top-2 agreement over bootstrap refits on the sums of the hash buckets.

    Args:
        space: Features and buckets of N samples.
        targets: What the teacher learned, float32, shape (N, K).
        penalty: c of the ridge teacher.
        config: `teacher.repeats` is read.
        seed: Draws the bootstrap.

    Returns:
        float32, shape (N,), in (0, 1].
    """
    rows, sums = space.design.unit_rows, space.bucket_sums
    if sums is None:
        num_buckets = config.teacher.folds * fold_buckets(config.teacher.folds)
        sums = build_feature_sums(rows, space.buckets, num_buckets, space.design.sums.mean, np.float32)
    cross = build_target_sums(rows, targets, space.buckets, sums.num_parts)
    return top2_agreement(rows, space.buckets, sums, cross, penalty, repeats=config.teacher.repeats, seed=seed)


def chosen_method(
    methods: Collection[str],
    labels: GivenLabels,
    teacher: Teacher,
    config: CleaningConfig,
    allowed: Collection[str] | None,
) -> tuple[str, str]:
    """Return the refinement to use and the sentence that says why.

    Args:
        methods: Those that can be computed here.
        labels: Given labels.
        teacher: Their teacher.
        config: `refine` and `gates.on_refusal` are read.
        allowed: Refinements that the gates allow; None: all.

    Returns:
        Method and sentence.

    Raises:
        GateError: If `refine.method` names a method that is not allowed and `gates.on_refusal` is `stop`.
    """
    possible = set(methods)
    if labels.num_classes == 2:
        possible.discard("two_hot")
    if allowed is not None:
        possible &= {*allowed, "none"}
    wanted = config.refine.method
    if wanted in possible:
        return wanted, f"refine.method asks for {wanted!r}."
    best = next(name for name in METHODS if name in possible)
    if wanted == "auto":
        return best, (
            f"auto takes {best!r}, the strongest of the refinements that this data allows; with a noise matrix "
            f"a given label has a log-likelihood of {teacher.noise.log_likelihood:.4f} nats, without one "
            f"{teacher.log_likelihood:.4f}."
        )
    reason = "the gates or the inputs rule it out"
    if wanted == "two_hot" and labels.num_classes == 2:
        reason = "with two classes both always stand in the pair"
    found = f"refine.method: {wanted!r} cannot be used, because {reason}"
    if config.gates.on_refusal == "stop":
        raise GateError(
            f"{found}; this data allows {', '.join(repr(name) for name in sorted(possible))} "
            f"(gates.on_refusal = stop). Set refine.method to one of these or to 'auto'."
        )
    return best, f"{found}; fell back to {best!r} (gates.on_refusal = fall_back)."


def _student_views(
    method: str, space: FeatureSpace | None, labels: GivenLabels, teacher: Teacher, config: CleaningConfig
) -> tuple[Float32Array, bool]:
    """The views of a refinement's student, and whether they are out of fold."""
    if space is None or method in WITHOUT_FEATURES:
        return teacher.views, True
    if method == "multi_round":
        return multi_round_view(space, given_targets(labels), labels, config).values[None], True
    if method == "adaptive":
        targets = adaptive_targets(teacher.pred_probs, labels)
        return np.stack([view.values for view in _views(space, targets, labels, config)]), False
    targets = two_hot_targets(teacher.pred_probs, labels, config.refine.weights)
    return two_hot_view(space, targets, labels, config)[None], False


def _neighbour_shares(space: FeatureSpace | None, labels: GivenLabels) -> Float32Array | None:
    """Share of the neighbours' votes by class; rows of a sample without neighbours are 0."""
    if space is None or space.neighbours is None:
        return None
    votes = label_votes(space.neighbours, labels.votes)
    total = votes.sum(axis=1, keepdims=True)
    return np.asarray(votes / np.where(total > 0, total, 1.0), dtype=np.float32)
