"""From sums and features to soft labels, predicted labels and label scores: the one place where layer 2 meets."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from labelclean.cleaning.alignment import columns_in_order, in_label_order, order_fault
from labelclean.cleaning.chance import (
    alone_sentence,
    exceeds_chance,
    find_unvouched,
    is_clear,
    likes_have_like_labels,
    shuffles,
)
from labelclean.cleaning.inputs import check_inputs, cleaning_settings, known_classes, label_array
from labelclean.cleaning.power import choose_power, powered
from labelclean.cleaning.views import (
    View,
    kernel_view,
    multi_round_view,
    ridge_view,
    student_probs,
    two_hot_view,
    vote_view,
)
from labelclean.config import CleaningConfig
from labelclean.errors import GateError, TableError
from labelclean.labels import GivenLabels, class_indices, one_hot
from labelclean.noise.model import NoiseModel, fit_noise_matrix, fit_plain_model, posterior, true_class_probs
from labelclean.noise.model_choice import choose_noise_model
from labelclean.noise.readings import NO_LOOKS, AuditEvidence, has_looks
from labelclean.noise.scores import ErrorEstimate, GainEstimate, calibration_error
from labelclean.noise.tally import Tally, tally_of
from labelclean.noise.targets import adaptive_targets, given_targets, two_hot_targets
from labelclean.noise.top2 import Top2Report, measure_top2, top2_agreement, top2_candidates, top2_margin
from labelclean.noise.trust import JudgedLabels, Trust, fit_trust
from labelclean.probes.feature_space import FeatureSpace, build_feature_space, fold_buckets
from labelclean.probes.neighbours import label_votes, mean_similarity
from labelclean.probes.ridge import log_shares
from labelclean.probes.sums import build_feature_sums, build_target_sums

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
        is_vouched: The probabilities are the user's own, not learned from the given labels by us.
        exceeds_chance: The gain is more than random labels reach; else nothing tells, and nothing is flagged.
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
    is_vouched: bool = False
    exceeds_chance: bool = True


@dataclass(frozen=True)
class Refinement:
    """Refined labels; all arrays have one row per sample, in the order of the input.

    Attributes:
        method: The refinement that was used.
        why: One sentence that says why.
        judged: Soft labels, predicted classes, scores and issues.
        pred_probs: The student's P(true class | image), given label left out, float32, shape (N, K).
        noise_matrix: C, float64, shape (K, K), row true class, column given class.
        trust: What made the labels: readings, how far each is believed, and the score's limit.
        tally: What is counted over all samples.
        neighbour_votes: Share of the neighbours' given labels by class, float32, shape (N, K); None without neighbours.
        neighbour_similarity: Mean cosine similarity to the neighbours, float32, shape (N,); None without neighbours.
        duplicate_sets: Number of the near-duplicate set, int64, shape (N,), -1 for samples in none.
    """

    method: str
    why: str
    judged: JudgedLabels
    pred_probs: Float32Array
    noise_matrix: Float64Array
    trust: Trust
    tally: Tally
    neighbour_votes: Float32Array | None
    neighbour_similarity: Float32Array | None
    duplicate_sets: IntArray

    @property
    def soft_labels(self) -> Float32Array:
        """Probability of the true class, the given label counted as evidence, float32, shape (N, K)."""
        return self.judged.soft_labels

    @property
    def predicted(self) -> IntArray:
        """Best class of the soft label, int64, shape (N,)."""
        return self.judged.predicted

    @property
    def label_scores(self) -> Float32Array:
        """Probability that the given label is right, float32, shape (N,), low = suspicious."""
        return self.judged.label_scores

    @property
    def is_label_issue(self) -> BoolArray:
        """Worth a look, bool, shape (N,)."""
        return self.judged.is_label_issue

    @property
    def estimated_errors(self) -> ErrorEstimate:
        """How many labels are probably wrong."""
        return self.tally.errors(self.trust.readings)

    @property
    def estimated_gain(self) -> GainEstimate:
        """What taking over every predicted label brings."""
        return self.tally.gain(self.trust.readings)


@dataclass(frozen=True)
class CleanedLabels:
    """What `clean_labels` returns.

    Attributes:
        table: Frame `sample_id, given_label, predicted_label, label_score, is_label_issue`, in the order of the input.
        soft_labels: float32, shape (N, K), columns in the order of ``class_names``.
        class_names: The K class names in order.
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
    teacher = _teacher(views, labels, agreement, penalty, config, space.selection)
    if is_clear(len(labels) * teacher.likelihood_gain, labels.num_classes):
        return teacher
    if likes_have_like_labels(space.design.unit_rows, space.groups, labels, seed=seed):
        return teacher
    gains = (
        total_gain(_stacked(_views(space, some.votes, some, config)), some) for some in shuffles(labels, seed=seed)
    )
    return replace(teacher, exceeds_chance=_exceeds_chance(teacher, labels, gains))


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
    teacher = _teacher([view], labels, None, None, config, None)
    gains = (total_gain(view.values[None], some) for some in shuffles(labels, seed=0))
    return replace(teacher, is_vouched=True, exceeds_chance=_exceeds_chance(teacher, labels, gains))


