"""Why a run stops whose images say no more of their labels than chance would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labelclean.config import Config
from labelclean.errors import listed
from labelclean.runs.record import stopped

if TYPE_CHECKING:
    from labelclean.cleaning.chance import Unvouched
    from labelclean.cleaning.teacher import Teacher
    from labelclean.probes.feature_space import FeatureSpace


def refused_by_chance(
    config: Config, teacher: Teacher, unvouched: Unvouched | None, space: FeatureSpace, names: Sequence[str]
) -> dict[str, Any]:
    """Return the record of a run whose images say no more of their labels than chance would.

    Args:
        config: `refine.method` is read.
        teacher: The teacher.
        unvouched: Classes and samples that nothing outside their group can vouch for; None where the user's own model
            vouches for all.
        space: Near-duplicate sets of the samples.
        names: The K class names.

    Returns:
        JSON values: the sentence, and the cause where it shows (`alike`, `one_group`, `class_groups`, else `chance`).
    """
    from labelclean.cleaning.teacher import nothing_tells

    num_samples = len(space)
    copies = int(np.unique(space.duplicate_sets[space.duplicate_sets >= 0], return_counts=True)[1].max(initial=0))
    cause = "chance"
    if unvouched is None:
        sentence = nothing_tells(teacher).replace(").", ");") + (
            " nothing is flagged. Check that the columns of teacher.pred_probs are the classes in this order: "
            f"{listed(list(names))}."
        )
    elif copies > num_samples / 2:
        cause, sentence = (
            "alike",
            f"these images are all alike to the backbone ({copies:,} of {num_samples:,} are near-duplicates of one "
            "another), so they say nothing of their labels; nothing is flagged. Open some of them: are they the right "
            "files, decoded as they should be (decode.*)?",
        )
    elif unvouched.has_one_group:
        cause, sentence = (
            "one_group",
            "one group_id holds all samples, so nothing outside it can vouch for a label; nothing is "
            "flagged. Give each part its own group_id, or leave the column out.",
        )
    elif len(unvouched.classes):
        cause, sentence = (
            "class_groups",
            f"every sample of {listed([names[k] for k in unvouched.classes.tolist()])} lies in one group_id, so nothing "
            "outside it can vouch for these labels, and the other images say no more of theirs than chance would; nothing "
            "is flagged. Give each part its own group_id, or leave the column out.",
        )
    else:
        sentence = nothing_tells(teacher).replace(").", ");") + (
            " nothing is flagged. Look at some images, try another backbone, or bring a model's predictions "
            "(teacher.pred_probs)."
        )
    refinement = {"requested": config.refine.method, "method": "none", "why": sentence, "cause": cause}
    return stopped(sentence) | {"refinement": refinement}
