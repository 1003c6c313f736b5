"""What `labelclean adapt` does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from labelclean.config import Config
from labelclean.storage.parquet import read_json


def run_adaptation(config: Config, *, resume: bool, tell: Callable[[str], None], as_json: bool) -> None:
    """Adapt and say where the weights are; beside other processes only process 0 speaks.

    Args:
        config: The configuration.
        resume: Go on with the unfinished adaptation.
        tell: Told each line.
        as_json: One JSON object instead of text.
    """
    from labelclean.adapt.checkpoint import WEIGHTS
    from labelclean.adapt.session import adapt

    folder = adapt(config, resume=resume)
    if int(os.environ.get("RANK", "0")):
        return
    if as_json:
        tell(json.dumps({"folder": str(folder)} | read_json(folder / "manifest.json"), ensure_ascii=False))
        return
    tell(f"wrote {folder / WEIGHTS}\nnext: labelclean adapt CONFIG --compare says whether to freeze it")


def run_comparison(config: Config, adapted: Path | None, *, tell: Callable[[str], None], as_json: bool) -> None:
    """Compare base and adapted backbone and say which one to freeze.

    Args:
        config: The configuration.
        adapted: Weights file or folder of an adaptation; default: the newest.
        tell: Told each line.
        as_json: One JSON object instead of text.
    """
    from labelclean.adapt.compare import compare

    comparison = compare(config, adapted)
    if not as_json:
        tell("\n".join(comparison.sentences()))
        return
    record: dict[str, Any] = {
        judged.name: {
            "probe_accuracy": float(judged.is_told_by_probe.mean()),
            "neighbour_accuracy": float(judged.is_told_by_neighbours.mean()),
            "log_likelihood": judged.log_likelihood,
        }
        for judged in (comparison.base, comparison.adapted)
    }
    freeze: Literal["adapted", "base"] = "adapted" if comparison.freeze_adapted else "base"
    record |= {"gain": comparison.gain, "standard_error": comparison.standard_error, "freeze": freeze}
    tell(json.dumps(record | {"weights": str(comparison.weights)}))


def run_sweep(config: Config, num_images: int, epochs: int, *, tell: Callable[[str], None], as_json: bool) -> None:
    """Try temperatures and windows on a small sample.

    Args:
        config: The configuration.
        num_images: Labelled images of the sample.
        epochs: Epochs of each trial.
        tell: Told each line as it is known.
        as_json: One JSON object instead of text.
    """
    from labelclean.adapt.sweep import advice, sweep

    trials = []
    if not as_json:
        tell("temperature  window  neighbours tell  with another  own past nearest  effective rank")
    for trial in sweep(config, num_images, epochs):
        trials.append(trial)
        if not as_json:
            tell(
                f"{trial.temperature:>11g}{trial.window:>8}{trial.accuracy:>11.1%} +-{trial.standard_error:.1%}"
                f"{trial.bootstrapped_share:>12.0%}{trial.self_retrieval:>18.0%}{trial.effective_rank:>16.1f}"
            )
    sentence = advice(trials)
    tell(json.dumps({"trials": [trial._asdict() for trial in trials], "advice": sentence}) if as_json else sentence)
