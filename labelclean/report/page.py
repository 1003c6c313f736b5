"""What a report page shows, as frozen values between content and markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from labelclean.arrays import FloatArray, IntegerArray
from labelclean.noise.promise import Promise
from labelclean.review.facets import Facet
from labelclean.storage.tables import WAITS_FOR_EYES

LARGE_PX = 280
SMALL_PX = 112


@dataclass(frozen=True)
class Twins:
    """The samples that have a near-copy with another label; rows are aligned.

    Attributes:
        sample_ids: The T samples, sorted.
        given: Given class, shape (T,).
        predicted: Predicted class, shape (T,).
        scores: Chance that the given label is right, shape (T,).
        duplicate_set: Number of the near-duplicate set, shape (T,); None where it was not kept.
    """

    sample_ids: Sequence[str]
    given: IntegerArray
    predicted: IntegerArray
    scores: FloatArray
    duplicate_set: IntegerArray | None = None


@dataclass(frozen=True)
class Leak:
    """A sample of a set that stands in more than one split."""

    sample_id: str
    given: str
    split: str
    leak_set: int


@dataclass(frozen=True)
class JudgedCounts:
    """What is counted over the judged labels, however many there are.

    Attributes:
        pairs: Labels by given and predicted class, as rows (given, predicted, labels), both classes rising, shape (P, 3).
        scores: Labels by tenth of their score, and those of them that are worth a look, shape (10, 2).
        said: By tenth of the probability of the teacher's best class: labels, sum of that probability, and labels of
            that class, shape (10, 3); None where it is not known.
        twins: Samples flagged `conflict_group`.
        doubles: Samples flagged `box_double`.
        facets: Where wrong labels come from: groups of every carried column, then inspectors, then time.
        leaks: Samples of the first sets that stand in more than one split.
    """

    pairs: IntegerArray
    scores: IntegerArray
    said: FloatArray | None
    twins: Twins
    doubles: Twins
    facets: tuple[Facet, ...] = ()
    leaks: tuple[Leak, ...] = ()


@dataclass(frozen=True)
class RunData:
    """What is read from a run folder.

    Attributes:
        summary: `summary.json`.
        facts: `manifest.json`, or what of it is known before the run is published.
        distribution: Rows of `class_distribution`.
        judged: What is counted over the judged labels, or None where the run stopped before.
        queue: Table `review_queue`, or None.
        rejects: First rows of `rejects`.
    """

    summary: Mapping[str, Any]
    facts: Mapping[str, Any]
    distribution: Sequence[Mapping[str, Any]] = ()
    judged: JudgedCounts | None = None
    queue: pa.Table | None = None
    rejects: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Count:
    """An expected number with its interval."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassRow:
    """One class now and after cleaning; `after`, `issues` and `changed` are None where nothing was judged.

    Attributes:
        issues: Labels worth a look.
        changed: Of these, the ones that we would change; the others wait for eyes.
    """

    name: str
    now: int
    share: float
    after: int | None
    issues: int | None
    changed: int | None
    reference_share: float | None

    @property
    def waiting(self) -> int | None:
        """Labels worth a look that wait for eyes."""
        return None if self.issues is None or self.changed is None else max(self.issues - self.changed, 0)


@dataclass(frozen=True)
class Pair:
    """Labels given one class and suggested another; `num_shown` of them stand in the gallery."""

    given: int
    predicted: int
    num: int
    num_shown: int


@dataclass(frozen=True)
class Neighbour:
    """A sample shown beside another: its id and given class."""

    sample_id: str
    given: str
    predicted: str | None = None


@dataclass(frozen=True)
class TwinSet:
    """Near-copies whose labels differ: the first of each label first, and how many there are in all."""

    members: tuple[Neighbour, ...]
    num: int


@dataclass(frozen=True)
class LeakSet:
    """Near-copies or pictures of one part in several splits: the first of each split first, and how many there are."""

    members: tuple[Leak, ...]
    num: int


@dataclass(frozen=True)
class Suspect:
    """One place of the review queue; audit samples carry no suggestion, score, reason or neighbour."""

    rank: int
    sample_id: str
    image_path: str | None
    given: int
    predicted: int | None
    runner_up: int | None
    score: float | None
    reasons: tuple[str, ...]
    source: str
    neighbours: tuple[Neighbour, ...]
    cost: float | None = None
    views: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """What we make of it: `change`, `waits` for eyes, `keep`, or `blind`."""
        if self.predicted is None:
            return "blind"
        if self.predicted != self.given:
            return "change"
        return "waits" if WAITS_FOR_EYES in self.reasons else "keep"


@dataclass(frozen=True)
class Bin:
    """Labels whose score lies in one tenth; `issues` of them are worth a look."""

    low: float
    high: float
    num: int
    issues: int


@dataclass(frozen=True)
class ReliabilityBin:
    """Labels about which the teacher is equally sure."""

    said: float
    agreed: float
    num: int


