"""Escapes, overkill and wrong kinds of defect of a run, and what a look at each sample is expected to save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.noise.costs import (
    ERROR_KINDS,
    CostRule,
    cost_matrix,
    error_costs,
    estimate_kinds,
    expected_costs,
    kind_chances,
    kind_sums,
    score_chances,
)
from labelclean.review.part_queue import COST_SAVED, SILENT
from labelclean.storage.tables import matrix, vectors
from labelclean.texts import amount

if TYPE_CHECKING:
    from labelclean.cleaning.verdicts import Found
    from labelclean.config import Config
    from labelclean.noise.readings import Readings

KINDS, COSTS = "kinds", "kind_costs"


def cost_rule(config: Config, names: Sequence[str]) -> CostRule | None:
    """Return which class is OK and what errors cost, as the config says; None where no class is."""
    ok = config.classes.ok
    if ok is None:
        return None
    return CostRule(names.index(ok), cost_matrix(names, ok, config.costs) if config.costs.is_given else None)


def with_costs(scores: pa.Table, rule: CostRule, readings: Readings, found: Found) -> pa.Table:
    """Return the scores of some samples with the chances of each kind of error and what a look is expected to save.

    Args:
        scores: From `part_queue.score_rows`, N rows.
        rule: Which class is OK and what errors cost.
        readings: The readings behind the labels.
        found: What was found about the samples.

    Returns:
        The same with `kinds` (12 numbers, `kind_chances` row by row), and with costs `kind_costs` (3) and `cost_saved`.
    """
    given, each = found.labels.given, readings.read(found.pred_probs, found.labels)
    probs = score_chances(readings, each, given, found.judged.label_scores)
    chances = kind_chances(probs, each, given, rule.ok)
    scores = scores.append_column(KINDS, vectors(chances.reshape(len(given), 12).astype(np.float32)))
    if rule.matrix is None:
        return scores
    costs = error_costs(probs, given, rule)
    scores = scores.append_column(COSTS, vectors(costs.T.astype(np.float32)))
    return scores.append_column(COST_SAVED, pa.array(expected_costs(probs, given, rule.matrix)))


def costs_record(
    config: Config, parts: Sequence[Path], queue: pa.Table, readings: Readings, num_open: int, issues: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the kinds of errors of a run and their costs, for the summary.

    Args:
        config: Sections `classes`, `costs` and `review` are read.
        parts: Parts of the scores, from `with_costs`.
        queue: Table `review_queue`.
        readings: The readings behind the labels.
        num_open: Samples without a verified class.
        issues: `label_issues` of the summary.

    Returns:
        JSON values: the class, each kind with its number, interval and expected cost; and, with costs, the cost of all
        labels as they stand and what reviewing the queue is expected to save of it.
    """
    columns = [KINDS, COSTS] if config.costs.is_given else [KINDS]
    sums, costs = np.zeros((len(ERROR_KINDS), 5)), np.zeros(len(ERROR_KINDS))
    for path in parts:
        silent = [SILENT] if SILENT in pq.read_schema(path).names else []
        table = pq.read_table(path, columns=[*columns, *silent], partitioning=None)
        if silent:  # a part costs once
            table = table.filter(pc.invert(table.column(SILENT)))
        sums += kind_sums(matrix(table.column(KINDS)).astype(np.float64).reshape(-1, len(ERROR_KINDS), 4))
        costs += matrix(table.column(COSTS)).sum(axis=0, dtype=np.float64) if config.costs.is_given else 0.0
    kinds = {
        kind: {"expected": round(one.expected, 2), "low": round(one.low, 2), "high": round(one.high, 2)}
        | ({"cost": round(float(cost), 2)} if config.costs.is_given else {})
        for kind, one, cost in zip(
            ERROR_KINDS, estimate_kinds(sums, readings.ambiguity, num_open, float(issues["high"])), costs, strict=True
        )
    }
    record: dict[str, Any] = {"ok": config.classes.ok, "kinds": kinds}
    if not config.costs.is_given:
        return record
    saved = queue.column(COST_SAVED).to_numpy().astype(np.float64)
    minutes = len(saved) * config.review.seconds_per_sample / 60
    return record | {
        "cost": round(float(costs.sum()), 2),
        "queue_saves": round(float(saved.sum()), 2),
        "queue_minutes": round(minutes, 1),
    }


def cost_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return a run's escapes, overkill and wrong kinds for people; none where no class is OK.

    Args:
        summary: `summary.json`.

    Returns:
        One or two sentences.
    """
    record = summary.get("costs")
    if not record:
        return []
    words = dict(zip(ERROR_KINDS, ("escapes", "overkill", "wrong kinds of defect"), strict=True))
    sentences = [
        f"{words[kind]} about {amount(one['expected'])} ({amount(one['low'])} to {amount(one['high'])}"
        + (f"; cost {amount(one['cost'])})" if "cost" in one else ")")
        for kind, one in record["kinds"].items()
    ]
    lines = [f"expected with {record['ok']!r} as the OK class: {', '.join(sentences)}"]
    if "cost" in record:
        lines.append(
            f"cost: wrong labels are expected to cost {amount(record['cost'])}; reviewing the queue saves about "
            f"{amount(record['queue_saves'])} of it in {record['queue_minutes']:,.0f} min"
        )
    return lines
