"""Parts that several images show: which image is of which part, and what is said of one for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from labelclean.arrays import IntArray
from labelclean.review.decisions import Decision

PART = "part_id"
OF_PART = "label_of_part"
"""Where the summary counts parts, for labels are those of parts."""


def num_judged(summary: Mapping[str, Any]) -> int:
    """Return how many labels a run judged: of usable images, or of the parts that they show.

    Args:
        summary: `summary.json`.

    Returns:
        The number.
    """
    if of_part := summary.get(OF_PART):
        return int(of_part["num"])
    return int(summary["num_samples"]) - int(summary["num_rejects"])


def part_numbers(part_ids: Sequence[str | None]) -> IntArray:
    """Return the number of each image's part; an image of none is a part of its own.

    Args:
        part_ids: `part_id` of each image, length N.

    Returns:
        int64, shape (N,), 0 to P - 1, in the order of their first images.

    Examples:
        >>> part_numbers(["b", None, "a", "b", None])
        array([0, 1, 2, 0, 3])
    """
    numbers: dict[object, int] = {}
    keys = [(row,) if part is None else part for row, part in enumerate(part_ids)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def decisions_of_parts(
    decisions: Iterable[Decision],
    sample_ids: Sequence[str],
    content_hashes: Sequence[str],
    part_ids: Sequence[str | None],
) -> tuple[Decision, ...]:
    """Return decisions that count for every image of the part that was asked about, where labels are those of parts.

    A bad image is said of the one image; all else of the part.

    Args:
        decisions: Any decisions.
        sample_ids: The N samples, each once.
        content_hashes: SHA-256 of each sample's image as it is now, length N.
        part_ids: `part_id` of each, length N.

    Returns:
        The decisions, and a copy of each about an image that is still the same for every other image of its part.
    """
    images: dict[str, list[int]] = {}
    for number, part in enumerate(part_ids):
        if part is not None:
            images.setdefault(part, []).append(number)
    row_of = {sample: row for row, sample in enumerate(sample_ids)}
    spread: list[Decision] = []
    for one in decisions:
        spread.append(one)
        row = row_of.get(one.sample_id)
        if row is None or one.decision == "bad_image" or one.content_hash != content_hashes[row]:
            continue
        spread += [
            replace(one, sample_id=sample_ids[other], content_hash=content_hashes[other])
            for other in images.get(part_ids[row] or "", ())
            if other != row
        ]
    return tuple(spread)
