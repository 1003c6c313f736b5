"""Brings tables of several libraries into one order: rows by their index, columns of probabilities by their names."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import Float64Array, FloatArray, IntArray
from labelclean.errors import listed

EVERY = 10  # one answer in ten counts as drawn at random: a model that is too sure of itself is judged by its hits
CLEAR_NATS = 7.0  # e^-7, about one in a thousand: how seldom chance alone may look like another order


def in_label_order(
    given_labels: Any, sample_ids: Any | None, others: Mapping[str, Any]
) -> tuple[Any, dict[str, Any], list[str]]:
    """Return the labels and what belongs to them, row by row in one order.

    A pandas index is used where it holds the sample_ids, and must else be that of the labels, or, where these have none,
    one for all; what has no index is taken as it lies.

    Args:
        given_labels: Labels.
        sample_ids: Ids in the order wanted; None: the labels as they lie.
        others: Name -> values with one row per sample, or None.

    Returns:
        Labels, others by name, and what is wrong.
    """
    if sample_ids is not None and not _is_indexed(sample_ids) and _holds(given_labels, sample_ids):
        given_labels = given_labels.loc[list(sample_ids)]
    index, leader = (given_labels.index, "given_labels") if _is_indexed(given_labels) else (None, "")
    ordered, faults = {}, []
    for name, values in {**others, "sample_ids": sample_ids}.items():
        ordered[name] = values
        if not _is_indexed(values) or (index is not None and values.index.equals(index)):
            continue
        if name != "sample_ids" and sample_ids is not None and _holds(values, sample_ids):
            ordered[name] = values.loc[list(sample_ids)]
        elif index is None:
            index, leader = values.index, name
        elif rows := [row for row, (own, other) in enumerate(zip(values.index, index, strict=False)) if own != other]:
            row = rows[0]
            faults.append(
                f"{name} must have the index of {leader}, but row {row} is {values.index[row]!r} in {name} and {index[row]!r} "
                f"in {leader}. Bring it into order with .loc[{leader}.index]; where the rows are in order as they lie, hand "
                "over .to_numpy()."
            )
    return given_labels, ordered, faults


def _is_indexed(values: Any) -> bool:
    """Whether these are a Series or DataFrame of pandas, which is not imported for it."""
    return hasattr(values, "iloc")


def _holds(values: Any, sample_ids: Sequence[Hashable]) -> bool:
    """Whether the index names the samples; rows that pandas only counted name nothing."""
    if not _is_indexed(values) or not values.index.is_unique:
        return False
    own = list(values.index)
    return own != list(range(len(own))) and set(own) >= set(sample_ids)


def columns_in_order(
    probs: Any, class_names: Sequence[Any], *, wanted: str = "class_names="
) -> tuple[npt.NDArray[Any], bool, list[str]]:
    """Return probabilities with their columns in class order, by the names of the columns where they have some.

    Args:
        probs: Probabilities, shape (N, K): an array, or a frame whose columns name the classes.
        class_names: The K class names in order.
        wanted: How classes that no label has are named, for the message.

    Returns:
        The array, whether its columns were named, and what is wrong with the names.
    """
    # Arrow's tables have their columns themselves under the name that the frames have for their names
    names: list[Any] = list(getattr(probs, "column_names", getattr(probs, "columns", ())))
    values = np.asarray(probs)
    if not names or not class_names or values.ndim != 2 or names == list(range(len(names))):
        return values, False, []
    texts, classes = [str(name) for name in names], [str(name) for name in class_names]
    if sorted(texts) == sorted(classes) and len(set(texts)) == len(texts):
        return values[:, [texts.index(name) for name in classes]], True, []
    strange = [name for name in texts if name not in classes]
    missing = [name for name in classes if name not in texts]
    twice = sorted({name for name in texts if texts.count(name) > 1})
    faults = [
        f"{what} {listed(some, 12)}"
        for what, some in (("name besides", strange), ("lack", missing), ("name twice", twice))
        if some
    ]
    fault = (
        f"the columns of pred_probs must name the {len(classes)} classes {listed(classes, 12)}, but {' and '.join(faults)}. "
        f"Name them alike; classes that no label has are named with {wanted}."
    )
    return values, True, [fault]


def order_fault(pred_probs: FloatArray, given: IntArray, class_names: Sequence[Any]) -> str | None:
    """Return what is said where the columns of probabilities are in another order than the classes.

    The order that fits the labels best moves some classes. Judged is only what those probabilities say of a sample that
    has one of these classes: which of them it is. Told is where the columns as they lie say less of it than the bare class
    shares, and the other order so much more that the choice among all orders cannot do it by chance: where probabilities
    say nothing of the labels, the likelihood under an order is as large as under the shares in the mean, so that it is e^n
    times as large in one of e^n cases at most, whatever the model; K! orders, or those that move as many classes, are as
    many chances.

    Args:
        pred_probs: Probabilities, shape (N, K).
        given: Given class of each sample, shape (N,).
        class_names: The K class names in order.

    Returns:
        A sentence with the order that fits, or None.
    """
    from scipy.optimize import linear_sum_assignment

    num_classes = pred_probs.shape[1]
    column_of = linear_sum_assignment(_log_likelihoods(pred_probs, given), maximize=True)[1]
    moved = np.flatnonzero(column_of != np.arange(num_classes))
    concerned = np.isin(given, moved)
    if not concerned.any():
        return None
    among = pred_probs[concerned][:, moved].astype(np.float64)
    among /= np.maximum(among.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    labels, columns = np.searchsorted(moved, given[concerned]), np.searchsorted(moved, column_of[moved])
    fits = _log_likelihoods(among, labels)
    as_they_lie, best = float(fits.trace()), float(fits[np.arange(len(moved)), columns].sum())
    counts = np.bincount(labels, minlength=len(moved))
    shares = float((counts * np.log(np.maximum(counts, 1) / len(labels))).sum())
    if as_they_lie >= shares or best < shares + _log_orders(num_classes, len(moved)) + CLEAR_NATS:
        return None
    order = [str(class_names[k]) for k in np.argsort(column_of)]
    return (
        f"the columns of pred_probs must be in the order of the classes, {listed([str(name) for name in class_names], 15)}, but "
        f"in that order they fit the given labels worse than chance, and far better ({best - as_they_lie:,.0f} nats) in the "
        f"order {listed(order, 15)}. Bring the columns into order, or name them, then the names count."
    )


def _log_orders(num_classes: int, num_moved: int) -> float:
    """Log of how many orders move so many of K classes, at most, times how many such numbers there are."""
    from scipy.special import gammaln

    return float(gammaln(num_classes + 1) - gammaln(num_classes - num_moved + 1) + np.log(num_classes))


def _log_likelihoods(pred_probs: FloatArray, given: IntArray) -> Float64Array:
    """Log-likelihood of the samples of each class under each column, shape (K, K)."""
    num_classes = pred_probs.shape[1]
    fits = np.zeros((num_classes, num_classes))
    for k in np.unique(given):
        probs = pred_probs[given == k].astype(np.float64)
        fits[k] = np.log((1 - 1 / EVERY) * probs + 1 / (EVERY * num_classes)).sum(axis=0)
    return fits
