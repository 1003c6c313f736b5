"""What a run found and what it promises, in words: of one label per image, or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labelclean.noise.promise import Promise, in_points

NOTHING_LEFT = "reviewers call every image bad; nothing is left to judge."


def found_sentence(found: Mapping[str, Any], num_usable: int) -> str:
    """Return how many labels are worth a look, how many of them we would change, and how many wait for eyes.

    Args:
        found: `label_issues` of the summary.
        num_usable: Samples whose image could be used.

    Returns:
        One sentence.

    Examples:
        >>> found = {"num": 3, "would_change": 2, "waits_for_eyes": 1, "expected": 2.4, "low": 1.0, "high": 3.6}
        >>> found_sentence(found, 40)
        '3 of 40 labels are worth a look (7.5%): 2 we would change, 1 waits for eyes; about 2 are expected to be wrong (1 to 4).'
    """
    changed, waiting = found["would_change"], found["waits_for_eyes"]
    parts = [f"{changed:,} we would change"] if changed else []
    parts += [f"{waiting:,} {'waits' if waiting == 1 else 'wait'} for eyes"] if waiting else []
    return f"{_worth_a_look(found, num_usable, 'labels', parts)}; {_expected(found, 'are')}."


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
    counts = ((found["missing"], "may be missing"), (found["spurious"], "may be too many"))
    parts = [f"{count:,} {words}" for count, words in counts if count]
    look = _worth_a_look(found, num_usable, "images", [f"labels of which {', '.join(parts)}"])
    return f"{look}; {_expected(found, 'labels are')}."


def one_class_sentence(record: Mapping[str, Any], num_usable: int) -> str:
    """Return what a run of one class found.

    Args:
        record: `one_class` of the summary.
        num_usable: Samples whose image could be used.

    Returns:
        One sentence.

    Examples:
        >>> one_class_sentence({"class_name": "good", "odd_share": 0.05, "num": 48}, 952)
        "48 of 952 images look least like the others, as many as neighbours.odd_share = 0.05 expects not to be 'good'; with one class no label can be suggested."
    """
    taken = f" with the {record['num_taken_out']:,} that people took out," if record.get("num_taken_out") else ","
    return (
        f"{record['num']:,} of {num_usable:,} images look least like the others{taken} as many as neighbours.odd_share = "
        f"{record['odd_share']:g} expects not to be {record['class_name']!r}; with one class no label can be suggested."
    )


def queue_words(queue: Mapping[str, Any]) -> str:
    """Return how long a queue is and how many of its labels are expected to be wrong.

    Args:
        queue: `queue` of the summary.

    Returns:
        Words without a full stop.

    Examples:
        >>> queue_words({"num": 1200, "minutes": 90.4, "expected": 7.6, "low": 3, "high": 12.4, "expected_left": 1})
        '1,200 samples, about 90 min; about 8 are expected to be wrong (3 to 12), 1 outside'
    """
    left = f"{queue['expected_left']:,.0f} outside"
    return f"{queue['num']:,} samples, about {queue['minutes']:,.0f} min; {_expected(queue, 'are')}, {left}"


def promise_sentence(promise: Promise, *, of_sets: bool = False) -> str:
    """Return what taking the predicted labels over without a look brings, or what has to come before.

    Args:
        promise: What the run promises.
        of_sets: Images have several labels: counted are right answers (is the class there?) on 100 images.

    Returns:
        One sentence.
    """
    points, low, high = (in_points(value, is_signed=True) for value in (promise.points, promise.low, promise.high))
    change = f"the share of right labels changes by about {points} points ({low} to {high})"
    if of_sets:
        change = f"on 100 images the number of right answers (is a class there or not?) changes by about {points} ({low} to {high})"
    if promise.kind == "nothing":
        return "applied, nothing changes but what people have decided: every other predicted label is the given one."
    if promise.kind == "safe" and of_sets:
        return f"applied without a look, labels get better: {change}."
    if promise.kind == "safe":
        return (
            f"applied without a look, labels get better by about {in_points(promise.points)} points "
            f"({in_points(promise.low)} to {in_points(promise.high)}): of 100 labels, so many more are right."
        )
    if promise.kind == "seen":
        return f"applied now, after {promise.num_looks:,} random looks, {change}: look first at what would be changed."
    there = f"the queue holds {promise.num_queued:,}" if promise.num_queued else "review.audit_samples draws them"
    return (
        f"do not apply before you have looked at {promise.num_wanted:,} random {'images' if of_sets else 'samples'} "
        f"({promise.num_looks:,} so far; {there}): applied without a look, {change}, so it may fall."
    )


# --- inside ---------------------------------------------------------------------------------------


def _worth_a_look(found: Mapping[str, Any], num_usable: int, what: str, parts: Sequence[str]) -> str:
    num = found["num"]
    look = f"{num:,}" if num else "none"
    share = f" ({num / max(num_usable, 1):.1%}): {', '.join(parts)}" if num else ""
    return f"{look} of {num_usable:,} {what} {'are' if num > 1 else 'is'} worth a look{share}"


def _expected(found: Mapping[str, Any], are: str) -> str:
    return f"about {found['expected']:,.0f} {are} expected to be wrong ({found['low']:,.0f} to {found['high']:,.0f})"