def refine_labels(
    space: FeatureSpace | None,
    labels: GivenLabels,
    teacher: Teacher,
    config: CleaningConfig,
    *,
    allowed: Collection[str] | None = None,
    earlier: AuditEvidence = NO_LOOKS,
) -> Refinement:
    """Return soft labels, predicted labels, label scores and issues.

    Args:
        space: Features, folds and neighbours; None when only probabilities are known.
        labels: Given labels of the N samples.
        teacher: The teacher of the same samples.
        config: `refine` and `gates.on_refusal` are read.
        allowed: Refinements that the gates allow; default: all that the data permit.
        earlier: Random looks at samples of earlier runs.

    Returns:
        The refinement.

    Raises:
        GateError: If `refine.method` names a method that is not allowed and `gates.on_refusal`
            is `stop`.
    """
    methods = METHODS if space is not None else WITHOUT_FEATURES
    method, why = chosen_method(methods, labels, teacher, config, allowed, is_told=has_looks(labels, earlier))
    views = _student_views(method, space, labels, teacher, config)
    model = teacher.noise
    if views is not teacher.views:
        views, model = choose_noise_model(
            views, labels, fit_plain_model(views, labels), None if space is None else space.selection
        )
    probs, matrix = true_class_probs(model, views), model.matrix
    # no student of our features may overrule a model that the user brings
    if method == "posterior" and space is not None and not teacher.is_vouched:
        for _ in range(config.refine.rounds or 1):
            probs = student_probs(space, posterior(probs, labels, matrix), labels, config)
            matrix = fit_noise_matrix(probs, labels, is_even=model.is_even)
    trust = fit_trust(
        probs,
        teacher.pred_probs,
        labels,
        matrix,
        is_even=model.is_even,
        is_vouched=teacher.is_vouched,
        changes_labels=method != "none",
        exceeds_chance=teacher.exceeds_chance,
        earlier=earlier,
    )
    judged = trust.judge(probs, teacher.pred_probs, labels)
    near = None if space is None else space.neighbours
    return Refinement(
        method=method,
        why=why,
        judged=judged,
        pred_probs=probs,
        noise_matrix=matrix,
        trust=trust,
        tally=tally_of(labels, judged, teacher.pred_probs),
        neighbour_votes=_neighbour_shares(space, labels),
        neighbour_similarity=None if near is None else mean_similarity(near),
        duplicate_sets=np.full(len(labels), -1) if space is None else space.duplicate_sets,
    )


