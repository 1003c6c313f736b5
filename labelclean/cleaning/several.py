"""Several labels on one image: a question of yes or no for every class, all answered from the same features."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, Float32Array
from labelclean.cleaning.alignment import columns_in_order, in_label_order
from labelclean.cleaning.clean import array_parts, array_shards
from labelclean.cleaning.inputs import cleaning_settings
from labelclean.cleaning.memory import choice_rows
from labelclean.cleaning.passes import Each
from labelclean.cleaning.population import Labelled, Setting, Taught, learn_student, learn_teacher, setting_faults
from labelclean.cleaning.power import choose_power
from labelclean.cleaning.sample import choose_sample, read_sample
from labelclean.cleaning.several_inputs import check_label_sets, classes_of_sets, is_table
from labelclean.cleaning.shard_labels import ShardLabels, shard_labels
from labelclean.cleaning.shards import Shard
from labelclean.cleaning.student import Refinement, refine_labels
from labelclean.cleaning.teacher import teacher_from_pred_probs
from labelclean.cleaning.verdicts import everyone
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, listed
from labelclean.labels import GivenLabels, class_indices, given_labels, one_hot
from labelclean.probes.feature_space import sample_keys

if TYPE_CHECKING:
    import pandas as pd

PRESENT = 1  # the second answer to every question; the first is that the class is absent


@dataclass(frozen=True)
class CleanedLabelSets:
    """What `clean_label_sets` returns; rows in the order of the input, columns in the order of ``class_names``.

    Attributes:
        table: Frame `sample_id, given_labels, predicted_labels, missing_labels, spurious_labels, label_score,
            is_label_issue`: lists of class names, and the least score of all classes.
        soft_labels: Probability that the class is on the image, float32, shape (N, K), in [0, 1]; rows do not sum to 1.
        label_scores: Probability that what was given of the class is right, there or not there, float32, shape (N, K), low =
            suspicious.
        is_label_issue: What was given of the class is worth a look, bool, shape (N, K).
        is_given: The class was given, bool, shape (N, K).
        class_names: The K class names.
        refinements: All other results of each class that could be judged; None where all images, or none, have it.
    """

    table: pd.DataFrame
    soft_labels: Float32Array
    label_scores: Float32Array
    is_label_issue: BoolArray
    is_given: BoolArray
    class_names: list[Any]
    refinements: tuple[Refinement | None, ...]

    @property
    def issues(self) -> pd.DataFrame:
        """Frame `sample_id, class_name, direction, label_score`, most suspicious first; direction `missing` or `spurious`."""
        import pandas as pd

        rows, columns = np.nonzero(self.is_label_issue)
        scores = self.label_scores[rows, columns]
        order = np.argsort(scores, kind="stable")
        ids = self.table["sample_id"].to_numpy()[rows[order]]
        names = [self.class_names[k] for k in columns[order]]
        direction = np.where(self.is_given[rows, columns], "spurious", "missing")[order]
        return pd.DataFrame(
            {"sample_id": ids, "class_name": names, "direction": direction, "label_score": scores[order]}
        )


def clean_label_sets(
    given_labels: Any,
    *,
    features: npt.ArrayLike | None = None,
    pred_probs: npt.ArrayLike | None = None,
    class_names: Sequence[Any] | None = None,
    sample_ids: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
    verified: Mapping[Any, Collection[Any]] | None = None,
    audited: Mapping[Any, Collection[Any]] | None = None,
    seed: int,
    config: CleaningConfig | Mapping[str, Any] | None = None,
) -> CleanedLabelSets:
    """Find labels that are missing, and labels that are too many, where an image has any number of them.

    Each class is a question of yes or no with a noise matrix of its own: how often it is missed, and how often it is given
    where it is not. All are taught from the same features and the same decomposition of them.

    Args:
        given_labels: The labels of each sample, possibly wrong: N collections of class names, of which an empty one says
            that there is nothing; or a table of yes and no (bool, or 0 and 1), shape (N, K), a frame whose columns name the
            classes or columns in the order of ``class_names``.
        features: One feature row per sample, float, shape (N, D), not normalised.
        pred_probs: Out-of-sample probabilities that a class is on the image, float, shape (N, K), in [0, 1]: a frame whose
            columns name the classes, or columns in their order. At least one of the two is needed; where both are there,
            these are judged by, and features tell what is alike.
        class_names: The K classes in order; default: those of the labels, in the order of `clean_labels`.
        sample_ids: Distinct ids, length N; default: "0", "1", ...
        groups: Samples of one group (part, lot) never vouch for each other, length N.
        verified: All classes that people found on an image, by sample id.
        audited: The same of samples that were drawn at random over all (see `clean_labels`).
        seed: Feeds the hashes of folds and the bootstrap.
        config: As for `clean_labels`.

    Returns:
        Table, soft labels and scores.

    Raises:
        TableError: If the inputs do not fit together; all faults are listed.
        ConfigError: If ``config`` has unknown keys or values.
    """
    settings = cleaning_settings(config)
    given, others, faults = in_label_order(
        given_labels, sample_ids, {"features": features, "pred_probs": pred_probs, "groups": groups}
    )
    classes = classes_of_sets(given, class_names)
    ids: list[Hashable] = list(map(str, range(len(given)))) if sample_ids is None else list(sample_ids)
    matrix = None if features is None else np.asarray(others["features"])
    probs = None
    if pred_probs is not None:
        probs, _, name_faults = columns_in_order(others["pred_probs"], classes)
        faults += name_faults
    groups = None if groups is None else list(others["groups"])
    looked_at = {**(verified or {}), **(audited or {})}
    check_label_sets(given, matrix, probs, ids, groups, looked_at, classes, faults)
    is_given = _answers(given, classes)
    questions = _questions(is_given, ids, classes, looked_at, audited or {})
    is_open = [0 < int(is_given[:, k].sum()) < len(is_given) for k in range(len(classes))]
    if not all(is_open):
        closed = [str(name) for name, is_one in zip(classes, is_open, strict=True) if not is_one]
        warnings.warn(
            f"clean_label_sets: {listed(closed)} is on all images or on none of them: nothing can be learned of it, and "
            "what was given of it stands.",
            stacklevel=2,
        )
    judged = [labels for labels, is_one in zip(questions, is_open, strict=True) if is_one]
    if matrix is None or probs is not None:
        columns = [np.asarray(probs)[:, k] for k in np.flatnonzero(is_open)]
        refined = _by_own_model(columns, judged, settings)
    else:
        refined = _by_features(matrix, ids, groups, judged, settings, seed)
    refinements = tuple(next(refined) if is_one else None for is_one in is_open)
    return _cleaned(ids, classes, is_given, questions, refinements)


def _questions(
    is_given: BoolArray,
    ids: Sequence[Hashable],
    classes: Sequence[Any],
    looked_at: Mapping[Any, Collection[Any]],
    drawn: Collection[Any],
) -> list[GivenLabels]:
    """Yes or no of each class, with what people found on an image in the place of what was given."""
    questions = [given_labels(column.astype(np.int64), 2) for column in is_given.T]
    rows = np.array([row for row, sample in enumerate(ids) if sample in looked_at], dtype=np.int64)
    if not len(rows):
        return questions
    answers = _answers([looked_at[ids[row]] for row in rows.tolist()], classes).astype(np.int64)
    is_drawn = np.array([sample in drawn for sample in ids])
    for k, labels in enumerate(questions):
        votes, candidates = labels.votes.copy(), labels.candidates.copy()
        votes[rows] = one_hot(answers[:, k], 2)
        candidates[rows] = votes[rows] > 0
        questions[k] = GivenLabels(votes, candidates, labels.votes, is_drawn if is_drawn.any() else None)
    return questions


def _answers(label_sets: Any, classes: Sequence[Any]) -> BoolArray:
    """Whether each class was given, bool, shape (N, K)."""
    if is_table(label_sets):
        names = getattr(label_sets, "columns", None)
        table = np.asarray(label_sets).astype(bool)
        return table if names is None else table[:, class_indices(classes, list(names))]
    answers = np.zeros((len(label_sets), len(classes)), dtype=bool)
    for row, names in enumerate(label_sets):
        answers[row, class_indices(list(names), classes)] = True
    return answers


def learn_answers(
    shards: Sequence[Shard],
    questions: Sequence[Sequence[Path | ShardLabels]],
    config: CleaningConfig,
    *,
    seed: int,
    folder: Path,
    digest: str,
    device: str = "cpu",
    each: Each = map,
) -> Iterator[Taught]:
    """Yield the teacher of each question of yes or no; features, neighbours and X'X are those of the first.

    Args:
        shards: The feature shards.
        questions: For each class the labels of every shard, answers 0 and 1, or the files that hold them.
        config: Sections `neighbours`, `teacher` and `gates` are read; the power of the features is chosen by all questions.
        seed: Draws the bootstrap of the stability check.
        folder: Where checkpoints lie, a folder for each question.
        digest: Of everything that a result hangs on.
        device: Torch device of sums and neighbour search.
        each: Applies a function to all shards: `map`, or a cluster.

    Yields:
        The teachers, in the order of the questions.
    """
    rows = choice_rows(config, 2)
    samples = [choose_sample(labels, 2, rows) for labels in questions]
    answers = [chosen.labels for chosen in samples]
    power = choose_power(read_sample(shards, samples[0]), samples[0].keys, answers, config)
    config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"power": power})})
    setting = Setting(config, seed, rows, folder, digest, device, each, num_questions=len(questions))
    first: Taught | None = None
    for number, labels in enumerate(questions):
        asked = replace(setting, folder=folder / f"class-{number:05d}")
        taught = learn_teacher(Labelled(shards, labels, 2), asked, like=first)
        first = first or taught
        yield taught


def _by_features(
    features: npt.NDArray[Any],
    ids: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    questions: Sequence[GivenLabels],
    config: CleaningConfig,
    seed: int,
) -> Iterator[Refinement]:
    """Each question's answer, all of one feature space."""
    if faults := setting_faults(config, len(features), 2):
        raise ConfigError(f"clean_label_sets: {'; '.join(faults)}.")
    keys = sample_keys(ids, groups, num_folds=config.teacher.folds, seed=seed)
    rows = choice_rows(config, 2)
    parts = array_parts(len(features), rows)
    known = [[shard_labels(labels.take(at), keys.take(at)) for at in parts] for labels in questions]
    with TemporaryDirectory(prefix="labelclean-") if len(features) > rows else nullcontext("") as folder:
        shards = array_shards(features, parts)
        for taught in learn_answers(shards, known, config, seed=seed, folder=Path(folder), digest="in memory"):
            learned = learn_student(taught, config)
            yield learned.refinement if taught.chosen.is_whole else everyone(learned)[1]


