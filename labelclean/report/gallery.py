"""Which samples the report shows with their pictures: suspects from the queue, and twins whose labels differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import IntegerArray
from labelclean.report.page import (
    LARGE_PX,
    SMALL_PX,
    Leak,
    LeakSet,
    Neighbour,
    Page,
    Suspect,
    Twins,
    TwinSet,
    TwinSets,
)
from labelclean.storage.samples import index_in
from labelclean.storage.tables import WAITS_FOR_EYES

MAX_NEIGHBOURS = 4
MAX_VIEWS = 12
MAX_TWINS = 6
MAX_TWIN_SETS = 12
MAX_LOOSE_TWINS = 24
AUDIT = "random_audit"
UNUSABLE_SOURCE = "unusable"


def suspects_of(queue: pa.Table | None, names: Sequence[str], top: int) -> tuple[Suspect, ...]:
    """Return the samples of the gallery.

    Args:
        queue: Table `review_queue`, by rank, or None.
        names: The K class names.
        top: Most samples.

    Returns:
        At most ``top`` suspects by rank. Neighbours have no given class yet (`""`).
    """
    if queue is None:
        return ()
    queue = queue.filter(
        pc.not_equal(queue.column("queue_source"), UNUSABLE_SOURCE)
    )  # they have a section of their own
    if not queue.num_rows:
        return ()
    given = index_in(queue.column("given_label"), names)
    predicted = index_in(queue.column("predicted_label"), names)
    is_audit = np.asarray(pc.equal(queue.column("queue_source"), AUDIT).to_numpy())
    is_waiting = np.array([WAITS_FOR_EYES in reasons for reasons in queue.column("reasons").to_pylist()], dtype=bool)
    chosen = gallery_rows(given, predicted, is_audit, top, is_waiting)
    runner_up = index_in(queue.column("runner_up_label"), names)
    rows = queue.take(pa.array(chosen)).to_pylist()
    suspects = []
    for at, row in zip(chosen.tolist(), rows, strict=True):
        blind = bool(is_audit[at])
        suspects.append(
            Suspect(
                rank=row["rank"],
                sample_id=row["sample_id"],
                image_path=row.get("image_path"),
                given=int(given[at]),
                predicted=None if blind else int(predicted[at]),
                runner_up=None if blind else int(runner_up[at]),
                score=None if blind else row["label_score"],
                reasons=() if blind else tuple(row["reasons"]),
                source=row["queue_source"],
                neighbours=()
                if blind
                else tuple(Neighbour(sample, "") for sample in row["neighbour_ids"][:MAX_NEIGHBOURS]),
                cost=None if blind else row.get("cost_saved"),
                views=tuple(row.get("view_ids") or ())[:MAX_VIEWS],
            )
        )
    return tuple(suspects)


def gallery_rows(
    given: IntegerArray,
    predicted: IntegerArray,
    is_audit: npt.NDArray[np.bool_],
    top: int,
    is_waiting: npt.NDArray[np.bool_] | None = None,
) -> IntegerArray:
    """Return which places of the queue the gallery shows.

    The first places, but every frequent difference between given and suggested class, and every class
    with labels that wait for eyes, keeps its first example: a third of the places is reserved for that.

    Args:
        given: Given class of each place, shape (Q,).
        predicted: Suggested class, shape (Q,).
        is_audit: Places shown without a suggestion, shape (Q,).
        top: Most places.
        is_waiting: Places that wait for eyes, shape (Q,); default: none.

    Returns:
        Rows of the queue, rising.

    Examples:
        >>> gallery_rows(np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0]), np.zeros(4, dtype=bool), 3)
        array([0, 1, 3])
    """
    rows = np.arange(len(given))
    if len(rows) <= top:
        return rows
    is_example = (given != predicted) if is_waiting is None else (given != predicted) | is_waiting
    moved = np.flatnonzero(is_example & ~is_audit)
    codes = given[moved].astype(np.int64) * (int(max(given.max(), predicted.max())) + 1) + predicted[moved]
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    examples = moved[first[np.lexsort((first, -counts))]]
    droppable_rows = [int(row) for row in examples if row >= top][: top // 3]
    has_example = np.isin(rows, examples)
    # examples that the first places hold anyway stay; the last others make room
    droppable = rows[:top][~has_example[:top]][::-1][: len(droppable_rows)]
    droppable_rows = droppable_rows[: len(droppable)]
    return np.sort(np.concatenate([np.setdiff1d(rows[:top], droppable), np.array(droppable_rows, dtype=np.int64)]))


def audit_samples(queue: pa.Table | None) -> frozenset[str]:
    """Return the samples that are looked at without a suggestion, wherever the report shows them.

    Args:
        queue: Table `review_queue`, or None.

    Returns:
        Their ids.
    """
    if queue is None:
        return frozenset()
    return frozenset(queue.filter(pc.equal(queue.column("queue_source"), AUDIT)).column("sample_id").to_pylist())


def twins_of(twins: Twins, names: Sequence[str], blind: Collection[str] = ()) -> TwinSets:
    """Return near-copies whose labels differ.

    Args:
        twins: Samples flagged `conflict_group`.
        names: The K class names.
        blind: Samples shown without a suggestion.

    Returns:
        The first 12 sets, that with the most doubtful label first; or the 24 most doubtful samples one by one, where the
        sets were not kept.
    """

    def member(row: int) -> Neighbour:
        given, predicted = int(twins.given[row]), int(twins.predicted[row])
        is_shown = predicted != given and twins.sample_ids[row] not in blind
        suggestion = names[predicted] if is_shown else None
        return Neighbour(twins.sample_ids[row], names[given], suggestion)

    if twins.duplicate_set is None:
        order = np.argsort(twins.scores, kind="stable")
        return TwinSets(loose=tuple(member(int(row)) for row in order[:MAX_LOOSE_TWINS]), num=len(twins.sample_ids))
    sets: dict[int, list[int]] = {}
    for row, number in enumerate(twins.duplicate_set.tolist()):
        sets.setdefault(number, []).append(row)
    doubtful = sorted(sets.values(), key=lambda members: (float(twins.scores[members].min()), members[0]))
    chosen = [
        (_every_label_first(members, twins.given)[:MAX_TWINS], len(members)) for members in doubtful[:MAX_TWIN_SETS]
    ]
    shown = tuple(TwinSet(tuple(member(row) for row in rows), num) for rows, num in chosen)
    return TwinSets(shown, len(sets), num=len(twins.sample_ids))


def leak_sets_of(leaks: Sequence[Leak]) -> tuple[LeakSet, ...]:
    """Return near-copies and pictures of one part that stand in several splits.

    Args:
        leaks: Samples of such sets.

    Returns:
        The sets in their order, of each the first 6 samples, every split first.
    """
    sets: dict[int, list[Leak]] = {}
    for leak in leaks:
        sets.setdefault(leak.leak_set, []).append(leak)
    cards = []
    for _, members in sorted(sets.items()):
        first = {leak.split: leak for leak in reversed(members)}.values()
        others = [leak for leak in members if leak not in first]
        cards.append(LeakSet((*sorted(first, key=lambda leak: leak.split), *others)[:MAX_TWINS], len(members)))
    return tuple(cards)


def _every_label_first(rows: list[int], given: IntegerArray) -> list[int]:
    """The first row of each given class, then the others."""
    labels = given[rows].tolist()
    first = [labels.index(label) == k for k, label in enumerate(labels)]
    return [row for row, is_first in sorted(zip(rows, first, strict=True), key=lambda pair: not pair[1])]


def wanted_pictures(page: Page) -> dict[str, frozenset[int]]:
    """Return which thumbnails a page needs.

    Args:
        page: The page.

    Returns:
        Longest sides in pixels by sample id.
    """
    wanted: dict[str, frozenset[int]] = {}
    beside = [neighbour for suspect in page.suspects for neighbour in suspect.neighbours]
    twins = [twin for twins in page.twins.sets for twin in twins.members]
    leaks = [leak.sample_id for leaks in page.leak_sets for leak in leaks.members]
    told = [sample for shortcut in page.shortcuts for one in shortcut["examples"] for sample in one["sample_ids"]]
    odd = [one["sample_id"] for one in (page.unusable or {}).get("examples", ())]
    kinds = [sample for kind in page.new_kinds for sample in kind["sample_ids"]]
    twice = [double for doubles in page.doubles.sets for double in doubles.members]
    others = [other.sample_id for other in (*beside, *twins, *twice, *page.twins.loose)]
    views = [sample for suspect in page.suspects for sample in suspect.views]
    for sample in (*others, *leaks, *told, *odd, *kinds, *views):
        wanted[sample] = frozenset({SMALL_PX})
    for suspect in page.suspects:
        wanted[suspect.sample_id] = wanted.get(suspect.sample_id, frozenset()) | {LARGE_PX}
    return wanted


def with_given_labels(page: Page, given: Mapping[str, str]) -> Page:
    """Return the page with the given class of every neighbour.

    Args:
        page: The page.
        given: Given class by sample id.

    Returns:
        The page; neighbours that the run did not judge are left out.
    """
    suspects = tuple(
        replace(
            suspect,
            neighbours=tuple(
                replace(neighbour, given=given[neighbour.sample_id])
                for neighbour in suspect.neighbours
                if neighbour.sample_id in given
            ),
        )
        for suspect in page.suspects
    )
    return replace(page, suspects=suspects)
