"""An agreement study's page and tables: every number with what to do, both languages, hostile names as text."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest

from labelclean.config import StudyConfig
from labelclean.report.study_page import checks, render_study, study_sentences, study_table, todo, write_study
from labelclean.review.agreement import Ratings, measure_agreement
from labelclean.review.agreement_record import agreement_record
from labelclean.texts import LANGUAGES, Texts

EVIL = '<script>alert("x")</script>'
PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
FACTS = {
    "source": "study", "dataset": EVIL, "run_id": "2026-01-14T020000.000Z", "design": "balanced", "seed": 7, "trials": 2,
    "strata": {"sure": 20, "border": 20, "suspected": 20}, "seconds_per_sample": 10.0,
}  # fmt: skip


def study(*, ok: str | None = "ok", standard: bool = True, errors: float = 0.3, **facts: Any) -> dict[str, Any]:
    """Ben errs at random, the others never."""
    rng = np.random.default_rng(1)
    truth = np.tile([0, 0, 1, 2], 15)
    answers = np.tile(truth, (3, 2, 1))
    answers[1] = np.where(rng.random((2, 60)) < errors, rng.integers(0, 4, (2, 60)), truth)
    known = truth if standard else np.full(60, -1)
    ratings = Ratings(answers, known, ("Aiko", "=Ben()", "千恵"), tuple(f"s{n}" for n in range(60)), ("ok", EVIL, "傷"))
    return agreement_record(ratings, measure_agreement(ratings, ok), StudyConfig(ok=ok), FACTS | facts)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_needs_nothing_else_and_shows_names_as_text(lang: str) -> None:
    html = render_study(study(), {"s1": PICTURE}, Texts(lang))
    assert html.count("<script") == 1
    assert "&lt;script&gt;" in html
    assert f'<html lang="{lang}"' in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert len(html) < 90_000


def test_the_first_sentences_say_how_bad_it_is_what_to_do_and_what_it_costs() -> None:
    verdict, following, source, *_ = study_sentences(study(), Texts("en"))
    assert re.fullmatch(r"Do not rely on these labels yet: \d of 7 checks are not met\.", verdict)
    assert "takes each inspector about 20 min" in following  # 60 samples, 2 trials, 10 s
    assert source == "3 inspectors looked 2 times at 60 samples, blind and in another order each time."


def test_who_fails_is_named_with_what_to_do() -> None:
    told = dict(zip(checks(study()), [""] * 9, strict=False))
    assert set(told) == {"within", "between", "against", "effectiveness", "missed", "false_alarms", "classes"}
    sentences = [sentence for outcome, sentence in todo(study(), Texts("en")) if outcome != "pass"]
    assert any(
        sentence.startswith("=Ben(): the same picture does not get the same answer twice") for sentence in sentences
    )
    assert not any("Aiko" in sentence for sentence in sentences)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_to_do_is_said_too(lang: str) -> None:
    record = study(errors=0.0)
    assert {outcome for outcome, _ in todo(record, Texts(lang))} == {"pass"}
    assert study_sentences(record, Texts(lang))[0] == Texts(lang)("study.verdict.pass", n=0, total=7)


def test_without_a_standard_or_an_ok_class_the_page_says_what_is_missing() -> None:
    assert any(
        "Have the person whose word stands answer" in text for _, text in todo(study(standard=False), Texts("en"))
    )
    assert any("--ok CLASS" in text for _, text in todo(study(ok=None), Texts("en")))
    for record in (
        study(standard=False),
        study(ok=None),
        study(source="labels"),
        study(source="ledger", standard=False),
    ):
        assert "<h1>" in render_study(record, {}, Texts("en"))


def test_every_number_stands_in_the_spreadsheets_and_no_name_is_a_formula(tmp_path: Path) -> None:
    record = study()
    files = {file.name: file for file in write_study(record, {}, tmp_path, Texts("ja"))}
    rows = list(csv.reader(files["study.csv"].read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == 1 + len(record["rows"]) + len(record["calls"])
    assert rows[0][:4] == ["比較", "指標", "検査員", "クラス"]
    assert {"'=Ben()"} <= {row[2] for row in rows}
    page = openpyxl.load_workbook(files["study.xlsx"]).active
    assert page is not None
    assert page.max_row == len(rows)
    assert {cell.data_type for row in page.iter_rows() for cell in row} <= {"s", "n"}


def test_the_table_says_the_same_as_the_record() -> None:
    record = study()
    table = study_table(record, Texts("en")).to_pylist()
    first = record["rows"][0]
    assert (table[0]["Inspector"], table[0]["Count"], table[0]["Percent"]) == ("Aiko", 60, 100.0)
    assert table[0]["Fleiss' kappa"] == first["fleiss"]["value"] == 1.0
    assert table[0]["Result"] == "Met"
