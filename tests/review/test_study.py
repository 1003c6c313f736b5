"""A study: samples drawn by hand-checked rules, blind sheets in other orders, strictly back, and never a decision."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from labelclean.errors import ConfigError, ExchangeError, StorageError
from labelclean.review.agreement import measure_agreement
from labelclean.review.decisions import Decision
from labelclean.review.exchange.manifest import read_manifest
from labelclean.review.exchange.tools import export_run, export_tasks, import_decisions
from labelclean.review.ratings import label_ratings, review_ratings
from labelclean.review.study import (
    STANDARD,
    Study,
    StudyTool,
    StudyWish,
    draw_samples,
    import_study,
    plan_study,
    read_study,
    sitting_folder,
    study_pictures,
    study_ratings,
)
from sample_data.inspectors import answers_of
from tests.review.exchange.conftest import NAMES, NOW, Answers, label_studio_file, make_run
from tests.review.exchange.test_sheet import data_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


def planned(run_folder: Path, out: Path, *, tool: StudyTool = "sheet", num: int = 6, seed: int | None = None) -> Study:
    return plan_study(run_folder, (), out, StudyWish(num, appraisers=2, trials=2, tool=tool, seed=seed))[0]


def filled(study: Path, appraiser: int, trial: int, name: str, *, label: str = "ok", to: Path | None = None) -> Path:
    """A sheet's file in which somebody says one class of everything."""
    manifest = read_manifest(sitting_folder(study, appraiser, trial))
    truth = {item.sample_id: label for item in manifest.items}
    path = to or study.parent / f"{name}_{trial}.json"
    path.write_text(answers_of(manifest, name, lambda label, *_: label, truth, trial), encoding="utf-8")
    return path


def decided(run_folder: Path, sample: str, label: str, **changes: object) -> Decision:
    item = next(one for one in read_manifest(export_once(run_folder)).items if one.sample_id == sample)
    kind = "confirmed" if label == item.given_label else "corrected"
    row = Decision(sample, item.content_hash, item.given_label, kind, "dan", NOW, "r", "d", "sheet", label)  # type: ignore[arg-type]
    return replace(row, **changes)  # type: ignore[arg-type]


def export_once(run_folder: Path) -> Path:
    return export_run(run_folder, "csv", run_folder.parent.parent / "all").folder


def test_a_third_each_is_drawn_and_the_classes_take_turns() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.5])
    issue = scores < 0.35
    given = np.array([0, 0, 1, 0, 0, 0, 1, 0, 1, 0])
    rows, strata = draw_samples(scores, issue, given, np.arange(10)[::-1], 6, "balanced")
    # suspected: 1 before 0 by its order, then 2 of the other class; border: the lowest scores, 9 of class 0 and 6 of class 1
    assert {int(row): why for row, why in zip(rows, strata, strict=True)} == {
        2: "suspected", 1: "suspected", 9: "border", 6: "border", 8: "sure", 7: "sure",
    }  # fmt: skip
    assert rows.tolist() == sorted(rows.tolist(), reverse=True)  # the order tells no stratum
    rows, strata = draw_samples(scores, issue, given, np.arange(10), 4, "random")
    assert (rows.tolist(), set(strata)) == ([0, 2, 1, 6], {"random"})


def test_where_a_third_has_too_few_others_fill_up() -> None:
    rows, strata = draw_samples(np.linspace(0, 1, 9), np.zeros(9, bool), np.zeros(9, int), np.arange(9), 9, "balanced")
    assert sorted(rows.tolist()) == list(range(9))
    assert set(strata) == {"sure", "border"}


