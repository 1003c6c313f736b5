"""Several labels on one image: planted errors, hand-made limits, and the same answers as one question alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import labelclean
from labelclean.cleaning.clean import clean_labels
from labelclean.cleaning.several import CleanedLabelSets, clean_label_sets
from labelclean.errors import TableError

NAMES = ["crack", "dent", "scratch"]
SIZE = 900


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of defects that add up on an image, which defects there are, and which were given: 10 % missed, 4 % spurious."""
    random = np.random.default_rng(seed)
    is_there = random.random((SIZE, 3)) < (0.15, 0.3, 0.4)
    features = 4.0 * is_there @ np.eye(3, 16) + random.standard_normal((SIZE, 16))
    flips = random.random(is_there.shape) < np.where(is_there, 0.1, 0.04)
    return features.astype(np.float32), is_there, is_there ^ flips


def sets_of(table: np.ndarray) -> list[list[str]]:
    return [[name for name, yes in zip(NAMES, row, strict=True) if yes] for row in table]


@pytest.fixture(scope="module")
def cleaned() -> CleanedLabelSets:
    features, _, given = planted()
    return clean_label_sets(sets_of(given), features=features, seed=0)


def test_planted_errors_are_found_class_by_class(cleaned: CleanedLabelSets) -> None:
    _, is_there, given = planted()
    is_wrong = given != is_there
    for k in range(3):
        assert (cleaned.is_label_issue[:, k] & is_wrong[:, k]).sum() > 0.85 * is_wrong[:, k].sum()
        assert (cleaned.is_label_issue[:, k] & ~is_wrong[:, k]).sum() < 0.03 * SIZE
    assert ((cleaned.soft_labels > 0.5) == is_there).mean() > (given == is_there).mean() + 0.025


def test_the_table_says_which_are_missing_and_which_too_many(cleaned: CleanedLabelSets) -> None:
    _, _, given = planted()
    rows = cleaned.table
    assert rows["given_labels"].tolist() == sets_of(given)
    for row, missing, spurious in zip(range(SIZE), rows["missing_labels"], rows["spurious_labels"], strict=True):
        wrong = {NAMES[k] for k in np.flatnonzero(cleaned.is_label_issue[row])}
        assert set(missing) | set(spurious) == wrong
        assert not set(missing) & set(rows["given_labels"][row])
        assert set(spurious) <= set(rows["given_labels"][row])
        assert rows["label_score"][row] == cleaned.label_scores[row].min()
    assert rows["is_label_issue"].tolist() == cleaned.is_label_issue.any(axis=1).tolist()


def test_issues_are_listed_worst_first_with_their_direction(cleaned: CleanedLabelSets) -> None:
    issues = cleaned.issues
    assert len(issues) == cleaned.is_label_issue.sum()
    assert issues["label_score"].is_monotonic_increasing
    for _, issue in issues.head(40).iterrows():
        is_given = issue["class_name"] in cleaned.table.set_index("sample_id")["given_labels"][issue["sample_id"]]
        assert issue["direction"] == ("spurious" if is_given else "missing")


def test_each_class_has_its_own_noise_matrix(cleaned: CleanedLabelSets) -> None:
    """10 % of what is there was missed, 4 % of what is not there was given: C knows both, within what 900 samples tell."""
    for refinement in cleaned.refinements:
        assert refinement is not None
        absent, present = refinement.noise_matrix
        assert absent[1] == pytest.approx(0.04, abs=0.03)
        assert present[0] == pytest.approx(0.1, abs=0.06)


def test_one_class_alone_is_what_two_classes_are() -> None:
    """The limit case: one question is a run of two classes."""
    features, _, given = planted()
    alone = clean_label_sets(given[:, [1]], features=features, class_names=["dent"], seed=0)
    pair = clean_labels(given[:, 1].astype(int), features=features, seed=0)
    np.testing.assert_allclose(alone.label_scores[:, 0], pair.table["label_score"], atol=1e-6)
    np.testing.assert_array_equal(alone.is_label_issue[:, 0], pair.table["is_label_issue"])
    np.testing.assert_allclose(alone.soft_labels[:, 0], pair.soft_labels[:, 1], atol=1e-6)


def test_more_samples_than_decide_are_judged_in_passes() -> None:
    features, is_there, given = planted()
    config = {"teacher": {"choice_rows": 400}}
    cleaned = clean_label_sets(sets_of(given), features=features, seed=0, config=config)
    is_wrong = given != is_there
    assert (cleaned.is_label_issue & is_wrong).sum() > 0.8 * is_wrong.sum()
    assert (cleaned.is_label_issue & ~is_wrong).sum() < 0.09 * SIZE


