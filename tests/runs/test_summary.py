"""What a run says of itself: three words kept apart, and a promise with a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labelclean.noise.promise import Promise
from labelclean.runs.run import PublishedRun
from labelclean.runs.sentences import found_sentence, promise_sentence
from labelclean.runs.summary import build_summary, markdown_summary, print_summary

PROMISE = Promise(3.67, -5.4, 9.53, False, 66, 0, 30, -0.3, 7.1, num_queued=30)
FOUND = {
    "num": 4, "would_change": 3, "waits_for_eyes": 1, "expected": 3.6, "low": 1.0, "high": 6.0,
    "by_class": [
        {"class_name": "dent", "num_samples": 20, "num": 3, "expected": 2.6, "lost": 2, "gained": 1},
        {"class_name": "ok", "num_samples": 30, "num": 1, "expected": 1.0, "lost": 1, "gained": 2},
    ],
}  # fmt: skip
GAIN = {
    "points": 4.0, "low": -1.0, "high": 6.0, "low_after": 1.0, "high_after": 5.0,
    "is_safe": False, "num_changed": 3, "num_looks": 0,
}  # fmt: skip


def parts(**refine: Any) -> dict[str, Any]:
    judged = {
        "label_issues": FOUND,
        "gain": GAIN,
        "refinement": {"requested": "auto", "method": "posterior", "why": "it is allowed."},
        "inspectors": {},
    }
    ingest = {"num_samples": 50, "class_names": ["dent", "ok"]}
    return {"ingest": ingest, "extract": {"rejects": {}}, "refine": judged | refine}


def summary(audit_samples: int = 30, **refine: Any) -> dict[str, Any]:
    return build_summary(parts(**refine), rejects_limit=0.5, audit_samples=audit_samples)


def test_the_verdict_says_how_many_to_look_at_to_change_and_to_wait_for() -> None:
    assert summary()["verdict_sentence"] == (
        "4 of 50 labels are worth a look (8.0%): 3 we would change, 1 waits for eyes; "
        "about 4 are expected to be wrong (1 to 6)."
    )


@pytest.mark.parametrize(
    ("num", "changed", "waiting", "begin"),
    [
        (2, 2, 0, "2 of 50 labels are worth a look (4.0%): 2 we would change; about"),
        (2, 0, 2, "2 of 50 labels are worth a look (4.0%): 2 wait for eyes; about"),
        (1, 1, 0, "1 of 50 labels is worth a look (2.0%): 1 we would change; about"),
        (0, 0, 0, "none of 50 labels is worth a look; about 4"),
    ],
)
def test_what_there_is_none_of_is_not_named(num: int, changed: int, waiting: int, begin: str) -> None:
    found = FOUND | {"num": num, "would_change": changed, "waits_for_eyes": waiting}
    assert found_sentence(found, 50).startswith(begin)


@pytest.mark.parametrize(("audit_samples", "wanted"), [(30, 30), (12, 12), (0, 30), (500, 50)])
def test_the_summary_says_how_many_random_looks_changes_wait_for(audit_samples: int, wanted: int) -> None:
    assert summary(audit_samples)["gain"] == GAIN | {"num_wanted": wanted}


def test_a_run_that_a_gate_stopped_has_no_gain_and_says_why() -> None:
    stopped = {"refine": {"stopped": "nothing tells which labels are wrong: x."}}
    found = build_summary(parts() | stopped, rejects_limit=0.5, audit_samples=30)
    assert (found["gain"], found["verdict"]) == (None, "refused")
    assert found["verdict_sentence"] == "nothing tells which labels are wrong: x."


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"is_safe": True, "low": 1.2}, "applied without a look, labels get better by about 3.7 points (1.2 to 9.5): of 100"),
        ({}, "do not apply before you have looked at 30 random samples (0 so far; the queue holds 30): applied without a "
             "look, the share of right labels changes by about +3.7 points (-5.4 to +9.5), so it may fall."),
        ({"num_queued": 0}, "do not apply before you have looked at 30 random samples (0 so far; review.audit_samples draws"),
        ({"num_looks": 30}, "applied now, after 30 random looks, the share of right labels changes by about +3.7 points"),
        ({"num_changed": 0, "is_safe": True}, "applied, nothing changes but what people have decided"),
    ],
)  # fmt: skip
def test_the_promise_has_a_number_or_says_what_comes_first(changes: dict[str, Any], sentence: str) -> None:
    assert promise_sentence(Promise(**(vars(PROMISE) | changes))).startswith(sentence)


def test_terminal_and_artifact_keep_the_three_words_apart_per_class(capsys: pytest.CaptureFixture[str]) -> None:
    published = PublishedRun(Path("runs/r1"), summary() | {"queue": None}, {"dataset": "plates", "exit_code": 0})
    print_summary(published)
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["dent", "20", "3", "2", "1", "1"] in told  # samples, worth a look, would change, wait for eyes, would join
    assert ["do", "not", "apply", "before"] in [line[:4] for line in told]
    written = markdown_summary(published)
    assert "| class | samples | worth a look | would change | wait for eyes | would join |" in written
    assert "| ok | 30 | 1 | 1 | 0 | 2 |" in written
    assert "\nDo not apply before you have looked at 30 random samples" in written
