"""The catalogues are complete, and everything the package may say has its words."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import labelclean
from labelclean.errors import ConfigError
from labelclean.gates import METHODS
from labelclean.image_files import ReasonCode
from labelclean.report.texts import LANGUAGES, Texts, catalogue
from labelclean.tables import QUEUE_SOURCES, REASONS

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
        re.findall(r'(?:Finding\(\s*|_at_least\(\s*|_at_most\(\s*)"(\w+)"', (PACKAGE / "gates.py").read_text())
    )
    assert len(checks) > 10
    keys = [f"reasons.{reason}" for reason in REASONS] + [f"sources.{source}" for source in QUEUE_SOURCES]
    keys += [f"methods.{method}" for method in ("auto", *METHODS)] + [f"reject_codes.{code}" for code in ReasonCode]
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
