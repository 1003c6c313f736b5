"""What a step leaves for the next: its record in the work folder, and what a gate found."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labelclean.config import Config
from labelclean.runs.gates import Finding, Verdict
from labelclean.storage.parquet import read_json, write_json

LOG = logging.getLogger("labelclean")
Step = Callable[[Path], bool]
INTERNAL = "steps"
_SAID = {"ingest": "reading the labels", "extract": "looking at the images", "refine": "cleaning the labels"}


@contextmanager
def recorded(work: Path, name: str) -> Iterator[tuple[Config, dict[str, Any]]]:
    """Give the configuration and a record that is written with the step's seconds when it ends well.

    Args:
        work: The run's work folder.
        name: The step.

    Yields:
        Configuration and the record to fill.
    """
    if name in _SAID:
        LOG.info("%s", _SAID[name])
    started = time.monotonic()
    record: dict[str, Any] = {}
    yield Config.model_validate(read_json(work / INTERNAL / "config.json")), record
    record["seconds"] = round(time.monotonic() - started, 3)
    write_json(work / INTERNAL / f"{name}.json", record)


def part_of(work: Path, name: str) -> dict[str, Any]:
    """Return what an earlier step recorded.

    Args:
        work: The run's work folder.
        name: The step.

    Returns:
        JSON values.
    """
    part: dict[str, Any] = read_json(work / INTERNAL / f"{name}.json")
    return part


def part_done(work: Path, name: str) -> bool:
    """Return whether a step has ended well before the run was killed."""
    return (work / INTERNAL / f"{name}.json").is_file()


def stopped(sentence: str) -> dict[str, Any]:
    """Return the record of a run that a gate stops.

    Args:
        sentence: Why.

    Returns:
        JSON values.
    """
    return {"stopped": sentence}


def finding_record(finding: Finding) -> dict[str, Any]:
    """Return a finding for the record.

    Args:
        finding: What a gate found.

    Returns:
        JSON values; `finding_of` turns them back.
    """
    return asdict(finding) | {"forbids": list(finding.forbids)}


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """Return a gate's verdict for the record.

    Args:
        verdict: The verdict.

    Returns:
        JSON values.
    """
    return {
        "outcome": verdict.outcome,
        "allowed": list(verdict.allowed),
        "findings": [finding_record(finding) for finding in verdict.findings],
    }


def goes_on(verdict: Verdict, config: Config, record: dict[str, Any]) -> bool:
    """Return whether the run may refine as asked, or may fall back; writes the refusal into the record otherwise.

    Args:
        verdict: Of all gates so far.
        config: `refine.method` and `gates.on_refusal` are read.
        record: The step's record.

    Returns:
        False if the run stops here.
    """
    method = config.refine.method
    blocking = verdict.why_not(method) if method != "auto" else ()
    if verdict.allowed == ("none",):
        blocking = verdict.why_not("posterior")
    if not blocking or method == "none" or config.gates.on_refusal == "fall_back":
        return True
    record |= stopped("refused: " + " ".join(finding.sentence for finding in blocking) + " (gates.on_refusal = stop)")
    return False


def finding_of(row: dict[str, Any]) -> Finding:
    """Return a finding from the record.

    Args:
        row: What `finding_record` returned.

    Returns:
        The finding.
    """
    return Finding(**(row | {"forbids": tuple(row["forbids"])}))
