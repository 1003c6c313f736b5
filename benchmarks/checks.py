"""Where labelclean stands beside its peers, held against what was promised; `goals` is about what becomes of labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from benchmarks.peers import AUDITED, OURS
from benchmarks.problem import FloatArray
from benchmarks.results import Place, Row, Table, mean, pooled_gain

LEAST_MARGIN = 0.005
DOWNSTREAM = ("down_given", "down_kept", "down_predicted", "down_soft", "down_own")
FALSE_ALARMS = {"neu_surface": 0.02, "magnetic_tile": 0.04}
DIRECT = ("uniform", "asymmetric")


def check_lines(table: Table) -> list[str]:
    """Return one line per promise: what holds, what does not, with the figures.

    Args:
        table: All results.

    Returns:
        Markdown list items; promises without data say so.
    """
    noisy = {place: methods for place, methods in table.items() if place.rate > 0 and OURS in methods}
    strong = {place: methods for place, methods in noisy.items() if place.family == "strong"}
    lines = [
        _average_precision(noisy),
        *(_precision_ratio(strong, kinds, limit) for kinds, limit in ((True, 0.25), (False, 0.55))),
        _f1(noisy),
        *(_false_alarms(table, name, limit) for name, limit in FALSE_ALARMS.items()),
        _rare(noisy),
        _downstream(noisy),
    ]
    return [f"- {line}" for line in lines]


def worst_lines(table: Table, count: int = 5) -> list[str]:
    """Return where labelclean is furthest behind the best peer, by AP and by F1, and where it does labels most harm.

    Args:
        table: All results.
        count: How many cells for each.

    Returns:
        Markdown list items.
    """
    lines = []
    for measure, title in (("ap", "AP"), ("f1", "F1")):
        gaps: list[tuple[float, str, dict[str, dict[int, Row]], str]] = []
        for place, methods in table.items():
            best = best_peer(methods, measure)
            if place.rate > 0 and OURS in methods and best is not None:
                gaps.append((float(paired(methods[OURS], methods[best], measure).mean()), str(place), methods, best))
        for gap, place_name, methods, best in sorted(gaps, key=lambda item: item[:2])[:count]:
            ours, theirs = mean(methods[OURS], measure), mean(methods[best], measure)
            lines.append(f"- {title}, {place_name}: {ours:.3f} against {theirs:.3f} of {best} ({gap:+.3f})")
    cells = {place: methods[OURS] for place, methods in table.items() if OURS in methods}
    harm = sorted((pooled_gain(rows), place) for place, rows in cells.items() if not np.isnan(mean(rows, "gain")))
    for (gain, error), place in harm[:count]:
        given, predicted = mean(cells[place], "given_accuracy"), mean(cells[place], "accuracy")
        lines.append(f"- labels, {place}: {predicted:.3f} right, given {given:.3f} ({gain:+.3f} ± {error:.3f})")
    sizes = {place: mean(rows, "off_size") for place, rows in cells.items()}
    off = [place for place in sorted(sizes) if not np.isnan(sizes[place])]
    for place in sorted(off, key=lambda place: -sizes[place])[:count]:
        lines.append(f"- expected errors, {place}: {mean(cells[place], 'off'):+.1f} points of N off")
    return lines or ["- no cells with labelclean"]


def best_peer(methods: dict[str, dict[int, Row]], measure: str) -> str | None:
    """Return the peer with the highest mean; None without peers."""
    means = {name: mean(rows, measure) for name, rows in methods.items() if name not in (OURS, AUDITED)}
    known = {name: value for name, value in means.items() if not np.isnan(value)}
    return max(known, key=lambda name: known[name]) if known else None


def paired(ours: dict[int, Row], theirs: dict[int, Row], measure: str) -> FloatArray:
    """Return our value minus theirs for each seed that both have, shape (number of seeds,)."""
    both = [seed for seed in sorted(ours) if seed in theirs]
    found = [
        ours[seed].measures[measure] - theirs[seed].measures[measure]
        for seed in both
        if measure in ours[seed].measures and measure in theirs[seed].measures
    ]
    return np.array(found)


def at_least_equal(differences: FloatArray) -> bool:
    """Return whether paired differences have a mean of at least -max(2 standard errors, 0.005).

    Args:
        differences: Ours minus theirs by seed, shape (S,), S >= 1.

    Returns:
        The verdict.

    Examples:
        >>> at_least_equal(np.array([-0.02, -0.02, -0.02]))
        False
        >>> at_least_equal(np.array([-0.02, 0.02, -0.02]))
        True
    """
    error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    return bool(differences.mean() >= -max(2 * error, LEAST_MARGIN))


def _verdict(holds: bool, text: str) -> str:
    return f"**{'holds' if holds else 'does not hold'}**: {text}"


def _differences(noisy: Table, measure: str) -> list[tuple[Place, FloatArray]]:
    """Ours minus the best peer's in each cell that has both."""
    found = []
    for place, methods in noisy.items():
        best = best_peer(methods, measure)
        if best is not None:
            found.append((place, paired(methods[OURS], methods[best], measure)))
    return [(place, difference) for place, difference in found if len(difference)]