def test_what_questions_share_does_not_change_an_answer() -> None:
    """In passes too, features, neighbours and X'X of the first question serve the second: as if it were asked alone."""
    features, _, given = planted()
    config = {"teacher": {"choice_rows": 400, "power": 1.0}}
    both = clean_label_sets(given[:, :2], features=features, class_names=NAMES[:2], seed=0, config=config)
    alone = clean_label_sets(given[:, [1]], features=features, class_names=NAMES[1:2], seed=0, config=config)
    np.testing.assert_allclose(both.label_scores[:, 1], alone.label_scores[:, 0], atol=1e-6)


def test_sets_and_tables_and_frames_say_the_same() -> None:
    _, is_there, given = planted()
    probs = np.where(is_there, 0.9, 0.05)
    cleaned = clean_label_sets(sets_of(given), pred_probs=probs, seed=0)
    frame = pd.DataFrame(given[:, ::-1].astype(int), columns=NAMES[::-1])
    for labels, names in ((frame, NAMES), (given, NAMES), ([set(row) for row in sets_of(given)], None)):
        again = clean_label_sets(labels, pred_probs=probs, class_names=names, seed=0)
        np.testing.assert_array_equal(again.label_scores, cleaned.label_scores)
        assert again.class_names == NAMES


def test_a_users_own_probabilities_are_taken() -> None:
    _, is_there, given = planted()
    probs = np.where(is_there, 0.9, 0.05)
    cleaned = clean_label_sets(sets_of(given), pred_probs=probs, seed=0)
    is_wrong = given != is_there
    assert (cleaned.is_label_issue & is_wrong).sum() > 0.95 * is_wrong.sum()
    assert (cleaned.is_label_issue & ~is_wrong).sum() == 0


def test_what_people_found_stands_and_is_no_issue() -> None:
    features, is_there, given = planted()
    wrong = np.flatnonzero((given != is_there).any(axis=1))[:20]
    found = {str(row): sets_of(is_there)[row] for row in wrong}
    cleaned = clean_label_sets(sets_of(given), features=features, verified=found, seed=0)
    assert not cleaned.is_label_issue[wrong].any()
    assert [cleaned.table["predicted_labels"][row] for row in wrong] == list(found.values())


def test_a_class_on_no_image_stands_and_is_told() -> None:
    features, _, given = planted()
    with pytest.warns(UserWarning, match="'stain' is on all images or on none"):
        cleaned = clean_label_sets(sets_of(given), features=features, class_names=[*NAMES, "stain"], seed=0)
    assert cleaned.refinements[3] is None
    assert not cleaned.is_label_issue[:, 3].any()
    assert (cleaned.soft_labels[:, 3] == 0).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"given_labels": ["dent"] * SIZE}, "With one label per image use clean_labels"),
        ({"given_labels": [[1], ["dent"]] * (SIZE // 2)}, "all strings or all integers"),
        ({"given_labels": [[2.5]] * SIZE}, "must be strings or integers"),
        ({"given_labels": [[]] * SIZE}, "name none"),
        ({"given_labels": np.full((SIZE, 3), 2), "class_names": NAMES}, "as 0 and 1"),
        ({"given_labels": np.zeros((SIZE, 2)), "class_names": NAMES}, "one column per class, 3, but have 2"),
        ({"given_labels": np.zeros((SIZE, 2))}, "name its columns in class_names"),
        ({"class_names": ["dent"]}, "lack 'crack', 'scratch'"),
        ({"class_names": [*NAMES, "dent"]}, "1 are repeated"),
        ({"features": None}, "One of features and pred_probs is needed"),
        ({"features": np.zeros((3, 4), dtype=np.float32)}, "one row per label"),
        ({"features": None, "pred_probs": np.full((SIZE, 3), 1.5)}, "within 0 and 1"),
        ({"features": None, "pred_probs": np.full((SIZE, 2), 0.5)}, "one column per class"),
        ({"sample_ids": ["a"] * SIZE}, "must be distinct"),
        ({"verified": {"nobody": ["dent"]}}, "not among them: 'nobody'"),
        ({"verified": {"0": "dent"}}, "as a collection"),
        ({"verified": {"0": ["stain"]}}, "lack 'stain'"),
    ],
)
def test_bad_input_is_told(change: dict[str, Any], sentence: str) -> None:
    features, _, given = planted()
    arguments: dict[str, Any] = {"given_labels": sets_of(given), "features": features} | change
    with pytest.raises(TableError, match="clean_label_sets") as caught:
        clean_label_sets(arguments.pop("given_labels"), **arguments, seed=0)
    assert sentence in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(TableError) as caught:
        clean_label_sets([["dent"], []], sample_ids=["a", "a"], groups=["g"], seed=0)
    for sentence in ("must be distinct", "groups must have one entry", "One of features"):
        assert sentence in str(caught.value)


def test_it_is_a_public_name() -> None:
    assert labelclean.clean_label_sets is clean_label_sets
