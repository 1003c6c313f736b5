"""The made pictures hold what the page says, and the page keeps what others wrote on it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.features import replaced_section
from benchmarks.tiles import AUTO, CLASSES, Cell, _defect, section


@pytest.mark.parametrize("name", CLASSES[1:])
def test_a_defect_has_10_to_40_pixels(name: str) -> None:
    for seed in range(3):
        rows, columns = np.nonzero(_defect(name, np.random.default_rng(seed)) > 0.5)
        longest = float(np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1))
        longest = longest if name == "scratch" else float(np.ptp(rows) + 1)
        assert 10 - 2 <= longest <= 40 + 4  # a ring's and a scratch's width is half inside, half outside


def test_a_section_is_replaced_and_the_rest_of_the_page_stays() -> None:
    page = "# Depth\n\na\n"
    page = replaced_section(page, "Tiles", "first")
    page = replaced_section(page, "Speed", "b")
    assert replaced_section(page, "Tiles", "second") == "# Depth\n\na\n\n## Tiles\n\nsecond\n\n## Speed\n\nb\n"


def test_means_are_over_the_cells_of_one_grid() -> None:
    values = {"ap": 0.5, "f1": 0.25, "accuracy": 1.0, "count": 300.0}
    rows = {
        json.dumps(Cell("last", AUTO, "all", "uniform", 0.1, 0)): values,
        json.dumps(Cell("last", AUTO, "all", "uniform", 0.1, 1)): values | {"ap": 1.0},
        json.dumps(Cell("last", AUTO, "mean", "uniform", 0.1, 0)): values | {"ap": 0.0},
        json.dumps(("last", AUTO, "all")): {"probe": 0.75, "num_features": 2560.0, "count": 300.0},
        json.dumps(("last", AUTO, "mean")): {"probe": 0.5, "num_features": 1280.0, "count": 300.0},
        json.dumps((AUTO,)): {"onnx_per_s": 5.0, "onnx_ms": 200.0, "torch_per_s": 1.0, "torch_ms": 1000.0},
    }
    lines = section(rows).splitlines()
    assert f"| last | {AUTO} | mean and maximum | 2,560 | 0.7500 | 0.2500 | 1.0000 | 0.7500 | 2 |" in lines
    assert f"| last | {AUTO} | mean alone | 1,280 | 0.0000 | 0.2500 | 1.0000 | 0.5000 | 1 |" in lines
    assert f"| {AUTO} | 5.0 | 200.0 | 1.0 | 1,000.0 |" in lines
