"""The epochs' records for people and tools: JSON lines, one SVG with curves, TensorBoard events where the package is there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labelclean.adapt.state import EpochRecord
from labelclean.storage.parquet import atomic_path

EPOCHS = "epochs.jsonl"
CURVES = "curves.svg"
CurveRow = dict[str, Any]

_PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss (nats)", ("loss",)),
    ("own past is nearest, second nearest (share)", ("self_retrieval_1", "self_retrieval_2")),
    ("compared with another image (share)", ("bootstrapped_share", "gate_share", "same_group_share")),
    ("effective rank of the features", ("effective_rank",)),
    ("spread of the features", ("feature_spread",)),
    ("held-out labels told by neighbours (share)", ("neighbour_accuracy", "partner_agreement")),
)


def row_of(record: EpochRecord, seconds: float, images_per_s: float) -> CurveRow:
    """Return a record as JSON values, numbers that do not exist as None.

    Args:
        record: The epoch.
        seconds: It took.
        images_per_s: Images learned from per second.

    Returns:
        Values by name.
    """
    values = record._asdict() | {"seconds": round(seconds, 3), "images_per_s": round(images_per_s, 1)}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def sentence(row: Mapping[str, Any], epochs: int) -> str:
    """Return one line about an epoch.

    Args:
        row: As `row_of` made it.
        epochs: Epochs in all.

    Returns:
        Text.
    """
    parts = [
        f"loss {row['loss']:.3f}",
        f"own past nearest {_percent(row['self_retrieval_1'])}",
        f"compared with another {_percent(row['bootstrapped_share'])}",
        f"effective rank {row['effective_rank']:.1f}",
    ]
    if row["neighbour_accuracy"] is not None:
        parts.append(f"neighbours tell {_percent(row['neighbour_accuracy'])} of held-out labels")
    return f"epoch {row['epoch']} of {epochs}: {', '.join(parts)}; {row['images_per_s']:,.0f} images/s"


def read_rows(folder: Path, epochs_done: int) -> list[CurveRow]:
    """Return the epochs that a stored training has done; a line of an epoch that must be repeated is left out.

    Args:
        folder: The training's folder.
        epochs_done: Epochs in its checkpoint.

    Returns:
        Rows.
    """
    path = folder / EPOCHS
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return [row for row in rows if row["epoch"] <= epochs_done]


def write_rows(folder: Path, rows: Sequence[CurveRow]) -> None:
    """Write all epochs so far, whole or not at all.

    Args:
        folder: The training's folder.
        rows: As `row_of` made them.
    """
    with atomic_path(folder / EPOCHS) as temporary:
        temporary.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows), encoding="utf-8")


def write_curves(folder: Path, rows: Sequence[CurveRow]) -> None:
    """Draw the epochs so far.

    Args:
        folder: The training's folder.
        rows: As `row_of` made them.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasSVG(figure)
    epochs = [row["epoch"] for row in rows]
    for number, (title, names) in enumerate(_PANELS, 1):
        axes = figure.add_subplot(2, 3, number)
        for name in names:
            values = [math.nan if row[name] is None else row[name] for row in rows]
            axes.plot(epochs, values, label=name.replace("_", " "), marker="." if len(rows) < 30 else "")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        if len(names) > 1:
            axes.legend(fontsize=7)
    with atomic_path(folder / CURVES) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def event_writer(folder: Path) -> Callable[[CurveRow], None]:
    """Return a function that writes an epoch as TensorBoard events, or does nothing where TensorBoard is not installed.

    Args:
        folder: The training's folder.

    Returns:
        The function.
    """
    if find_spec("tensorboard") is None:
        return lambda _: None
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def write(row: CurveRow) -> None:
        for name, value in row.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, row["epoch"])
        writer.flush()

    return write


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"
