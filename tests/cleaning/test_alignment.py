"""Probabilities and rows by their names: columns of classes, a pandas index, and columns in a wrong order."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from labelclean.cleaning.alignment import order_fault
from labelclean.cleaning.clean import clean_labels
from labelclean.errors import TableError

NUMBERS = [str(k + 1) for k in range(12)]


def told(num_classes: int, num: int, *, hits: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities of a model that is right in a share of cases and always sure of itself."""
    random = np.random.default_rng(seed)
    given = np.arange(num) % num_classes
    guess = np.where(random.random(num) < hits, given, random.integers(0, num_classes, num))
    return given, np.where(np.arange(num_classes) == guess[:, None], 0.9, 0.1 / (num_classes - 1))


def issues(given: object, probs: object, **more: object) -> pd.Series:
    return clean_labels(given, pred_probs=probs, seed=0, **more).table["is_label_issue"]  # type: ignore[arg-type]


def test_numbers_as_class_names_are_in_the_order_of_numbers() -> None:
    given, probs = told(12, 120, hits=1.0)
    names = np.array(NUMBERS)[given]
    wrong = np.array([5, 40, 77])
    names[wrong] = np.array(NUMBERS)[(given[wrong] + 5) % 12]
    found = clean_labels(names, pred_probs=probs, seed=0)
    assert found.class_names == NUMBERS
    assert np.flatnonzero(found.table["is_label_issue"]).tolist() == [5, 40, 77]


def test_columns_that_name_the_classes_are_taken_by_name() -> None:
    given, probs = told(3, 90, hits=0.9)
    names = np.array(["dent", "ok", "scratch"])[given]
    frame = pd.DataFrame(probs, columns=["dent", "ok", "scratch"])
    by_name = issues(names, frame[["scratch", "dent", "ok"]])
    assert by_name.tolist() == issues(names, probs).tolist()
    with pytest.raises(TableError, match="but name besides 'OK' and lack 'ok'"):
        issues(names, frame.rename(columns={"ok": "OK"}))


def test_rows_are_taken_by_the_sample_ids_or_refused() -> None:
    given, probs = told(3, 90, hits=0.9)
    ids = [f"s{row:02}" for row in range(90)]
    labels = pd.Series(np.array(["dent", "ok", "scratch"])[given], index=ids)
    frame = pd.DataFrame(probs, index=ids)
    shuffled = frame.sample(frac=1, random_state=0)
    assert issues(labels, shuffled, sample_ids=ids).tolist() == issues(labels, frame).tolist()
    with pytest.raises(TableError, match=r"pred_probs must have the index of given_labels, but row \d+ is 's\d+'"):
        issues(labels, shuffled)
    with pytest.raises(
        TableError, match="pred_probs must have the index of features, but row 0 is 's89' in pred_probs"
    ):
        issues(labels.to_numpy(), frame[::-1], features=frame)
    with pytest.raises(TableError, match="features must have the index of given_labels"):
        clean_labels(labels, features=pd.DataFrame(probs), seed=0)


def test_a_class_that_no_label_has_is_named() -> None:
    given, probs = told(4, 80, hits=1.0)
    names = np.array(["a", "b", "scratched", "d"])[given]
    names[names == "scratched"] = "a"
    found = clean_labels(names.astype("<U1"), pred_probs=probs, class_names=["a", "b", "scratched", "d"], seed=0)
    assert found.class_names == ["a", "b", "scratched", "d"]
    assert found.soft_labels.shape == (80, 4)
    assert found.soft_labels[given == 1].argmax(axis=1).tolist() == [1] * 20
    with pytest.raises(TableError, match="class_names must hold every class of given_labels, but lack 'd'"):
        issues(names, probs[:, :3] / probs[:, :3].sum(axis=1, keepdims=True), class_names=["a", "b", "scratched"])


def test_columns_in_the_order_of_the_text_are_refused_with_the_order_that_fits() -> None:
    given, probs = told(12, 120, hits=0.9)
    by_text = np.argsort(NUMBERS)
    with pytest.raises(TableError, match=r"far better .* in the order '1', '10', '11', '12', '2', '3'"):
        issues(np.array(NUMBERS)[given], probs[:, by_text])
    named = pd.DataFrame(probs[:, by_text], columns=np.array(NUMBERS)[by_text])
    assert issues(np.array(NUMBERS)[given], named).sum() < 20


@pytest.mark.parametrize("num_classes", [2, 3, 6, 12])
def test_two_columns_that_changed_places_are_found(num_classes: int) -> None:
    given, probs = told(num_classes, 30 * num_classes, hits=0.8)
    names = [f"c{k:02}" for k in range(num_classes)]
    swapped = probs.copy()
    swapped[:, [0, 1]] = probs[:, [1, 0]]
    assert order_fault(probs, given, names) is None
    assert "in the order 'c01', 'c00'" in str(order_fault(swapped, given, names))


@pytest.mark.parametrize("num_classes", [2, 3, 12, 50])
@pytest.mark.parametrize("hits", [0.0, 0.02, 0.1, 0.3])
def test_weak_predictions_in_the_right_order_are_not_refused(num_classes: int, hits: float) -> None:
    for seed in range(20):
        given, probs = told(num_classes, 400, hits=hits, seed=seed)
        names = [str(k) for k in range(num_classes)]
        assert order_fault(probs, given, names) is None
        sure = np.where(probs > 0.5, 1.0, 0.0)
        assert order_fault(sure, given, names) is None


def test_good_predictions_of_noisy_labels_are_not_refused() -> None:
    true, probs = told(3, 600, hits=0.95)
    given = np.where(np.random.default_rng(1).random(600) < 0.45, (true + 1) % 3, true)
    assert order_fault(probs, given, ["a", "b", "c"]) is None


def test_a_missing_label_is_missing_and_a_class_named_nan_is_told() -> None:
    labels = pd.Series([1, 2] * 3 + [1, None] + [1, 2] * 16, dtype="Int64")
    with pytest.raises(TableError, match="a label for every sample, but 1 have none: sample_ids '7'"):
        clean_labels(labels, features=np.ones((40, 2)), seed=0)
    with pytest.raises(TableError, match="1 have none"):
        clean_labels(np.array(["a", "b", np.nan, "b"], dtype=object).tolist(), features=np.ones((4, 2)), seed=0)
    given, probs = told(2, 40, hits=1.0)
    with pytest.warns(UserWarning, match=r"look like missing values: 'nan' \(20\)"):
        clean_labels(np.array(["nan", "ok"])[given], pred_probs=probs, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean_labels(np.array(["nan", "ok"])[given], pred_probs=probs, class_names=["nan", "ok"], seed=0)


def test_class_names_that_look_alike_are_told_and_columns_of_arrow_are_named() -> None:
    given, probs = told(3, 60, hits=1.0)
    with pytest.warns(UserWarning, match=r"look alike and count as different classes: 'OK' \(20\) and 'ok' \(20\)"):
        clean_labels(np.array(["OK", "dent", "ok"])[given], pred_probs=probs, seed=0)
    table = pa.table({name: probs[:, k] for k, name in ((2, "c"), (0, "a"), (1, "b"))})
    assert not issues(np.array(["a", "b", "c"])[given], table).any()
