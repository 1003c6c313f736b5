"""What becomes of labels: goals held against the results, and against those of another commit where there are some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.measures import calibration_error
from benchmarks.peers import AUDITED, OURS
from benchmarks.results import Place, Row, Table, mean, pooled_gain

ERRORS_OFF = {OURS: (0.038, 0.03), AUDITED: (0.025, 0.02)}
HOLDS_BETWEEN = (0.90, 0.99)
KEPT_GAIN = 0.9
RANKING_MARGIN = OWN_MODEL_MARGIN = 0.01
ALARMS = {"strong": 0.02, "weak": 0.08}
CALIBRATION, CALIBRATED_CELLS = 0.05, 0.9
CLOCK = 1.1  # CPU seconds of one and the same program differ by this much on a busy machine

Rows = dict[int, Row]


def goal_lines(table: Table, before: Table) -> list[str]:
    """Return one line per goal: what must hold, what would be fine, with the figures.

    Args:
        table: All results.
        before: Results of another commit; goals that compare with it are not measured where it is empty.

    Returns:
        Markdown list items; goals without data say so.
    """
    earlier = _of(before, OURS)
    lines = [
        _below(_of(table, OURS), 0.03, "", earlier),
        _below(_of(table, AUDITED), 0.0, "with 30 looked at, ", {}),
        _strong_gain(_pairs(table, before)),
        _own_model(_of(table, OURS)),
        _overlapping_ranking(table),
        *(_errors_off(table, method, place, earlier) for method in ERRORS_OFF for place in (0, 1)),
        *(_interval(table, method, earlier) for method in ERRORS_OFF),
        _f1_kept(_pairs(table, before)),
        _f1_people(table),
        *(_alarms(_of(table, OURS), family, earlier) for family in ALARMS),
        _calibration(_of(table, OURS), earlier),
        _cost(_pairs(table, before)),
    ]
    return [f"- {line}" for line in lines]


def is_below(gain: float, error: float) -> bool:
    """Return whether a paired difference lies more than two standard errors below zero.

    Args:
        gain: Mean difference.
        error: Its standard error.

    Returns:
        The verdict.

    Examples:
        >>> is_below(-0.03, 0.01), is_below(-0.01, 0.01)
        (True, False)
    """
    return gain + 2 * error < 0


def pooled_calibration(rows: Rows) -> float:
    """Return the calibration error of the label scores of all seeds together.

    Args:
        rows: Rows of one cell of labelclean by seed.

    Returns:
        Mean distance between claim and share, in [0, 1].
    """
    right = [np.isin(np.arange(len(row.scores)), row.wrong, invert=True) for row in rows.values()]
    return calibration_error(np.concatenate([row.scores for row in rows.values()]), np.concatenate(right))


def _of(table: Table, method: str) -> dict[Place, Rows]:
    """The cells that a method has, with the measures of this version of the benchmark."""
    found = {place: methods[method] for place, methods in table.items() if method in methods}
    return {place: rows for place, rows in found.items() if not np.isnan(mean(rows, "gain"))}


def _pairs(table: Table, before: Table) -> dict[Place, tuple[Rows, Rows]]:
    """Ours now and before where both had the same wrong labels, seed by seed."""
    ours, earlier, pairs = _of(table, OURS), _of(before, OURS), {}
    for place in ours.keys() & earlier.keys():
        now, then = ours[place], earlier[place]
        same = [s for s in now if s in then and now[s].measures["num_wrong"] == then[s].measures["num_wrong"]]
        if same:
            pairs[place] = {seed: now[seed] for seed in same}, {seed: then[seed] for seed in same}
    return pairs


def _verdict(kind: str, holds: bool, text: str) -> str:
    return f"**{kind}, {'holds' if holds else 'does not hold'}**: {text}"


def _listed(names: Sequence[str], title: str) -> str:
    return f"; {title}: {'; '.join(names)}." if names else "."


def _mean_over(cells: Iterable[Rows], measure: str) -> float:
    found = [mean(rows, measure) for rows in cells]
    return float(np.mean(found)) if found else float("nan")


def _harmed(cells: dict[Place, Rows]) -> list[str]:
    """Where predicted labels are below the given ones, the worst first."""
    found = sorted((pooled_gain(rows), place) for place, rows in cells.items())
    return [f"{place} ({gain:+.3f} ± {error:.3f})" for (gain, error), place in found if is_below(gain, error)]


def _below(cells: dict[Place, Rows], limit: float, how: str, earlier: dict[Place, Rows]) -> str:
    if not cells:
        return f"not measured: {how}predicted labels below the given ones."
    harmed = _harmed(cells)
    share = len(harmed) / len(cells)
    then = f"; baseline {len(_harmed(earlier))} of {len(earlier)}" if earlier else ""
    text = f"{how}predicted labels are below the given ones by more than two standard errors in {len(harmed)} of "
    text += f"{len(cells)} cells ({share:.1%}, limit {limit:.0%}{then})"
    return _verdict("must", share <= limit, text + _listed(harmed, "these"))


def _strong_gain(pairs: dict[Place, tuple[Rows, Rows]]) -> str:
    strong = [pair for place, pair in pairs.items() if place.family == "strong" and place.rate > 0]
    if not strong:
        return "not measured: mean gain on strong features beside a baseline."
    now, then = (_mean_over(cells, "gain") for cells in zip(*strong, strict=True))
    text = f"mean gain on strong features with noise {now:+.4f}, baseline {then:+.4f} (limit {KEPT_GAIN} of it; "
    return _verdict("must", now >= KEPT_GAIN * then, text + f"{len(strong)} cells).")


def _own_model(cells: dict[Place, Rows]) -> str:
    own = {place: rows for place, rows in cells.items() if place.family == "own model"}
    if not own:
        return "not measured: labels beside the user's own model."
    low = []
    for place, rows in own.items():
        best = max(mean(rows, "given_accuracy"), mean(rows, "model_accuracy"))
        if mean(rows, "accuracy") < best - OWN_MODEL_MARGIN:
            low.append(f"{place} ({mean(rows, 'accuracy'):.3f} against {best:.3f})")
    text = f"predicted labels at least as right as given ones and the user's own model, less {OWN_MODEL_MARGIN}, in "
    return _verdict("must", not low, f"{text}{len(own) - len(low)} of {len(own)} cells" + _listed(low, "not"))


def _best_cleanlab(methods: dict[str, Rows], measure: str) -> float:
    """The highest mean of cleanlab's rules; NaN where none was run."""
    found = [mean(rows, measure) for name, rows in methods.items() if name.startswith("cleanlab")]
    return max(found, default=float("nan"))


