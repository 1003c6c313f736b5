"""The adaptation's report, and what its epochs say."""

from __future__ import annotations

from pathlib import Path

from labelclean.adapt.curves import row_of, write_curves
from labelclean.adapt.page import readings, write_page
from labelclean.config.adapt import AdaptConfig
from tests.adapt.test_curves import RECORD

CONFIG = AdaptConfig(window=2, epochs=5)


def rows(**changes: float) -> list[dict[str, object]]:
    return [row_of(RECORD._replace(epoch=epoch, **changes), 2.0, 100.0) for epoch in (1, 2, 3, 4)]


def test_a_gate_that_stays_shut_is_told_with_its_numbers() -> None:
    (said,) = readings(rows(bootstrapped_share=0.011, self_retrieval_1=0.02), CONFIG)
    assert "nearly plain: 1.1% of the images were compared with another one, for 2.0% found" in said
    assert readings(rows(), CONFIG) == []  # a quarter of the images
    assert readings(rows(bootstrapped_share=0.0), CONFIG.model_copy(update={"mode": "plain"})) == []


def test_partners_of_one_group_and_a_window_without_end_are_told() -> None:
    (said,) = readings(rows(same_group_share=0.8), CONFIG)
    assert "80% of the partners were of the image's own group" in said
    (said,) = readings(rows()[:2], CONFIG)
    assert "begins after adapt.window = 2 epochs of 5" in said


def test_the_page_holds_curves_and_numbers_and_needs_nothing_else(tmp_path: Path) -> None:
    write_curves(tmp_path, rows())
    write_page(tmp_path, rows(), CONFIG, ["7 images <b>"])
    html = (tmp_path / "report.html").read_text()
    assert "7 images &lt;b&gt;" in html
    assert html.count("<svg") == 1
    assert "<td>25.0%</td>" in html
    assert "<td></td>" in html  # what does not exist
    assert "src=" not in html
