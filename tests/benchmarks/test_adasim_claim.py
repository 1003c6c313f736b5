"""AdaSim's claim on made pictures: what the pictures show, what is measured of them, and what is run again."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import made_parts
from benchmarks.adasim_claim import shares_of_neighbours, worth
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
