"""What a run of several labels per image found, in words and in a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labelclean.noise.promise import Promise, in_points

HEADINGS = ("given", "may be missing", "may be too many", "would join", "would leave")


def found_sets_sentence(found: Mapping[str, Any], num_usable: int) -> str:
    """Return how many images are worth a look, and for how many labels.

    Args:
        found: `label_issues` of the summary of a run of several labels.
        num_usable: Samples whose image could be used.

    Returns:
        One sentence.

    Examples:
        >>> found = {"num": 3, "missing": 2, "spurious": 2, "expected": 3.6, "low": 2.0, "high": 5.2}
        >>> found_sets_sentence(found, 40)
        '3 of 40 images are worth a look (7.5%): labels of which 2 may be missing, 2 may be too many; about 4 labels are expected to be wrong (2 to 5).'
    """
    num, missing, spurious = found["num"], found["missing"], found["spurious"]
    wrong = [
        f"{count:,} {words}" for count, words in ((missing, "may be missing"), (spurious, "may be too many")) if count
    ]
    look = f"{num:,}" if num else "none"
    return (
        f"{look} of {num_usable:,} images {'are' if num > 1 else 'is'} worth a look"
        + (f" ({num / max(num_usable, 1):.1%}): labels of which {', '.join(wrong)}" if num else "")
        + f"; about {found['expected']:,.0f} labels are expected to be wrong ({found['low']:,.0f} to {found['high']:,.0f})."
    )


def set_promise_sentence(promise: Promise) -> str:
    """Return what taking the predicted labels over without a look brings where images have several, or what comes before.

    Args:
        promise: What the run promises, in right answers (is the class there?) more on 100 images.

    Returns:
        One sentence.
    """
    low, high = in_points(promise.low, is_signed=True), in_points(promise.high, is_signed=True)
    change = (
        f"on 100 images the number of right answers (is a class there or not?) changes by about "
        f"{in_points(promise.points, is_signed=True)} ({low} to {high})"
    )
    if promise.kind == "nothing":
        return "applied, nothing changes but what people have decided: all other predicted labels are the given ones."
    if promise.kind == "safe":
        return f"applied without a look, labels get better: {change}."
    if promise.kind == "seen":
        return f"applied now, after {promise.num_looks:,} random looks, {change}: look first at what would be changed."
    there = f"the queue holds {promise.num_queued:,}" if promise.num_queued else "review.audit_samples draws them"
    return (
        f"do not apply before you have looked at {promise.num_wanted:,} random images ({promise.num_looks:,} so far; {there}): "
        f"applied without a look, {change}, so it may fall."
    )


def set_cells(row: Mapping[str, Any]) -> list[str]:
    """Return the numbers of a class under `HEADINGS`."""
    nums = (row["num_samples"], row["missing"], row["spurious"], row["gained"], row["lost"])
    return [f"{num:,}" for num in nums]
