"""What tonight differs in from the reference run, for the summary and the terminal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from labelclean.arrays import FloatArray
from labelclean.cleaning.power import powered
from labelclean.noise.distribution import jensen_shannon, population_stability_index
from labelclean.runs.drift import measure_feature_drift, noise_shifts
from labelclean.runs.night_sums import RunSums

DIFFERENT = 0.01


def drift_record(name: str, reference: RunSums, tonight: RunSums, counts: FloatArray, num_known: int) -> dict[str, Any]:
    """Return how tonight differs from its reference, for the summary.

    Args:
        name: The reference run.
        reference: What it left.
        tonight: What this run leaves.
        counts: Tonight's given labels per class, shape (K,).
        num_known: Samples of tonight that the reference holds already.

    Returns:
        JSON values.
    """
    then = reference.counts / max(reference.counts.sum(), 1)
    now = counts / max(counts.sum(), 1)
    before, after = (powered(night.rows.astype(np.float32), reference.sums.power) for night in (reference, tonight))
    mean = reference.sums.features[0].mean
    drift = measure_feature_drift(before, after, reference.row_folds, tonight.row_folds, mean)
    new = [k for k in range(len(counts)) if counts[k] > 0 and reference.counts[k] == 0]
    return {
        "run": name,
        "runs": list(tonight.runs),
        "num_samples": round(float(reference.counts.sum())),
        "num_repeated": num_known,
        "new_classes": [tonight.class_names[k] for k in new],
        "share_shift": {
            "psi": round(population_stability_index(counts, reference.counts), 4),
            "jensen_shannon": round(jensen_shannon(now, then), 4),
            "by_class": [
                {"class_name": label, "before": round(float(then[k]), 4), "now": round(float(now[k]), 4)}
                for k, label in enumerate(tonight.class_names)
            ],
        },
        "feature_drift": {
            key: round(value, 5) if isinstance(value, float) else value for key, value in asdict(drift).items()
        }
        | {"differs": drift.p_value < DIFFERENT},
        "noise_shifts": [
            {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(one).items()}
            for one in noise_shifts(reference.noise, tonight.noise)
        ],
    }


def drift_sentences(record: dict[str, Any] | None) -> list[str]:
    """Return the same for people.

    Args:
        record: What `drift_record` returned; None without a reference.

    Returns:
        Sentences.
    """
    if record is None:
        return []
    sentences = [
        f"added to {record['num_samples']:,} samples of {len(record['runs']):,} earlier runs, the last {record['run']}"
        + (f"; {record['num_repeated']:,} samples were there already and count once" if record["num_repeated"] else "")
    ]
    if record["new_classes"]:
        sentences.append(f"new classes: {', '.join(record['new_classes'])}")
    shift = record["share_shift"]
    moved = max(shift["by_class"], key=lambda row: abs(row["now"] - row["before"]))
    word = "a large shift" if shift["psi"] > 0.25 else "a small shift" if shift["psi"] > 0.1 else "no shift"
    sentences.append(
        f"class shares: {word} (PSI {shift['psi']:.3f}); most moved {moved['class_name']}: {moved['before']:.1%} -> {moved['now']:.1%}"
    )
    drift = record["feature_drift"]
    sentences.append(
        f"features: a linear probe {'tells' if drift['differs'] else 'does not tell'} tonight's images from the reference's "
        f"(AUROC {drift['auroc']:.3f}, p = {drift['p_value']:.2g}, {drift['num_tonight']:,} against {drift['num_reference']:,})"
    )
    for one in record["noise_shifts"]:
        if one["stands_out"]:
            verb = "rose" if one["stands_out"] > 0 else "fell"
            sentences.append(
                f"wrong labels at {one['column']} {one['value']} {verb}: {one['before']:.1%} -> {one['now']:.1%} of {one['num']:,}"
            )
    return sentences
