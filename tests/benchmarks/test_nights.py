"""The simulated nights count what they say, on made-up clusters."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.nights import PER_NIGHT, Handover, Promise, our_nights
from benchmarks.review_loop import promises_section


@pytest.mark.slow
def test_nights_begin_at_the_given_labels_and_end_at_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.nights.NIGHTS", 2)
    rng = np.random.default_rng(0)
    true = np.arange(200) % 3
    features = (6.0 * np.eye(3, 8)[true] + rng.standard_normal((200, 8))).astype(np.float32)
    given = np.where(np.arange(200) % 8 == 0, (true + 1) % 3, true)  # 25 wrong labels
    nights = our_nights(Handover("made up", features, given, true), "labelclean", 0)
    assert [one.num_reviewed for one in nights] == [0, PER_NIGHT, 2 * PER_NIGHT]
    assert nights[0].by_decisions == pytest.approx(1 - 25 / 200)
    assert nights[1].num_found == 25
    assert (nights[1].by_decisions, nights[2].by_suggestion) == (1.0, 1.0)


def test_a_promise_holds_when_the_truth_lies_in_its_interval() -> None:
    kept = Promise("d", "uniform", 0, "whole", 10, 5.0, 4.0, 6.0, 6, 1.0, 0)
    broken = kept._replace(seed=1, wrong=7, low=2.0)
    row = promises_section([kept, broken])[2]
    assert row == "| d | uniform | whole | 1 of 2 | 3.0 | 5.0 | 6.5 | 1.0 | 0.0 |"
