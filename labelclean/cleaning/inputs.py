"""Checks what `clean_labels` is handed and lists every fault at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, TableError, listed
from labelclean.labels import in_class_order

AnyArray = npt.NDArray[Any]
PROB_TOLERANCE = 1e-3


def class_names_of(names: AnyArray) -> list[Any]:
    """Return the distinct labels, numbers by their value, as plain Python strings or integers.

    Args:
        names: Labels, any shape.

    Returns:
        The K class names.
    """
    return in_class_order(distinct_values(names))


def distinct_values(names: AnyArray) -> list[Any]:
    """Return the distinct values of an array, those apart that are equal but of another type, as 1 and True are.

    Args:
        names: Any values, any shape.

    Returns:
        Plain Python values, each once where they can be hashed, in the order in which they come.
    """
    values = [plain(name) for name in names.ravel().tolist()] if names.dtype == object else names.ravel().tolist()
    try:
        return [value for _, value in dict.fromkeys(zip(map(type, values), values, strict=True))]
    except TypeError:  # what cannot be hashed is no label; the caller says so
        return values


def label_array(given_labels: Any) -> AnyArray:
    """Return labels as an array in which what is not text stays what it is.

    Args:
        given_labels: Labels, any shape.

    Returns:
        The array; of objects where numpy would have made text of a missing value or a number.
    """
    names = np.asarray(given_labels)
    if names.dtype.kind not in "US" or isinstance(given_labels, np.ndarray):
        return names
    objects = np.asarray(given_labels, dtype=object)
    return names if set(map(type, objects.ravel())) <= {str, bytes, np.str_, np.bytes_} else objects


def known_classes(names: AnyArray, class_names: Sequence[Any] | None) -> list[Any]:
    """Return the class list: the user's own, or the distinct labels in order; empty where the labels cannot be used.

    Args:
        names: Labels, any shape.
        class_names: The user's own list, or None.

    Returns:
        The K class names.
    """
    if _label_faults(names):
        return []
    return class_names_of(names) if class_names is None else [plain(name) for name in class_names]


def cleaning_settings(config: CleaningConfig | Mapping[str, Any] | None) -> CleaningConfig:
    """Return the configuration as a checked model.

    Args:
        config: A model, a mapping of its sections, or None for the defaults.

    Returns:
        The model.

    Raises:
        ConfigError: If the mapping has unknown keys or values out of range; all faults are listed.
    """
    if isinstance(config, CleaningConfig):
        return config
    try:
        return CleaningConfig.model_validate(dict(config or {}))
    except ValidationError as fault:
        faults = [f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in fault.errors()]
        raise ConfigError(f"config of clean_labels: {'; '.join(faults)}.") from None


def check_inputs(
    names: AnyArray,
    features: AnyArray | None,
    pred_probs: AnyArray | None,
    sample_ids: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    looked_at: Mapping[Hashable, Any] | None = None,
    class_names: Sequence[Any] | None = None,
    faults: Sequence[str] = (),
) -> None:
    """Refuse inputs that do not fit together.

    Args:
        names: Label of each sample, strings or integers, shape (N,), or (N, M) of M inspectors.
        features: Must be finite numbers of shape (N, D), or None.
        pred_probs: Must be probabilities of shape (N, K), or None; one of the two is needed.
        sample_ids: Must be N distinct ids.
        groups: Must be N ids, or None.
        looked_at: Classes that people found, by sample id; ids and classes must be known. Default: nobody looked.
        class_names: The K classes, distinct, with all that the labels name. Default: those of the labels.
        faults: What is known to be wrong already.

    Raises:
        TableError: If anything is wrong; all faults stand in one message.
    """
    label_faults = _label_faults(names, sample_ids)
    classes = [] if label_faults else known_classes(names, class_names)
    faults = [*faults, *label_faults, *([] if label_faults else _class_faults(names, classes))]
    if features is None and pred_probs is None:
        faults.append("One of features and pred_probs is needed, but both are None.")
    if len(classes) == 1 and (features is None or pred_probs is not None):
        faults.append(
            f"given_labels hold one class, {str(classes[0])!r}: its images are ranked by features alone, so features are needed "
            "and pred_probs must be None."
        )
    faults += length_faults({"sample_ids": sample_ids, "groups": groups}, len(names) if names.ndim else 0)
    faults += distinct_faults(sample_ids)
    if features is not None:
        faults += feature_faults(features, len(names) if names.ndim else 0, sample_ids)
    if pred_probs is not None:
        faults += _prob_faults(pred_probs, len(names) if names.ndim else 0, len(classes), sample_ids)
    if looked_at and not faults:
        faults += _looked_at_faults(looked_at, sample_ids, classes)
    if faults:
        raise TableError("clean_labels: " + " ".join(faults))


def plain(name: Any) -> Any:
    """Return a name as a plain Python value."""
    return name.item() if isinstance(name, np.generic) else name


def _label_faults(names: AnyArray, sample_ids: Sequence[Hashable] = ()) -> list[str]:
    """What is wrong with the labels themselves."""
    if names.ndim not in (1, 2) or not names.size:
        return [f"given_labels must have shape (N,) or, of M inspectors, (N, M), but has shape {names.shape}."]
    values = distinct_values(names)
    if any(_is_missing(value) for value in values):
        missing = np.array([_is_missing(plain(value)) for value in names.ravel().tolist()])
        is_missing = np.asarray(missing.reshape(len(names), -1).any(axis=1))
        return [
            f"given_labels must hold a label for every sample, but {int(is_missing.sum()):,} have none: "
            f"{names_of(is_missing, sample_ids)}. Leave these out."
        ]
    if any(not isinstance(value, (str, int)) for value in values):
        odd = [str(value) for value in map(plain, names.ravel().tolist()) if not isinstance(value, (str, int))]
        return [f"given_labels must be strings or integers, but {len(odd):,} are not: {listed(odd)}."]
    if len({isinstance(value, str) for value in values}) > 1:
        return ["given_labels must be all strings or all integers, but hold both."]
    return []


def _is_missing(value: Any) -> bool:
    """None, NaN, and the missing values of pandas, which is not imported for it."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _class_faults(names: AnyArray, classes: Sequence[Any]) -> list[str]:
    """What is wrong with the class list."""
    faults = []
    if twice := [str(name) for name, count in Counter(classes).items() if count > 1]:
        faults.append(f"class_names must be distinct, but {len(twice):,} are repeated: {listed(twice)}.")
    if strangers := [str(name) for name in class_names_of(names) if name not in set(classes)]:
        faults.append(f"class_names must hold every class of given_labels, but lack {listed(strangers)}.")
    return faults


