"""The command line: exit codes, one clear line for a refusal, JSON for scripts, and nothing heavy for `--help`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def call(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labelclean.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240, check=False)


def test_help_names_every_command() -> None:
    told = call("--help")
    assert told.returncode == 0
    assert all(command in told.stdout for command in ("init", "validate", "run"))


def test_validate_imports_no_heavy_library() -> None:
    program = (
        "import sys; from labelclean.cli import main; sys.argv = ['labelclean', 'validate', 'config.yaml']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'timm', 'prefect', 'great_expectations', 'matplotlib', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert told.returncode == 0, told.stderr
    assert "700 rows, 700 samples, 6 classes" in told.stdout


def test_bad_input_ends_with_code_2_and_one_letter(tmp_path: Path) -> None:
    told = call("run", str(ROOT / "config.yaml"), "--plain", "--set", "refine.method=magic")
    assert told.returncode == 2
    assert told.stderr.startswith("labelclean: config.yaml: 1 setting cannot be used")
    assert "Traceback" not in told.stderr
    assert call("validate", "gone.yaml", cwd=tmp_path).returncode == 2


def test_init_validate_run_from_another_folder(tmp_path: Path, sample_cache: Path) -> None:
    labels = ROOT / "sample_data" / "labels.parquet"
    told = call(
        "init", str(labels), "--image-root", str(labels.parent), "--out", "mine.yaml",
        "--set", "backbone.name=resnet14t",
        "--set", f"backbone.weights={labels.parent / 'backbone.safetensors'}",
        "--set", "backbone.options={channels: [16, 32, 64, 128], stem_width: 16, output_stride: 16, global_pool: catavgmax}",
        "--set", "backbone.mean=[0.5, 0.5, 0.5]",
        "--set", "backbone.std=[0.25, 0.25, 0.25]",
        "--set", "backbone.input_size=112",
        cwd=tmp_path,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert call("init", str(labels), "--out", "mine.yaml", cwd=tmp_path).returncode == 2
    run = ["run", "mine.yaml", "--plain", "--set", f"storage.cache={sample_cache}"]
    told = call(*run, "--json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    summary = json.loads(told.stdout)
    assert summary["verdict"] == "done"
    assert Path(summary["run_folder"]).parent == tmp_path / "runs"
    told = call(*run, "--set", "rejects.max_share=0", cwd=tmp_path)
    assert told.returncode == 3
    assert "rejects.max_share = 0" in told.stderr
    assert "outputs:" in told.stdout
