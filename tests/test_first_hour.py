"""The first hour of somebody who has a folder of images, `--help` and nothing else: five commands at most to the report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_from_class_folders_to_the_report_in_three_commands(real_data: Path, tmp_path: Path) -> None:
    data = real_data / "datasets" / "neu_surface"
    for row in pq.read_table(data / "labels.parquet").to_pylist():
        link = tmp_path / "neu" / row["given_label"] / Path(row["image_path"]).name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(data / row["image_path"])
    weights = real_data / "weights" / "mobilenetv2_100_imagenet1k.safetensors"

    told = call(tmp_path, "--help")
    assert re.search(r"^.*\binit\b.*labels.*config", told, flags=re.MULTILINE)
    told = call(tmp_path, "init", "--help")
    assert "folder of images per class" in " ".join(told.replace("│", " ").split())
    assert "--weights" in told
    told = call(tmp_path, "init", "neu", "--weights", str(weights))
    assert "1,769 images in 6 class folders" in told
    (next_command,) = re.findall(r"^next: labelclean ([\w. ]+?)  ", told, flags=re.MULTILINE)
    told = call(tmp_path, *next_command.split())
    (report,) = re.findall(r"^report: (.*)$", told, flags=re.MULTILINE)
    assert "<h1>" in Path(report).read_text(encoding="utf-8")
    found = int(re.findall(r"^(\d+) of 1,769 labels are worth a look", told, flags=re.MULTILINE)[0])
    assert 175 <= found <= 215  # 194 are


def call(folder: Path, *arguments: str) -> str:
    env = os.environ | {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
    told = subprocess.run(
        [sys.executable, "-m", "labelclean.cli", *arguments], cwd=folder, env=env, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return told.stdout
