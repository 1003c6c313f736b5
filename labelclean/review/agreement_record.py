"""An agreement study's numbers as JSON values: one row per comparison and class, each with its limit and what it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from labelclean.arrays import IntArray
from labelclean.config import Outcome, StudyConfig
from labelclean.errors import ConfigError, listed
from labelclean.review.agreement import Agreement, AgreementReport, Calls, Rate, Ratings, measure_confusions
from labelclean.review.kappas import Kappa

MOST_DISPUTED = 12
MOST_CONFUSIONS = 3


def agreement_record(
    ratings: Ratings, report: AgreementReport, settings: StudyConfig, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a study in JSON values.

    Args:
        ratings: The answers.
        report: What was measured on them.
        settings: The limits.
        facts: What else is known: `source` (`study`, `labels` or `ledger`), `dataset`, `trials`, `seconds_per_sample`, and of a
            study `run_id`, `design`, `seed` and `strata` (samples of each).

    Returns:
        `rows`: one per comparison and class (`class` None for all together); `calls`: misses and false alarms;
        `confusions`: what each appraiser took for what most often; `counts`: how often each gave each class (column) to
        samples of each class of the standard (row); `disputed`: the samples to look at together.
    """
    names, people = ratings.class_names, ratings.appraisers
    parts: list[tuple[str, Sequence[str], Agreement | None]] = [
        *(("within", [who], found) for who, found in zip(people, report.within, strict=True)),
        ("between", people, report.between),
        *(("pair", [people[a], people[b]], found) for (a, b), found in report.pairs.items()),
        *(("against", [who], found) for who, found in zip(people, report.against, strict=True)),
        ("all_against", people, report.all_against),
    ]
    calls = [(who, found) for who, found in zip(people, report.calls, strict=False)]
    everyone = [("", report.all_calls)] if len(people) > 1 else []
    return dict(facts) | {
        "ok": settings.ok,
        "limits": settings.model_dump(mode="json", exclude={"ok", "measured", "worth"}),
        "classes": list(names),
        "appraisers": list(people),
        "num_samples": len(ratings.sample_ids),
        "num_standard": int((ratings.standard >= 0).sum()),
        "num_missing": report.num_missing,
        "rows": [row for part in parts for row in _rows(*part, names, settings.least_kappa)],
        "calls": [row for who, found in (*calls, *everyone) for row in _calls(who, found, settings)],
        "confusions": _confusions(ratings),
        "counts": dict(zip(people, measure_confusions(ratings).tolist(), strict=True)),
        "disputed": [_disputed(ratings, int(row)) for row in report.disputed[:MOST_DISPUTED]],
    }


def measured_counts(record: Mapping[str, Any], class_names: Sequence[str]) -> IntArray:
    """Return how often the inspectors of a study took which class for which, all together.

    Args:
        record: From `agreement_record`.
        class_names: The K class names in order; others of the study are left out.

    Returns:
        int64, shape (K, K): row true class, column given class.

    Raises:
        ConfigError: If the record holds no such counts, or none for these classes.
    """
    names, counts = record.get("classes"), record.get("counts")
    if not isinstance(names, list) or not isinstance(counts, dict):
        raise ConfigError(
            "it must hold `classes` and `counts`, as `labelclean study report` writes them, but does not; write it again"
        )
    try:
        total = np.sum([np.asarray(one, dtype=np.int64) for one in counts.values()], axis=0, dtype=np.int64)
    except (TypeError, ValueError):
        total = np.zeros(0, dtype=np.int64)
    if total.shape != (len(names), len(names)) or (total < 0).any():
        raise ConfigError(
            f"`counts` must hold whole numbers for {len(names)} x {len(names)} classes, but does not; write it again"
        )
    at = np.array([names.index(name) if name in names else -1 for name in class_names])
    compared = np.where((at[:, None] >= 0) & (at >= 0), total[np.ix_(at, at)], 0)
    if not compared.any():
        raise ConfigError(
            f"it must be about the classes {listed(list(class_names), 12)}, but is about {listed(names, 12)} or holds no answers; name "
            "another study"
        )
    return compared


