"""A trial of one class: which images of a random sample look least like the others, and what looking at those of all takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from labelclean.arrays import Float32Array
from labelclean.cleaning.clean import clean_labels
from labelclean.config import Config

if TYPE_CHECKING:
    import pyarrow as pa

    from labelclean.trial.forecast import ImageCost

NUM_SHOWN = 12


def one_class_trial(
    config: Config,
    samples: pa.Table,
    features: Float32Array,
    name: str,
    num_usable: float,
    cost: ImageCost,
    *,
    seconds_per_sample: float,
    compute_s: float,
) -> dict[str, Any]:
    """Return what a trial of one class tells.

    Args:
        config: The configuration of the whole data set.
        samples: Table `samples` of the N images of the trial.
        features: Their features, shape (N, D).
        name: The class.
        num_usable: Images of the whole data set that can be used.
        cost: What an image costs.
        seconds_per_sample: Seconds that a person takes to review one.
        compute_s: Seconds of computing for all.

    Returns:
        JSON values: what `poc.json` has of such a trial.
    """
    ids, share = samples.column("sample_id").to_pylist(), config.neighbours.odd_share
    cleaning = config.model_dump(include={"neighbours", "teacher", "refine", "gates"})
    cleaning["neighbours"]["odd_share"] = share
    table = clean_labels(
        [name] * len(ids), features=features, sample_ids=ids, seed=config.run.seed, config=cleaning
    ).table
    oddest = np.argsort(table["label_score"].to_numpy(), kind="stable")[:NUM_SHOWN]
    paths = samples.column("image_path").to_pylist() if "image_path" in samples.column_names else ids
    num_review = share * num_usable + min(config.review.audit_samples, num_usable)
    return {
        "num_judged": len(ids),
        "one_class": {
            "class_name": name,
            "odd_share": share,
            "oddest": [paths[row] or ids[row] for row in oddest.tolist()],
        },
        "recommendation": {"advice": "one_class", "reasons": []},
        "cost": {
            "compute_h": compute_s / 3600,
            "images_per_s": 1.0 / cost.extract_s,
            "device": cost.device,
            "num_review": num_review,
            "num_usable": num_usable,
            "seconds_per_sample": seconds_per_sample,
            "review_h": num_review * seconds_per_sample / 3600,
            "errors": share * num_usable,
        },
    }
