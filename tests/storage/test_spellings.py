"""Names that look alike are found, named so that they can be told apart, and joined by `data.spellings` alone."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
import yaml

from labelclean.storage.spellings import alike, alike_words, joining, look, missing_sentences, respelled


@pytest.mark.parametrize(
    "pair",
    [
        ("ok", "ok "), ("ok", "OK"), ("OK", "ＯＫ"), ("ok", "ok\u200b"), ("ok", "\ufeffok"), ("ok", "ok\u3000"),
        ("キズ", "ｷｽﾞ"), ("1", "1.0"), ("01.50", "01.5"), ("a b", "a\u00a0b"), ("a-b", "a–b"), ("OK", "ОК"), ("a b", "a\nb"),
        (unicodedata.normalize("NFC", "ブツ"), unicodedata.normalize("NFD", "ブツ")), ("straße", "STRASSE"),
    ],
)  # fmt: skip
def test_names_that_people_take_for_one_are_found(pair: tuple[str, str]) -> None:
    assert alike(pair) == [tuple(sorted(pair))]


@pytest.mark.parametrize(
    "pair", [("1", "10"), ("1", "01"), ("1.5", "15"), ("ok", "ok2"), ("a b", "ab"), ("キズ", "キス")]
)
def test_other_names_are_left_alone(pair: tuple[str, str]) -> None:
    assert alike(pair) == []


def test_names_that_are_both_meant_are_no_fault_and_a_third_one_is() -> None:
    both = {"a": "a", "A": "A"}
    assert alike(["a", "A"], both) == []
    assert alike(["a", "A", "a "], both) == [("A", "a", "a ")]


def test_the_key_that_joins_them_is_yaml_that_leads_to_the_most_frequent() -> None:
    counts = {"ok": 20, "OK": 3, "ok\u200b": 1, 'o"k': 2}
    key, _, value = joining(("OK", "ok", "ok\u200b"), counts).partition(": ")
    assert key == "data.spellings"
    assert yaml.safe_load(value) == {"OK": "ok", "ok\u200b": "ok"}
    assert alike_words(("OK", "ok\u200b"), counts) == "'OK' (3) and 'ok\\u200b' (1)"


def test_names_that_look_like_missing_values_are_told() -> None:
    (sentence,) = missing_sentences({"nan": 3, "None": 2, "N/A": 1, "ok": 5})
    assert "'N/A' (1), 'None' (2), 'nan' (3)" in sentence
    assert missing_sentences({"ok": 1, "nano": 2}) == []


def test_labels_and_candidates_are_respelled_in_every_type_of_text() -> None:
    labels = pa.array(["OK", "ok", None])
    for column in (labels, labels.cast(pa.large_string()), labels.dictionary_encode()):
        table = respelled(pa.table({"given_label": column, "candidate_labels": [["OK"], None, []]}), {"OK": "ok"})
        assert table.column("given_label").to_pylist() == ["ok", "ok", None]
        assert table.column("candidate_labels").to_pylist() == [["ok"], None, []]
    numbers = pa.table({"given_label": [1, 2]})
    assert respelled(numbers, {"1": "2"}).equals(numbers)


def test_a_look_is_its_own_look() -> None:
    for name in ("ＯＫ ", "ｷｽﾞ", "1.0", "+2.50", "ОК", "", "\u200b"):
        assert look(look(name)) == look(name)
