"""Plots as small SVG drawings: text stays text, colours come from the page's style, every drawing has its name."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from labelclean.report.page import Bin, ReliabilityBin
from labelclean.review.facets import Facet, Group
from labelclean.texts import Texts, percent

_W, _H = 520, 250
FEW = 10
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 22, 44


def svg(width: float, height: float, label: str, parts: Sequence[str], *, css: str = "plot") -> Markup:
    """Return a drawing.

    Args:
        width: Width of its coordinates.
        height: Height of its coordinates.
        label: What it shows, in a sentence; empty for a drawing that only repeats numbers beside it.
        parts: Escaped SVG elements.
        css: Its class.

    Returns:
        Markup.
    """
    role = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    fit = ' preserveAspectRatio="none"' if css == "bars" else ' preserveAspectRatio="xMinYMid"'
    return Markup(  # noqa: S704 - the parts are made of numbers and escaped text
        f'<svg class="{css}" viewBox="0 0 {_px(width)} {_px(height)}"{fit} {role}>{"".join(parts)}</svg>'
    )


def class_bars(now: int, after: int | None, largest: int) -> Markup:
    """Return two bars, now and after cleaning; the numbers stand beside them."""
    bars = [_bar("now", 0, 1, 160 * now / max(largest, 1), 6)]
    if after is not None:
        bars.append(_bar("after", 0, 9, 160 * after / max(largest, 1), 6))
    return svg(160, 16, "", bars, css="bars")


def count_bar(num: int, largest: int) -> Markup:
    """Return one bar; the number stands beside it."""
    return svg(160, 10, "", [_bar("after", 0, 1, 160 * num / max(largest, 1), 8)], css="bars")


def interval_dot(group: Group, facet: Facet) -> Markup:
    """Return a group's share with its interval, and the overall share as a vertical line.

    The numbers stand beside it. The interval of a group with very few labels may leave the drawing.
    """
    mark = _mark(group)

    def x(share: float) -> float:
        return 6 + 220 * min(share / top_share(facet), 1.0)

    parts = [
        _line("overall", x(facet.overall), 0, x(facet.overall), 18),
        _line(f"interval{mark}", x(group.low), 9, x(group.high), 9),
        f'<circle class="dot{mark}" cx="{_px(x(group.share))}" cy="9" r="4"/>',
    ]
    return svg(232, 18, "", parts, css="dots")


def limit_dot(value: float, low: float, high: float, limit: float, outcome: str) -> Markup:
    """Return a number between 0 and 1 with its interval, and the limit that it should keep as a vertical line.

    Args:
        value: The number; the numbers stand beside the drawing.
        low: Lower end of its interval.
        high: Upper end.
        limit: The limit.
        outcome: `pass`, `warn` or `refuse`.

    Returns:
        Markup.
    """

    def x(share: float) -> float:
        return 6 + 220 * min(max(share, 0.0), 1.0)

    mark = " marked" if outcome == "refuse" else ""
    parts = [
        _line("overall", x(limit), 0, x(limit), 18),
        _line(f"interval{mark}", x(low), 9, x(high), 9),
        f'<circle class="dot{mark}" cx="{_px(x(value))}" cy="9" r="4"/>',
    ]
    return svg(232, 18, "", parts, css="dots")


def top_share(facet: Facet) -> float:
    """Return the share at the end of a facet's axis: all shares fit, wide intervals of tiny groups need not."""
    reach = max(min(group.high, 1.5 * group.share + 0.05) for group in facet.groups)
    return min(max(reach, 1.2 * facet.overall, 0.01), 1.0)


