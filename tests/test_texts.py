"""The catalogues are complete, and everything the package may say has its words."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pytest

import labelclean
from labelclean.config import METHODS, GatesConfig
from labelclean.errors import ConfigError
from labelclean.features.image_files import ReasonCode
from labelclean.labels import given_labels
from labelclean.noise.distribution import ClassMoves, measure_distribution
from labelclean.report.html import finding_sentence
from labelclean.runs.gates import (
    TeacherMeasurements,
    judge_distribution,
    judge_groups,
    judge_moves,
    judge_teacher,
)
from labelclean.storage.tables import QUEUE_SOURCES, REASONS
from labelclean.texts import LANGUAGES, Texts, catalogue

PACKAGE = Path(labelclean.__file__).parent


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_catalogue_has_the_same_keys_and_placeholders(lang: str) -> None:
    english, other = catalogue("en"), catalogue(lang)
    assert set(other) == set(english)
    for key, text in english.items():
        assert placeholders(other[key]) - {"n"} == placeholders(text) - {"n"}, key


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_text_says_something(lang: str) -> None:
    assert [key for key, text in catalogue(lang).items() if not text.strip() and key != "page.join"] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_reason_source_method_reject_and_check_has_words(lang: str) -> None:
    checks = set(
        re.findall(r'(?:Finding\(\s*|_at_least\(\s*|_at_most\(\s*)"(\w+)"', (PACKAGE / "runs" / "gates.py").read_text())
    )
    assert len(checks) > 10
    sets = set(re.findall(r'Finding\(\s*"(\w+)"', (PACKAGE / "runs" / "label_set_gates.py").read_text()))
    assert len(sets) == 5
    checks |= sets
    keys = [f"reasons.{reason}" for reason in REASONS] + [f"sources.{source}" for source in QUEUE_SOURCES]
    keys += [f"methods.{method}" for method in ("auto", *METHODS)] + [f"reject_codes.{code}" for code in ReasonCode]
    keys += [f"reject_actions.{code}" for code in ReasonCode]
    keys += [f"marks.{mark}" for mark in ("change", "waits", "keep")]
    keys += [f"promise.{kind}" for kind in ("nothing", "safe", "seen", "unseen", "unseen_undrawn", "unseen_trial")]
    keys += [f"checks.{check}.{part}" for check in checks for part in ("title", "meaning")]
    assert [key for key in keys if not Texts(lang).has(key)] == []


def test_the_templates_hold_no_words_of_their_own() -> None:
    used = set()
    for template in (PACKAGE / "report").glob("*.j2"):
        used |= set(re.findall(r'\bt\(\s*["\']([\w.]+)["\']\s*[,)]', template.read_text(encoding="utf-8")))
    missing = [key for key in used if not Texts("en").has(key)]
    assert len(used) > 60
    assert missing == []


def test_one_and_many_differ() -> None:
    texts = Texts("en")
    assert texts("rejects.intro", n=1).startswith("1 image could not be used; its label")
    assert texts("rejects.intro", n=1200).startswith("1,200 images")


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of en, ja, but is 'de'"):
        Texts("de")


def every_finding() -> list[dict[str, Any]]:
    """What the gates say on a hard data set, a clean one and one whose classes drain."""
    names = ["ok", "dent", "crack", "gone"]
    hard = measure_distribution(given_labels(np.repeat([0, 1, 2], [900, 3, 20]), 4), np.array([20.0, 500, 2, 9]))
    matrix = np.array([[0.9, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    poor = TeacherMeasurements(2, 0.5, 0.9, ("dent", "crack"), 0.2, -0.1, matrix, 0.7)
    clean = TeacherMeasurements(4, 0.99, 0.0, ("dent",), 1.0, 1.0, np.eye(4), 0.01)
    spread = TeacherMeasurements(4, 0.99, 0.0, ("dent",), 1.0, 1.0, np.full((4, 4), 0.1) + np.eye(4) * 0.6, 0.3)
    limits = GatesConfig()
    findings = list(judge_distribution(hard, names, limits.class_distribution).findings)
    for measured in (poor, clean, spread):
        findings += judge_teacher(measured, names, limits.top2).findings
    chance = replace(clean, likelihood_gain=0.01, exceeds_chance=False)
    findings += [one for one in judge_teacher(chance, names, limits.top2).findings if one.outcome == "refuse"]
    findings += judge_groups(np.array([1, 2]), np.array([True, True, False]), names)
    moves = ClassMoves(np.array([0, 3, 0, 0]), np.array([3, 0, 0, 0]))
    findings.append(judge_moves(moves, np.array([900.0, 3, 20, 0]), names, 0.5))
    return [asdict(finding) for finding in findings]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_finding_is_said_in_the_language_of_the_page(lang: str) -> None:
    findings = every_finding()
    assert len({finding["check"] for finding in findings}) == 16
    for finding in findings:
        said = finding_sentence(finding, Texts(lang))
        assert said is not None, finding["check"]
        assert "gates." not in said
        if lang == "ja":
            words = set(re.findall(r"[A-Za-z]{2,}", said))
            assert words <= {"ok", "dent", "crack", "gone", "nat"}, said


def test_a_finding_names_its_numbers_and_classes() -> None:
    said = {finding["check"]: str(finding_sentence(finding, Texts("en"))) for finding in reversed(every_finding())}
    assert said["tiny_classes"] == '"dent" (3): averaging would pull them into larger classes.'
    assert said["confusion"] == '100% of the errors of "ok" go to "dent"; two-hot labels could not tell the two apart.'
    assert (
        said["drained_classes"]
        == '"dent" would lose 3 and gain 0 of its 3 samples, the largest net loss of all classes.'
    )
    assert said["one_group"] == 'All samples of "dent", "crack" lie in one group; their labels stand as given.'
    assert said["copies"].startswith("2 samples are copies of one image")
    assert finding_sentence({"check": "imbalance", "value": 2.0}, Texts("en")) is None  # from an older run
