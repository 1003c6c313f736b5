"""What is no picture of a part: planted faults are odd, kinds of product and heavy tails are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from labelclean.features.appearance import LOOKS
from labelclean.review.unusable import fit_crowd, oddness, usual_looks
from labelclean.storage.tables import UNUSABLE

LIMIT = 3.0
NUM = 600
Looks = npt.NDArray[np.float32]


def usual(rng: np.random.Generator) -> tuple[Looks, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Six hundred pictures of three classes with a spread of 0.2 in all they are."""
    looks = rng.normal(0.0, 0.2, (NUM, len(LOOKS))).astype(np.float32)
    looks[:, LOOKS.index("depth")] = np.float32(np.log(8))
    looks[:, LOOKS.index("is_blank")] = 0
    return looks, rng.normal(0.0, 0.1, NUM), np.arange(NUM) % 3


def flagged(
    looks: Looks, distances: npt.NDArray[np.float64], given: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.int64]]:
    odd = oddness(usual_looks(looks, distances, given, 3), looks, distances, given)
    return {name: np.flatnonzero(column > LIMIT) for name, column in zip(UNUSABLE, odd.T, strict=True)}


@pytest.mark.parametrize(
    ("reason", "name", "value"),
    [
        ("dark", "light", -3.0),
        ("bright", "light", 3.0),
        ("low_contrast", "contrast", -3.0),
        ("blurred", "sharpness", -3.0),
        ("odd_size", "area", -3.0),
        ("odd_size", "area", 3.0),
        ("odd_size", "aspect", -3.0),
        ("odd_depth", "depth", float(np.log(24))),
    ],
)
def test_what_was_planted_is_odd_for_its_reason_only(reason: str, name: str, value: float) -> None:
    looks, distances, given = usual(np.random.default_rng(0))
    planted = np.arange(0, NUM, 33)  # 3 %
    looks[planted, LOOKS.index(name)] = value
    found = flagged(looks, distances, given)
    assert set(planted.tolist()) <= set(found[reason].tolist())
    false = {row for other, rows in found.items() for row in rows.tolist() if other != reason or row not in planted}
    assert len(false) <= 0.01 * NUM * 3  # eleven sides, each with its own chance


def test_a_blank_picture_is_called_blank_and_not_faint() -> None:
    looks, distances, given = usual(np.random.default_rng(0))
    looks[7, [LOOKS.index("contrast"), LOOKS.index("is_blank")]] = -5.0, 1.0
    found = flagged(looks, distances, given)
    assert found["blank"].tolist() == [7]
    assert 7 not in found["low_contrast"]


def test_many_blank_pictures_are_how_this_set_is() -> None:
    looks, distances, given = usual(np.random.default_rng(0))
    looks[::4, [LOOKS.index("contrast"), LOOKS.index("is_blank")]] = -5.0, 1.0
    assert len(flagged(looks, distances, given)["blank"]) == 0


def test_a_kind_that_is_a_class_of_its_own_is_not_odd() -> None:
    looks, distances, given = usual(np.random.default_rng(0))
    given = np.where(np.arange(NUM) % 14 == 0, 2, np.arange(NUM) % 2)  # 7 % of all
    looks[given == 2, LOOKS.index("light")] -= 5.0
    found = flagged(looks, distances, given)
    assert len(found["dark"]) <= 0.01 * NUM


def test_a_class_of_its_own_tells_a_rare_kind_from_faults() -> None:
    rng = np.random.default_rng(0)
    parts = [usual(rng) for _ in range(4)]
    looks, distances = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
    given = np.where(np.arange(4 * NUM) % 50 == 0, 2, np.arange(4 * NUM) % 2)  # 48, 2 %
    looks[given == 2, LOOKS.index("light")] -= 5.0
    assert len(flagged(looks, distances, given)["dark"]) <= 0.01 * NUM
    assert len(flagged(looks, distances, np.arange(4 * NUM) % 2)["dark"]) >= 48


