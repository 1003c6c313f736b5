"""From sums and features to soft labels, predicted labels and label scores: the one place where layer 2 meets."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import Float32Array, IntArray
from labelclean.cleaning.alignment import columns_in_order, in_label_order, order_fault
from labelclean.cleaning.chance import Unvouched, alone_sentence
from labelclean.cleaning.inputs import check_inputs, cleaning_settings, known_classes, label_array
from labelclean.cleaning.memory import choice_rows
from labelclean.cleaning.population import Labelled, Setting, learn_student, learn_teacher, setting_faults
from labelclean.cleaning.shard_labels import shard_labels
from labelclean.cleaning.shards import HeldShard
from labelclean.cleaning.student import Refinement, refine_labels
from labelclean.cleaning.teacher import Teacher, teacher_from_pred_probs
from labelclean.cleaning.verdicts import everyone
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, TableError
from labelclean.labels import GivenLabels, class_indices, one_hot
from labelclean.probes.feature_space import numbered_keys, sample_keys

if TYPE_CHECKING:
    import pandas as pd

SHARD_ROWS = 100_000


@dataclass(frozen=True)
class CleanedLabels:
    """What `clean_labels` returns.

    Attributes:
        table: Frame `sample_id, given_label, predicted_label, label_score, is_label_issue`, in the order of the input.
        soft_labels: float32, shape (N, K), columns in the order of ``class_names``.
        class_names: The K class names in order.
        learned: Teacher and refinement; None with one class, for nothing is learned of it.
    """

    table: pd.DataFrame
    soft_labels: Float32Array
    class_names: list[Any]
    learned: tuple[Teacher, Refinement] | None

    @property
    def refinement(self) -> Refinement:
        """All other results.

        Raises:
            ValueError: With one class.
        """
        return self._learned()[1]

    @property
    def teacher(self) -> Teacher:
        """The teacher behind them.

        Raises:
            ValueError: With one class.
        """
        return self._learned()[0]

    def _learned(self) -> tuple[Teacher, Refinement]:
        if self.learned is None:
            raise ValueError(
                "with one class nothing is learned; its images are ranked by the column label_score of the table."
            )
        return self.learned


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
            M inspectors, of whom the most frequent label (the first of equals) counts as the given one. With one class
            images are ranked by how little they look like the others, and no label is suggested.
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
        config: Sections `neighbours`, `teacher`, `refine`, `gates`; default: the defaults. The gates of a run are not
            asked here: `refine.method: two_hot`, which they refuse where the errors of two classes go to each other,
            cannot tell these two apart.

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
    if len(classes) == 1 and matrix is not None:
        return _one_class(names, matrix, ids, groups, looked_at, classes, settings, seed)
    labels = _labels_as_known(names, classes, ids, looked_at, set(audited or {}))
    given = labels.observed.argmax(axis=1)
    if probs is not None and not is_named and (fault := order_fault(probs, given, classes)):
        raise TableError(f"clean_labels: {fault}")
    unvouched = None
    if matrix is None:
        teacher = teacher_from_pred_probs(np.asarray(probs, dtype=np.float64), labels, settings)
        refinement = refine_labels(None, labels, teacher, settings)
    else:
        own = None if probs is None else np.asarray(probs, dtype=np.float32)
        own_keys = None if sample_ids is None and groups is None else (ids, groups)
        teacher, refinement, unvouched = _cleaned(matrix, own, own_keys, labels, settings, seed)
    if groups is not None and unvouched is not None and len(unvouched.classes):
        sentence = alone_sentence([classes[k] for k in unvouched.classes.tolist()])
        warnings.warn(f"clean_labels: {sentence}", stacklevel=2)
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
    return CleanedLabels(table, refinement.soft_labels, classes, (teacher, refinement))


def _one_class(
    names: npt.NDArray[Any],
    features: npt.NDArray[Any],
    ids: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    looked_at: Mapping[Hashable, Any],
    classes: list[Any],
    config: CleaningConfig,
    seed: int,
) -> CleanedLabels:
    """Images of one class, ranked by how little they look like the others."""
    import pandas as pd

    from labelclean.cleaning.one_class import judge_odd, measure_oddity

    num = len(ids)
    keys = sample_keys(ids, groups, num_folds=config.teacher.folds, seed=seed)
    rows = choice_rows(config, 1)
    parts = array_parts(num, rows)
    labels = [shard_labels(np.zeros(len(at), dtype=np.int64), keys.take(at)) for at in parts]
    with TemporaryDirectory(prefix="labelclean-") if num > rows else nullcontext("") as folder:
        shards = array_shards(features, parts)
        oddity = measure_oddity(shards, labels, config, sample_rows=rows, folder=Path(folder), digest="in memory")
    settled = np.array([one in looked_at for one in ids], dtype=bool)
    judged = judge_odd(oddity.values, settled, config.neighbours.odd_share)
    label = np.array(classes, dtype=None if names.dtype.kind in "US" else names.dtype)[np.zeros(num, dtype=np.int64)]
    table = pd.DataFrame(
        {
            "sample_id": ids,
            "given_label": label,
            "predicted_label": label,
            "label_score": judged.label_scores,
            "is_label_issue": judged.is_label_issue,
        }
    )
    return CleanedLabels(table, judged.soft_labels, classes, None)


def _cleaned(
    features: npt.NDArray[Any],
    pred_probs: npt.NDArray[Any] | None,
    own_keys: tuple[Sequence[Hashable], Sequence[Hashable] | None] | None,
    labels: GivenLabels,
    config: CleaningConfig,
    seed: int,
) -> tuple[Teacher, Refinement, Unvouched | None]:
    """Teacher and student of all samples, and what nothing can vouch for; of more than `teacher.choice_rows`, from passes over parts of the features."""
    num_samples, num_classes, num_folds = len(labels), labels.num_classes, config.teacher.folds
    rows = choice_rows(config, num_classes)
    if faults := setting_faults(config, num_samples, num_classes):
        raise ConfigError(f"clean_labels: {'; '.join(faults)}.")
    if own_keys is None and num_samples > rows:
        keys = numbered_keys(0, num_samples, num_folds=num_folds, seed=seed)
    else:
        ids, groups = own_keys or ([str(row) for row in range(num_samples)], None)
        keys = sample_keys(ids, groups, num_folds=num_folds, seed=seed)
    parts = array_parts(num_samples, rows)
    known = [
        shard_labels(labels.take(at), keys.take(at), pred_probs=None if pred_probs is None else pred_probs[at])
        for at in parts
    ]
    with TemporaryDirectory(prefix="labelclean-") if num_samples > rows else nullcontext("") as folder:
        setting = Setting(config, seed, rows, Path(folder), digest="in memory")
        taught = learn_teacher(Labelled(array_shards(features, parts), known, num_classes), setting)
        learned = learn_student(taught, config)
        whole = (taught.teacher, learned.refinement) if taught.chosen.is_whole else everyone(learned)
        return *whole, taught.unvouched


def array_parts(num_samples: int, sample_rows: int) -> list[IntArray]:
    """Return the rows that make up each part of an array: one part where all samples may decide.

    Args:
        num_samples: N.
        sample_rows: Samples on which choices are made, at most.

    Returns:
        int64, ascending, one after the other.
    """
    step = num_samples if num_samples <= sample_rows else SHARD_ROWS
    return [np.arange(start, min(start + step, num_samples)) for start in range(0, num_samples, step)]


def array_shards(features: npt.NDArray[Any], parts: Sequence[IntArray]) -> list[HeldShard]:
    """Return the parts of features, (N, D), as shards."""
    return [HeldShard(features[at[0] : at[-1] + 1]) for at in parts]


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
    verified = one_hot(class_indices([looked_at[ids[row]] for row in rows.tolist()], class_names), len(class_names))
    after, candidates, is_audited = votes.copy(), labels.candidates.copy(), np.zeros(len(votes), dtype=bool)
    after[rows], candidates[rows] = verified, verified > 0
    is_audited[[row for row in rows.tolist() if ids[row] in drawn]] = True
    return GivenLabels(after, candidates, votes, is_audited if is_audited.any() else None, several)
