"""Plots of numbers over x, as SVG that the colour-blind can read, and as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")  # Okabe and Ito's, colour-blind safe
MARKERS = "osD^vP"


class Panel(NamedTuple):
    """One plot: what is drawn over x from 0 to the top, one line per name; dotted uprights where the bound stands."""

    title: str
    x_name: str
    x: Sequence[float]
    lines: dict[str, list[float]]
    uprights: tuple[float, ...] = ()
    top: float = 1.0


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Write plots side by side as one SVG, the same bytes for the same numbers."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(6.4 * len(panels), 4.4), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for place, (label, y) in enumerate(panel.lines.items()):
                colour = place // 2 if label.startswith(("closed", "trained")) else place
                line = "--" if label.startswith("trained") else "-"
                style = f"{MARKERS[colour]}{line}"
                axes.plot(panel.x[: len(y)], y, style, color=COLOURS[colour], markersize=5, label=label)
            for place, upright in enumerate(panel.uprights):
                axes.axvline(upright, color=COLOURS[place], linestyle=":")
            axes.set(title=panel.title, xlabel=panel.x_name, ylim=(-0.03 * panel.top, 1.03 * panel.top))
            axes.grid(alpha=0.3)
            if panel.x_name in ("epoch", "rounds"):
                axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
        figure.savefig(path, metadata={"Date": None})


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def numbers(panel: Panel) -> str:
    """Return a panel's numbers as a titled Markdown table, one row per line of the plot."""
    head = [panel.x_name, *(f"{value:g}" for value in panel.x)]
    rows = [[name, *(f"{value:.3f}" for value in values)] for name, values in panel.lines.items()]
    return "### " + panel.title.replace("\n", " ") + "\n\n" + markdown(head, rows)