def test_every_sitting_is_blind_and_in_another_order_of_the_same_samples(run_folder: Path, tmp_path: Path) -> None:
    study = planned(run_folder, tmp_path / "study")
    orders = []
    for appraiser, trial in study.sittings():
        folder = sitting_folder(tmp_path / "study", appraiser, trial)
        manifest = read_manifest(folder)
        assert all(item.inclusion_probability is None for item in manifest.items)  # no random look, so no audit answer
        assert {frozenset(task) for task in data_of(folder)["tasks"]} == {frozenset({"key", "hash", "thumb"})}
        orders.append(tuple(item.sample_id for item in manifest.items))
    assert len(set(orders)) == 4
    assert {frozenset(order) for order in orders} == {frozenset(one.sample_id for one in study.samples)}
    assert read_study(tmp_path / "study") == study
    assert planned(run_folder, tmp_path / "again").samples == study.samples
    assert planned(run_folder, tmp_path / "other", seed=99).samples != study.samples


def test_answers_come_back_beside_the_standard_of_the_ledger(run_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "study"
    study = planned(run_folder, place)
    first, second = (one.sample_id for one in study.samples[:2])
    files = [filled(place, a, t, name) for a, name in ((1, "Aiko"), (2, "Ben")) for t in (1, 2)]
    brought = import_study(files, place, now=NOW)
    assert [(one.appraiser, one.trial, one.name, one.num_answers) for one in brought] == [
        (1, 1, "Aiko", 6), (1, 2, "Aiko", 6), (2, 1, "Ben", 6), (2, 2, "Ben", 6),
    ]  # fmt: skip
    held = [decided(run_folder, first, "ok"), decided(run_folder, second, "傷")]
    _, ratings = study_ratings(place, held, now=NOW)
    assert ratings.appraisers == ("Aiko", "Ben")
    assert (ratings.answers == NAMES.index("ok")).all()
    assert [NAMES[k] if k >= 0 else "" for k in ratings.standard] == ["ok", "傷", "", "", "", ""]
    report = measure_agreement(ratings, "ok")
    assert report.all_against is not None
    assert (report.all_against.matched.count, report.all_against.matched.num) == (1, 2)
    assert list(study_pictures(place, [first], 40)) == [first]


def test_label_studio_comes_back_by_its_own_file(run_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "study"
    study = planned(run_folder, place, tool="label-studio")
    said: Answers = {one.sample_id: ("label", ("ok",)) for one in study.samples}
    file = label_studio_file(sitting_folder(place, 2, 1), said, tmp_path / "ben.json")
    assert import_study([file], place, now=NOW)[0].appraiser == 2
    _, ratings = study_ratings(place, (), now=NOW)
    assert (ratings.answers[1, 0] == 0).all()
    assert (ratings.answers[0] == -1).all()


def test_what_has_no_verified_label_is_asked_of_the_one_whose_word_stands(run_folder: Path, tmp_path: Path) -> None:
    sample = planned(run_folder, tmp_path / "first").samples[0].sample_id
    held = [decided(run_folder, sample, "ok")]
    _, num_open = plan_study(run_folder, held, tmp_path / "study", StudyWish(6, appraisers=2, trials=2))
    manifest = read_manifest(tmp_path / "study" / STANDARD)
    assert num_open == len(manifest.items) == 5
    assert sample not in {item.sample_id for item in manifest.items}
    truth = {item.sample_id: "ok" for item in manifest.items}
    (tmp_path / "dan.json").write_text(answers_of(manifest, "Dan", lambda label, *_: label, truth, 0))
    _, decisions = import_decisions(tmp_path / "dan.json", "sheet", tmp_path / "study" / STANDARD, now=NOW)
    assert [one.inclusion_probability for one in decisions] == [None] * 5


def test_a_study_is_no_decision_and_a_queue_is_no_study(run_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "study"
    planned(run_folder, place)
    file = filled(place, 1, 1, "Aiko")
    with pytest.raises(ExchangeError, match=r"sitting of an agreement study.*decide nothing.*labelclean study import"):
        import_decisions(file, "sheet", sitting_folder(place, 1, 1), now=NOW)
    queue = export_run(run_folder, "sheet", tmp_path / "queue").folder
    with pytest.raises(ExchangeError, match="must be a sitting of an agreement study"):
        import_decisions(file, "sheet", queue, now=NOW, is_study=True)


def test_every_wrong_file_is_told_at_once_and_nothing_is_kept(run_folder: Path, tmp_path: Path) -> None:
    place, other = tmp_path / "study", tmp_path / "other" / "study"
    planned(run_folder, place)
    planned(run_folder, other, num=3)
    good = filled(place, 1, 1, "Aiko")
    changed = tmp_path / "changed.json"
    changed.write_text(good.read_text().replace('"ok"', '"rust"', 1))
    nothing = tmp_path / "nothing.json"
    nothing.write_text("{}")
    foreign = filled(other, 1, 1, "Aiko", to=tmp_path / "foreign.json")
    with pytest.raises(ExchangeError) as caught:
        import_study([good, changed, nothing, foreign], place, now=NOW)
    told = str(caught.value)
    assert "1 classes are unknown: 'rust'" in told
    assert "names no task of it" in told
    assert "foreign.json: must answer the sheet" in told
    assert told.endswith("Nothing was imported.")
    assert not list(place.rglob("answers.json"))


def test_one_person_is_one_appraiser_and_a_file_is_replaced_only_on_demand(run_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "study"
    planned(run_folder, place)
    import_study([filled(place, 1, 1, "Aiko")], place, now=NOW)
    import_study([filled(place, 1, 1, "Aiko")], place, now=NOW)  # the same again
    with pytest.raises(ExchangeError, match="appraiser 1 must be one person in all trials, but is 'Aiko', 'Ben'"):
        import_study([filled(place, 1, 2, "Ben")], place, now=NOW)
    with pytest.raises(ExchangeError, match="'Aiko' must be one appraiser, but is appraisers '1', '2'"):
        import_study([filled(place, 2, 1, "Aiko")], place, now=NOW)
    other = filled(place, 1, 1, "Aiko", label="傷")
    with pytest.raises(ExchangeError, match=r"has another already\. Give --replace"):
        import_study([other], place, now=NOW)
    import_study([other], place, now=NOW, replace=True)
    _, ratings = study_ratings(place, (), now=NOW)
    assert (ratings.answers[0, 0] == NAMES.index("傷")).all()
    with pytest.raises(ExchangeError, match="two files answer one sitting"):
        import_study([filled(place, 2, 1, "Ben"), filled(place, 2, 1, "Ben", to=tmp_path / "b.json")], place, now=NOW)


def test_a_plan_that_cannot_be_is_refused_with_every_fault(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_study(run_folder, (), tmp_path, StudyWish(0, appraisers=1, trials=1, design="best"))  # type: ignore[arg-type]
    for fault in ("--samples must be at least 1, but is 0", "two looks at each sample", "'best'"):
        assert fault in str(caught.value)
    with pytest.raises(ConfigError, match=r"different usable images .*, 12, but is 13"):
        planned(run_folder, tmp_path / "much", num=13)
    planned(run_folder, tmp_path / "study")
    with pytest.raises(ExchangeError, match="holds another study"):
        planned(run_folder, tmp_path / "study", seed=5)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").touch()
    with pytest.raises(ExchangeError, match=r"must be a new or empty folder, but holds 'notes\.txt'"):
        planned(run_folder, tmp_path / "own")
    assert (tmp_path / "own" / "notes.txt").exists()
    with pytest.raises(ExchangeError, match="nobody's have come back"):
        study_ratings(tmp_path / "study", (), now=NOW)
    with pytest.raises(ExchangeError, match=r"must be the folder of an agreement study, with its study\.json") as none:
        read_study(tmp_path)
    assert ".." not in str(none.value)


def test_a_picture_that_is_gone_stops_the_plan_which_leaves_nothing(tmp_path: Path) -> None:
    run_folder = make_run(tmp_path)
    picture = next((tmp_path / "data" / "images").iterdir())
    picture.rename(tmp_path / picture.name)
    with pytest.raises(StorageError, match="every image of a study must be readable, but 1 are not"):
        planned(run_folder, tmp_path / "study", num=12)
    assert not (tmp_path / "study").exists()
    (tmp_path / picture.name).rename(picture)  # as the letter says
    assert planned(run_folder, tmp_path / "study", num=12) == read_study(tmp_path / "study")


def test_a_killed_plan_is_finished_by_the_same_and_by_no_other(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def dies(*args: Any, **named: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return export_tasks(*args, **named)

    monkeypatch.setattr("labelclean.review.study.export_tasks", dies)
    with pytest.raises(KeyboardInterrupt):
        planned(run_folder, tmp_path / "study")
    with pytest.raises(ExchangeError, match="holds another study"):
        planned(run_folder, tmp_path / "study", num=5)
    done = planned(run_folder, tmp_path / "study")
    asked = {
        frozenset(one.sample_id for one in read_manifest(sitting_folder(tmp_path / "study", *at)).items)
        for at in done.sittings()
    }
    assert asked == {frozenset(one.sample_id for one in done.samples)}


def test_bad_images_and_copies_of_one_image_are_not_drawn(run_folder: Path, tmp_path: Path) -> None:
    bad = decided(run_folder, "s0", "ok", decision="bad_image", verified_label=None)
    with pytest.raises(ConfigError, match="11, but is 12"):
        plan_study(run_folder, [bad], tmp_path / "study", StudyWish(12, appraisers=2, trials=2))


def test_labels_that_are_there_already_are_ratings_and_repeats_are_trials() -> None:
    rows = [
        ("a", "anna", "x"),
        ("a", "anna", "y"),
        ("a", "ben", "x"),
        ("b", "ben", "y"),
        ("c", "ben", "x"),
        ("c", "anna", "x"),
    ]
    labels = pa.table(
        dict(zip(("sample_id", "annotator_id", "given_label"), map(list, zip(*rows, strict=True)), strict=True))
    )
    ratings = label_ratings(labels, ("x", "y"), {"a": "y"}, seed=0)
    assert ratings is not None
    assert (ratings.appraisers, ratings.sample_ids) == (("anna", "ben"), ("a", "c"))  # b stands alone
    assert ratings.answers.tolist() == [[[0, 0], [1, -1]], [[0, 0], [-1, -1]]]
    assert ratings.standard.tolist() == [1, -1]
    report = measure_agreement(ratings)
    within, pair = report.within[0], report.pairs[0, 1]
    assert within is not None
    assert pair is not None
    assert (within.matched.count, within.matched.num, pair.matched.count, pair.matched.num) == (0, 1, 2, 2)
    assert report.num_missing == 0
    assert label_ratings(labels.slice(3, 1), ("x", "y"), {}, seed=0) is None


def test_decisions_on_the_same_image_are_trials_in_the_order_of_their_times() -> None:
    one = Decision("a", "h", "x", "confirmed", "anna", NOW, "r", "d", "sheet", "x")
    later = replace(one, decision="corrected", verified_label="y", reviewed_at=NOW + timedelta(days=1))
    old_image = replace(one, content_hash="old", annotator_id="ben", reviewed_at=NOW - timedelta(days=1))
    skipped = replace(one, decision="skipped", verified_label=None, annotator_id="cora")
    ratings = review_ratings([later, one, old_image, skipped], ("x", "y"), seed=0)
    assert ratings is not None
    assert ratings.appraisers == ("anna",)
    assert ratings.answers.tolist() == [[[0], [1]]]
    assert ratings.standard.tolist() == [-1]


def test_the_simulated_inspectors_say_what_their_sheets_ask(run_folder: Path, tmp_path: Path) -> None:
    planned(run_folder, tmp_path / "study")
    record = json.loads(filled(tmp_path / "study", 1, 1, "Aiko").read_text())
    assert [row["key"] for row in record["decisions"]] == [
        item.key for item in read_manifest(sitting_folder(tmp_path / "study", 1, 1)).items
    ]