def _by_own_model(
    columns: Sequence[npt.NDArray[Any]], questions: Sequence[GivenLabels], config: CleaningConfig
) -> Iterator[Refinement]:
    """Each question's answer from the probabilities of the user's own model."""
    for present, labels in zip(columns, questions, strict=True):
        probs = np.stack([1.0 - present, present], axis=1).astype(np.float64)
        yield refine_labels(None, labels, teacher_from_pred_probs(probs, labels, config), config)


def _cleaned(
    ids: Sequence[Hashable],
    classes: list[Any],
    is_given: BoolArray,
    questions: Sequence[GivenLabels],
    refinements: tuple[Refinement | None, ...],
) -> CleanedLabelSets:
    """The answers of all questions side by side."""
    import pandas as pd

    soft = np.stack([labels.votes[:, PRESENT] for labels in questions], axis=1)
    scores, is_issue = np.ones(soft.shape, dtype=np.float32), np.zeros(soft.shape, dtype=bool)
    is_predicted = soft > 0.5
    for k, refinement in enumerate(refinements):
        if refinement is not None:
            soft[:, k], scores[:, k] = refinement.soft_labels[:, PRESENT], refinement.label_scores
            is_issue[:, k], is_predicted[:, k] = refinement.is_label_issue, refinement.predicted == PRESENT
    table = pd.DataFrame(
        {
            "sample_id": ids,
            "given_labels": _names(is_given, classes),
            "predicted_labels": _names(is_predicted, classes),
            "missing_labels": _names(is_issue & ~is_given, classes),
            "spurious_labels": _names(is_issue & is_given, classes),
            "label_score": scores.min(axis=1),
            "is_label_issue": is_issue.any(axis=1),
        }
    )
    return CleanedLabelSets(table, soft, scores, is_issue, is_given, classes, refinements)


def _names(answers: BoolArray, classes: Sequence[Any]) -> list[list[Any]]:
    """Names of the classes that are answered with yes, in class order."""
    return [[classes[k] for k in np.flatnonzero(row).tolist()] for row in answers]
