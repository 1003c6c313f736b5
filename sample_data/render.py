"""Draws one photo of one made-up metal part: a surface, its defects, the light and the camera.

A part is two maps, its relief (height, in pixels) and its albedo (how bright it is). The surface and
every defect add to both; raking light turns the relief's slope into brightness, and the camera adds
lens blur, vignetting and noise. All randomness comes from the generators given by the caller.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Maps = tuple[Map, Map]
Draw = Callable[[np.random.Generator, "Grid", float], Maps]

# Pixels drawn beyond each border of the photo, so that a second shot may be shifted.
MARGIN_PX = 8


@dataclass(frozen=True)
class Grid:
    """The coordinates of a part's pixels.

    Attributes:
        x_px: Column of each pixel, float32, shape (H, W).
        y_px: Row of each pixel, float32, shape (H, W).
    """

    x_px: Map
    y_px: Map

    def point(self, rng: np.random.Generator, border_share: float = 0.24) -> tuple[float, float]:
        """Return a random place (x, y) that keeps ``border_share`` of the size away from each border."""
        height_px, width_px = self.x_px.shape
        x, y = rng.uniform(border_share, 1 - border_share, 2)
        return float(x * width_px), float(y * height_px)


def grid(height_px: int, width_px: int) -> Grid:
    """Return the coordinates of a part seen in a photo of ``height_px`` x ``width_px``, margins included."""
    y_px, x_px = np.mgrid[: height_px + 2 * MARGIN_PX, : width_px + 2 * MARGIN_PX].astype(np.float32)
    return Grid(x_px, y_px)


def noise(rng: np.random.Generator, shape: tuple[int, int], along_px: float, across_px: float, angle: float = 0) -> Map:
    """Return Gaussian noise smoothed along and across a direction.

    Args:
        rng: Source of randomness.
        shape: (H, W) of the wanted map.
        along_px: Standard deviation of the smoothing along ``angle``, pixels.
        across_px: The same across ``angle``.
        angle: Direction in radians, 0 = along the rows.

    Returns:
        Noise, float32, shape (H, W), mean 0, standard deviation 1.
    """
    spectrum = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    v = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    u = np.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    low_pass = np.exp(-2 * np.pi**2 * ((along * along_px) ** 2 + (across * across_px) ** 2))
    low_pass[0, 0] = 0
    smooth = np.fft.irfft2(spectrum * low_pass, s=shape)
    return np.asarray(smooth / (smooth.std() + 1e-9), dtype=np.float32)


def brushed(rng: np.random.Generator, area: Grid, angle: float) -> Maps:
    """Return relief and albedo of brushed sheet: fine lines along ``angle``."""
    shape = area.x_px.shape
    fine = noise(rng, shape, rng.uniform(15, 40), 0.6, angle)
    coarse = noise(rng, shape, 60, rng.uniform(1.5, 3), angle)
    albedo = rng.uniform(0.5, 0.62) + rng.uniform(0.02, 0.04) * fine + rng.uniform(0.01, 0.03) * coarse
    return 0.05 * coarse, albedo.astype(np.float32)


def milled(rng: np.random.Generator, area: Grid, angle: float) -> Maps:
    """Return relief and albedo of a milled or turned face: tool marks on wide arcs."""
    reach_px = rng.uniform(120, 420)
    x0_px, y0_px = 72 + reach_px * np.cos(angle + np.pi / 2), 72 + reach_px * np.sin(angle + np.pi / 2)
    radius_px = np.hypot(area.x_px - x0_px, area.y_px - y0_px)
    profile = noise(rng, (1, 4096), 0.8, 0)[0] + 0.7 * noise(rng, (1, 4096), 3, 0)[0]
    marks = np.interp(radius_px, np.linspace(0, 1024, 4096), profile)
    feed = np.sin(2 * np.pi * radius_px / rng.uniform(3.5, 8) + 0.4 * noise(rng, area.x_px.shape, 30, 30))
    albedo = rng.uniform(0.48, 0.6) + rng.uniform(0.012, 0.03) * marks + rng.uniform(0.01, 0.03) * feed
    return (0.08 * feed).astype(np.float32), albedo.astype(np.float32)


def cast(rng: np.random.Generator, area: Grid, angle: float) -> Maps:
    """Return relief and albedo of a cast skin: grains and orange peel without direction."""
    shape = area.x_px.shape
    grain_px = rng.uniform(1.0, 1.6)
    relief = rng.uniform(0.10, 0.20) * noise(rng, shape, grain_px, grain_px) + 0.3 * noise(rng, shape, 4, 4)
    albedo = rng.uniform(0.38, 0.5) + 0.015 * noise(rng, shape, 0.7, 0.7) + 0.02 * noise(rng, shape, 14, 14, angle)
    return relief.astype(np.float32), albedo.astype(np.float32)


def line_distance(area: Grid, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> Maps:
    """Return each pixel's distance to a polyline and where along it the nearest place lies.

    Args:
        area: The pixels.
        x_px: Columns of the polyline's points, float, shape (P,) with P >= 2.
        y_px: Rows of the points, aligned with ``x_px``.

    Returns:
        Distance in pixels and place along the line in [0, 1], each float32, shape (H, W).
    """
    nearest = np.full(area.x_px.shape, np.inf, dtype=np.float32)
    place = np.zeros_like(nearest)
    for index in range(len(x_px) - 1):
        dx, dy = np.float32(x_px[index + 1] - x_px[index]), np.float32(y_px[index + 1] - y_px[index])
        from_x, from_y = area.x_px - np.float32(x_px[index]), area.y_px - np.float32(y_px[index])
        share = np.clip((from_x * dx + from_y * dy) / (dx * dx + dy * dy + np.float32(1e-6)), 0, 1)
        distance = np.hypot(from_x - share * dx, from_y - share * dy)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        place[closer] = (share[closer] + index) / (len(x_px) - 1)
    return nearest, place


def walk(
    rng: np.random.Generator, start: tuple[float, float], heading: float, length_px: float, turn: float, step_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the points (x, y) of a path that turns by about ``turn`` radians every ``step_px`` around ``heading``."""
    steps = max(int(length_px / step_px), 2)
    headings = heading + rng.normal(0, turn, steps) + 0.5 * np.cumsum(rng.normal(0, turn, steps)) / np.sqrt(steps)
    x_px = start[0] + np.concatenate([[0.0], np.cumsum(step_px * np.cos(headings))])
    y_px = start[1] + np.concatenate([[0.0], np.cumsum(step_px * np.sin(headings))])
    return x_px, y_px


