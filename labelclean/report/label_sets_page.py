"""The report of a run whose images have several labels each: one HTML file in the report's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from labelclean.noise.promise import Promise, promise_of
from labelclean.report import html, plots
from labelclean.report.content import how_it_was_done
from labelclean.report.gallery import AUDIT, MAX_NEIGHBOURS
from labelclean.report.origin import facets_of
from labelclean.report.page import LARGE_PX, SMALL_PX, Count
from labelclean.report.source import first_rejects
from labelclean.review.facets import Facet
from labelclean.review.pictures import ImagePlace, Picture, Pictures
from labelclean.storage.parquet import read_table
from labelclean.storage.tables import REFINED
from labelclean.texts import Texts, amount, percent, time_words

_WORST_FIRST = ("refuse", "warn", "pass")


@dataclass(frozen=True)
class SetSuspect:
    """One place of the review queue; audit samples carry no suggestion, score or neighbour.

    Attributes:
        given: Labels as given.
        missing: Classes that may be missing.
        spurious: Labels that may be too many.
        predicted: The labels that we would give.
        score: Least probability that what was given of a class is right.
        neighbours: Similar images.
    """

    rank: int
    sample_id: str
    image_path: str | None
    given: tuple[str, ...]
    missing: tuple[str, ...]
    spurious: tuple[str, ...]
    predicted: tuple[str, ...]
    score: float
    source: str
    neighbours: tuple[str, ...]

    @property
    def is_blind(self) -> bool:
        """It is judged without a suggestion."""
        return self.source == AUDIT

    @property
    def mark(self) -> str:
        """What we make of it: `change`, `waits` for eyes, `keep`, or `blind`."""
        if self.is_blind:
            return "blind"
        if set(self.predicted) != set(self.given):
            return "change"
        return "waits" if self.missing or self.spurious else "keep"


@dataclass(frozen=True)
class SetPage:
    """All that the report of several labels shows.

    Attributes:
        dataset: The data set.
        summary: `summary.json`.
        errors: Expected wrong labels; None where nothing was judged.
        promise: What applying the predicted labels brings; None likewise.
        num_queue: Places in the review queue.
        suspects: The gallery, in the order of the queue.
        facets: Where wrong labels come from.
        rejects: First rejected images.
        how: What is needed to repeat the run.
    """

    dataset: str
    summary: Mapping[str, Any]
    errors: Count | None
    promise: Promise | None
    num_queue: int
    suspects: tuple[SetSuspect, ...]
    facets: tuple[Facet, ...]
    rejects: tuple[Mapping[str, Any], ...]
    how: tuple[tuple[str, str, Any], ...]

    @property
    def gates(self) -> list[Mapping[str, Any]]:
        """Findings, worst first."""
        return sorted(self.summary["gates"], key=lambda gate: _WORST_FIRST.index(gate["outcome"]))

    @property
    def num_rejects(self) -> int:
        """Images that could not be used."""
        return int(self.summary["num_rejects"])

    @property
    def num_usable(self) -> int:
        """Images that could."""
        return int(self.summary["num_samples"]) - self.num_rejects

    @property
    def reject_codes(self) -> Mapping[str, int]:
        """Rejected images by cause, most frequent first."""
        return dict(sorted(self.summary["rejects"].items(), key=lambda row: (-row[1], row[0])))

    @property
    def largest_class(self) -> int:
        """Images with the most frequent class, now or after cleaning; at least 1."""
        rows = (self.summary.get("label_issues") or {}).get("by_class", ())
        sizes = [(int(row["num_samples"]), int(row["num_samples"] - row["lost"] + row["gained"])) for row in rows]
        return max((max(both) for both in sizes), default=1) or 1

    @property
    def method(self) -> str | None:
        """Refinement used; None where nothing was judged or classes differ in it."""
        method = (self.summary.get("refinement") or {}).get("method")
        return None if method == "per_class" else method

    @property
    def requested(self) -> str | None:
        """Refinement asked for."""
        return (self.summary.get("refinement") or {}).get("requested")


def set_page(folder: Path, summary: Mapping[str, Any], facts: Mapping[str, Any], top: int, spill: Path) -> SetPage:
    """Return what the report shows of a run of several labels.

    Args:
        folder: The run folder.
        summary: Its `summary.json`.
        facts: Its manifest, or a part of it.
        top: Most samples shown with their pictures.
        spill: Folder for what does not fit into memory.

    Returns:
        The page.
    """
    found, path = summary.get("label_issues"), folder / "review_queue.parquet"
    queue = read_table(path, "review_queue") if found and path.is_file() else None
    return SetPage(
        dataset=str(facts.get("dataset") or ""),
        summary=summary,
        errors=Count(found["expected"], found["low"], found["high"]) if found else None,
        promise=promise_of(summary),
        num_queue=0 if queue is None else queue.num_rows,
        suspects=() if queue is None else _suspects(queue.slice(0, top)),
        facets=facets_of(folder / f"{REFINED}.parquet", facts, summary["class_names"], spill) if found else (),
        rejects=tuple(first_rejects(folder / "rejects.parquet")),
        how=how_it_was_done(facts, None),
    )


def wanted_set_pictures(page: SetPage) -> dict[str, frozenset[int]]:
    """Return which thumbnails a page needs: longest sides in pixels by sample id."""
    wanted: dict[str, frozenset[int]] = {}
    for suspect in page.suspects:
        for sample in suspect.neighbours:
            wanted[sample] = wanted.get(sample, frozenset()) | {SMALL_PX}
        wanted[suspect.sample_id] = wanted.get(suspect.sample_id, frozenset()) | {LARGE_PX}
    return wanted


def fewer_suspects(page: SetPage, num: int) -> SetPage:
    """Return the page with the first suspects only."""
    return replace(page, suspects=page.suspects[:num])


def render_set_page(
    page: SetPage, pictures: Pictures, places: Mapping[str, ImagePlace], texts: Texts, *, shrunk_to: str | None = None
) -> str:
    """Return the report as HTML.

    Args:
        page: What it shows.
        pictures: Thumbnails by sample id and size.
        places: Where images lie, and their labels, by sample id.
        texts: The language.
        shrunk_to: The size limit in words, where it keeps samples out.

    Returns:
        The whole file.
    """
    style, script = html.resource("page.css"), html.resource("page.js")

    def picture(sample_id: str, px: int) -> Picture:
        return pictures.get((sample_id, px), Picture())

    return (
        html.environment(texts.lang)
        .get_template("label_sets.html.j2")
        .render(
            page=page,
            t=texts,
            plots=plots,
            picture=picture,
            labels_of=lambda sample: set_words(places[sample].given_labels or (), texts) if sample in places else "",
            words=lambda names: set_words(names, texts),
            large=LARGE_PX,
            small=SMALL_PX,
            style=Markup(style),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704
            policy=html.policy(style, script),
            shrunk_to=shrunk_to,
            measured=html.gate_number,
            at_least=html.AT_LEAST,
            finding=lambda gate: html.finding_sentence(gate, texts),
            safe=_checks_sentence(page, texts),
            verdict=set_verdict(page, texts),
            promise=None if page.promise is None else html.promise_sentence(page.promise, texts, group="sets.promise"),
        )
    )


def set_words(names: Sequence[str], texts: Texts) -> str:
    """Return a set of labels in words; the empty one too."""
    return texts("page.comma").join(names) if names else texts("sets.none")


def set_verdict(page: SetPage, texts: Texts) -> tuple[str, str]:
    """Return the verdict and what to do next, one sentence each.

    Args:
        page: The page.
        texts: The language.

    Returns:
        Two sentences.
    """
    found, usable = page.summary.get("label_issues"), page.num_usable
    if found is None or page.errors is None:
        if page.summary["num_samples"] and not usable:
            return texts("verdict.no_images", n=page.summary["num_samples"]), texts("verdict.next_rejects")
        if cause := (page.summary.get("refinement") or {}).get("cause"):
            return texts("sets.nothing_tells"), texts(
                "sets.next_chance" if cause == "chance" else f"verdict.next_{cause}"
            )
        return texts("verdict.refused"), texts("verdict.next_refused")
    if page.summary["verdict"] == "too_many_rejects":
        numbers = {"n": page.num_rejects, "samples": page.summary["num_samples"]}
        share = percent(page.num_rejects / max(page.summary["num_samples"], 1))
        return texts("verdict.too_many_rejects", share=share, **numbers), texts("verdict.next_rejects")
    numbers = {"n": found["num"], "usable": usable, "missing": found["missing"], "spurious": found["spurious"]}
    interval = {name: amount(getattr(page.errors, name)) for name in ("expected", "low", "high")}
    key = "sets.found" if found["num"] else "sets.none_found"
    sentence = texts(key, share=percent(found["num"] / max(usable, 1)), **numbers, **interval)
    queue = page.summary.get("queue")
    if not queue or not queue["num"]:
        return sentence, texts("verdict.next_nothing")
    ends = {name: amount(queue[name]) for name in ("expected", "low", "high")}
    return sentence, texts("sets.next_queue", n=queue["num"], time=time_words(queue["minutes"] / 60, texts), **ends)


# --- inside ---------------------------------------------------------------------------------------


def _suspects(queue: pa.Table) -> tuple[SetSuspect, ...]:
    suspects = []
    for row in queue.to_pylist():
        is_blind = row["queue_source"] == AUDIT
        suspects.append(
            SetSuspect(
                rank=row["rank"],
                sample_id=row["sample_id"],
                image_path=row.get("image_path"),
                given=tuple(row["given_labels"]),
                missing=() if is_blind else tuple(row["missing_labels"]),
                spurious=() if is_blind else tuple(row["spurious_labels"]),
                predicted=() if is_blind else tuple(row["predicted_labels"]),
                score=0.0 if is_blind else row["label_score"],
                source=row["queue_source"],
                neighbours=() if is_blind else tuple(row["neighbour_ids"][:MAX_NEIGHBOURS]),
            )
        )
    return tuple(suspects)


def _checks_sentence(page: SetPage, texts: Texts) -> str:
    """Whether the labels were judged, and how."""
    if page.errors is None:
        return texts("gates.not_cleaned")
    if page.method:
        return texts("gates.cleaned", method=texts(f"methods.{page.method}"))
    return texts("sets.cleaned_per_class")
