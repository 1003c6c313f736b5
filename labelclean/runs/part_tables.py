"""From what was found about some samples of a part to the rows of its tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import BoolArray, Float32Array, IntArray
from labelclean.cleaning.kinds import reach
from labelclean.cleaning.verdicts import Found
from labelclean.config import Config
from labelclean.noise.costs import CostRule
from labelclean.noise.readings import Readings
from labelclean.noise.top2 import top2_margin
from labelclean.review.flags import FlagInputs, build_flags, unusable_scores
from labelclean.review.part_queue import SILENT, VIEW_OF, score_rows
from labelclean.review.part_views import PART
from labelclean.runs.costs import with_costs
from labelclean.runs.outputs import flag_table, judged_table, predictions_table
from labelclean.runs.parts import samples_of_part
from labelclean.runs.pictures import UsualPictures
from labelclean.storage.tables import conform, vectors


@dataclass(frozen=True)
class BoxSets:
    """Near-duplicate sets in which boxes that lie on one another stand together; rows are aligned with the samples.

    Attributes:
        sets: Number of the set, int64, shape (N,), -1 for samples in none.
        conflict_sets: The same, -1 also where all labels of the set agree.
        is_conflict: A box of another class lies on this one, shape (N,).
        is_double: A box of the same class lies on this one, shape (N,).
    """

    sets: IntArray
    conflict_sets: IntArray
    is_conflict: BoolArray
    is_double: BoolArray

    def take(self, rows: IntArray) -> BoxSets:
        """Return some rows."""
        return BoxSets(self.sets[rows], self.conflict_sets[rows], self.is_conflict[rows], self.is_double[rows])


@dataclass(frozen=True)
class RunTables:
    """Makes the tables of some samples of a part; goes to any process or machine that sees the run's folder.

    Attributes:
        samples: Table `samples` of each part.
        labels: File with the labels of each.
        starts: Number of the first sample of each part and, last, N; int64, shape (P + 1,).
        names: The K class names.
        config: Sections `flags` and `gates` are read.
        counts: Samples of each given class, int64, shape (K,).
        pictures: Judges what the pictures are like.
        overlaps: Boxes that lie on one another, and the near-duplicate and conflicting sets that they join; None for
            whole images.
        leak_sets: Number of the set that stands in more than one split, int64, shape (N,), -1 for samples in none; None
            without splits.
        costs: Which class is OK and what errors cost; None where no class is.
        readings: What tells the kinds of errors then.
    """

    samples: tuple[Path, ...]
    labels: tuple[Path, ...]
    starts: IntArray
    names: tuple[str, ...]
    config: Config
    counts: IntArray
    pictures: UsualPictures
    leak_sets: IntArray | None = None
    overlaps: BoxSets | None = None
    costs: CostRule | None = None
    readings: Readings | None = None

    def __call__(self, number: int, found: Found) -> dict[str, pa.Table]:
        """Return `teacher_predictions`, `refined_labels`, `flags` and what the queue is made of."""
        whole, settled = samples_of_part(self.samples[number], self.labels[number])
        some, names, judged = whole.take(pa.array(found.rows)), self.names, found.judged
        ids = some.column("sample_id").combine_chunks()
        numbers = self.starts[number] + found.rows
        boxes = None if self.overlaps is None else self.overlaps.take(numbers)
        if boxes is not None:
            found = replace(found, duplicate_sets=boxes.sets, conflict_sets=boxes.conflict_sets)
        leaks = None if self.leak_sets is None else self.leak_sets[numbers]
        limit = self.config.flags.outlier_z
        odd = self.pictures.oddness_of(number)[found.rows]
        inputs = self._flag_inputs(found, leaks, boxes, odd)
        flags = build_flags(inputs, self.config.flags, self.config.gates.top2.unstable_below)
        predictions = predictions_table(ids, found.given_probs, found.top2_agreement, names)
        refined = judged_table(some, judged, found.duplicate_sets, names, leaks)
        scores = score_rows(
            some,
            numbers,
            pc.index_in(some.column("given_label"), value_set=pa.array(names, pa.string())),
            judged,
            settled[found.rows] if found.speaks is None else settled[found.rows] | ~found.speaks,
            found.conflict_sets if boxes is None else np.where(boxes.is_double, boxes.sets, boxes.conflict_sets),
            None if found.near is None else found.near.index,
            np.where(odd.max(axis=1) > limit, unusable_scores(odd.max(axis=1), limit), 0),
            None if boxes is None else boxes.is_double & (boxes.conflict_sets < 0),
        )
        scores = scores.append_column("reviewed", pa.array(found.labels.given))
        scores = scores.append_column("seen", pa.array(found.pred_probs.argmax(axis=1)))
        scores = scores.append_column("best", pa.array(found.pred_probs.max(axis=1)))
        if found.speaks is not None:
            scores = scores.append_column(SILENT, pa.array(~found.speaks)).append_column(VIEW_OF, some.column(PART))
        if found.near is not None:
            scores = scores.append_column("reach", vectors(reach(found.near)))
        if self.costs is not None and self.readings is not None:
            scores = with_costs(scores, self.costs, self.readings, found)
        return {
            "teacher_predictions": conform(predictions, "teacher_predictions", class_names=names),
            "refined_labels": conform(refined, "refined_labels", class_names=names),
            "flags": conform(flag_table(ids.to_pylist(), flags), "flags"),
            "scores": scores,
        }

    def _flag_inputs(
        self, found: Found, leaks: IntArray | None, boxes: BoxSets | None, odd: Float32Array
    ) -> FlagInputs:
        """What the reasons are written from."""
        judged = found.judged
        return FlagInputs(
            votes=found.labels.votes,
            given=found.labels.given,
            predicted=judged.predicted,
            label_scores=judged.label_scores,
            is_label_issue=judged.is_label_issue,
            top2_margin=np.clip(top2_margin(found.given_probs), 0, 1),
            top2_agreement=found.top2_agreement,
            neighbour_votes=found.neighbour_votes,
            duplicate_sets=found.duplicate_sets,
            conflict_sets=found.conflict_sets,
            is_box_conflict=None if boxes is None else boxes.is_conflict,
            is_box_double=None if boxes is None else boxes.is_double,
            leak_sets=leaks,
            class_counts=self.counts,
            oddness=odd,
        )
