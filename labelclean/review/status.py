"""How a run's estimate held against what people decided, and whether going on is worth it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import BoolArray, IntArray
from labelclean.noise.promise import RANDOM_LOOKS, Promise, WrongShare, looks_sentence, promise_of, wrong_share
from labelclean.noise.scores import RandomLooks
from labelclean.review.decisions import VERIFYING, Decision, is_audit_answer, standing_decisions
from labelclean.review.facets import wilson_interval
from labelclean.review.part_queue import COST_SAVED
from labelclean.review.part_views import OF_PART, num_judged
from labelclean.review.queue import CERTAIN, Z_90, Doubt, estimate_queue
from labelclean.storage.label_sets import GIVEN, set_text, texts_of_sets
from labelclean.storage.parquet import read_json, read_table
from labelclean.storage.run_folders import MANIFEST
from labelclean.storage.tables import class_names_of
from labelclean.texts import amount

NEXT = 50
LEAST_GAPS = 10
LONGEST_GAP_S = 300


@dataclass(frozen=True)
class ReviewStatus:
    """A queue as far as people have come.

    Attributes:
        run_id: The run.
        num_queue: Samples in its queue.
        num_reviewed: Of these, settled by people.
        expected_wrong: Wrong labels that the scores promised among the reviewed suspects.
        low: Lower end of the promise's 90 % interval.
        high: Upper end.
        found_wrong: Wrong labels that people found among them.
        num_audited: Audit samples reviewed; they were drawn at random from all unsettled samples and shown blind.
        audited_wrong: Wrong labels found among these.
        num_audited_outside: Audit samples reviewed that are not flagged: a random sample of all that are not.
        missed_wrong: Wrong labels found among these.
        missed_share: Share of wrong labels among all that are not flagged, by the audit, or None without one.
        missed_high: Upper end of its 90 % interval (Wilson).
        num_outside: Samples that are neither settled before the run nor flagged by it.
        num_audit_answers: Samples of the data set whose audit answers the ledger holds, of whatever run.
        next_wrong: Wrong labels to be expected among the next 50 suspects, fewer if there are fewer.
        num_next: How many these are.
        num_waiting: Samples of the queue that nobody has settled.
        seconds_per_sample: How long one sample takes: measured where people's answers carry times, else as configured.
        is_pace_measured: Whether it was measured.
        wrong: Share of wrong labels among all that were unsettled, by run and looks, and what 30 more random looks would
            tell of it; None where the run is too old to say.
        promise: What the run says of its predicted labels; None where it is too old to.
        hour_saves: Cost that a further hour of looking is expected to save; None without costs.
        num_hour: Samples that come in that hour, fewer where fewer wait.
        is_set: Images may have several labels: those with any wrong label are counted.
    """

    run_id: str
    num_queue: int
    num_reviewed: int
    expected_wrong: float
    low: float
    high: float
    found_wrong: int
    num_audited: int
    audited_wrong: int
    num_audited_outside: int
    missed_wrong: int
    missed_share: float | None
    missed_high: float | None
    num_outside: int
    num_audit_answers: int
    next_wrong: float
    num_next: int
    num_waiting: int
    seconds_per_sample: float
    is_pace_measured: bool
    wrong: WrongShare | None = None
    promise: Promise | None = None
    hour_saves: float | None = None
    num_hour: int = 0
    is_set: bool = False

    def sentences(self) -> list[str]:
        """Return the status for people."""
        wrong = "images with a wrong label" if self.is_set else "wrong labels"
        lines = [f"run {self.run_id}: {self.num_reviewed:,} of {self.num_queue:,} samples of the queue are reviewed."]
        if self.num_reviewed - self.num_audited:
            held = "it held" if self.low <= self.found_wrong <= self.high else "it did not hold"
            lines.append(
                f"suspects: {self.expected_wrong:,.0f} {wrong} were expected among the reviewed "
                f"({self.low:,.0f} to {self.high:,.0f}), {self.found_wrong:,} were found: {held}."
            )
        if self.num_audited:
            lines.append(
                f"audit: {self.audited_wrong:,} of {self.num_audited:,} random samples were wrong, about "
                f"{self.audited_wrong / self.num_audited:.0%} (at most "
                f"{wilson_interval(self.audited_wrong, self.num_audited, Z_90)[1]:.0%}) of all that were unsettled."
            )
        if self.missed_share is not None and self.missed_high is not None:
            lines.append(
                f"missed: of the {self.num_audited_outside:,} random samples that are not flagged {self.missed_wrong:,} were "
                f"wrong, so about {self.missed_share * self.num_outside:,.0f} (at most "
                f"{self.missed_high * self.num_outside:,.0f}) {wrong} stand among the {self.num_outside:,} that are "
                "not flagged."
            )
        lines.append(f"ledger: {self.num_audit_answers:,} samples of this data set have an audit answer.")
        lines += self._looks()
        if self.num_next:
            rate = self.next_wrong / self.num_next
            worth = (
                "worth it"
                if rate > max(2 * (self.missed_share or 0.0), 0.1)
                else "hardly better than looking at random"
            )
            lines.append(
                f"next: the next {self.num_next:,} suspects should bring about {self.next_wrong:,.0f} {wrong} in about "
                f"{self._minutes(self.num_next)}; going on is {worth}."
            )
            source = "measured" if self.is_pace_measured else "review.seconds_per_sample"
            lines.append(
                f"time: {self.num_waiting:,} samples wait, about {self._minutes(self.num_waiting)} "
                f"at {self.seconds_per_sample:,.0f} s each ({source})."
            )
            lines += self._cost()
        else:
            lines.append("next: the queue is done; run again, so that the next queue starts from these decisions.")
        return lines

    def _looks(self) -> list[str]:
        """What more random looks would bring, and whether changes wait for them."""
        lines = []
        if self.wrong is not None and self.wrong.num_more:
            lines.append(f"looks: {looks_sentence(self.wrong, self.promise)}")
        promise = self.promise
        if promise is not None and promise.kind == "unseen":
            looked = promise.num_looks + self.num_audited
            if looked >= promise.num_wanted:
                lines.append("changes: they wait for a run that knows these looks; run again.")
            else:
                lines.append(
                    f"changes: they wait for {promise.num_wanted - looked:,} more random looks ({looked:,} of "
                    f"{promise.num_wanted:,} are there); until then labels may get worse when they are applied."
                )
        return lines

    def _cost(self) -> list[str]:
        """What the next hour saves, or what all that waits saves where it takes less."""
        if self.hour_saves is None:
            return []
        is_less = self.num_hour == self.num_waiting
        what = f"looking at all that wait, {self._minutes(self.num_hour)}," if is_less else "a further hour of looking"
        return [f"cost: {what} is expected to save about {amount(self.hour_saves)} ({self.num_hour:,} samples)."]

    def _minutes(self, num: int) -> str:
        return f"{max(num * self.seconds_per_sample / 60, 1):,.0f} min"


def measure_status(
    run_folder: Path, decisions: Sequence[Decision], *, seconds_per_sample: float = 10.0
) -> ReviewStatus:
    """Return how far a run's queue is reviewed and how its promise held.

    Args:
        run_folder: A published run with a queue.
        decisions: The ledger's decisions on its data set.
        seconds_per_sample: How long one sample takes where the decisions cannot tell.

    Returns:
        The status.

    Raises:
        StorageError: If the run has no queue or is not whole.
    """
    queue = read_table(run_folder / "review_queue.parquet", "review_queue")
    refined = read_table(run_folder / "refined_labels.parquet", "refined_labels", ["sample_id", "is_label_issue"])
    run_id = str(read_json(run_folder / MANIFEST)["run_id"])
    answers = _answers(queue, decisions)
    scores = np.asarray(queue.column("label_score").to_numpy(), dtype=np.float64)
    is_blind = np.array([source == "random_audit" for source in queue.column("queue_source").to_pylist()], dtype=bool)
    is_known = np.array([answer is not None for answer in answers], dtype=bool)
    is_done = is_known | _are_taken_out(queue, decisions)
    is_wrong = np.array([answer is True for answer in answers], dtype=bool)
    suspects = np.flatnonzero(is_known & ~is_blind)
    summary = _summary(run_folder)
    num_flagged = pc.sum(refined.column("is_label_issue")).as_py() or 0
    if OF_PART in summary:
        num_flagged = summary["num_label_issues"]
    promise = estimate_queue(scores, suspects, np.zeros(len(scores), dtype=bool), _doubt(summary))
    drawn, num_unsettled = _drawn(queue, refined.num_rows)
    audited = drawn[is_known[drawn]]
    outside = audited[~_is_flagged(refined, queue.column("sample_id").take(pa.array(audited)))]
    missed_wrong = int(is_wrong[outside].sum())
    upcoming = np.flatnonzero(~is_done & ~is_blind)[:NEXT]
    pace = seconds_between([one for one in decisions if one.run_id == run_id])
    hour = np.flatnonzero(~is_done)[: max(int(3600 / (pace or seconds_per_sample)), 1)]
    has_costs = COST_SAVED in queue.column_names
    return ReviewStatus(
        run_id=run_id,
        num_queue=queue.num_rows,
        num_reviewed=int(is_done.sum()),
        expected_wrong=promise.expected_errors,
        low=math.floor(promise.low),
        high=math.ceil(promise.high),
        found_wrong=int(is_wrong[suspects].sum()),
        num_audited=len(audited),
        audited_wrong=int(is_wrong[audited].sum()),
        num_audited_outside=len(outside),
        missed_wrong=missed_wrong,
        missed_share=missed_wrong / len(outside) if len(outside) else None,
        missed_high=wilson_interval(missed_wrong, len(outside), Z_90)[1] if len(outside) else None,
        num_outside=max(num_unsettled - num_flagged, 0),
        num_audit_answers=len({one.sample_id for one in decisions if is_audit_answer(one)}),
        next_wrong=float((1 - scores[upcoming]).sum()),
        num_next=len(upcoming),
        num_waiting=int((~is_done).sum()),
        seconds_per_sample=round(pace or seconds_per_sample, 1),
        is_pace_measured=pace is not None,
        wrong=_wrong_share(summary, RandomLooks(len(audited), int(is_wrong[audited].sum())), num_unsettled),
        promise=promise_of(summary),
        hour_saves=float(np.sum(queue.column(COST_SAVED).to_numpy()[hour], dtype=np.float64)) if has_costs else None,
        num_hour=len(hour),
        is_set=GIVEN in queue.column_names,
    )


def seconds_between(decisions: Sequence[Decision]) -> float | None:
    """Return how long a person takes for one sample: the median gap between an annotator's answers.

    Gaps of more than five minutes are pauses. Answers without times of their own do not count.

    Args:
        decisions: Decisions on one run.

    Returns:
        Seconds; None with fewer than 10 gaps.
    """
    times: dict[str, list[float]] = {}
    for one in decisions:
        if not one.file_digest:
            times.setdefault(one.annotator_id, []).append(one.reviewed_at.timestamp())
    gaps = np.concatenate([np.diff(np.unique(of_one)) for of_one in times.values()] or [np.zeros(0)])
    gaps = gaps[gaps <= LONGEST_GAP_S]
    return float(np.median(gaps)) if len(gaps) >= LEAST_GAPS else None


def _summary(run_folder: Path) -> Mapping[str, Any]:
    """What the run itself said; nothing if it is too old to."""
    path = run_folder / "summary.json"
    return read_json(path) if path.is_file() else {}


def _doubt(summary: Mapping[str, Any]) -> Doubt:
    """What the run said of its scores as a whole; nothing if it is too old to."""
    record = summary.get("queue") or {}
    return Doubt(**record["doubt"]) if "doubt" in record else CERTAIN


def _wrong_share(summary: Mapping[str, Any], audit: RandomLooks, num_unsettled: int) -> WrongShare | None:
    """The share of wrong labels by what the run said, the looks it knew, and those since; None if it is too old to say."""
    found, beliefs = summary.get("label_issues"), (summary.get("refinement") or {}).get("beliefs")
    if not found or not beliefs:
        return None
    of_part, reviewed = summary.get(OF_PART), summary.get("reviewed") or {}
    num_open = num_judged(summary) - (of_part["num_settled"] if of_part else reviewed.get("settled", 0))
    expected, low, high = (min(found[name] / max(num_open, 1), 1.0) for name in ("expected", "low", "high"))
    looked = RandomLooks(beliefs["num_audited"] + audit.num_samples, beliefs["num_audited_wrong"] + audit.num_wrong)
    num_more = min(RANDOM_LOOKS, max(num_unsettled - int(audit.num_samples), 0))
    return wrong_share(expected, (low, high), looked, num_more)


def _drawn(queue: pa.Table, num_samples: int) -> tuple[IntArray, int]:
    """Places that were drawn at random from all unsettled samples, and how many these were.

    Runs of older versions drew from what their ranking left over; those samples stand for nothing but it.
    """
    if "inclusion_probability" not in queue.column_names:
        return np.empty(0, dtype=np.int64), num_samples
    drawn = np.flatnonzero(queue.column("inclusion_probability").is_valid().to_numpy())
    if not len(drawn):
        return drawn, num_samples
    return drawn, round(len(drawn) / queue.column("inclusion_probability")[int(drawn[0])].as_py())


def _is_flagged(refined: pa.Table, ids: pa.ChunkedArray) -> BoolArray:
    """Whether each of some samples is flagged."""
    flagged = refined.filter(pc.and_(refined.column("is_label_issue"), pc.is_in(refined.column("sample_id"), ids)))
    return np.asarray(pc.is_in(ids, flagged.column("sample_id")).to_numpy(), dtype=bool)


def _answers(queue: pa.Table, decisions: Sequence[Decision]) -> list[bool | None]:
    """Whether each place's given label was found wrong, None where nobody has settled it."""
    ids, hashes = (queue.column(name).to_pylist() for name in ("sample_id", "content_hash"))
    is_set = GIVEN in queue.column_names
    names = class_names_of(queue)
    given = texts_of_sets(queue.column(GIVEN), names) if is_set else queue.column("given_label").to_pylist()
    answers: list[bool | None] = []
    for standing, label in zip(standing_decisions(decisions, ids, hashes, given), given, strict=True):
        settled = [one for one in standing if one.decision in (*VERIFYING, "none_of_these")]
        wrong = sum(one.decision == "none_of_these" or _right(one, names) != label for one in settled)
        answers.append(wrong * 2 > len(settled) if settled else None)
    return answers


def _are_taken_out(queue: pa.Table, decisions: Sequence[Decision]) -> BoolArray:
    """Places whose image somebody calls bad: they are looked at, and tell nothing of labels."""
    bad = {(one.sample_id, one.content_hash) for one in decisions if one.decision == "bad_image"}
    ids, hashes = (queue.column(name).to_pylist() for name in ("sample_id", "content_hash"))
    return np.array([pair in bad for pair in zip(ids, hashes, strict=True)], dtype=bool)


def _right(decision: Decision, class_names: Sequence[str]) -> str | None:
    """The label that was found right; of several, all of them in one text."""
    if decision.verified_labels is None:
        return decision.verified_label
    return set_text(decision.verified_labels, class_names)