def _against_cleanlab(table: Table, families: Sequence[str], measure: str) -> dict[Place, tuple[float, float]]:
    """Ours and the best cleanlab's in the cells with noise of some families."""
    found = {
        place: (mean(methods[OURS], measure), _best_cleanlab(methods, measure))
        for place, methods in table.items()
        if place.family in families and place.rate > 0 and OURS in methods
    }
    return {place: pair for place, pair in sorted(found.items()) if not np.isnan(pair).any()}


def _overlapping_ranking(table: Table) -> str:
    found = _against_cleanlab(table, ["overlapping"], "ap")
    if not found:
        return "not measured: ranking where classes overlap beside cleanlab's."
    behind = [f"{p} ({us:.3f} against {them:.3f})" for p, (us, them) in found.items() if us < them - RANKING_MARGIN]
    text = (
        f"AP not more than {RANKING_MARGIN} behind the best cleanlab's in {len(found) - len(behind)} of {len(found)} "
    )
    return _verdict("must", not behind, text + "cells of overlapping classes" + _listed(behind, "behind"))


def _looked(method: str) -> str:
    return "with 30 looked at, " if method == AUDITED else ""


def _errors_off(table: Table, method: str, place: int, earlier: dict[Place, Rows]) -> str:
    cells, limit = _of(table, method), ERRORS_OFF[method][place]
    if not cells:
        return f"not measured: {_looked(method)}expected share of errors."
    size = _mean_over(cells.values(), "off_size") / 100
    then = f"; baseline {_mean_over(earlier.values(), 'off_size') / 100:.4f}" if earlier and method == OURS else ""
    text = f"{_looked(method)}expected share of errors off by {size:.4f} on average (limit {limit}{then})."
    return _verdict(("must", "stretch")[place], size <= limit, text)