def _looked_at_faults(
    looked_at: Mapping[Hashable, Any], sample_ids: Sequence[Hashable], class_names: Sequence[Any]
) -> list[str]:
    """What is wrong with the classes that people found."""
    strangers = [str(sample) for sample in looked_at if sample not in set(sample_ids)]
    unknown = sorted({str(name) for name in looked_at.values() if plain(name) not in class_names})
    faults = []
    if strangers:
        faults.append(
            f"verified and audited must name sample_ids, but {len(strangers):,} are not among them: {listed(strangers)}."
        )
    if unknown:
        faults.append(f"verified and audited must hold classes of given_labels, but hold {listed(unknown)}.")
    return faults


def length_faults(columns: Mapping[str, Sized | None], num_samples: int) -> list[str]:
    """Return what is wrong with the lengths of columns that are there."""
    return [
        f"{name} must have one entry per label, {num_samples:,}, but has {len(values):,}."
        for name, values in columns.items()
        if values is not None and len(values) != num_samples
    ]


def distinct_faults(sample_ids: Sequence[Hashable]) -> list[str]:
    """Return what is wrong with ids that must be distinct."""
    if len(set(sample_ids)) == len(sample_ids):
        return []
    twice = [str(value) for value, count in Counter(sample_ids).items() if count > 1]
    return [f"sample_ids must be distinct, but {len(twice):,} are repeated: {listed(twice)}."]


def feature_faults(features: AnyArray, num_samples: int, sample_ids: Sequence[Hashable]) -> list[str]:
    """Return what is wrong with features that must be finite numbers, shape (N, D)."""
    if features.ndim != 2 or features.dtype.kind not in "fiu" or features.shape[1] == 0:
        return [f"features must be numbers of shape (N, D), but are {features.dtype} of shape {features.shape}."]
    if len(features) != num_samples:
        return [f"features must have one row per label, {num_samples:,}, but have {len(features):,}."]
    is_bad = np.asarray(~np.isfinite(features).all(axis=1))
    if is_bad.any():
        where = names_of(is_bad, sample_ids)
        return [f"features must be finite, but {int(is_bad.sum()):,} rows hold NaN or infinity: {where}."]
    return []


def _prob_faults(probs: AnyArray, num_samples: int, num_classes: int, sample_ids: Sequence[Hashable]) -> list[str]:
    if probs.ndim != 2 or probs.dtype.kind != "f":
        return [f"pred_probs must be floats of shape (N, K), but are {probs.dtype} of shape {probs.shape}."]
    if len(probs) != num_samples or (num_classes and probs.shape[1] != num_classes):
        wanted = (num_samples, num_classes or "K")
        return [f"pred_probs must have shape {wanted}, one column per class in their order, but have {probs.shape}."]
    if not np.isfinite(probs).all() or (probs < 0).any():
        is_bad = np.asarray(~np.isfinite(probs).all(axis=1) | (probs < 0).any(axis=1))
        where = names_of(is_bad, sample_ids)
        return [f"pred_probs must be finite and not negative, but {int(is_bad.sum()):,} rows are not: {where}."]
    sums = probs.sum(axis=1, dtype=np.float64)
    is_bad = np.asarray(np.abs(sums - 1.0) > PROB_TOLERANCE)
    if is_bad.any():
        worst = float(sums[np.abs(sums - 1.0).argmax()])
        where = names_of(is_bad, sample_ids)
        return [f"pred_probs rows must sum to 1, but {int(is_bad.sum()):,} do not (one sums to {worst:.4g}): {where}."]
    return []


def names_of(is_bad: npt.NDArray[np.bool_], sample_ids: Sequence[Hashable]) -> str:
    """Return where the bad rows are: the first ids, or their rows where ids cannot be used."""
    if len(sample_ids) != len(is_bad):
        return f"rows {listed([str(row) for row in np.flatnonzero(is_bad)])}"
    return f"sample_ids {listed([str(sample_ids[int(row)]) for row in np.flatnonzero(is_bad)])}"
