"""Checks what `clean_label_sets` is handed and lists every fault at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from labelclean.cleaning.inputs import AnyArray, distinct_faults, feature_faults, length_faults, names_of, plain
from labelclean.errors import TableError, listed
from labelclean.labels import in_class_order


def is_table(label_sets: Any) -> bool:
    """Return whether these are yes and no by class, shape (N, K), and not collections of names."""
    return getattr(label_sets, "ndim", 1) == 2


def classes_of_sets(label_sets: Any, class_names: Sequence[Any] | None) -> list[Any]:
    """Return the class list: the user's own, the columns of a frame, or the distinct names in order.

    Args:
        label_sets: As `clean_label_sets` takes them, good or bad.
        class_names: The user's own list, or None.

    Returns:
        The K class names; empty where the labels name none.
    """
    if class_names is not None:
        return [plain(name) for name in class_names]
    if is_table(label_sets):
        return list(getattr(label_sets, "columns", ()))
    names = [plain(name) for label_set in label_sets if _is_set(label_set) for name in label_set]
    return [] if _mixed(names) else in_class_order(names)


def check_label_sets(
    label_sets: Any,
    features: AnyArray | None,
    pred_probs: AnyArray | None,
    sample_ids: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    looked_at: Mapping[Hashable, Any],
    class_names: Sequence[Any],
    faults: Sequence[str] = (),
) -> None:
    """Refuse inputs that do not fit together.

    Args:
        label_sets: N collections of class names, or yes and no, shape (N, K).
        features: Must be finite numbers of shape (N, D), or None.
        pred_probs: Must be probabilities of shape (N, K), each in [0, 1], or None; one of the two is needed.
        sample_ids: Must be N distinct ids.
        groups: Must be N ids, or None.
        looked_at: All classes that people found, by sample id; ids and classes must be known.
        class_names: The K classes, distinct, with all that the labels name.
        faults: What is known to be wrong already.

    Raises:
        TableError: If anything is wrong; all faults stand in one message.
    """
    size = len(label_sets)
    label_faults = (
        _table_faults(label_sets, class_names) if is_table(label_sets) else _set_faults(label_sets, sample_ids)
    )
    faults = [*faults, *label_faults]
    if twice := [str(name) for name, count in Counter(class_names).items() if count > 1]:
        faults.append(f"class_names must be distinct, but {len(twice):,} are repeated: {listed(twice)}.")
    if not label_faults and not class_names:
        faults.append(
            "given_labels must name at least one class on at least one image, but name none. Name the classes in class_names."
        )
    if not label_faults and not is_table(label_sets):
        faults += _strangers("given_labels", [name for label_set in label_sets for name in label_set], class_names)
    if features is None and pred_probs is None:
        faults.append("One of features and pred_probs is needed, but both are None.")
    faults += length_faults({"sample_ids": sample_ids, "groups": groups}, size) + distinct_faults(sample_ids)
    if features is not None:
        faults += feature_faults(features, size, sample_ids)
    if pred_probs is not None:
        faults += _prob_faults(pred_probs, size, len(class_names), sample_ids)
    if looked_at and not faults:
        faults += _looked_at_faults(looked_at, sample_ids, class_names)
    if faults:
        raise TableError("clean_label_sets: " + " ".join(faults))


def _is_set(value: Any) -> bool:
    """A collection of names, and not one name alone or a table of names."""
    return isinstance(value, Collection | np.ndarray) and not isinstance(value, str | bytes | Mapping)


def _mixed(names: Sequence[Any]) -> bool:
    return len({isinstance(name, str) for name in names}) > 1 or not all(isinstance(name, str | int) for name in names)


def _set_faults(label_sets: Any, sample_ids: Sequence[Hashable]) -> list[str]:
    """What is wrong with collections of names."""
    if not len(label_sets):
        return ["given_labels must hold a collection of class names for every sample, but are empty."]
    is_bad = np.array([not _is_set(label_set) for label_set in label_sets])
    if is_bad.any():
        example = next(label_set for label_set, bad in zip(label_sets, is_bad, strict=True) if bad)
        return [
            f"given_labels must hold a collection of class names for every sample, an empty one where there is nothing, but "
            f"{int(is_bad.sum()):,} do not (one is {example!r}): {names_of(is_bad, sample_ids)}. With one label per image use "
            "clean_labels."
        ]
    names = [plain(name) for label_set in label_sets for name in label_set]
    odd = [repr(name) for name in names if not isinstance(name, str | int)]
    if odd:
        return [f"class names must be strings or integers, but {len(odd):,} are not: {listed(odd)}."]
    if _mixed(names):
        return ["class names must be all strings or all integers, but given_labels hold both."]
    return []


def _table_faults(table: Any, class_names: Sequence[Any]) -> list[str]:
    """What is wrong with a table of yes and no."""
    values = np.asarray(table)
    if not len(values):
        return ["given_labels must hold a row for every sample, but are empty."]
    if not class_names:
        return ["given_labels are a table of yes and no: name its columns in class_names."]
    columns = list(getattr(table, "columns", ()))
    if columns and (lacking := [str(name) for name in class_names if name not in columns]):
        return [f"given_labels must have a column for every class of class_names, but lack {listed(lacking)}."]
    if columns and (strange := [str(name) for name in columns if name not in class_names]):
        return [f"class_names must hold every column of given_labels, but lack {listed(strange)}."]
    if values.shape[1] != len(class_names):
        return [f"given_labels must have one column per class, {len(class_names):,}, but have {values.shape[1]:,}."]
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        return ["a table of given_labels must hold yes and no as booleans or as 0 and 1, but holds other values."]
    return []


def _strangers(what: str, names: Sequence[Any], class_names: Sequence[Any]) -> list[str]:
    known = set(class_names)
    strange = [str(name) for name in in_class_order(plain(name) for name in names) if name not in known]
    return [f"class_names must hold every class of {what}, but lack {listed(strange)}."] if strange else []


def _prob_faults(probs: AnyArray, num_samples: int, num_classes: int, sample_ids: Sequence[Hashable]) -> list[str]:
    if probs.ndim != 2 or probs.dtype.kind != "f":
        return [f"pred_probs must be floats of shape (N, K), but are {probs.dtype} of shape {probs.shape}."]
    if probs.shape != (num_samples, num_classes):
        wanted = (num_samples, num_classes)
        return [f"pred_probs must have shape {wanted}, one column per class in their order, but have {probs.shape}."]
    is_bad = np.asarray(~np.isfinite(probs).all(axis=1) | (probs < 0).any(axis=1) | (probs > 1).any(axis=1))
    if is_bad.any():
        where = names_of(is_bad, sample_ids)
        return [
            f"pred_probs must lie within 0 and 1, each class for itself, but {int(is_bad.sum()):,} rows do not: {where}."
        ]
    return []


def _looked_at_faults(
    looked_at: Mapping[Hashable, Any], sample_ids: Sequence[Hashable], class_names: Sequence[Any]
) -> list[str]:
    """What is wrong with what people found."""
    known, faults = set(sample_ids), []
    if strangers := [str(sample) for sample in looked_at if sample not in known]:
        faults.append(
            f"verified and audited must name sample_ids, but {len(strangers):,} are not among them: {listed(strangers)}."
        )
    if odd := [str(sample) for sample, names in looked_at.items() if not _is_set(names)]:
        return [
            *faults,
            "verified and audited must hold all classes of an image as a collection, empty where there is nothing, but "
            f"{len(odd):,} do not: {listed(odd)}.",
        ]
    return faults + _strangers(
        "verified and audited", [name for label_set in looked_at.values() for name in label_set], class_names
    )
