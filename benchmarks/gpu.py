"""All that only a GPU can show, in one command of at most eight minutes: `python -m benchmarks.gpu` writes RESULTS-gpu.md.

The tests that need a GPU; images per second of extraction, on the GPU and on the CPU beside it; and seconds of
`clean_shards` on a million samples, sums on either. A part that fails or takes too long is told in its place.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scale import measure, write_shards

TABLE = Path(__file__).parent / "RESULTS-gpu.md"
MOST_S = 480
EXTRACTION = ["-m", "benchmarks.extraction", "--images", "1024", "--rounds", "2", "--networks", "mobilenetv2_100"]
SIZE = 1_000_000
LAST_LINES = 25


def run_part(arguments: Sequence[str], limit_s: float) -> str:
    r"""Return what a part printed last, and how it ended where that was not well.

    Args:
        arguments: Of Python.
        limit_s: Seconds it may take.

    Returns:
        Text.

    Examples:
        >>> run_part(["-c", "print(3)"], 20)
        '3'
        >>> run_part(["-c", "print(3); raise SystemExit(2)"], 20)
        '3\nended with exit code 2'
    """
    if limit_s <= 0:
        return "left out: the eight minutes were over"
    try:
        ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired as late:
        return f"{_last(_text(late.stdout))}\nnot finished after {limit_s:.0f} s".lstrip()
    told = _last(ended.stdout if not ended.returncode else ended.stdout + ended.stderr)
    return told if not ended.returncode else f"{told}\nended with exit code {ended.returncode}".lstrip()


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _last(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])


def scale_rows(limit_s: float) -> str:
    """Return seconds, CPU seconds and peak memory of a million samples, sums on the CPU and on the GPU, as Markdown."""
    lines = ["| sums on | wall s | CPU s | peak MiB | called wrong |", "|---|---:|---:|---:|---:|"]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        write_shards(Path(name), SIZE)
        for device in ("cuda", "cpu"):
            if time.monotonic() - started > limit_s:
                lines.append(f"| {device} | left out: the eight minutes were over | | | |")
                continue
            row = measure(SIZE, 0, "none", Path(name), device)
            lines.append(
                f"| {device} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} | {row['peak_mib']:,.0f} | {row['issues']:,} |"
            )
    return "\n".join(lines)


def page(device: str, parts: Sequence[tuple[str, str]]) -> str:
    """Return RESULTS-gpu.md."""
    lines = ["# GPU", "", f"`python -m benchmarks.gpu` on {device}.", ""]
    for heading, text in parts:
        lines += [f"## {heading}", "", text if text.startswith("|") else f"```\n{text}\n```", ""]
    return "\n".join(lines)


def main() -> int:
    """Measure all of it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    import torch

    if not torch.cuda.is_available():
        print(
            "benchmarks.gpu: a CUDA device is needed, but torch sees none. Run this on a machine with one.",
            file=sys.stderr,
        )
        return 5
    started = time.monotonic()

    def left() -> float:
        return MOST_S - (time.monotonic() - started)

    parts = [
        ("Tests", run_part(["-m", "pytest", "-n", "0", "-q", "-m", "gpu"], min(150, left()))),
        ("Extraction, GPU", run_part([*EXTRACTION, "--set", "run.device=cuda"], min(120, left()))),
        ("Extraction, CPU of the same machine", run_part([*EXTRACTION, "--set", "run.device=cpu"], min(90, left()))),
        (f"Cleaning {SIZE:,} x 768 in shards, no neighbours", scale_rows(left() - 40)),
    ]
    TABLE.write_text(page(torch.cuda.get_device_name(), parts), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
