"""AdaSim's claim on made pictures: what the pictures show, what is measured of them, and what is run again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import adasim, adasim_claim, made_parts
from benchmarks.adasim_claim import Condition, courses, read_rows, run_missing, section, shares_of_neighbours, worth
from benchmarks.made_parts import HOLE_GREY, SIDE, Plate, Scene, Tray, draw_part, make_parts, make_plates

STILL = Tray(np.zeros(2), np.array([1.0, 0.0]))


def grey_at(picture: np.ndarray, x: float, y: float) -> float:
    column, row = (int((place + 1) / 2 * SIDE) for place in (x, y))
    return float(picture[row - 2 : row + 2, column - 2 : column + 2].mean() / 255)


@pytest.mark.parametrize("alike", [2, 5])
def test_kinds_of_a_family_are_one_plate_with_the_last_hole_elsewhere(alike: int) -> None:
    plates = make_plates(40, alike, np.random.default_rng(3))
    assert len(plates) == 40
    for number, plate in enumerate(plates):
        for other in plates[number // alike * alike : number]:
            assert (plate.sides, plate.radius, plate.grey) == (other.sides, other.radius, other.grey)
            moved = np.hypot(*(plate.holes - other.holes)[:, :2].T)
            assert (moved > 0.05).tolist() == [False] * (len(moved) - 1) + [True]


def test_a_hole_is_dark_where_the_plate_has_it_and_the_plate_is_grey_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_parts, "NOISE", 0.0)
    plate = Plate(4, 0.6, 0.8, np.array([[0.3, -0.2, 0.12]]))
    pictures = [draw_part(plate, STILL, 0.0, 1.0, np.random.default_rng(seed)) for seed in range(60)]
    mean = np.mean(pictures, axis=0)  # poses even out
    assert grey_at(mean, 0.3, -0.2) < HOLE_GREY + 0.25
    assert grey_at(mean, -0.3, -0.2) == pytest.approx(0.8, abs=0.01)
    assert grey_at(mean, -0.9, 0.9) == pytest.approx(0.4, abs=0.01)


def test_exposures_reach_from_the_darkest_to_one() -> None:
    plate = Plate(0, 0.6, 0.8, np.zeros((0, 3)))
    rng = np.random.default_rng(0)
    greys = [grey_at(draw_part(plate, STILL, 0.0, 0.25, rng), 0, 0) for _ in range(80)]
    assert 0.19 < min(greys) < 0.25
    assert 0.75 < max(greys) < 0.81


def test_pictures_to_test_with_are_others_of_the_same_kinds() -> None:
    scene = Scene(4, 2, 2, 0.5, 1.0)
    learned, again, test = (make_parts(scene, 6, seed=1, purpose=purpose) for purpose in (0, 0, 1))
    assert learned.pixels.shape == (24, 1, SIDE, SIDE)
    assert (learned.pixels == again.pixels).all()
    assert (learned.kind == test.kind).all()
    assert not (learned.pixels == test.pixels).all(axis=(1, 2, 3)).any()


def test_shares_of_neighbours_by_hand_leave_out_oneself_and_what_is_missing() -> None:
    kind, tray = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    near = np.array([[0, 1], [2, 3], [-1, -1], [2, 1]])
    # others seen: 0->1, 1->2, 1->3, 3->2, 3->1
    shares = shares_of_neighbours(near, kind, 2, tray)
    assert shares == {"own_kind": 1 / 5, "kin": 1 / 5, "own_tray": 4 / 5}


def test_features_that_tell_families_but_not_kinds_are_worth_half() -> None:
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(6), 40)
    pairs = np.eye(3)[kind // 2] + 0.05 * rng.standard_normal((240, 3))
    kinds = np.eye(6)[kind] + 0.05 * rng.standard_normal((240, 6))
    half = worth(pairs[::2].astype(np.float32), kind[::2], pairs[1::2].astype(np.float32), kind[1::2], 2)
    assert half[1] == 1
    assert half[[0, 2]] == pytest.approx([0.5, 0.5], abs=0.15)
    assert (
        worth(kinds[::2].astype(np.float32), kind[::2], kinds[1::2].astype(np.float32), kind[1::2], 2).tolist()
        == [1] * 3
    )


TINY = Condition(Scene(4, 2, 1, 0.0, 1.0), 10, methods=("base", "naive"), epochs=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("claim")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adasim_claim, "CONDITIONS", {"tiny": TINY})
        run_missing(work)
    return work


@pytest.mark.slow
def test_trainings_leave_a_row_each_and_are_not_run_again(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, naive = read_rows(trained / "claim")
    assert (base["method"], base["epochs"]) == ("base", [])
    shares = [epoch["bootstrapped_share"] for epoch in naive["epochs"]]
    assert shares[0] == 0 < shares[1]  # V = 1: from the second epoch on, whoever has met others
    assert shares[2] == 1
    assert naive["collapse"] is None
    (trained / "claim" / "tiny-base-0.json").unlink()
    monkeypatch.setattr(adasim_claim, "CONDITIONS", {"tiny": TINY})
    monkeypatch.setattr(adasim_claim, "run_training", lambda name, method, seed: {"method": f"{method} anew"})
    run_missing(trained)
    assert [row["method"] for row in read_rows(trained / "claim")] == ["base anew", "naive"]


@pytest.mark.slow
def test_a_collapse_is_a_result_and_not_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adasim_claim, "CONDITIONS", {"tiny": TINY})
    monkeypatch.setattr(adasim_claim, "SETTINGS", adasim_claim.SETTINGS | {"min_effective_rank": 1e6})
    row = adasim_claim.run_training("tiny", "naive", 0)
    assert "epoch 1: training has collapsed" in row["collapse"]
    assert row["epochs"] == []
    assert 0 <= row["knn"] <= 1


def told(method: str, seed: int, knn: float, **epoch: float | None) -> adasim_claim.Row:
    worth_of_it = {"knn": knn, "family": 0.9, "probe": 0.8, "rank": 12.0}
    epochs = [epoch | {"effective_rank": float(number)} for number in (2, 4)] if epoch else []
    return {"condition": "tiny", "method": method, "seed": seed, "epochs": epochs, "collapse": None} | worth_of_it


def test_a_course_is_the_mean_over_seeds_and_says_nothing_of_what_does_not_exist() -> None:
    facts = {"own_kind": 0.2, "gate_share": 0.1, "bootstrapped_share": 0.0}
    rows = [
        told("plain", seed, 0.5, **facts | {"own_kind": value}, partner_agreement=None)
        for seed, value in ((0, 0.2), (1, 0.4))
    ]
    course = courses([*rows, told("base", 0, 0.3)])
    assert list(course) == ["plain"]
    assert course["plain"]["own_kind"] == pytest.approx([0.3, 0.3])
    assert course["plain"]["effective_rank"].tolist() == [2, 4]
    assert np.isnan(course["plain"]["partner_agreement"]).all()


def test_the_section_holds_each_condition_s_table_and_pairs_methods_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    conditions = {"tiny": TINY._replace(seeds=(0, 1)), "not run": TINY}
    monkeypatch.setattr(adasim_claim, "CONDITIONS", conditions)
    facts = {"own_kind": 0.2, "self_retrieval_1": 0.1, "bootstrapped_share": 1.0, "partner_agreement": 0.25}
    facts |= {"gate_share": 0.125}
    rows = [told("naive", seed, knn, **facts) for seed, knn in ((0, 0.4), (1, 0.7))]
    rows += [told("plain", seed, knn, **facts | {"partner_agreement": None}) for seed, knn in ((1, 0.6), (0, 0.6))]
    rows[0] |= {"epochs": rows[0]["epochs"][:1], "collapse": "adapt, epoch 2: training has collapsed"}
    text = section(rows)
    assert "### tiny\n\n4 kinds in families of 2, 10 pictures each;" in text
    assert "### not run" not in text
    assert "| naive | 0.550 ± 0.212 | 0.900 ± 0.000 | 0.800 ± 0.000 | 12.0 ± 0.0 | 0.200 ± 0.000 |" in text
    assert " | 2, 1 collapsed |" in text
    assert "| naive | gate would open | 0.125 | 0.125 |" in text
    # seed 0: .4 - .6, seed 1: .7 - .6
    assert "- naive less plain: k-NN accuracy -0.050 ± 0.212, better in 1 of 2 seeds;" in text


def test_trials_stand_in_one_table_with_naive_less_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adasim_claim, "CONDITIONS", {"tiny": TINY, "half": TINY})
    facts = {"own_kind": 0.2, "self_retrieval_1": 0.1}
    rows = [told("naive", 0, 0.4, **facts), told("plain", 0, 0.65, **facts), told("base", 0, 0.3)]
    text = section([*rows, told("plain", 0, 0.5, **facts) | {"condition": "half"}])
    accuracies = "base 0.300 / 0.800; plain 0.650 / 0.800; naive 0.400 / 0.800"
    assert f"V = 1. | {accuracies} | -0.250 / +0.000 | 0.200 to 0.200 | 0.100 to 0.100 |\n| half:" in text
    assert "| plain 0.500 / 0.800 |  |  |  |" in text


def test_new_sections_replace_their_own_and_leave_the_others(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    adasim.put_sections(page, {adasim.TITLES["cost"]: "old cost", adasim.TITLES["scratch"]: "### a set"})
    before = page.read_text()
    adasim.put_sections(page, {adasim.TITLES["claim"]: "new claim\n"})
    after = page.read_text()
    assert after == before.replace(
        "## Cost of the loop", "## The claim, on made pictures\n\nnew claim\n\n## Cost of the loop"
    )
    adasim.put_sections(page, {adasim.TITLES["claim"]: "new claim"})
    assert page.read_text() == after
    adasim.put_sections(page, {adasim.TITLES["cost"]: "new cost"})
    assert page.read_text() == after.replace("old cost", "new cost")


def test_a_start_says_how_many_of_its_cells_were_run_and_one_without_has_no_section(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adasim, "real_names", lambda: ["tiles", "steel"])
    row = {"set": "tiles", "start": "imagenet", "method": "naive", "knn": 0.75, "probe": 0.5, "ap": 0.25}
    rows = [
        row | {"seed": seed, "bootstrapped": 1.0, "self_retrieval_1": 0.5, "effective_rank": 9.0} for seed in (0, 1)
    ]
    texts = adasim.sections(rows, {}, "auto")
    assert list(texts) == ["From ImageNet weights"]
    text = texts["From ImageNet weights"]
    assert "2 of 24 cells have been run." in text  # two sets, four methods, three seeds
    assert "### tiles\n" in text
    assert (
        "| naive | 0.750 ± 0.000 | 0.500 ± 0.000 | 0.250 ± 0.000 | 1.00 ± 0.00 | 0.50 ± 0.00 | 9.0 ± 0.0 | 2 |" in text
    )
