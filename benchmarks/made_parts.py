"""Pictures of stamped parts that lie on trays: many kinds in families, drawn from a seed.

A kind is a plate with holes. The kinds of a family are one plate with one hole elsewhere in each. A picture shows a kind on one of several trays, whose pattern and light say nothing about the kind.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.problem import FloatArray, IntArray

SIDE = 60  # a fifth more than the crops' 48, as the product caches images
PLACES = 8
EDGE = 0.03
HOLE_GREY = 0.08
NOISE = 0.02


class Plate(NamedTuple):
    """One kind of part, in units of half the picture.

    Attributes:
        sides: Of the outline; 0 is a disc.
        radius: Of the outline's inner circle.
        grey: In [0, 1].
        holes: x, y and radius of each, shape (H, 3).
    """

    sides: int
    radius: float
    grey: float
    holes: FloatArray


class Tray(NamedTuple):
    """What a picture shows beside the part: a wave and a light from one side."""

    wave: FloatArray
    light: FloatArray


class Parts(NamedTuple):
    """Pictures with what they show.

    Attributes:
        pixels: uint8, shape (N, 1, SIDE, SIDE).
        kind: int64, shape (N,); a family has successive numbers.
        tray: int64, shape (N,).
    """

    pixels: npt.NDArray[np.uint8]
    kind: IntArray
    tray: IntArray


def make_plates(num_kinds: int, alike: int, rng: np.random.Generator) -> list[Plate]:
    """Return kinds of part, a family side by side: the same plate, whose last hole each has elsewhere.

    Args:
        num_kinds: A multiple of ``alike``.
        alike: Kinds of one family, 2 to 5.
        rng: Draws them.

    Returns:
        The plates.
    """
    plates = []
    for _ in range(num_kinds // alike):
        sides, radius = int(rng.choice([0, 3, 4, 5, 6, 8])), rng.uniform(0.42, 0.62)
        count = int(rng.integers(2, 5))
        places = rng.permutation(PLACES) * 2 * np.pi / PLACES + rng.uniform(0, 2 * np.pi / PLACES)
        size, reach = rng.uniform(0.08, 0.13, count + 1), radius * rng.uniform(0.45, 0.65)
        grey = rng.uniform(0.55, 0.85)
        for moved in range(alike):
            place = np.append(places[: count - 1], places[count - 1 + moved])
            holes = np.stack([reach * np.cos(place), reach * np.sin(place), size[:count]], axis=1)
            plates.append(Plate(sides, radius, grey, holes))
    return plates


def make_trays(num_trays: int, rng: np.random.Generator) -> list[Tray]:
    """Return trays, each with a wave of its own and a light of its own.

    Args:
        num_trays: At least 1.
        rng: Draws them.

    Returns:
        The trays.
    """
    trays = []
    for _ in range(num_trays):
        wave_angle, light_angle = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        wave = rng.uniform(6, 20) * np.array([np.cos(wave_angle), np.sin(wave_angle)])
        trays.append(Tray(wave, np.array([np.cos(light_angle), np.sin(light_angle)])))
    return trays


def draw_part(
    plate: Plate, tray: Tray, strength: float, darkest: float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return one picture: the part a little turned, shifted and scaled, on the tray.

    Args:
        plate: The kind.
        tray: The tray.
        strength: Of the tray's wave and light, in [0, 1].
        darkest: Exposures are drawn between this and 1, evenly in their logarithm.
        rng: Draws pose, phase, exposure and noise.

    Returns:
        uint8, shape (SIDE, SIDE).
    """
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    place = np.stack(np.meshgrid(axis, axis), axis=-1)
    turn, shift, scale = rng.normal(0, 0.06), rng.uniform(-0.1, 0.1, 2), rng.uniform(0.93, 1.07)
    cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
    own = (place - shift) @ np.array([[cosine, -sine], [sine, cosine]])
    distance = np.hypot(own[..., 0], own[..., 1])
    if plate.sides:
        angles = 2 * np.pi * np.arange(plate.sides) / plate.sides
        distance = (own @ np.stack([np.cos(angles), np.sin(angles)])).max(axis=-1)
    background = 0.4 + 0.3 * strength * np.sin(place @ tray.wave + rng.uniform(0, 2 * np.pi))
    picture = _laid(background, distance - plate.radius, plate.grey)
    for x, y, radius in plate.holes:
        picture = _laid(picture, np.hypot(own[..., 0] - x, own[..., 1] - y) - radius, HOLE_GREY)
    exposure = np.exp(rng.uniform(np.log(darkest), 0.0))
    lit = exposure * picture * (1 + 0.4 * strength * (place @ tray.light)) + rng.normal(0, NOISE, picture.shape)
    return np.asarray(np.round(np.clip(lit, 0, 1) * 255), dtype=np.uint8)


class Scene(NamedTuple):
    """How much else than the kind the pictures differ in.

    Attributes:
        num_kinds: A multiple of ``alike``.
        alike: Kinds of one family, 2 to 5.
        num_trays: At least 1.
        strength: Of the trays' waves and lights, in [0, 1].
        darkest: Exposure of the darkest picture, in (0, 1]; the brightest has 1.
    """

    num_kinds: int
    alike: int
    num_trays: int
    strength: float
    darkest: float


def make_parts(scene: Scene, per_kind: int, *, seed: int, purpose: int) -> Parts:
    """Return pictures of every kind, each on a tray drawn anew.

    Args:
        scene: What the pictures differ in.
        per_kind: Pictures of each kind.
        seed: Draws kinds and trays, the same for every purpose.
        purpose: Draws the pictures: 0 to learn from, 1 to test with.

    Returns:
        The pictures, kinds in order.
    """
    design = np.random.default_rng([seed, 0])
    plates, trays = make_plates(scene.num_kinds, scene.alike, design), make_trays(scene.num_trays, design)
    rng = np.random.default_rng([seed, 1, purpose])
    kind = np.repeat(np.arange(scene.num_kinds), per_kind)
    tray = rng.integers(0, scene.num_trays, len(kind))
    pixels = [
        draw_part(plates[k], trays[t], scene.strength, scene.darkest, rng) for k, t in zip(kind, tray, strict=True)
    ]
    return Parts(np.stack(pixels)[:, None], kind, tray)


def _laid(under: FloatArray, outside: FloatArray, grey: float) -> FloatArray:
    """A grey area, inside where ``outside`` is negative, over what lies under it, with a soft edge."""
    cover = 1 / (1 + np.exp(np.clip(outside / EDGE, -50, 50)))
    return np.asarray(under * (1 - cover) + grey * cover)
