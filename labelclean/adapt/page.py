"""The adaptation's own report: one HTML file with what the epochs say, their curves and their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelclean.adapt.curves import CURVES, CurveRow
from labelclean.config.adapt import AdaptConfig
from labelclean.storage.parquet import atomic_path

PAGE = "report.html"
FEW, MANY = 0.05, 0.5

_COLUMNS = {
    "epoch": ("epoch", "{:d}"),
    "loss": ("loss", "{:.3f}"),
    "temperature": ("temperature", "{:.3g}"),
    "bootstrapped_share": ("compared with another", "{:.1%}"),
    "gate_share": ("may choose next", "{:.1%}"),
    "same_group_share": ("partners of the same group", "{:.1%}"),
    "partner_agreement": ("partners of the same given label", "{:.1%}"),
    "self_retrieval_1": ("own past nearest", "{:.1%}"),
    "self_retrieval_2": ("own past second", "{:.1%}"),
    "feature_spread": ("spread", "{:.3f}"),
    "effective_rank": ("effective rank", "{:.1f}"),
    "neighbour_accuracy": ("held-out labels told", "{:.1%}"),
    "images_per_s": ("images/s", "{:.0f}"),
}
_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Adaptation</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: .2rem .6rem; text-align: right }
tr:nth-child(even) { background: #f4f4f4 } svg { max-width: 100%; height: auto }
</style></head><body>
<h1>A backbone learned from unlabelled images</h1>
<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>
{{ curves }}
<h2>Epochs</h2>
<table><tr>{% for title in titles %}<th>{{ title }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</table>
</body></html>
"""


def readings(rows: Sequence[CurveRow], config: AdaptConfig) -> list[str]:
    """Return what the epochs say to a person, in sentences.

    Args:
        rows: Epochs so far, as `curves.row_of` made them.
        config: Settled settings.

    Returns:
        Sentences; empty where there is nothing to say.
    """
    late, window = [row for row in rows if row["epoch"] > int(config.window or 0)], config.window
    if config.mode == "plain" or not rows:
        return []
    if not late:
        ended = f"No epoch has compared an image with another one yet: that begins after adapt.window = {window} epochs"
        return [f"{ended} of {config.epochs}."]
    sentences = []
    share = _mean(late, "bootstrapped_share")
    if config.mode == "adaptive" and share < FEW:
        sentences.append(
            f"Mode adaptive has been nearly plain: {share:.1%} of the images were compared with another one, for "
            f"{_mean(late, 'self_retrieval_1'):.1%} found their own past as their nearest entry. Milder adapt.views "
            "(crop_area, turns, flips, blur_share), more epochs or a higher adapt.temperature open the gate."
        )
    same = _mean(late, "same_group_share")
    if same > MANY:
        sentences.append(
            f"{same:.0%} of the partners were of the image's own group or near-duplicate set, which teach little: "
            "set adapt.exclude_group to true."
        )
    return sentences


def write_page(folder: Path, rows: Sequence[CurveRow], config: AdaptConfig, facts: Sequence[str]) -> None:
    """Write the report of the epochs so far, with the curves that lie beside it.

    Args:
        folder: The training's folder.
        rows: As `curves.row_of` made them.
        config: Settled settings.
        facts: Sentences about the training.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    drawing = (folder / CURVES).read_text(encoding="utf-8")
    html = (
        Environment(autoescape=True)
        .from_string(_TEMPLATE)
        .render(
            lines=[*facts, *readings(rows, config)],
            curves=Markup(drawing[drawing.index("<svg") :]),  # noqa: S704  # our own drawing
            titles=[title for title, _ in _COLUMNS.values()],
            rows=[[_shown(row, name, form) for name, (_, form) in _COLUMNS.items()] for row in rows],
        )
    )
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _shown(row: Mapping[str, Any], name: str, form: str) -> str:
    return "" if row[name] is None else form.format(row[name])


def _mean(rows: Sequence[CurveRow], name: str) -> float:
    values = [row[name] for row in rows if row[name] is not None]
    return sum(values) / len(values) if values else 0.0