def score_plot(bins: Sequence[Bin], texts: Texts) -> Markup:
    """Return the histogram of scores, the part that is worth a look set apart, every bar with its count."""
    largest = max((b.num for b in bins), default=0) or 1
    wide, high = _W - _LEFT - _RIGHT, _H - _TOP - _BOTTOM
    parts = []
    for b in bins:
        x, width = _LEFT + wide * b.low, wide * (b.high - b.low) - 4
        bar = max(high * b.num / largest, 1.5 if b.num else 0)
        wrong = bar * b.issues / b.num if b.num else 0
        parts.append(_bar("stands", x + 2, _TOP + high - bar, width, bar - wrong))
        parts.append(_bar("wrong", x + 2, _TOP + high - wrong, width, wrong))
        if b.num:
            parts.append(_text(x + 2 + width / 2, _TOP + high - bar - 5, f"{b.num:,}", "value"))
    parts.append(_line("axis", _LEFT, _TOP + high, _W - _RIGHT, _TOP + high))
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_text(_LEFT + wide * tick, _H - 26, f"{tick:.0%}", "tick"))
    parts.append(_text(_LEFT + wide / 2, _H - 6, texts("certainty.axis_score"), "axis-name"))
    label = texts("certainty.histogram_alt", low=bins[0].num, high=bins[-1].num)
    return svg(_W, _H, label, parts)