def clean_labels(
    given_labels: npt.ArrayLike,
    *,
    features: npt.ArrayLike | None = None,
    pred_probs: npt.ArrayLike | None = None,
    class_names: Sequence[Any] | None = None,
    sample_ids: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
    verified: Mapping[Any, Any] | None = None,
    audited: Mapping[Any, Any] | None = None,
    seed: int,
    config: CleaningConfig | Mapping[str, Any] | None = None,
) -> CleanedLabels:
    """Find and correct wrong labels from the features, or the out-of-sample probabilities, of a model.

    Rows of pandas are brought into order by their index where it holds the ``sample_ids``; else all must have the index of
    the labels.

    Args:
        given_labels: Label of each sample, strings or integers, possibly wrong, shape (N,); or (N, M), a column for each of
            M inspectors, of whom the most frequent label (the first of equals) counts as the given one.
        features: One feature row per sample, float, shape (N, D), not normalised.
        pred_probs: Out-of-sample class probabilities, float, shape (N, K), used in place of a teacher: a frame whose
            columns name the classes, or columns in the order of the classes. At least one of the two is needed.
        class_names: The K classes in order, also those that no label has; default: the classes of the labels, numbers by
            their value, then names by their text. A class without labels takes its column and is not suggested.
        sample_ids: Distinct ids, length N; default: "0", "1", ...
        groups: Samples of one group (part, lot) never vouch for each other, length N.
        verified: Classes that people found right, by sample id.
        audited: The same of samples that were drawn *at random over all* and looked at, whatever was thought of them:
            they also tell how far to trust the images (30 make a difference).
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

    from labelclean.storage.spellings import alike_sentences, missing_sentences

    settings = cleaning_settings(config)
    given, others, faults = in_label_order(
        given_labels, sample_ids, {"features": features, "pred_probs": pred_probs, "groups": groups}
    )
    names = label_array(given)
    ids: list[Hashable] = (
        [str(row) for row in range(len(np.atleast_1d(names)))] if sample_ids is None else list(sample_ids)
    )
    classes = known_classes(names, class_names)
    if class_names is None and classes:
        counts = Counter(map(str, names.ravel().tolist()))
        for sentence in (*alike_sentences(counts), *missing_sentences(counts)):
            warnings.warn(f"clean_labels: {sentence}", stacklevel=2)
    matrix = None if features is None else np.asarray(others["features"])
    probs, is_named = None, False
    if pred_probs is not None:
        probs, is_named, name_faults = columns_in_order(others["pred_probs"], classes)
        faults += name_faults
    groups = None if groups is None else list(others["groups"])
    looked_at = {**(verified or {}), **(audited or {})}
    check_inputs(names, matrix, probs, ids, groups, looked_at, classes, faults)
    labels = _labels_as_known(names, classes, ids, looked_at, set(audited or {}))
    given = labels.observed.argmax(axis=1)
    if probs is not None and not is_named and (fault := order_fault(probs, given, classes)):
        raise TableError(f"clean_labels: {fault}")
    space = None
    if matrix is not None:
        power = choose_power(matrix, ids, groups, labels, settings, seed=seed)
        space = build_feature_space(powered(matrix, power), ids, groups, settings, seed=seed)
        if probs is None:  # a model of the user's own vouches from outside every group
            unvouched = find_unvouched(labels, space.groups, space.duplicate_sets)
            labels = unvouched.standing(labels)
            if groups is not None and len(unvouched.classes):
                sentence = alone_sentence([classes[k] for k in unvouched.classes.tolist()])
                warnings.warn(f"clean_labels: {sentence}", stacklevel=2)
    if space is None or probs is not None:
        teacher = teacher_from_pred_probs(np.asarray(probs, dtype=np.float64), labels, settings)
    else:
        teacher = fit_teacher(space, labels, settings, seed=seed)
    refinement = refine_labels(space, labels, teacher, settings)
    # a class that no label has may have a longer name than numpy's text type of the labels holds
    written = np.array(classes, dtype=None if names.dtype.kind in "US" else names.dtype)
    table = pd.DataFrame(
        {
            "sample_id": ids,
            "given_label": written[given],
            "predicted_label": written[refinement.predicted],
            "label_score": refinement.label_scores,
            "is_label_issue": refinement.is_label_issue,
        }
    )
    return CleanedLabels(table, refinement.soft_labels, classes, refinement, teacher)


def _labels_as_known(
    names: npt.NDArray[Any],
    class_names: Sequence[Any],
    ids: Sequence[Hashable],
    looked_at: Mapping[Hashable, Any],
    drawn: Collection[Hashable],
) -> GivenLabels:
    """Inspectors' votes, with what people found in their place."""
    flat = class_indices(names.ravel().tolist(), class_names)
    votes = one_hot(flat, len(class_names)).reshape(len(names), -1, len(class_names)).mean(axis=1)
    several = None if names.ndim == 1 or names.shape[1] == 1 else np.full(len(names), names.shape[1], dtype=np.float32)
    labels = GivenLabels(votes, np.ones(votes.shape, dtype=bool), num_votes=several)
    if not looked_at:
        return labels
    rows = np.array([row for row, sample in enumerate(ids) if sample in looked_at])
    found = one_hot(class_indices([looked_at[ids[row]] for row in rows.tolist()], class_names), len(class_names))
    after, candidates, is_audited = votes.copy(), labels.candidates.copy(), np.zeros(len(votes), dtype=bool)
    after[rows], candidates[rows] = found, found > 0
    is_audited[[row for row in rows.tolist() if ids[row] in drawn]] = True
    return GivenLabels(after, candidates, votes, is_audited if is_audited.any() else None, several)


