"""A trial of one class: which images of a random sample look least like the others, and what looking at those of all takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelclean.cleaning.clean import clean_labels
from labelclean.trial.draw import DrawnSamples
from labelclean.trial.whole import Whole

NUM_SHOWN = 12


def one_class_trial(whole: Whole, drawn: DrawnSamples) -> dict[str, Any]:
    """Return what a trial of one class tells.

    Args:
        whole: The data set.
        drawn: N images of it.

    Returns:
        JSON values: what `poc.json` has of such a trial.
    """
    config, (name,), samples = whole.config, whole.names, drawn.samples
    ids, share = samples.column("sample_id").to_pylist(), config.neighbours.odd_share
    cleaning = config.model_dump(include={"neighbours", "teacher", "refine", "gates"})
    cleaning["neighbours"]["odd_share"] = share
    table = clean_labels(
        [name] * len(ids), features=drawn.features, sample_ids=ids, seed=config.run.seed, config=cleaning
    ).table
    oddest = np.argsort(table["label_score"].to_numpy(), kind="stable")[:NUM_SHOWN]
    paths = samples.column("image_path").to_pylist() if "image_path" in samples.column_names else ids
    usable = whole.num_usable(drawn.num_drawn, drawn.rejects)
    num_review = share * usable + min(config.review.audit_samples, usable)
    return {
        "num_judged": len(ids),
        "one_class": {
            "class_name": name,
            "odd_share": share,
            "oddest": [paths[row] or ids[row] for row in oddest.tolist()],
        },
        "recommendation": {"advice": "one_class", "reasons": []},
        "cost": whole.effort(usable, num_review, clean_s=0.0) | {"errors": share * usable},
    }
