"""The README's two commands are what CI runs, its example is real, and its promises hold on real data."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
JAPANESE = (ROOT / "README.ja.md").read_text(encoding="utf-8")


def test_the_two_commands_are_one_line_each_and_ci_runs_the_second() -> None:
    lines = [line for line in README.splitlines() if line.startswith("python3.11 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("labelclean run config.yaml")
    assert lines[1].endswith("pytest")
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_command_of_the_readme_exists() -> None:
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
    commands = set(re.findall(r"labelclean (\w+)", shell))
    told = subprocess.run(
        [sys.executable, "-m", "labelclean.cli", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert commands
    assert all(command in told.stdout for command in commands)


def test_every_file_that_the_readme_shows_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README + JAPANESE):
        assert (ROOT / target).exists(), target


def test_the_japanese_readme_has_the_same_commands_and_no_number_of_its_own() -> None:
    ours, theirs = (
        {line.split("#")[0].strip() for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()}
        for text in (README, JAPANESE)
    )  # fmt: skip
    assert {line for line in ours - theirs if "LABELCLEAN_REAL_DATA" not in line} <= {
        "--weights $LABELCLEAN_REAL_DATA/weights/mobilenetv2_100_imagenet1k.safetensors",
        "labelclean run tiles.yaml",
        "labelclean poc my.yaml --samples 100 --out poc_first",
    }
    numbers = set(re.findall(r"\d[\d,.]*\d", JAPANESE)) - {"0001"}
    assert [number for number in sorted(numbers) if number not in README] == []


@pytest.mark.real
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "least"), [("magnetic_tile", 0.90), ("neu_surface", 0.99)])
def test_the_worked_example_finds_the_wrong_labels(real_data: Path, tmp_path: Path, name: str, least: float) -> None:
    from labelclean.runs import steps
    from labelclean.storage.parquet import read_config
    from labelclean.trial.first_config import write_first_config

    weights = real_data / "weights" / "mobilenetv2_100_imagenet1k.safetensors"
    out = tmp_path / "config.yaml"
    write_first_config(real_data / "datasets" / name / "labels.parquet", out, weights=weights)
    folder = steps.clean(read_config(out))
    assert average_precision(folder, real_data / "datasets" / "truth" / f"{name}.parquet") >= least


def average_precision(folder: Path, truth: Path) -> float:
    """Mean precision at each wrong label, most suspicious first."""
    import pandas as pd

    refined = pd.read_parquet(folder / "refined_labels.parquet").merge(pd.read_parquet(truth), on="sample_id")
    ranked = refined.sort_values("label_score", kind="stable")
    wrong = (ranked.given_label != ranked.true_label).to_numpy()
    precision = wrong.cumsum() / range(1, len(wrong) + 1)
    return float(precision[wrong].mean())
