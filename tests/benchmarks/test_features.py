"""The page of depths compares cells that both depths have, and nothing else."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.features import AllStages, Cell, Seen, features_of, page


def test_a_cell_without_its_partner_does_not_count() -> None:
    common = {"num_features": 1280.0}
    rows = {
        Cell("mobilenetv2_100", "neu_surface", -1, "uniform", 0.1, 0): {"ap": 0.5, "f1": 0.5, "accuracy": 0.5} | common,
        Cell("mobilenetv2_100", "neu_surface", 3, "uniform", 0.1, 0): {"ap": 0.75, "f1": 0.25, "accuracy": 0.5}
        | common,
        Cell("mobilenetv2_100", "neu_surface", 3, "uniform", 0.1, 1): {"ap": 0.0, "f1": 0.0, "accuracy": 0.0} | common,
    }
    lines = page(rows).splitlines()
    assert "| mobilenetv2_100 | neu_surface | last and stage 4 | 1,280 | 0.7500 | 0.2500 | 0.5000 | 1 |" in lines
    assert lines[-1].endswith("| uniform 0.1 | 0.500 | +0.250 | 0.500 | -0.250 | 0.500 | +0.000 |")


def test_depths_are_made_as_the_product_makes_them() -> None:
    import timm

    from labelclean.features.depth import DeepAndMiddle

    torch.manual_seed(0)
    network, pixels = timm.create_model("test_efficientnet", num_classes=0).eval(), torch.rand(2, 3, 64, 64)
    deep = DeepAndMiddle(network).eval()
    with torch.inference_mode():
        deep.fit_width(pixels)
        wanted, rows = deep(pixels).numpy(), AllStages(network).eval()(pixels).numpy()
    parts = np.split(rows, np.cumsum([256, *(width for width in (16, 24, 32, 48, 64) for _ in range(3))])[:-1], axis=1)
    told = Seen(["a", "b"], np.array(["x", "y"]), parts[0], [parts[start : start + 3] for start in range(1, 16, 3)])
    assert np.allclose(features_of(told, 3), wanted, atol=1e-3)
    assert np.allclose(features_of(told, -1), parts[0], rtol=1e-3, atol=1e-5)