def reliability_plot(bins: Sequence[ReliabilityBin], texts: Texts) -> Markup:
    """Return what the model says against how often it holds; larger points stand for more labels, hollow ones for few."""
    side, left, top = 214, 62, 10
    parts = [f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    parts.append(_line("ideal", left, top + side, left + side, top))
    for tick in (0, 0.5, 1):
        parts.append(_text(left + side * tick, top + side + 16, f"{tick:.0%}", "tick"))
        parts.append(_text(left - 6, top + side * (1 - tick) + 4, f"{tick:.0%}", "tick end"))
    largest = max((b.num for b in bins), default=1)
    points = [(left + side * b.said, top + side * (1 - b.agreed), 3 + 6 * (b.num / largest) ** 0.5) for b in bins]
    firm = [f"{_px(x)},{_px(y)}" for b, (x, y, _) in zip(bins, points, strict=True) if b.num >= FEW]
    parts.append(f'<polyline class="curve" points="{" ".join(firm)}"/>')
    for b, (x, y, r) in zip(bins, points, strict=True):
        css = "dot" if b.num >= FEW else "dot few"
        parts.append(f'<circle class="{css}" cx="{_px(x)}" cy="{_px(y)}" r="{_px(r)}"/>')
    parts.append(_text(left + side / 2, top + side + 36, texts("certainty.axis_said"), "axis-name"))
    parts.append(
        f'<text class="axis-name" transform="translate(14 {top + side / 2:g}) rotate(-90)">'
        f"{escape(texts('certainty.axis_agreed'))}</text>"
    )
    return svg(left + side + 16, top + side + 44, texts("certainty.reliability_alt"), parts, css="plot square")


def time_plot(facet: Facet, texts: Texts) -> Markup:
    """Return the share of wrong labels over time with its 95 % band; periods without labels have no mark."""
    wide, high, width = 860 - _LEFT - _RIGHT, _H - _TOP - _BOTTOM, 860
    limit = top_share(facet)
    xs = [_LEFT + 8 + (wide - 16) * place / facet.places[-1] for place in facet.places]

    def y(share: float) -> float:
        return _TOP + high * (1 - min(share / limit, 1.0))

    upper = [f"{_px(x)},{_px(y(group.high))}" for x, group in zip(xs, facet.groups, strict=True)]
    lower = [f"{_px(x)},{_px(y(group.low))}" for x, group in zip(xs, facet.groups, strict=True)]
    line = [f"{_px(x)},{_px(y(group.share))}" for x, group in zip(xs, facet.groups, strict=True)]
    parts = [f'<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>']
    parts.append(_line("overall", _LEFT, y(facet.overall), width - _RIGHT, y(facet.overall)))
    parts.append(f'<polyline class="curve" points="{" ".join(line)}"/>')
    for x, group in zip(xs, facet.groups, strict=True):
        parts.append(f'<circle class="dot{_mark(group)}" cx="{_px(x)}" cy="{_px(y(group.share))}" r="4"/>')
    parts.append(_line("axis", _LEFT, _TOP + high, width - _RIGHT, _TOP + high))
    for share in (0.0, limit / 2, limit):
        parts.append(_text(_LEFT - 6, y(share) + 4, percent(share) if share else "0%", "tick end"))
    every = -(-len(facet.groups) // 6)
    for k in range(0, len(facet.groups), every):
        parts.append(_text(xs[k], _H - 24, str(facet.groups[k].value), _tick(k, len(xs))))
    peak = max(facet.groups, key=lambda group: group.share)
    label = texts(
        "facets.time_alt",
        first=facet.groups[0].value,
        last=facet.groups[-1].value,
        high=percent(peak.share),
        peak=peak.value,
    )
    return svg(width, _H - 14, label, parts, css="plot wide")


def gain_curve(points: Sequence[tuple[int, float]], texts: Texts) -> Markup:
    """Return the learning curve: gain by number of samples, which double from point to point.

    Args:
        points: (samples, gain in nats), smallest first.
        texts: The language.

    Returns:
        Markup; empty for a single point.
    """
    if len(points) < 2:
        return Markup("")
    high, wide = _H - _TOP - _BOTTOM, _W - _LEFT - _RIGHT - 20
    top, low = max(0.1, *(gain for _, gain in points)) * 1.1, min(0.0, *(gain for _, gain in points))
    xs = [_LEFT + 10 + wide * k / (len(points) - 1) for k in range(len(points))]

    def y(gain: float) -> float:
        return _TOP + high * (1 - (gain - low) / (top - low))

    parts = [_line("axis", _LEFT, y(0), _W - _RIGHT, y(0)), _text(_LEFT - 6, y(0) + 4, "0", "tick end")]
    parts.append(_text(_LEFT - 6, y(top) + 4, f"{top:.1f}", "tick end"))
    path = " ".join(f"{_px(x)},{_px(y(gain))}" for x, (_, gain) in zip(xs, points, strict=True))
    parts.append(f'<polyline class="curve" points="{path}"/>')
    for x, (num, gain) in zip(xs, points, strict=True):
        parts.append(f'<circle class="dot" cx="{_px(x)}" cy="{_px(y(gain))}" r="4"/>')
        parts.append(_text(x, y(gain) - 9, f"{gain:.2f}", "tick"))
        parts.append(_text(x, _H - 26, f"{num:,}", "tick"))
    parts.append(_text(_LEFT + wide / 2, _H - 8, texts("poc.samples"), "axis-name"))
    label = texts(
        "poc.curve_alt", first=points[0][0], last=points[-1][0], low=f"{points[0][1]:.2f}", high=f"{points[-1][1]:.2f}"
    )
    return svg(_W, _H, label, parts)


def _mark(group: Group) -> str:
    """How a group that stands out is drawn: above the overall share, or below."""
    return " marked" if group.stands_out > 0 else " lowered" if group.stands_out else ""


def _tick(place: int, num: int) -> str:
    """Where a label stands to its mark: the outer ones stay inside."""
    return "tick start" if place == 0 else "tick end" if place == num - 1 else "tick"


def _bar(css: str, x: float, y: float, width: float, height: float) -> str:
    if width <= 0 or height <= 0:
        return ""
    return f'<rect class="{css}" x="{_px(x)}" y="{_px(y)}" width="{_px(max(width, 0.8))}" height="{_px(height)}"/>'


def _line(css: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{css}" x1="{_px(x1)}" y1="{_px(y1)}" x2="{_px(x2)}" y2="{_px(y2)}"/>'


def _text(x: float, y: float, words: str, css: str) -> str:
    return f'<text class="{css}" x="{_px(x)}" y="{_px(y)}">{escape(words)}</text>'


def _px(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