def blob(rng: np.random.Generator, area: Grid, radius_px: float, raggedness: float) -> Map:
    """Return the relative distance to the middle of a ragged round patch: 0 in its middle, 1 on its outline."""
    x0, y0 = area.point(rng)
    stretch, angle = rng.uniform(0.7, 1.4), rng.uniform(0, np.pi)
    dx, dy = area.x_px - x0, area.y_px - y0
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    bearing = np.arctan2(across, along)
    outline = np.ones_like(bearing)
    for wave in (2, 3, 5):
        outline += raggedness / wave * np.cos(wave * bearing + rng.uniform(0, 6.28))
    relative = np.hypot(along / stretch, across * stretch) / (radius_px * np.maximum(outline, 0.3))
    return np.asarray(relative, dtype=np.float32)


def draw_scratch(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return a scratch: one to three nearly straight grooves with bare, bright metal or a dark bottom."""
    relief, albedo = np.zeros_like(area.x_px), np.zeros_like(area.x_px)
    length_px, heading = rng.uniform(28, 100), rng.uniform(0, 2 * np.pi)
    x0, y0 = area.point(rng)
    tone = rng.uniform(0.08, 0.25) if rng.random() < 0.65 else -rng.uniform(0.08, 0.22)
    for _ in range(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])):
        start = (x0 - length_px / 2 * np.cos(heading), y0 - length_px / 2 * np.sin(heading))
        x_px, y_px = walk(rng, start, heading, length_px, rng.uniform(0.02, 0.16), 9)
        distance, place = line_distance(area, x_px, y_px)
        taper = np.sin(np.pi * np.clip(place, 0.04, 0.96)) ** 0.5
        groove = taper * np.exp(-((distance / rng.uniform(0.7, 1.3)) ** 2))
        relief -= (0.4 + 0.6 * severity) * rng.uniform(0.35, 0.9) * groove
        albedo += (0.4 + 0.6 * severity) * tone * groove
        x0, y0 = x0 + rng.normal(0, 7), y0 + rng.normal(0, 7)
    return relief, albedo


def draw_crack(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return a crack: a jagged dark line of changing width, often with branches."""
    relief, albedo = np.zeros_like(area.x_px), np.zeros_like(area.x_px)
    length_px, heading, turn = rng.uniform(30, 85), rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.75)
    x0, y0 = area.point(rng)
    start = (x0 - length_px / 2 * np.cos(heading), y0 - length_px / 2 * np.sin(heading))
    paths = [walk(rng, start, heading, length_px, turn, 4)]
    for _ in range(rng.choice([0, 1, 2], p=[0.45, 0.35, 0.2])):
        at = rng.integers(1, len(paths[0][0]) - 1)
        fork = heading + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
        paths.append(walk(rng, (paths[0][0][at], paths[0][1][at]), fork, rng.uniform(0.2, 0.5) * length_px, turn, 4))
    for x_px, y_px in paths:
        distance, place = line_distance(area, x_px, y_px)
        width_px = rng.uniform(0.7, 1.3) * (1.2 - 0.7 * np.abs(2 * place - 1)) * (1 + 0.3 * np.sin(place * 23))
        gap = np.exp(-((distance / width_px) ** 2))
        relief -= 0.25 * gap
        albedo -= (0.3 + 0.7 * severity) * rng.uniform(0.14, 0.32) * gap
    return relief, albedo