@dataclass(frozen=True)
class AgreementLine:
    """How often several people agree: `kind` is `labels` for inspectors, `reviews` for reviewers."""

    kind: str
    num_people: int
    share: float
    num_shared: int
    num_disputed: int


@dataclass(frozen=True)
class TwinSets:
    """Samples that belong together and whose labels differ.

    Attributes:
        sets: The first sets.
        num_sets: All sets.
        loose: Samples one by one, where the sets were not kept.
        num: All samples in such sets.
    """

    sets: tuple[TwinSet, ...] = ()
    num_sets: int = 0
    loose: tuple[Neighbour, ...] = ()
    num: int = 0


@dataclass(frozen=True)
class Confusion:
    """Which class is suggested for which.

    Attributes:
        pairs: Differences between given and suggested, most frequent first.
        num_pairs: All of them.
        matrix: Counts given x suggested, shape (K, K), for up to 15 classes.
    """

    pairs: tuple[Pair, ...] = ()
    num_pairs: int = 0
    matrix: IntegerArray | None = None


@dataclass(frozen=True)
class Certainty:
    """How sure the run is.

    Attributes:
        histogram: Labels by score.
        reliability: What the teacher says against what holds.
        calibration_error: Mean distance between the two.
    """

    histogram: tuple[Bin, ...]
    reliability: tuple[ReliabilityBin, ...]
    calibration_error: float | None


@dataclass(frozen=True)
class Page:
    """All that the report shows, in the order of the page.

    Attributes:
        verdict: Code of the verdict.
        sentence: The run's own verdict sentence, English.
        num_samples: Samples that came in.
        num_rejects: Those whose image could not be used.
        num_judged: Labels that were judged: of usable images, or of the parts that they show.
        of_part: Parts and their images, where labels are those of parts; None: each image has its own.
        num_issues: Labels worth a look, None where nothing was judged.
        num_changed: Of these, the ones that we would change; None where nothing was judged or the run is older.
        num_waiting: Of these, the ones that wait for eyes; None likewise.
        promise: What applying the predicted labels brings, None likewise.
        errors: Expected wrong labels (95 %), None where nothing was judged.
        one_class: The class, how many of its images look least like the others and the stated share; None with more classes.
        costs: Escapes, overkill and wrong kinds (`costs_record`), None where no class is OK.
        num_queue: Places in the review queue.
        queue_errors: Expected wrong labels in it (90 %).
        queue_minutes: Time to look at it, None where the run did not say.
        num_settled: Samples that people have decided before the run.
        cause: Why nothing tells which labels are wrong, None where something does.
        gates: Findings, worst first.
        requested: Refinement asked for.
        method: Refinement used.
        names: The K class names.
        classes: Rows of the class table, largest class first.
        confusion: Which class is suggested for which.
        suspects: The gallery in queue order.
        twins: Near-copies whose labels differ.
        doubles: Boxes that are drawn twice, place by place.
        new_kinds: Kinds that are proposed for images that fit no class (`kinds_record`).
        leaks: What stands in more than one split (`Leaks.record`), None where the labels have no splits.
        leak_sets: The first such sets.
        unusable: Which pictures look unusable (`unusable_record`), None where the run is older.
        shortcuts: What else tells the label (`shortcut_record`), the one that tells most first.
        agreements: How often inspectors and reviewers agree.
        facets: Where wrong labels come from.
        certainty: How sure the run is.
        reject_codes: Rejected images by cause, most frequent first.
        rejects: First rejected images.
        reference: How the run differs from its reference (`drift_record`), None without one.
        how: (name, kind, value) of what is needed to repeat the run.
    """

    dataset: str
    verdict: str
    sentence: str
    num_samples: int
    num_rejects: int
    num_judged: int
    of_part: Mapping[str, Any] | None
    num_issues: int | None
    num_changed: int | None
    num_waiting: int | None
    promise: Promise | None
    errors: Count | None
    one_class: Mapping[str, Any] | None
    costs: Mapping[str, Any] | None
    num_queue: int
    queue_errors: Count | None
    queue_minutes: float | None
    num_settled: int
    cause: str | None
    gates: tuple[Mapping[str, Any], ...]
    requested: str | None
    method: str | None
    names: tuple[str, ...]
    classes: tuple[ClassRow, ...]
    confusion: Confusion
    suspects: tuple[Suspect, ...]
    twins: TwinSets
    doubles: TwinSets
    new_kinds: Sequence[Mapping[str, Any]]
    leaks: Mapping[str, Any] | None
    leak_sets: tuple[LeakSet, ...]
    unusable: Mapping[str, Any] | None
    shortcuts: Sequence[Mapping[str, Any]]
    agreements: tuple[AgreementLine, ...]
    facets: tuple[Facet, ...]
    certainty: Certainty
    reject_codes: Mapping[str, int]
    rejects: tuple[Mapping[str, Any], ...]
    reference: Mapping[str, Any] | None
    how: tuple[tuple[str, str, Any], ...]
