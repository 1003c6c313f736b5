"""Plots as small SVG drawings: text stays text, colours come from the page's style, every drawing has its name."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from labelclean.report.facets import Facet
from labelclean.report.page import Bin, ReliabilityBin
from labelclean.report.texts import Texts, percent

_W, _H = 520, 250
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
    return Markup(  # noqa: S704 - the parts are made of numbers and escaped text
        f'<svg class="{css}" viewBox="0 0 {_px(width)} {_px(height)}" {role}>{"".join(parts)}</svg>'
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


def interval_dot(share: float, low: float, high: float, overall: float, right: float, mark: int) -> Markup:
    """Return a share with its interval, and the overall share as a vertical line.

    Args:
        share: The share.
        low: Lower end of its interval.
        high: Upper end.
        overall: Share over all labels.
        right: Share at the right edge.
        mark: Not 0 where the group differs from the whole.
    """
    scale = 220 / max(right, 1e-9)
    parts = [
        f'<line class="overall" x1="{_px(overall * scale)}" y1="0" x2="{_px(overall * scale)}" y2="18"/>',
        f'<line class="interval{" marked" if mark else ""}" x1="{_px(low * scale)}" y1="9" x2="{_px(high * scale)}" y2="9"/>',
        f'<circle class="dot{" marked" if mark else ""}" cx="{_px(share * scale)}" cy="9" r="4"/>',
    ]
    return svg(232, 18, "", parts, css="dots")


def score_plot(bins: Sequence[Bin], texts: Texts) -> Markup:
    """Return the histogram of scores, the part that looks wrong set apart, every bar with its count."""
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
    """Return what the model says against how often it holds; larger points stand for more labels."""
    side, left, top = 214, 62, 10
    parts = [f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    parts.append(_line("ideal", left, top + side, left + side, top))
    for tick in (0, 0.5, 1):
        parts.append(_text(left + side * tick, top + side + 16, f"{tick:.0%}", "tick"))
        parts.append(_text(left - 6, top + side * (1 - tick) + 4, f"{tick:.0%}", "tick end"))
    largest = max((b.num for b in bins), default=1)
    points = [(left + side * b.said, top + side * (1 - b.agreed), 3 + 6 * (b.num / largest) ** 0.5) for b in bins]
    parts.append(f'<polyline class="curve" points="{" ".join(f"{_px(x)},{_px(y)}" for x, y, _ in points)}"/>')
    parts += [f'<circle class="dot" cx="{_px(x)}" cy="{_px(y)}" r="{_px(r)}"/>' for x, y, r in points]
    parts.append(_text(left + side / 2, top + side + 36, texts("certainty.axis_said"), "axis-name"))
    parts.append(
        f'<text class="axis-name" transform="translate(14 {top + side / 2:g}) rotate(-90)">'
        f"{escape(texts('certainty.axis_agreed'))}</text>"
    )
    return svg(left + side + 16, top + side + 44, texts("certainty.reliability_alt"), parts, css="plot square")


def time_plot(facet: Facet, texts: Texts) -> Markup:
    """Return the share of wrong labels over time with its 95 % band; periods without labels leave no mark."""
    wide, high, width = 860 - _LEFT - _RIGHT, _H - _TOP - _BOTTOM, 860
    top_share = min(max(max(min(group.high, 2 * group.share + 0.05) for group in facet.groups), facet.overall), 1.0)
    steps = max(len(facet.groups) - 1, 1)
    xs = [_LEFT + 8 + (wide - 16) * k / steps for k in range(len(facet.groups))]

    def y(share: float) -> float:
        return _TOP + high * (1 - min(share / top_share, 1.0))

    upper = [f"{_px(x)},{_px(y(group.high))}" for x, group in zip(xs, facet.groups, strict=True)]
    lower = [f"{_px(x)},{_px(y(group.low))}" for x, group in zip(xs, facet.groups, strict=True)]
    line = [f"{_px(x)},{_px(y(group.share))}" for x, group in zip(xs, facet.groups, strict=True)]
    parts = [f'<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>']
    parts.append(_line("overall", _LEFT, y(facet.overall), width - _RIGHT, y(facet.overall)))
    parts.append(f'<polyline class="curve" points="{" ".join(line)}"/>')
    for x, group in zip(xs, facet.groups, strict=True):
        css = "dot marked" if group.stands_out else "dot"
        parts.append(f'<circle class="{css}" cx="{_px(x)}" cy="{_px(y(group.share))}" r="4"/>')
    parts.append(_line("axis", _LEFT, _TOP + high, width - _RIGHT, _TOP + high))
    for share in (0.0, top_share / 2, top_share):
        parts.append(_text(_LEFT - 6, y(share) + 4, percent(share) if share else "0%", "tick end"))
    every = -(-len(facet.groups) // 6)
    for k in range(0, len(facet.groups), every):
        parts.append(_text(xs[k], _H - 24, str(facet.groups[k].value), "tick start" if k == 0 else "tick"))
    peak = max(facet.groups, key=lambda group: group.share)
    label = texts(
        "facets.time_alt",
        first=facet.groups[0].value,
        last=facet.groups[-1].value,
        high=percent(peak.share),
        peak=peak.value,
    )
    return svg(width, _H - 14, label, parts, css="plot wide")


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
