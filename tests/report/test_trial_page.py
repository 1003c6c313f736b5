"""A trial's page and sentences say every reason in both languages, with hostile names as text."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from labelclean.report.trial_page import promises, reason_sentence, render_trial, trial_sentences
from labelclean.texts import LANGUAGES, Texts
from labelclean.trial import advice

EVIL = '<script>alert("x")</script>'


GAIN = {
    "points": 2.6, "low": -6.5, "high": 9.4, "low_after": -1.9, "high_after": 6.6,
    "is_safe": False, "num_changed": 700, "num_looks": 0, "num_wanted": 30, "num_queued": 30,
}  # fmt: skip


def record(advice: str = "limits") -> dict[str, Any]:
    drained = {"code": "drained", "weight": "limit", "facts": {"name": EVIL, "share": 0.3, "lost": 30, "gained": 0}}
    row = {"name": EVIL, "num_full": 900, "num_trial": 100, "lost": 30, "gained": 0, "expected_errors": 20.0}
    return {
        "dataset": EVIL, "num_samples": 9000, "num_drawn": 1000, "num_judged": 990, "rejects": {"missing": 10},
        "backbone": "net", "device": "cpu", "seed": 0, "method": "posterior",
        "recommendation": {"advice": advice, "reasons": [drained]},
        "cost": {"compute_h": 2.0, "images_per_s": 50.0, "device": "cpu", "num_review": 1000.4, "seconds_per_sample": 10.0,
                 "review_h": 2.78, "errors": 900.0, "errors_low": 800.0, "errors_high": 1000.0, "error_share": 0.1,
                 "found": 850.0, "num_suspects": 950.2, "num_changed": 700.4},
        "gain": GAIN,
        "wrong": {"low": 0.03, "high": 0.5, "num_more": 30, "low_after": 0.04, "high_after": 0.2},
        "curve": [{"num_samples": n, "num_subsets": 1, "gain": g, "spread": None, "agreement": 0.9, "error_share": 0.1}
                  for n, g in ((500, 0.5), (1000, 0.6))],
        "compared": [{"method": m, "gain": g, "error": 0.01, "is_allowed": True}
                     for m, g in (("posterior", 0.1), ("none", 0.0), ("two_hot", -0.2))],
        "classes": [row | {"confuser": "ok", "confuser_share": 0.9, "net_lost_share": 0.3}],
        "risks": [drained],
        "gates": [{"check": "imbalance", "outcome": "pass", "value": 2.0, "limit": 9.0, "config_key": None,
                   "sentence": "x", "forbids": [], "facts": {}}],
    }  # fmt: skip


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("verdict", ["go", "limits", "no"])
def test_the_page_needs_nothing_else_and_shows_names_as_text(lang: str, verdict: str) -> None:
    html = render_trial(record(verdict), Texts(lang))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert f'<html lang="{lang}"' in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "9,000" in html
    assert len(html) < 60_000


def test_the_first_two_sentences_are_the_recommendation_and_its_figures() -> None:
    first, second, _, _, _, *reasons = trial_sentences(record(), Texts("en"))
    assert first.startswith("Go, with limits")
    assert "About 900 of 9,000 labels" in second
    assert "takes 2.8 h and should find about 850" in second
    assert len(reasons) == 1


def test_what_applying_brings_and_what_more_looks_would_tell_follow() -> None:
    _, _, look, promise, looks, *_ = trial_sentences(record(), Texts("en"))
    assert look == "Of 950 labels worth a look, we would change about 700; about 250 wait for eyes."
    assert promise.startswith("Do not apply predicted labels before you have looked at 30 random samples (0 so far;")
    assert "about +2.6 points (−6.5 to +9.4), so it may fall" in promise
    assert looks == (
        "Between 3.0% and 50% of the labels are wrong; 30 random looks would narrow that to about 4.0% to 20%. "
        "If these looks bear out what the trial believes, what applying brings narrows to about −1.9 to +6.6 points."
    )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_looks_that_would_not_narrow_the_share_are_not_said_to(lang: str) -> None:
    texts, same = Texts(lang), {"low": 0.08, "high": 0.12, "num_more": 30, "low_after": 0.08, "high_after": 0.12}
    nothing = GAIN | {"num_changed": 0, "is_safe": True}
    *_, looks = promises(record() | {"wrong": same, "gain": nothing}, texts)
    assert looks == texts("poc.looks_same", low="8.0%", high="12%", more=30)


def test_a_trial_of_an_older_version_is_shown_without() -> None:
    old = {key: value for key, value in record().items() if key not in ("gain", "wrong")}
    assert promises(old, Texts("en")) == []
    assert "held" not in render_trial(old, Texts("en")).split("</style>")[1]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_reason_has_words(lang: str) -> None:
    codes = set(re.findall(r'Reason\(\s*"(\w+)"', inspect.getsource(advice)))
    codes |= {f"gate_{check}" for check in ("classes_present", "share_shift", "teacher_skill", "estimated_noise")}
    facts = {
        "share": 0.3, "value": 0.3, "gain": 0.1, "found": 2.0, "expected": 3.0, "times": 20.0, "method": "posterior",
        "num": 9, "names": ["a"], "counts": [3], "name": "a", "other": "b",
    }  # fmt: skip
    assert len(codes) >= 12
    for code in codes:
        assert reason_sentence({"code": code, "facts": facts}, Texts(lang))


def backbone(spec: str, gain: float, behind: float, *, is_recommended: bool) -> dict[str, Any]:
    return {
        "spec": spec,
        "name": spec,
        "depth": "last",
        "tiles": "2x3" if spec.startswith("slow") else "1",
        "input_size": [224, 224],
        "num_features": 1280,
        "gain": gain,
        "behind": behind,
        "behind_error": 0.02,
        "images_per_s": 40.0,
        "compute_h": 0.5,
        "is_recommended": is_recommended,
    }


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (0, "Take slow: it tells most of your labels."),
        (1, "Take <b>fast: it tells as much of your labels as slow, within what this sample can tell, and is faster."),
    ],
)
def test_backbones_that_were_compared_stand_on_the_page_and_in_the_terminal(chosen: int, sentence: str) -> None:
    trials = [
        backbone("slow", 0.91, 0.0, is_recommended=not chosen),
        backbone("<b>fast", 0.9, 0.01, is_recommended=bool(chosen)),
    ]
    tried = record() | {"backbones": trials}
    *_, advice, best, second = trial_sentences(tried, Texts("en"))
    assert advice == sentence
    assert best == "slow: 0.910 nats per label, the most; 40 images per second, 30 min for all images."
    assert second.startswith("<b>fast: 0.900 nats per label, 0.010 ± 0.020 behind the best;")
    html = render_trial(tried, Texts("en"))
    assert "<b>fast" not in html.replace("&lt;b&gt;fast", "")
    assert "0.010 ± 0.020" in html
    assert html.count("tiles (rows x columns)") == 1
    assert "タイル 2x3（行 × 列）" in render_trial(tried, Texts("ja"))
    assert "Which backbone" not in render_trial(record(), Texts("en"))
