"""What a trial says of the whole data set: its own points, with the doubt of having drawn a part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from labelclean.config import Config
from labelclean.labels import given_labels
from labelclean.noise.tally import tally_of
from labelclean.noise.trust import fit_trust
from labelclean.runs.outputs import gain_record
from labelclean.trial.poc import _gain, _wrong

CONFIG = Config.model_validate(
    {
        "data": {"labels": "labels.parquet"},
        "backbone": {"name": "resnet10t"},
        "run": {"seed": 0},
        "storage": {"runs": "runs", "cache": "cache"},
    }
)


def refined() -> Any:
    """200 labels of two classes, of which the student contradicts 20."""
    given = np.repeat([0, 1], 100)
    sure = np.full(200, 0.95)
    sure[::10] = 0.05
    probs = np.where(given[:, None] == np.arange(2), sure[:, None], 1 - sure[:, None]).astype(np.float32)
    labels = given_labels(given, 2)
    trust = fit_trust(probs, probs, labels, np.array([[0.9, 0.1], [0.1, 0.9]]))
    judged = trust.judge(probs, probs, labels)
    return SimpleNamespace(tally=tally_of(labels, judged, probs), trust=trust, judged=judged)


def test_a_trial_of_everything_promises_what_a_run_would() -> None:
    found = refined()
    run, trial = gain_record(found.tally, found.trust.readings), _gain(found, CONFIG, 200)
    assert run["num_changed"] == 20
    assert {name: trial[name] for name in run} == run


def test_a_trial_of_a_part_doubts_more_and_counts_for_all() -> None:
    found = refined()
    whole, part = _gain(found, CONFIG, 200), _gain(found, CONFIG, 20_000)
    assert part["low"] < whole["low"] < part["points"] == whole["points"] < whole["high"] < part["high"]
    assert part["num_changed"] == 2_000
    # a change of 20 in 200 labels by about one: a share of .1, whose standard error is sqrt(.1 * .9 / 200), at 1.96
    gain = found.trust.readings.beliefs.soft @ found.judged.reading_gains.sum(axis=1) / 20
    doubt = 196 * gain * np.sqrt(0.1 * 0.9 / 200) * np.sqrt(1 - 0.01)
    assert part["points"] - part["low"] == pytest.approx(np.hypot(whole["points"] - whole["low"], doubt), abs=0.02)


@pytest.mark.parametrize(("audit_samples", "wanted", "queued"), [(30, 30, 30), (0, 30, 0), (50, 40, 40)])
def test_a_trial_says_how_many_looks_changes_wait_for(audit_samples: int, wanted: int, queued: int) -> None:
    config = CONFIG.model_copy(update={"review": CONFIG.review.model_copy(update={"audit_samples": audit_samples})})
    found = _gain(refined(), config, 40)
    assert (found["num_wanted"], found["num_queued"], found["num_looks"]) == (wanted, queued, 0)


def test_the_share_of_wrong_labels_is_that_of_all_usable_ones() -> None:
    found = _wrong({"errors_low": 10.0, "errors_high": 900.0, "error_share": 0.1, "num_usable": 1000.0})
    assert (found.low, found.high, found.num_more) == (0.01, 0.9, 30)
    assert found.high_after < 0.3
