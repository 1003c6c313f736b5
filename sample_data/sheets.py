"""Makes photos of metal sheets with several defects each, and the box around each: for tests, docs and benchmarks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sample_data.render import DEFECTS, MARGIN_PX, SURFACES, Grid, Map, draw_dust, grid, photo

CELL_PX = 128
CLASSES = tuple(sorted(DEFECTS))


@dataclass(frozen=True)
class Sheet:
    """One photo.

    Attributes:
        grey: Grey values, uint8, shape (H, W).
        boxes: Left, top, width and height of each defect in pixels.
        labels: Its class.
    """

    grey: NDArray[np.uint8]
    boxes: tuple[tuple[int, int, int, int], ...]
    labels: tuple[str, ...]


def sheet(rng: np.random.Generator, cells: tuple[int, int] = (2, 3), light: float = np.pi + 0.7) -> Sheet:
    """Return a photo in which two or more cells of a raster hold one defect each.

    Args:
        rng: Source of randomness.
        cells: Rows and columns of the raster; a cell has 128 x 128 pixels.
        light: Direction of the raking light in radians.

    Returns:
        The photo with its boxes.
    """
    height, width = cells[0] * CELL_PX, cells[1] * CELL_PX
    area = grid(height, width)
    relief, albedo = SURFACES[str(rng.choice(sorted(SURFACES)))](rng, area, float(rng.normal(0, 0.06)))
    relief, albedo = relief.copy(), albedo.copy()
    boxes, labels = [], []
    places = rng.permutation(cells[0] * cells[1])[: rng.integers(2, cells[0] * cells[1] + 1)]
    for place in sorted(places.tolist()):
        row, column = divmod(place, cells[1])
        name = str(rng.choice(CLASSES))
        more_relief, more_albedo = DEFECTS[name](rng, grid(CELL_PX, CELL_PX), rng.uniform(0.5, 1.0))
        inside = slice(MARGIN_PX, -MARGIN_PX)
        top, left = MARGIN_PX + row * CELL_PX, MARGIN_PX + column * CELL_PX
        at = (slice(top, top + CELL_PX), slice(left, left + CELL_PX))
        relief[at] += more_relief[inside, inside]
        albedo[at] += more_albedo[inside, inside]
        x, y, across, down = _box(more_relief[inside, inside], more_albedo[inside, inside])
        boxes.append((column * CELL_PX + x, row * CELL_PX + y, across, down))
        labels.append(name)
    slope_y, slope_x = np.gradient(relief)
    lit = (albedo + _dust(rng, area)) * (1 + 0.9 * np.tanh(slope_x * np.cos(light) + slope_y * np.sin(light)))
    grey = photo(rng, lit.astype(np.float32), light)
    return Sheet(np.rint(grey * 255).astype(np.uint8), tuple(boxes), tuple(labels))


def with_wrong_labels(
    rng: np.random.Generator, sheets: list[Sheet], share: float
) -> tuple[list[tuple[str, ...]], list[tuple[bool, ...]]]:
    """Return labels of which a share names another class, drawn evenly from all boxes.

    Args:
        rng: Source of randomness.
        sheets: The photos.
        share: Share of wrong labels.

    Returns:
        Labels of each photo, and which of them are wrong.
    """
    true = [label for one in sheets for label in one.labels]
    given = list(true)
    for row in rng.choice(len(true), round(share * len(true)), replace=False).tolist():
        given[row] = str(rng.choice([name for name in CLASSES if name != true[row]]))
    labels, wrong, at = [], [], 0
    for one in sheets:
        some = slice(at, at + len(one.labels))
        labels.append(tuple(given[some]))
        wrong.append(tuple(a != b for a, b in zip(given[some], true[some], strict=True)))
        at = some.stop
    return labels, wrong


def _dust(rng: np.random.Generator, area: Grid) -> Map:
    return draw_dust(rng, area, 1.0)[1]


def _box(relief: Map, albedo: Map) -> tuple[int, int, int, int]:
    """The rectangle around what a defect changes by more than a sixth of its most."""
    changed = np.zeros(relief.shape, dtype=bool)
    for layer in (relief, albedo):
        most = float(np.abs(layer).max())
        if most > 0.02:
            changed |= np.abs(layer) > most / 6
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
