"""Everything that `clean_labels` refuses, by message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labelclean.cleaning.inputs import check_inputs, class_names_of, cleaning_settings
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, TableError

NAMES = np.array(["ok", "dent", "ok", "dent"])
IDS = ["a", "b", "c", "d"]
FEATURES = np.ones((4, 2))
PROBS = np.full((4, 2), 0.5)


def with_bad(array: np.ndarray, value: float) -> np.ndarray:
    bad = array.copy()
    bad[2, 0] = value
    return bad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": np.full((4, 1, 1), "ok")}, r"shape \(N,\) or, of M inspectors, \(N, M\), but has shape \(4, 1, 1\)"),
        ({"names": np.array([1.5, 2.0, 1.5, 2.0])}, "strings or integers, but 4 are not: '1.5'"),
        (
            {"names": np.array(["ok", None, "ok", "dent"], dtype=object)},
            "a label for every sample, but 1 have none: sample_ids 'b'",
        ),
        ({"names": np.array(["ok", 3, "ok", "dent"], dtype=object)}, "all strings or all integers"),
        (
            {"names": np.array(["ok"] * 4), "pred_probs": PROBS[:, :1]},
            "hold one class, 'ok': its images are ranked by features",
        ),
        ({"features": None}, "One of features and pred_probs is needed"),
        ({"features": np.ones(4)}, r"numbers of shape \(N, D\), but are float64 of shape \(4,\)"),
        ({"features": np.ones((3, 2))}, "one row per label, 4, but have 3"),
        ({"features": with_bad(FEATURES, np.nan)}, "1 rows hold NaN or infinity: sample_ids 'c'"),
        ({"features": with_bad(FEATURES, np.inf)}, "1 rows hold NaN or infinity: sample_ids 'c'"),
        ({"pred_probs": np.full((4, 3), 1 / 3)}, r"must have shape \(4, 2\)"),
        ({"pred_probs": np.ones((4, 2), dtype=int)}, "must be floats"),
        ({"pred_probs": with_bad(PROBS, 0.7)}, r"must sum to 1, but 1 do not \(one sums to 1.2\): sample_ids 'c'"),
        ({"pred_probs": with_bad(PROBS, -0.5)}, "not negative, but 1 rows are not: sample_ids 'c'"),
        ({"sample_ids": ["a", "b", "a", "d"]}, "sample_ids must be distinct, but 1 are repeated: 'a'"),
        ({"sample_ids": ["a", "b"]}, "sample_ids must have one entry per label, 4, but has 2"),
        ({"groups": ["g"]}, "groups must have one entry per label, 4, but has 1"),
    ],
)
def test_a_fault_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    inputs = {"names": NAMES, "features": FEATURES, "pred_probs": None, "sample_ids": IDS, "groups": None} | changes
    with pytest.raises(TableError, match=message):
        check_inputs(**inputs)


def test_all_faults_stand_in_one_message() -> None:
    with pytest.raises(TableError) as caught:
        check_inputs(NAMES, np.ones((3, 2)), PROBS[:2], ["a"] * 4, ["g"])
    for part in ("sample_ids", "groups", "features", "pred_probs"):
        assert part in str(caught.value)


def test_sound_inputs_pass() -> None:
    check_inputs(NAMES, FEATURES, PROBS, IDS, ["g", "g", "h", "h"])


def test_class_names_are_sorted_and_keep_their_kind() -> None:
    assert class_names_of(np.array([10, 9, 10], dtype=np.int16)) == [9, 10]
    assert class_names_of(np.array(["b", "a"])) == ["a", "b"]
    assert type(class_names_of(np.array([10, 9]))[0]) is int


def test_settings_come_from_a_mapping_a_model_or_nothing() -> None:
    model = CleaningConfig()
    assert cleaning_settings(model) is model
    assert cleaning_settings(None) == model
    assert cleaning_settings({"teacher": {"folds": 3}}).teacher.folds == 3


def test_unknown_settings_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"teacher\.fold:.*refine\.method:"):
        cleaning_settings({"teacher": {"fold": 3}, "refine": {"method": "magic"}})
