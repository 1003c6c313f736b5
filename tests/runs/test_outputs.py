"""The summary's numbers of what applying brings."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.labels import given_labels
from labelclean.noise.readings import AuditEvidence, Readings, fit_readings
from labelclean.noise.tally import Tally, tally_of
from labelclean.noise.trust import Trust, fit_trust
from labelclean.runs.outputs import beliefs_record, gain_record


def judged() -> tuple[Tally, Readings]:
    """200 labels of two classes; the student contradicts 20 of them, not too surely."""
    given = np.repeat([0, 1], 100)
    sure = np.full(200, 0.9)
    sure[::10] = 0.2
    probs = np.stack([np.where(given == 0, sure, 1 - sure), np.where(given == 0, 1 - sure, sure)], axis=1)
    labels, matrix = given_labels(given, 2), np.array([[0.9, 0.1], [0.1, 0.9]])
    trust: Trust = fit_trust(probs.astype(np.float32), probs.astype(np.float32), labels, matrix)
    return tally_of(labels, trust.judge(probs.astype(np.float32), probs.astype(np.float32), labels), probs.astype(np.float32)), trust.readings  # fmt: skip


def test_points_are_shares_of_all_samples_and_more_looks_narrow_them() -> None:
    tally, readings = judged()
    record, gain = gain_record(tally, readings), tally.gain(readings)
    assert record["points"] == pytest.approx(100 * gain.value / 200, abs=0.006)
    assert record["low"] == pytest.approx(100 * gain.low / 200, abs=0.006)
    assert record["low"] < record["low_after"] < record["points"] < record["high_after"] < record["high"]
    assert (record["num_changed"], record["is_safe"]) == (tally.num_changed, gain.low > 0)


def test_a_look_of_an_earlier_night_counts_while_it_weighs_half_at_least() -> None:
    given = np.repeat([0, 1], 100)
    probs = np.where(given[:, None] == np.arange(2), 0.9, 0.1).astype(np.float32)
    stood = np.full((4, 3), 0.9, np.float32)
    earlier = AuditEvidence(stood, stood, np.zeros(3, bool), np.array([1.0, 0.5, 0.49]))
    labels = given_labels(given, 2)
    readings = fit_readings(probs, labels, np.eye(2) * 0.8 + 0.1, earlier=earlier)
    assert readings.beliefs.num_audited == pytest.approx(1.99)
    tally = judged()[0]
    assert gain_record(tally, readings, earlier)["num_looks"] == 2
    assert beliefs_record(readings.beliefs)["look_shift"] == pytest.approx(readings.beliefs.shift, abs=1e-4)
    assert readings.beliefs.shift > 0