def _views(space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig) -> list[View]:
    """Probe and votes for some targets, judged by the given labels."""
    kinds = (ridge_view, vote_view, kernel_view)
    views = [kind(space, targets, labels, config) for kind in kinds]
    return [view for view in views if view is not None]


def _stacked(views: list[View]) -> Float32Array:
    return np.stack([view.values for view in views])


def _exceeds_chance(teacher: Teacher, labels: GivenLabels, random_gains: Iterable[float]) -> bool:
    return exceeds_chance(len(labels) * teacher.likelihood_gain, random_gains, labels.num_classes)


def _teacher(
    views: list[View],
    labels: GivenLabels,
    agreement: Float32Array | None,
    penalty: float | None,
    config: CleaningConfig,
    order: IntArray | None,
) -> Teacher:
    """The teacher that some views make."""
    values = _stacked(views)
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


def total_gain(values: Float32Array, labels: GivenLabels) -> float:
    """Return the log-likelihood of all labels under views over that of the class shares.

    Args:
        values: Views, float32, shape (V, N, K).
        labels: Given labels of the N samples.

    Returns:
        Nats.
    """
    likelihood = fit_plain_model(values, labels).log_likelihood
    return len(labels) * (likelihood - float((labels.votes @ log_shares(labels.votes)).mean()))


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
    *,
    is_told: bool = False,
) -> tuple[str, str]:
    """Return the refinement to use and the sentence that says why.

    Args:
        methods: Those that can be computed here.
        labels: Given labels.
        teacher: Their teacher.
        config: `refine` and `gates.on_refusal` are read.
        allowed: Refinements that the gates allow; None: all.
        is_told: Whether random looks tell of labels where images do not.

    Returns:
        Method and sentence.

    Raises:
        GateError: If `refine.method` names a method that is not allowed and `gates.on_refusal` is `stop`.
    """
    if not (teacher.exceeds_chance or is_told):
        return "none", nothing_tells(teacher)
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


def nothing_tells(teacher: Teacher) -> str:
    """Return the sentence that says that no image, or no prediction of the user's model, tells anything about its label."""
    what = "predictions" if teacher.is_vouched else "images"
    return (
        f"nothing tells which labels are wrong: the {what} say no more of their labels than chance would (gain over the "
        f"class shares {teacher.likelihood_gain:.4f} nats per label, no more than shuffled labels reach)."
    )


def _student_views(
    method: str, space: FeatureSpace | None, labels: GivenLabels, teacher: Teacher, config: CleaningConfig
) -> Float32Array:
    """The views of a refinement's student."""
    if space is None or method in WITHOUT_FEATURES:
        return teacher.views
    if method == "multi_round":
        return multi_round_view(space, given_targets(labels), labels, config).values[None]
    if method == "adaptive":
        targets = adaptive_targets(teacher.pred_probs, labels)
        return _stacked(_views(space, targets, labels, config))
    targets = two_hot_targets(teacher.pred_probs, labels, config.refine.weights)
    return two_hot_view(space, targets, labels, config)[None]


def _neighbour_shares(space: FeatureSpace | None, labels: GivenLabels) -> Float32Array | None:
    """Share of the neighbours' votes by class; rows of a sample without neighbours are 0."""
    if space is None or space.neighbours is None:
        return None
    votes = label_votes(space.neighbours, labels.votes)
    total = votes.sum(axis=1, keepdims=True)
    return np.asarray(votes / np.where(total > 0, total, 1.0), dtype=np.float32)