def _average_precision(noisy: Table) -> str:
    found = _differences(noisy, "ap")
    if not found:
        return "not measured: AP."
    behind = [str(place) for place, difference in found if not at_least_equal(difference)]
    text = f"AP at least the best peer's in {len(found) - len(behind)} of {len(found)} cells"
    return _verdict(not behind, text + (f"; behind: {'; '.join(sorted(behind))}." if behind else "."))


def _precision_ratio(noisy: Table, direct: bool, limit: float) -> str:
    ours: list[float] = []
    theirs: list[float] = []
    for place, methods in noisy.items():
        rivals = [mean(rows, "ap") for name, rows in methods.items() if name.startswith("cleanlab")]
        if (place.kind in DIRECT) == direct and rivals:
            ours.append(1 - mean(methods[OURS], "ap"))
            theirs.append(1 - max(rivals))
    cells = "uniform and asymmetric" if direct else "other"
    if not ours:
        return f"not measured: mean (1 - AP) over {cells} cells."
    ratio = float(np.mean(ours)) / max(float(np.mean(theirs)), 1e-12)
    return _verdict(
        ratio <= limit, f"mean (1 - AP) over {cells} cells is {ratio:.2f} of the best cleanlab's (limit {limit})."
    )


def _f1(noisy: Table) -> str:
    found = _differences(noisy, "f1")
    if not found:
        return "not measured: F1."
    equal = float(np.mean([at_least_equal(difference) for _, difference in found]))
    worst = min(float(difference.mean()) for _, difference in found)
    text = f"F1 at least the best peer's in {equal:.0%} of cells (limit 90 %), at worst {worst:+.3f} (limit -0.02)."
    return _verdict(equal >= 0.9 and worst >= -0.02, text)


def _false_alarms(table: Table, name: str, limit: float) -> str:
    rows = table.get(Place(name, "none", 0.0), {}).get(OURS)
    if not rows:
        return f"not measured: false alarms on {name}."
    share = mean(rows, "flagged")
    return _verdict(share <= limit, f"without noise {share:.1%} of {name} is flagged (limit {limit:.0%}).")


def _total(rows: Iterable[Row], name: str) -> float:
    return sum(row.measures[f"num_{name}"] for row in rows)


def _rare(noisy: Table) -> str:
    rows = [row for place, methods in noisy.items() if place.rate >= 0.05 for row in methods[OURS].values()]
    if not rows or _total(rows, "rare_wrong") == 0:
        return "not measured: recall on rare classes."
    overall = _total(rows, "found") / _total(rows, "wrong")
    rare = _total(rows, "rare_found") / _total(rows, "rare_wrong")
    return _verdict(
        rare >= overall - 0.1, f"recall where a class has under 60 samples {rare:.3f}, overall {overall:.3f}."
    )


def _downstream(noisy: Table) -> str:
    good, behind = 0, []
    for place, methods in noisy.items():
        rivals = [
            mean(rows, key) for name, rows in methods.items() if name not in (OURS, AUDITED) for key in DOWNSTREAM
        ]
        known = [value for value in rivals if not np.isnan(value)]
        if not known:
            continue
        if mean(methods[OURS], "down_soft") >= max(known) - 0.01:
            good += 1
        else:
            behind.append(str(place))
    total = good + len(behind)
    if not total:
        return "not measured: downstream accuracy."
    text = f"a probe on our soft labels within 0.01 of the best of the others in {good} of {total} cells (limit 90 %)"
    return _verdict(good >= 0.9 * total, text + (f"; behind: {'; '.join(sorted(behind))}." if behind else "."))
