"""The page about many images shows what was measured, and its plan adds up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.plan import Measured, Plant, hours, measured, plan_lines, storage
from benchmarks.scale import PAGE, ROWS, TABLE, page_with, table_lines

# an image a millisecond to hash and two to decode: 1,000 seconds for a million
RATES = Measured(
    pass_us=10.0, sample_bytes=100.0, base_mib=1000.0, base_size=1e6, landmarks=0, hash_ms=1.0, decode_ms=2.0
)


def test_page_and_results_hold_the_tables_of_the_measured_rows() -> None:
    rows = json.loads(ROWS.read_text(encoding="utf-8"))
    page, results = (path.read_text(encoding="utf-8") for path in (PAGE, TABLE))
    again = "run python -m benchmarks.scale --write"
    assert page_with(page, rows) == page, again
    assert "\n".join(table_lines(rows)) in results, again
    for row in rows:
        assert f"| {row['size']:,} | {row['wall_s']:.1f} |" in page


def test_a_page_without_its_marks_is_an_error() -> None:
    row = {"landmarks": 0, "wall_s": 1.0, "cpu_s": 1.0, "peak_mib": 1.0, "products_s": 1.0, "read_s": 1.0}
    rows = [row | {"size": size, "ratio": 1.0, "issues": 1} for size in (10**5, 10**6)]
    with pytest.raises(ValueError, match="unpack"):
        page_with("# Scale\n", rows)


def test_the_rates_are_those_between_the_two_largest_sizes() -> None:
    rows = [
        {"landmarks": landmarks, "size": size, "wall_s": wall, "peak_mib": peak}
        for landmarks, size, wall, peak in (
            (0, 10, 7, 1),
            (0, 10**6, 10, 100),
            (0, 2 * 10**6, 25, 101),
            (500, 10**6, 99, 9),
        )
    ]
    found = measured(rows)
    assert found.pass_us == pytest.approx(15.0)
    assert (found.base_size, found.landmarks) == (2 * 10**6, 0)
    assert found.sample_bytes == pytest.approx(2**20 / 1e6)


def test_hours_by_hand() -> None:
    plant = Plant(images=3.6e6, gpus=2, cores=1, dims=500, classes=20, image_kb=1, gpu_rate=1000, read_gb=1, write_gb=1)
    found = {name: value for name, (_, value) in hours(plant, RATES).items()}
    assert found["content hashes, by the driver alone"] == pytest.approx(1.0)  # 3.6 million ms
    assert found["features"] == pytest.approx(2.0)  # decoding on one core, though two GPUs would need half an hour
    assert found["sums, teacher, student, outputs: four passes"] == pytest.approx((36 + 14.4) / 3600)
    assert storage(plant)["features, float16"][1] == 3.6e9


def test_what_is_slowest_decides() -> None:
    plant = Plant(images=3.6e6, gpus=1, cores=64, image_kb=1, gpu_rate=100)
    assert hours(plant, RATES)["features"][1] == pytest.approx(10.0)
    share = Plant(images=3.6e6, gpus=8, cores=64, image_kb=1000, read_gb=0.1)
    assert hours(share, RATES)["features"][1] == hours(share, RATES)["content hashes, by the driver alone"][1] == 10.0


def test_the_cost_is_that_of_the_hours_of_the_whole_machine() -> None:
    plant = Plant(images=3.6e6, gpus=1, cores=10, gpu_hour=2, core_hour=0.1, image_kb=1)
    lines = list(plan_lines(plant, RATES))
    total = sum(value for _, value in hours(plant, RATES).values())
    assert f"| all | | {total:.1f} | {total * 3:,.0f} |" in lines


def test_the_report_page_takes_its_bytes_above_the_size_that_was_measured() -> None:
    rates = replace(RATES, report_mib=100, report_bytes=10, report_size=1e6)
    for images, said in ((1e6, "104.9 MB"), (4e6, "134.9 MB")):
        assert f"{said} for the report page" in "\n".join(plan_lines(Plant(images=images), rates))