def _interval(table: Table, method: str, earlier: dict[Place, Rows]) -> str:
    cells = _of(table, method)
    if not cells:
        return f"not measured: {_looked(method)}interval of the expected errors."
    share, (low, high) = _mean_over(cells.values(), "held"), HOLDS_BETWEEN
    then = f"; baseline {_mean_over(earlier.values(), 'held'):.1%}" if earlier and method == OURS else ""
    text = f"{_looked(method)}the interval of the expected errors holds in {share:.1%} of runs (limits {low:.0%} to "
    text += f"{high:.0%}{then}); it is {_mean_over(cells.values(), 'width'):.1f} points of N wide on average."
    return _verdict("must", low <= share <= high, text)


def _f1_kept(pairs: dict[Place, tuple[Rows, Rows]]) -> str:
    noisy = [pair for place, pair in pairs.items() if place.rate > 0]
    if not noisy:
        return "not measured: F1 beside a baseline."
    now, then = (_mean_over(cells, "f1") for cells in zip(*noisy, strict=True))
    return _verdict("must", now >= then, f"mean F1 {now:.4f}, baseline {then:.4f} ({len(noisy)} cells).")


def _f1_people(table: Table) -> str:
    found = _against_cleanlab(table, ["people", "own model"], "f1")
    if not found:
        return "not measured: F1 on people's labels beside cleanlab's."
    behind = [f"{place} ({us:.3f} against {them:.3f})" for place, (us, them) in found.items() if us <= them]
    text = f"F1 ahead of the best cleanlab's in {len(found) - len(behind)} of {len(found)} cells of people's labels"
    return _verdict("must", not behind, text + _listed(behind, "not"))


def _alarms(cells: dict[Place, Rows], family: str, earlier: dict[Place, Rows]) -> str:
    def share(of: dict[Place, Rows]) -> float:
        return _mean_over((rows for p, rows in of.items() if p.family == family and p.rate == 0), "alarms")

    if np.isnan(share(cells)):
        return f"not measured: flagged without noise, {family} features."
    then = "" if np.isnan(share(earlier)) else f"; baseline {share(earlier):.1%}"
    text = f"without noise {share(cells):.1%} are flagged on {family} features (limit {ALARMS[family]:.0%}{then})."
    return _verdict("stretch", share(cells) <= ALARMS[family], text)


def _calibration(cells: dict[Place, Rows], earlier: dict[Place, Rows]) -> str:
    if not cells:
        return "not measured: calibration error of label_score."
    errors = {place: pooled_calibration(rows) for place, rows in cells.items()}
    share = float(np.mean([error <= CALIBRATION for error in errors.values()]))
    worst = max(errors, key=lambda place: errors[place])
    then = [pooled_calibration(rows) <= CALIBRATION for rows in earlier.values()]
    text = (
        f"calibration error of label_score at most {CALIBRATION} in {share:.1%} of cells (limit {CALIBRATED_CELLS:.0%}"
    )
    text += f"{f'; baseline {np.mean(then):.1%}' if then else ''}), at worst {errors[worst]:.3f}, at {worst}."
    return _verdict("stretch", share >= CALIBRATED_CELLS, text)


def _cost(pairs: dict[Place, tuple[Rows, Rows]]) -> str:
    if not pairs:
        return "not measured: time and memory beside a baseline."
    now, then = zip(*pairs.values(), strict=True)
    seconds, mib = (_mean_over(now, key) / _mean_over(then, key) for key in ("seconds", "mib"))
    text = (
        f"CPU seconds {seconds:.2f} of the baseline's, memory {mib:.2f} (limit {CLOCK}; on one and the same machine)."
    )
    return _verdict("must", max(seconds, mib) <= CLOCK, text)