def draw_dent(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return a dent: a smooth shallow bowl with a slight rim, hardly darker than its surroundings."""
    radius_px = rng.uniform(5.5, 18)
    relative = blob(rng, area, radius_px, rng.uniform(0, 0.2))
    bowl = np.clip(1 - relative**2, 0, None) ** 1.5
    rim = np.exp(-(((relative - 1.1) / 0.18) ** 2))
    depth_px = (0.3 + 0.7 * severity) * radius_px * rng.uniform(0.13, 0.24)
    return depth_px * (0.12 * rim - bowl), -rng.uniform(0.0, 0.08) * bowl


def draw_pore(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return one to five pores: small ragged holes with a dark bottom and a sharp edge."""
    relief, albedo = np.zeros_like(area.x_px), np.zeros_like(area.x_px)
    for _ in range(rng.choice([1, 2, 3, 5], p=[0.5, 0.25, 0.15, 0.1])):
        radius_px = rng.uniform(2, 7)
        hole = 1 / (1 + np.exp(np.clip((blob(rng, area, radius_px, 0.35) - 1) * radius_px * 1.8, -30, 30)))
        relief -= rng.uniform(0.5, 1.3) * hole
        albedo -= (0.25 + 0.75 * severity) * rng.uniform(0.1, 0.28) * hole
    return relief, albedo.astype(np.float32)


def draw_stain(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return a stain: a flat ragged patch, darker or a little brighter, some with a dried rim."""
    relative = blob(rng, area, rng.uniform(10, 30), 0.5) + 0.12 * noise(rng, area.x_px.shape, 3, 3)
    patch = 1 / (1 + np.exp(np.clip((relative - 1) * rng.uniform(6, 16), -30, 30)))
    rim = np.exp(-(((relative - 1) / 0.12) ** 2)) * rng.choice([0.0, 0.7])
    tone = (0.3 + 0.7 * severity) * rng.choice([-0.17, 0.12], p=[0.8, 0.2])
    mottle = 1 + 0.15 * noise(rng, area.x_px.shape, 4, 4)
    return np.zeros_like(patch), (tone * (patch * mottle + rim)).astype(np.float32)


def draw_dust(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return up to three harmless specks of dust and, on some parts, a faint hairline: both are ok."""
    albedo = np.zeros_like(area.x_px)
    for _ in range(rng.integers(0, 4)):
        x0, y0 = area.point(rng, 0.08)
        speck = np.exp(-((np.hypot(area.x_px - x0, area.y_px - y0) / rng.uniform(0.6, 1.3)) ** 2))
        albedo += rng.choice([-1.0, 0.6]) * rng.uniform(0.03, 0.15) * severity * speck
    if rng.random() < 0.25:
        x_px, y_px = walk(rng, area.point(rng), rng.uniform(0, 6.28), rng.uniform(10, 40), 0.1, 8)
        albedo += rng.uniform(-0.05, 0.05) * severity * np.exp(-(line_distance(area, x_px, y_px)[0] ** 2))
    return np.zeros_like(albedo), albedo


def chamfer(rng: np.random.Generator, area: Grid, relief: Map, albedo: Map) -> Maps:
    """Return the maps of a part whose edge is in view: a chamfer and dark background along one border."""
    across = area.x_px if rng.random() < 0.5 else area.y_px
    inward = across if rng.random() < 0.5 else across.max() - across
    from_edge = inward - MARGIN_PX - rng.uniform(1, 9)
    slant = np.clip(from_edge, -rng.uniform(2, 5), 0)
    outside = from_edge <= slant.min()
    return (relief + 0.5 * slant).astype(np.float32), np.where(outside, 0.12, albedo).astype(np.float32)


SURFACES: dict[str, Callable[[np.random.Generator, Grid, float], Maps]] = {
    "brushed": brushed,
    "milled": milled,
    "cast": cast,
}
DEFECTS: dict[str, Draw] = {
    "scratch": draw_scratch,
    "dent": draw_dent,
    "pore": draw_pore,
    "stain": draw_stain,
    "crack": draw_crack,
}


def part(rng: np.random.Generator, area: Grid, surface: str, draws: list[Draw], severity: float, light: float) -> Map:
    """Return the brightness of a lit part.

    Args:
        rng: Source of randomness.
        area: The part's pixels.
        surface: A name in ``SURFACES``.
        draws: The defects to draw onto the surface; dust is always added.
        severity: How marked the defects are, 0 (hardly visible) to 1.
        light: Direction of the raking light in radians.

    Returns:
        Brightness, float32, shape (H, W), about 0 to 1, not yet clipped.
    """
    angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.06)
    relief, albedo = SURFACES[surface](rng, area, float(angle))
    for draw in [*draws, draw_dust]:
        more_relief, more_albedo = draw(rng, area, 1.0 if draw is draw_dust else severity)
        relief, albedo = relief + more_relief, albedo + more_albedo
    if rng.random() < 0.2:
        relief, albedo = chamfer(rng, area, relief, albedo)
    slope_y, slope_x = np.gradient(relief)
    lit = albedo * (1 + 0.9 * np.tanh(slope_x * np.cos(light) + slope_y * np.sin(light)))
    return np.asarray(lit, dtype=np.float32)


def photo(
    rng: np.random.Generator, lit: Map, light: float, exposure: float = 1.0, shift_px: tuple[int, int] = (0, 0)
) -> Map:
    """Return what the camera makes of a lit part: uneven light, vignetting, lens blur, shot and read noise.

    Args:
        rng: Source of randomness.
        lit: Brightness of the part, float32, shape (H + 2 * MARGIN_PX, W + 2 * MARGIN_PX).
        light: Direction of the light in radians; that side is brighter.
        exposure: Factor on the brightness.
        shift_px: How far the part lies off its usual place (rows, columns), each within +-MARGIN_PX.

    Returns:
        Grey values, float32, shape (H, W), in [0, 1].
    """
    spectrum = np.fft.rfft2(lit)
    v, u = np.fft.fftfreq(lit.shape[0])[:, None], np.fft.rfftfreq(lit.shape[1])[None, :]
    sharp = np.fft.irfft2(spectrum * np.exp(-2 * np.pi**2 * (u**2 + v**2) * rng.uniform(0.35, 0.7) ** 2), s=lit.shape)
    top, left = MARGIN_PX + shift_px[0], MARGIN_PX + shift_px[1]
    height_px, width_px = lit.shape[0] - 2 * MARGIN_PX, lit.shape[1] - 2 * MARGIN_PX
    seen = sharp[top : top + height_px, left : left + width_px]
    y, x = np.linspace(-1, 1, height_px)[:, None], np.linspace(-1, 1, width_px)[None, :]
    gradient = 1 - rng.uniform(0.03, 0.16) * (x * np.cos(light) + y * np.sin(light))
    vignette = 1 - rng.uniform(0.08, 0.2) * (x**2 + y**2) / 2
    grey = np.clip(exposure * seen * gradient * vignette, 0, 1)
    noisy = grey + rng.normal(0, 0.008, grey.shape) + rng.normal(0, 0.014, grey.shape) * np.sqrt(grey)
    return np.asarray(np.clip(noisy, 0, 1), dtype=np.float32)