def check_ok_class(ok: str | None, class_names: Sequence[str]) -> None:
    """Refuse an OK class that is none of the classes.

    Args:
        ok: `study.ok`.
        class_names: The K class names in order.

    Raises:
        ConfigError: If it is none of them.
    """
    if ok is not None and ok not in class_names:
        raise ConfigError(
            f"study.ok must be one of the classes {listed(sorted(class_names), 12)}, but is {ok!r}. Name the class of parts "
            "without a defect, or leave it out."
        )


def outcome_of(value: float, low: float, high: float, limit: float, *, is_least: bool) -> Outcome:
    """Return what a number comes to: `pass` if it keeps the limit, `refuse` if it surely does not, else `warn`.

    Args:
        value: The number.
        low: Lower end of its interval.
        high: Upper end.
        limit: The limit.
        is_least: The number should be the limit or more; else the limit or less.

    Returns:
        The outcome.

    Examples:
        >>> outcome_of(0.8, 0.7, 0.9, 0.75, is_least=True), outcome_of(0.1, 0.01, 0.2, 0.02, is_least=False)
        ('pass', 'warn')
    """
    if value >= limit if is_least else value <= limit:
        return "pass"
    return "refuse" if (high < limit if is_least else low > limit) else "warn"


# --- inside ---------------------------------------------------------------------------------------


def _rows(
    part: str, who: Sequence[str], found: Agreement | None, names: Sequence[str], limit: float
) -> Iterator[dict[str, Any]]:
    if found is None:
        return
    for name, one in ((None, found), *zip(names, found.by_class, strict=True)):
        if one is None:
            continue
        kappa = one.fleiss or one.cohen
        outcome: Outcome | None = "pass" if one.matched.share == 1 else None
        if kappa is not None:
            outcome = outcome_of(kappa.value, kappa.low, kappa.high, limit, is_least=True)
        yield (
            {"part": part, "who": list(who), "class": name}
            | _rate(one.matched)
            | {
                "cohen": _kappa(one.cohen),
                "fleiss": _kappa(one.fleiss),
                "outcome": outcome,
            }
        )


def _calls(who: str, calls: Calls | None, settings: StudyConfig) -> Iterator[dict[str, Any]]:
    if calls is None:
        return
    for measure, found, limit, is_least in (
        ("effectiveness", calls.effectiveness, settings.least_effectiveness, True),
        ("missed", calls.missed, settings.most_missed, False),
        ("false_alarms", calls.false_alarms, settings.most_false_alarms, False),
    ):
        if found is not None:
            outcome = outcome_of(found.share, found.low, found.high, limit, is_least=is_least)
            spans = found.low < limit < found.high
            yield {"who": who, "measure": measure} | _rate(found) | {
                "limit": limit, "outcome": outcome, "is_sure": not spans
            }  # fmt: skip


def _rate(found: Rate) -> dict[str, Any]:
    ends = {"share": found.share, "low": found.low, "high": found.high}
    return {"count": found.count, "num": found.num} | {name: round(value, 6) for name, value in ends.items()}


def _kappa(kappa: Kappa | None) -> dict[str, float] | None:
    if kappa is None:
        return None
    return {"value": round(kappa.value, 6), "low": round(kappa.low, 6), "high": round(kappa.high, 6)}


def _confusions(ratings: Ratings) -> list[dict[str, Any]]:
    names = ratings.class_names
    measures = []
    for who, counts in zip(ratings.appraisers, measure_confusions(ratings), strict=True):
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[:MOST_CONFUSIONS].tolist()
        cells = [divmod(place, len(names)) for place in order]
        measures += [
            {"who": who, "true": names[a], "given": names[b], "num": int(counts[a, b])}
            for a, b in cells
            if counts[a, b]
        ]
    return measures


def _disputed(ratings: Ratings, row: int) -> dict[str, Any]:
    def name(label: int) -> str | None:
        return ratings.class_names[label] if 0 <= label < len(ratings.class_names) else None

    said = [
        {"who": who, "said": [name(label) for label in own[:, row].tolist() if label >= 0]}
        for who, own in zip(ratings.appraisers, ratings.answers, strict=True)
    ]
    return {
        "sample_id": ratings.sample_ids[row],
        "standard": name(int(ratings.standard[row])),
        "answers": [one for one in said if one["said"]],
    }