def test_several_kinds_of_product_flood_nothing() -> None:
    looks, distances, given = usual(np.random.default_rng(0))
    looks[:, LOOKS.index("light")] += np.repeat([-4.0, 0.0, 2.0], [36, 364, 200])
    looks[:, LOOKS.index("area")] += np.tile([0.0, 3.0], NUM // 2)
    found = flagged(looks, distances, given)
    assert max(map(len, found.values())) <= 0.01 * NUM


def test_heavy_tails_flood_nothing() -> None:
    rng = np.random.default_rng(0)
    looks, distances, given = usual(rng)
    looks[:, : LOOKS.index("depth")] = rng.laplace(0.0, 0.3, (NUM, LOOKS.index("depth")))
    found = flagged(looks, distances, given)
    sides = {"odd_size": 4}
    assert all(len(rows) <= 0.02 * NUM * sides.get(name, 1) for name, rows in found.items())  # exp(-3.77) / 2 = 1.2 %


def test_grey_values_are_compared_with_files_of_the_same_depth_only() -> None:
    looks, distances, given = usual(np.random.default_rng(0))
    deep = np.arange(NUM) % 10 == 0
    looks[deep, LOOKS.index("depth")] = np.float32(np.log(16))
    looks[deep, LOOKS.index("light")] -= 5.0  # 12 bits in 16
    assert not set(np.flatnonzero(deep)) & set(flagged(looks, distances, given)["dark"].tolist())
    looks[0, LOOKS.index("light")] -= 12.0
    assert 0 in flagged(looks, distances, given)["dark"]


def test_few_pictures_and_pictures_that_nobody_measured_are_never_odd() -> None:
    looks, distances, given = usual(np.random.default_rng(0))
    few = looks[:39].copy()
    few[0] = -9.0
    assert not any(map(len, flagged(few, distances[:39], given[:39]).values()))
    looks[5] = np.nan
    looks[:, LOOKS.index("light")] *= 1.0
    assert not any(5 in rows for rows in flagged(looks, distances, given).values())
    gone = np.full_like(looks, np.nan)
    assert not any(map(len, flagged(gone, np.full(NUM, np.nan), given).values()))


def test_a_picture_off_the_plane_of_all_others_is_far_from_them() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(2, 30))
    features = rng.normal(size=(400, 2)) @ plane * 5 + rng.normal(0, 0.1, (400, 30))
    halves = np.arange(400) % 2
    off = rng.normal(size=(10, 30))
    features[:10] += off  # ten that lie off, in different directions
    crowd = fit_crowd(features, halves)
    found = crowd.distances(features, halves)
    # by least squares on the other half's plane
    for row in (0, 1, 50, 51):
        others = features[halves != halves[row]]
        centred = others - others.mean(axis=0)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        main = vectors[:, ::-1][:, : crowd.bases[halves[row]].shape[1]]
        left = features[row] - others.mean(axis=0)
        assert np.exp(found[row]) == pytest.approx(np.linalg.norm(left - main @ (main.T @ left)), rel=1e-3)
    assert found[:10].min() > found[10:].max()


def test_copies_of_a_bad_picture_in_the_other_half_do_not_hide_it_from_a_large_crowd() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 30)) * 5 + rng.normal(0, 0.1, (400, 30))
    features[:8] += rng.normal(size=30)  # eight of one kind, four in each half
    halves = np.arange(400) % 2
    found = fit_crowd(features, halves).distances(features, halves)
    assert found[:8].min() > found[8:].max()


def test_a_depth_that_no_known_picture_has_hides_nothing_but_grey_values() -> None:
    """Of more pictures than decide, a rare depth may be among the others alone."""
    rng = np.random.default_rng(9)
    looks, distances, given = usual(rng)
    known = usual_looks(looks, distances, given, 3)
    other = looks[:1].copy()
    other[0, LOOKS.index("depth")], other[0, LOOKS.index("area")], other[0, LOOKS.index("light")] = (
        np.log(24),
        9.0,
        -9.0,
    )
    odd = dict(zip(UNUSABLE, oddness(known, other, np.array([5.0]), np.array([0]))[0], strict=True))
    assert min(odd["odd_depth"], odd["odd_size"], odd["outlier"]) > LIMIT
    assert odd["dark"] == -np.inf  # with what should it be compared?
