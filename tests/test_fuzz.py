"""Bad input by the thousand at every door: success, a refusal of one image, or a letter; never a traceback or a hang."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import DOORS, FILES, TOOLS, check_letter, opened, outcome

ROOT = Path(__file__).parent.parent
INPUTS = {"config": 300, "labels": 200, "images": 800} | dict.fromkeys(TOOLS, 120) | dict.fromkeys(FILES, 60)
"""What `.ci/run` tries; a quarter of it is tried with every test run."""
SOAK = 51
"""Times as many under `soak`: 127,500 in all."""
CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def fuzzed(door: str, folder: Path, count: int, *, derandomize: bool) -> Counter[str]:
    call, source = opened(door, folder)
    said: Counter[str] = Counter()

    @settings(max_examples=count, deadline=None, derandomize=derandomize, database=None, suppress_health_check=CHECKS)
    @given(st.integers(0, 2**64 - 1))
    def holds(seed: int) -> None:
        said[call(source(random.Random(seed)))] += 1

    holds()
    return said


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
def test_bad_input_ends_in_success_a_refusal_or_a_letter(door: str, every: int, tmp_path: Path) -> None:
    said = fuzzed(door, tmp_path, INPUTS[door] // every, derandomize=True)
    assert sum(said.values()) >= INPUTS[door] // every
    assert said["success"] > 0
    assert len(said) > 1


@pytest.mark.soak
@pytest.mark.parametrize("door", DOORS)
def test_bad_input_by_the_hundred_thousand(door: str, tmp_path: Path) -> None:
    said = fuzzed(door, tmp_path, INPUTS[door] * SOAK, derandomize=False)
    print(f"\n{door}: {sum(said.values()):,} inputs: {dict(said.most_common())}")
    assert sum(said.values()) >= INPUTS[door] * SOAK


@pytest.mark.soak
@pytest.mark.parametrize("door", DOORS)
def test_atheris_finds_no_input_that_is_neither_a_success_nor_a_refusal(door: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.search", door, os.environ.get("LABELCLEAN_SEARCH_S", "120"), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    told = re.findall(r"#\d+\s+(?:INITED|DONE)\s.*|Done .*", done.stderr)
    print(f"\n{door}: {'; '.join(told)}", flush=True)


def test_the_fuzzer_would_notice_a_traceback_and_an_unreadable_letter() -> None:
    with pytest.raises(ZeroDivisionError):
        outcome(lambda: 1 / 0)
    for letter in ("", "x" * 20_001, "\ud800"):
        with pytest.raises((AssertionError, UnicodeEncodeError)):
            check_letter(letter)
