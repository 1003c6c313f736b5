"""What the benchmark says of labels: its sets of people's labels and weak features, audits, pooled errors and goals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks import cleaning_power, data, goals, measures, peers, results
from benchmarks.data import DataSet, load_set, noises_of, noisy_labels, set_names, through_directions
from benchmarks.problem import Estimate, Output, Problem
from benchmarks.results import Place, Row

OURS, AUDITED, CLEANLAB = peers.OURS, peers.AUDITED, "cleanlab noise rate"


def a_row(
    name: str = "digits",
    rate: float = 0.1,
    seed: int = 0,
    method: str = OURS,
    *,
    helped: tuple[int, ...] = (),
    harmed: tuple[int, ...] = (),
    size: int = 100,
    **found: float,
) -> Row:
    gain = (len(helped) - len(harmed)) / size
    kind = "uniform" if rate else "none"
    known = {"gain": gain, "num_wrong": 10.0, "num_found": 5.0, "num_rare_wrong": 0.0, "num_rare_found": 0.0, **found}
    return Row(name, kind, rate, seed, method, "d", size, known, list(helped), list(harmed), [0.9] * size, [])


def lines_of(rows: list[Row], before: list[Row] | None = None) -> str:
    return "\n".join(goals.goal_lines(results.table_of(rows), results.table_of(before or [])))


def a_set(num_samples: int = 60, **more: object) -> DataSet:
    rng = np.random.default_rng(0)
    true = np.arange(num_samples) % 3
    features = (np.eye(3)[true] * 3 + rng.standard_normal((num_samples, 3))).astype(np.float32)
    oracle = np.full((num_samples, 3), 0.2, dtype=np.float32)
    oracle[np.arange(num_samples), true] = 0.6
    return DataSet("toy", features, true, features[:9], true[:9], oracle, **more)  # type: ignore[arg-type]


def test_the_change_of_labels_is_averaged_over_the_seeds_of_a_sample_before_its_error_is_taken() -> None:
    rows = {0: a_row(size=4, helped=(0,)), 1: a_row(size=4, seed=1, helped=(0,), harmed=(1,))}
    # Samples change by 1, -1/2, 0, 0: mean 1/8, variance (.875^2 + .625^2 + 2 * .125^2) / 3 = .39583.
    assert results.pooled_gain(rows) == pytest.approx((0.125, (0.39583333 / 4) ** 0.5))


def test_three_runs_on_the_same_labels_are_worth_one() -> None:
    once = results.pooled_gain({0: a_row(helped=(1, 2), harmed=(5,))})
    thrice = results.pooled_gain({seed: a_row(seed=seed, helped=(1, 2), harmed=(5,)) for seed in range(3)})
    assert thrice == pytest.approx(once)


def test_changes_are_counted_both_ways_and_never_where_a_person_had_looked() -> None:
    true, given, predicted = np.array([0, 0, 0, 0, 1]), np.array([1, 0, 1, 0, 0]), np.array([0, 1, 0, 0, 0])
    assert measures.changes(predicted, given, true, np.array([True, True, False, True, True])) == ([0], [1])


def test_labels_are_worse_where_the_loss_is_over_two_standard_errors() -> None:
    # 3 of 100 spoiled: -.03, standard error sqrt(.03 * .97 / 99) = .0171; 4 of 100: -.04 and .0197.
    unsure, sure = a_row(harmed=(0, 1, 2)), a_row("neu_surface", harmed=(0, 1, 2, 3))
    assert not goals.is_below(*results.pooled_gain({0: unsure}))
    assert goals.is_below(*results.pooled_gain({0: sure}))
    assert not goals.is_below(*results.pooled_gain({0: a_row(harmed=(0, 1, 2, 3), helped=(9,))}))
    text = lines_of([sure, unsure])
    assert "below the given ones by more than two standard errors in 1 of 2 cells (50.0%, limit 3%); these: neu" in text


def test_an_interval_holds_its_own_ends() -> None:
    is_wrong = np.arange(20) < 5
    ends = [measures.expectation(Estimate(6.0, *pair), is_wrong) for pair in ((5, 9), (2, 5), (5.5, 9), (2, 4.9))]
    assert [found["held"] for found in ends] == [1, 1, 0, 0]
    assert ends[0] == pytest.approx({"off": 5.0, "off_size": 5.0, "held": 1.0, "width": 20.0})


def test_without_wrong_labels_flags_are_alarms_and_nothing_is_ranked() -> None:
    toy = a_set()
    truth = measures.Truth(toy.true, toy.test_features, toy.test_true)
    judge = measures.build_downstream(toy.features, truth)
    output = Output(np.ones(60), np.arange(60) < 6, toy.true, np.eye(3)[toy.true], estimate=Estimate(3, 0, 9))
    found = measures.measure(output, toy.true, truth, judge, 1.0, np.ones(60, dtype=bool))
    assert found["alarms"] == pytest.approx(0.1)
    assert found["off"] == pytest.approx(5.0)
    assert not {"ap", "f1"} & found.keys()


def test_weak_features_have_the_noise_of_the_whole_ones() -> None:
    whole = a_set()
    weak = through_directions(whole, 2)
    assert weak.name == "toy-weak2"
    assert weak.features.shape == (60, 2)
    assert weak.test_features.shape == (9, 2)
    for kind, rate in noises_of("toy", [0.0, 0.3]):
        assert (noisy_labels(weak, kind, rate, 1) == noisy_labels(whole, kind, rate, 1)).all()


def test_directions_are_orthonormal_centred_and_the_same_each_time() -> None:
    whole = a_set()
    seen, again = through_directions(whole, 3), through_directions(whole, 3)
    assert (seen.features == again.features).all()
    assert seen.features.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-6)
    centred = whole.test_features - whole.features.mean(axis=0)
    assert seen.test_features @ seen.test_features.T == pytest.approx(centred @ centred.T, abs=1e-4)


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty photos of two classes; sample i has feature (i, -i), and people took the first of each class for the other."""
    (tmp_path / "datasets" / "truth").mkdir(parents=True)
    true = np.repeat([0, 1], 10).astype(np.int16)
    given = true.copy()
    given[[0, 10]] = [1, 0]
    rows = np.arange(20, dtype=np.float16)
    np.savez(
        tmp_path / "datasets" / "people_labels.npz",
        features=np.stack([rows, -rows], axis=1),
        given_few=given,
        given_votes=np.stack([given, true, given], axis=1),
        pred_probs_few=np.stack([1 - rows / 20, rows / 20], axis=1).astype(np.float32),
    )
    np.save(tmp_path / "datasets" / "truth" / "people_labels.npy", true)
    monkeypatch.setenv("LABELCLEAN_REAL_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["people_few", "people_votes"])
def test_peoples_labels_stay_with_their_photos(people: Path, name: str) -> None:
    photos = load_set(name, people)
    assert photos is not None
    assert len(photos.true) == 14
    assert len(photos.test_true) == 6
    rows = photos.features[:, 0].astype(int)
    assert (photos.true == rows // 10).all()
    labels = noisy_labels(photos, "people", 0.09, 2)
    assert (labels == np.where(np.isin(rows, [0, 10]), 1 - photos.true, photos.true)).all()
    assert photos.pred_probs is None
    if photos.votes is None:
        assert name == "people_few"
    else:
        assert photos.votes[:, 1].tolist() == photos.true.tolist()
        assert photos.votes[:, 0].tolist() == photos.votes[:, 2].tolist() == labels.tolist()


def test_a_users_own_probabilities_come_with_or_without_features(people: Path) -> None:
    doors = {name: load_set(f"people_few_{name}", people) for name in ("probs", "both")}
    for photos in doors.values():
        assert photos is not None
        assert photos.pred_probs is not None
        assert photos.pred_probs[:, 1] == pytest.approx(photos.features[:, 0] / 20, abs=1e-3)
    assert [photos.hands_features for photos in doors.values() if photos] == [False, True]


def test_people_come_first_and_have_one_cell_per_set_and_seed(people: Path) -> None:
    names = set_names(quick=True)
    assert names[: len(data.PEOPLE_ERRORS) + 1] == [*data.PEOPLE_ERRORS, data.PEOPLE_RIGHT]
    assert "digits-weak8" in names
    cells = cleaning_power.cells_of(["people_few", "people_none", "digits"], [0.0, 0.4], 2)
    assert [(cell.data, cell.kind) for cell in cells[:4]] == [("people_few", "people")] * 2 + [
        ("people_none", "none")
    ] * 2
    assert len(cells) == 4 + 2 * 6


def test_without_real_data_there_are_only_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABELCLEAN_REAL_DATA", raising=False)
    assert set_names(quick=True) == ["digits", "digits-weak8", "digits-weak24"]


def test_published_labels_of_the_infrared_modules_are_their_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "datasets").mkdir()
    rng = np.random.default_rng(0)
    label = np.repeat([3, 7], 30)
    features = (rng.standard_normal((60, 4)) + label[:, None]).astype(np.float16)
    np.savez(tmp_path / "datasets" / "infrared_modules.npz", features=features, label=label)
    monkeypatch.setenv("LABELCLEAN_REAL_DATA", str(tmp_path))
    modules = load_set("infrared_modules", tmp_path)
    assert modules is not None
    assert set_names(quick=True)[-1] == "infrared_modules"
    assert np.bincount(modules.true).tolist() == [21, 21]
    assert modules.num_classes == 2


def rows_of_spies(toy: DataSet, names: list[str], monkeypatch: pytest.MonkeyPatch, cache: Path) -> dict[str, Problem]:
    """Run methods that only note what they were given."""
    seen: dict[str, Problem] = {}

    def spy(name: str) -> None:
        def method(problem: Problem) -> Output:
            seen[name] = problem
            given = problem.given
            return Output(np.ones(len(given)), given < 0, given, np.eye(3)[given])

        monkeypatch.setitem(peers.METHODS, name, method)

    for name in names:
        spy(name)
    truth = measures.Truth(toy.true, toy.test_features, toy.test_true)
    ready = (toy, truth, measures.build_downstream(toy.features, truth))
    monkeypatch.setattr(cleaning_power, "prepared", lambda *_: ready)
    monkeypatch.setattr(cleaning_power, "folds_of", lambda *_: np.arange(len(toy.true)) % 5)
    cell = cleaning_power.Cell("toy", "uniform", 0.2, 0)
    rows = cleaning_power.run_cell(cell, dict.fromkeys(names, "d"), cache)
    assert [row.method for row in rows] == names
    assert [len(row.scores) for row in rows if row.method == AUDITED] == [30] * (AUDITED in names)
    return seen


def test_what_a_person_found_reaches_the_audited_method_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toy = a_set()
    seen = rows_of_spies(toy, [OURS, AUDITED, CLEANLAB], monkeypatch, tmp_path)
    audit = seen[AUDITED].audit
    assert audit is not None
    assert len(set(audit.rows.tolist())) == 30
    assert (audit.classes == toy.true[audit.rows]).all()
    assert seen[OURS].audit is None
    assert seen[CLEANLAB].audit is None
    assert (seen[AUDITED].given == seen[OURS].given).all()


def test_audits_are_drawn_anew_for_each_seed_and_repeat() -> None:
    cell, true = cleaning_power.Cell("toy", "uniform", 0.2, 0), np.zeros(1000, dtype=np.int64)
    first, again, other = (cleaning_power.drawn_audit(c, true).rows for c in (cell, cell, cell._replace(seed=1)))
    assert (first == again).all()
    assert set(first.tolist()) != set(other.tolist())


@pytest.mark.parametrize("hands_features", [True, False])
def test_methods_see_what_the_user_hands_over(
    hands_features: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    probs = np.full((60, 3), 1 / 3, dtype=np.float32)
    toy = a_set(pred_probs=probs, hands_features=hands_features)
    seen = rows_of_spies(toy, [OURS, CLEANLAB], monkeypatch, tmp_path)
    assert all(problem.features.shape == (60, 3 if hands_features else 0) for problem in seen.values())
    assert all(problem.outside_probs is probs for problem in seen.values())


def test_votes_of_several_people_are_handed_over_beside_their_plurality(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    true = a_set().true
    votes = np.stack([true, true, (true + 1) % 3], axis=1)
    seen = rows_of_spies(a_set(people=true, votes=votes), [OURS, CLEANLAB], monkeypatch, tmp_path)
    assert all(problem.votes is votes and (problem.given == true).all() for problem in seen.values())


def test_ours_takes_votes_where_there_are_some() -> None:
    rng, true = np.random.default_rng(0), np.arange(60) % 2
    features = (np.eye(2)[true] * 9 + rng.standard_normal((60, 2))).astype(np.float32)
    votes = np.stack([true, true, true], axis=1)
    votes[0] = [1 - true[0], 1 - true[0], true[0]]
    given = data.plurality(votes, 2)
    output = peers.labelclean_default(Problem(features, given, np.arange(60) % 5, 2, 0, votes=votes))
    assert output.predicted.tolist() == true.tolist()
    assert output.is_issue[0]


def test_with_probabilities_of_ones_own_only_rules_on_probabilities_are_run() -> None:
    names = [name for name in peers.METHODS if cleaning_power.runs_on(name, "people_few_both")]
    rules = [CLEANLAB, "cleanlab confident learning", "argmax disagreement"]
    assert [name for name in names if name not in (OURS, AUDITED)] == rules
    assert all(cleaning_power.runs_on(name, "people_few") for name in peers.METHODS)


def test_ours_takes_probabilities_of_the_classes_that_somebody_gave() -> None:
    given = np.arange(60) % 2 * 2
    probs = np.full((60, 3), 0.1, dtype=np.float32)
    probs[np.arange(60), given] = 0.8
    problem = Problem(np.zeros((60, 0), np.float32), given, given, 3, 0, pred_probs=probs)
    output = peers.labelclean_default(problem)
    assert (output.predicted == given).all()
    assert output.soft[:, 1].max() == 0
    assert output.estimate is not None


def test_families_and_their_order_in_the_table() -> None:
    names = ["digits", "infrared_modules", "people_few", "digits-weak8", "people_few_both"]
    assert [Place(name, "uniform", 0.1).family for name in names] == [
        "strong",
        "overlapping",
        "people",
        "weak",
        "own model",
    ]
    text = results.markdown([a_row(name) for name in names], "command")
    table = text.partition("## All cells")[2]
    order = ["people_few,", "people_few_both", "digits,", "digits-weak8", "infrared_modules"]
    assert sorted(order, key=table.index) == order
    assert "### Labels that people gave: 1 cells" in text


def test_goals_compare_with_the_rows_of_another_commit_where_labels_are_the_same() -> None:
    now = [a_row(helped=(1, 2, 3), f1=0.8, seconds=1.0, mib=9.0)]
    then = [a_row(helped=(1, 2), f1=0.7, seconds=2.0, mib=9.0)]
    text = lines_of(now, then)
    assert "**must, holds**: mean gain on strong features with noise +0.0300, baseline +0.0200" in text
    assert "**must, holds**: mean F1 0.8000, baseline 0.7000 (1 cells)." in text
    assert "**must, holds**: CPU seconds 0.50 of the baseline's, memory 1.00" in text
    others = [a_row(helped=(1, 2), f1=0.7, num_wrong=11.0)]
    assert "not measured: F1 beside a baseline." in lines_of(now, others)


def test_goals_of_people_and_of_overlapping_classes_name_the_cells_behind() -> None:
    rows = [
        *(a_row("people_few", method=method, f1=f1, ap=0.5) for method, f1 in ((OURS, 0.4), (CLEANLAB, 0.41))),
        *(a_row("infrared_modules", method=method, f1=0.5, ap=ap) for method, ap in ((OURS, 0.6), (CLEANLAB, 0.615))),
        a_row("people_many_both", given_accuracy=0.6, model_accuracy=0.86, accuracy=0.84),
    ]
    text = lines_of(rows)
    assert "F1 ahead of the best cleanlab's in 0 of 1 cells of people's labels; not: people_few" in text
    assert (
        "in 0 of 1 cells of overlapping classes; behind: infrared_modules, uniform 0.1 (0.600 against 0.615)." in text
    )
    assert "less 0.01, in 0 of 1 cells; not: people_many_both, uniform 0.1 (0.840 against 0.860)." in text


def test_goals_of_expected_errors_and_alarms_say_their_figures() -> None:
    rows = [
        a_row(off_size=2.0, held=1.0, width=9.0),
        a_row("digits-weak8", off_size=5.0, held=0.0, width=1.0),
        a_row(method=AUDITED, off_size=1.0, held=1.0, width=4.0, harmed=(1, 2, 3, 4, 5)),
        a_row(rate=0.0, alarms=0.03),
        a_row("digits-weak8", rate=0.0, alarms=0.03),
    ]
    rows = [row._replace(measures={"off_size": 2.0, "held": 1.0, "width": 5.0} | row.measures) for row in rows]
    text = lines_of(rows)
    assert "**must, holds**: expected share of errors off by 0.0275 on average (limit 0.038)" in text
    assert "**stretch, holds**: with 30 looked at, expected share of errors off by 0.0100" in text
    assert "**must, does not hold**: the interval of the expected errors holds in 75.0% of runs" in text
    assert "**must, does not hold**: with 30 looked at, predicted labels are below" in text
    assert "**stretch, does not hold**: without noise 3.0% are flagged on strong features (limit 2%)" in text
    assert "**stretch, holds**: without noise 3.0% are flagged on weak features (limit 8%)" in text


def test_calibration_is_that_of_the_scores_of_all_seeds() -> None:
    # Claimed .9, of 200 pooled samples 100 are wrong: error .4; of the other cell all are right: .1.
    halves = [a_row(seed=0), a_row(seed=1)._replace(wrong=list(range(100)))]
    assert goals.pooled_calibration({row.seed: row for row in halves}) == pytest.approx(0.4)
    text = lines_of([*halves, a_row("neu_surface")])
    assert (
        "calibration error of label_score at most 0.05 in 0.0% of cells (limit 90%), at worst 0.400, at digits" in text
    )


def test_goals_without_results_are_not_measured() -> None:
    assert all("not measured" in line for line in goals.goal_lines({}, {}))
