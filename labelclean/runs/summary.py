"""What a run found, for machines (`summary.json`), for the terminal and for the flow's artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from labelclean.noise.promise import Promise, looks_wanted, promise_of
from labelclean.review.kinds import kind_sentences
from labelclean.review.opinions import inspector_sentences
from labelclean.review.part_views import OF_PART, num_judged
from labelclean.runs.arrivals import arrival_sentences
from labelclean.runs.costs import cost_sentences
from labelclean.runs.drift_report import drift_sentences
from labelclean.runs.label_set_rules import SEVERAL
from labelclean.runs.sentences import (
    found_sentence,
    found_sets_sentence,
    one_class_sentence,
    promise_sentence,
    queue_words,
)
from labelclean.texts import printable

if TYPE_CHECKING:
    from rich.console import Console

    from labelclean.runs.run import PublishedRun

_HEADINGS_OF_SETS = ("given", "may be missing", "may be too many", "would join", "would leave")
_HEADINGS = ("samples", "worth a look", "would change", "wait for eyes", "would join")


def build_summary(parts: dict[str, Any], *, rejects_limit: float, audit_samples: int) -> dict[str, Any]:
    """Return the summary of a run from what its steps recorded.

    Args:
        parts: Record of each step that ran, by step name.
        rejects_limit: `rejects.max_share`.
        audit_samples: `review.audit_samples`.

    Returns:
        JSON values; nothing in it depends on time or place.
    """
    ingest, extract = parts.get("ingest", {}), parts.get("extract", {})
    refine = parts.get("refine", {})
    num_rejects = sum(extract.get("rejects", {}).values())
    reject_share = num_rejects / max(ingest.get("num_samples", 0), 1)
    findings = [finding for part in parts.values() for finding in part.get("findings", [])]
    stopped = next((part["stopped"] for part in parts.values() if "stopped" in part), None)
    wanted = min(looks_wanted(audit_samples), max(ingest.get("num_samples", 0) - num_rejects, 0))
    summary = {
        "num_samples": ingest.get("num_samples", 0),
        "num_rejects": num_rejects,
        "num_label_issues": refine.get("num_label_issues"),
        "class_names": ingest.get("class_names", []),
        "rejects": extract.get("rejects", {}),
        "label_issues": refine.get("label_issues"),
        "gain": refine["gain"] | {"num_wanted": wanted} if "gain" in refine else None,
        "refinement": refine.get("refinement"),
        "teacher": refine.get("teacher"),
        "gates": findings,
        "reviewed": refine.get("reviewed"),
        "inspectors": refine.get("inspectors"),
        "queue": refine.get("queue"),
        "arrivals": ingest.get("arrivals"),
        "reference": refine.get("reference"),
        "leaks": refine.get("leaks"),
        "unusable": refine.get("unusable"),
        "shortcuts": refine.get("shortcuts"),
        "chosen_on": refine.get("chosen_on"),
    }
    summary |= {
        name: refine[name] for name in ("costs", "new_kinds", "part_conflicts", "one_class", OF_PART) if name in refine
    }
    if ingest.get(SEVERAL):
        summary[SEVERAL] = True
    verdict, sentence = _verdict(summary, stopped, reject_share, rejects_limit)
    return {"verdict": verdict, "verdict_sentence": sentence} | summary


def _verdict(
    summary: dict[str, Any], stopped: str | None, reject_share: float, rejects_limit: float
) -> tuple[str, str]:
    """One word and one sentence."""
    if stopped is not None:
        return "refused", stopped
    if reject_share > rejects_limit:
        worst = ", ".join(f"{code} ({count:,})" for code, count in summary["rejects"].items())
        return "too_many_rejects", (
            f"{summary['num_rejects']:,} of {summary['num_samples']:,} images ({reject_share:.1%}) could not be used, more "
            f"than rejects.max_share = {rejects_limit:g}: {worst}; rejects.parquet names each, everything else is kept."
        )
    num_usable = num_judged(summary)
    if "one_class" in summary:
        return "done", one_class_sentence(summary["one_class"], num_usable)
    worded = found_sets_sentence if summary.get(SEVERAL) else found_sentence
    sentence = worded(summary["label_issues"], num_usable)
    fell_back = summary["refinement"]["requested"] not in ("auto", summary["refinement"]["method"])
    return ("fell_back" if fell_back else "done"), sentence


def markdown_summary(published: PublishedRun) -> str:
    """Return the summary as Markdown, for the flow's artifact.

    Args:
        published: A published run.

    Returns:
        Markdown text.
    """
    summary = published.summary
    lines = [f"## {published.manifest['dataset']}: {summary['verdict_sentence']}", "", f"`{published.folder}`", ""]
    headings, cells, promised = _words_of(summary)
    if promise := promise_of(summary):
        lines += [_capital(promised(promise)), ""]
    if summary["label_issues"]:
        lines += [f"| class | {' | '.join(headings)} |", "|---|---:|---:|---:|---:|---:|"]
        lines += [f"| {row['class_name']} | {' | '.join(cells(row))} |" for row in summary["label_issues"]["by_class"]]
        lines += ["", f"Refinement: `{summary['refinement']['method']}`: {summary['refinement']['why']}"]
    lines += ["", *(f"- {sentence}" for sentence in _factory_sentences(summary))]
    lines += [f"- {sentence}" for sentence in arrival_sentences(summary.get("arrivals"))]
    lines += [f"- {sentence}" for sentence in drift_sentences(summary.get("reference"))]
    lines += [f"- {sentence}" for sentence in unusable_sentences(summary.get("unusable"))]
    lines += ["", *(f"- {_gate_line(gate)}" for gate in summary["gates"])]
    lines += [f"- {sentence}" for sentence in inspector_sentences(summary["inspectors"])]
    return "\n".join(lines) + "\n"


def _factory_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Escapes and overkill with their costs, kinds that no class fits, and parts whose labels contradict each other."""
    sentences = [
        *_part_sentences(summary.get(OF_PART)),
        *cost_sentences(summary),
        *kind_sentences(summary.get("new_kinds") or ()),
    ]
    parts = summary.get("part_conflicts") or {"num": 0}
    if parts["num"]:
        sentences.append(
            f"parts: {parts['num']:,} images of {parts['num_parts']:,} parts carry different labels though they show the same "
            "(part_conflict)"
        )
    return sentences


def _part_sentences(record: Mapping[str, Any] | None) -> list[str]:
    """That labels are those of parts, and are counted so."""
    if record is None:
        return []
    return [
        f"labels are those of {record['num']:,} parts, which {record['num_images']:,} images show: each part counts once, and "
        "in the queue the view that speaks for its part stands for it"
    ]


def _words_of(
    summary: Mapping[str, Any],
) -> tuple[Sequence[str], Callable[[Mapping[str, Any]], list[str]], Callable[[Promise], str]]:
    """The headings and cells of the table of classes, and the words of the promise: of one label per image or several."""
    if summary.get(SEVERAL):
        return _HEADINGS_OF_SETS, _set_cells, partial(promise_sentence, of_sets=True)
    return _HEADINGS, _cells, promise_sentence


def _set_cells(row: Mapping[str, Any]) -> list[str]:
    """The numbers of a class under `_HEADINGS_OF_SETS`."""
    nums = (row["num_samples"], row["missing"], row["spurious"], row["gained"], row["lost"])
    return [f"{num:,}" for num in nums]


def _cells(row: Mapping[str, Any]) -> list[str]:
    """The numbers of a class under `_HEADINGS`."""
    waiting = max(row["num"] - row["lost"], 0)
    return [f"{num:,}" for num in (row["num_samples"], row["num"], row["lost"], waiting, row["gained"])]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _gate_line(gate: dict[str, Any]) -> str:
    """One finding, led by what follows from it."""
    ruled_out = [method for method in gate["forbids"] if method != "none"]
    lead = f"rules out {', '.join(ruled_out)}" if ruled_out else "note" if gate["outcome"] == "warn" else "in order"
    return f"{lead}: {gate['sentence']}"


def _reject_sentences(published: PublishedRun) -> list[str]:
    """The three most frequent causes, each with what to do, told of its first image."""
    import pyarrow.compute as pc

    from labelclean.storage.parquet import read_table

    if not published.summary["rejects"]:
        return []
    rejects = read_table(published.folder / "rejects.parquet", "rejects", ["reason_code", "message"])
    by_count = sorted(published.summary["rejects"].items(), key=lambda item: (-item[1], item[0]))
    texts = []
    for code, count in by_count[:3]:
        first = rejects.column("message")[pc.index(rejects.column("reason_code"), code).as_py()]
        texts.append(f"rejected: {count:,} x {code}, such as {first}")
    if len(by_count) > 3:
        texts.append(f"and {len(by_count) - 3} more causes; rejects.parquet names every image")
    return texts


def unusable_sentences(found: Mapping[str, Any] | None) -> list[str]:
    """Return which pictures look unusable, for people; nothing where none do.

    Args:
        found: `unusable` of the summary.

    Returns:
        Sentences.

    Examples:
        >>> unusable_sentences({"num": 3, "by_reason": {"dark": 2, "odd_size": 2}, "num_unmeasured": 0})
        ['3 pictures may show no part as they should (dark 2, odd size 2): look at them first; call those bad images on which no part can be judged.']
    """
    if not found:
        return []
    sentences = []
    if num := found["num"]:
        why = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in found["by_reason"].items())
        sentences.append(
            f"{num:,} {'picture' if num == 1 else 'pictures'} may show no part as they should ({why}): look at them first; "
            "call those bad images on which no part can be judged."
        )
    if found["num_unmeasured"]:
        sentences.append(
            f"{found['num_unmeasured']:,} pictures were stored before it was measured what they are like, and "
            "review.unusable_share is 0: nothing is said of them."
        )
    return sentences


def choice_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return on how many samples choices were made, where these are not all, for people."""
    if not summary.get("chosen_on"):
        return []
    neighbours = (summary.get("teacher") or {}).get("neighbours")
    near = (
        f"; the index held {100 * neighbours['recall_at_10']:.1f}% of the 10 nearest neighbours" if neighbours else ""
    )
    return [f"choices were made on {summary['chosen_on']:,} samples (teacher.choice_rows){near}"]


def print_summary(published: PublishedRun) -> None:
    """Print the summary for people: what is worth a look per class, what applying brings, the outputs, what to do next.

    Args:
        published: A published run.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    summary = published.summary
    _print_found(console, summary)
    for sentence in unusable_sentences(summary.get("unusable")):
        console.print(Text(sentence, style="yellow"))
    for gate in summary["gates"]:
        if gate["outcome"] != "pass":
            console.print(Text(_gate_line(gate), style="yellow"))
    for sentence in inspector_sentences(summary["inspectors"]):
        console.print(Text(sentence))
    for sentence in _reject_sentences(published):
        console.print(Text(sentence, style="yellow"))
    sentences = (*arrival_sentences(summary.get("arrivals")), *drift_sentences(summary.get("reference")))
    for sentence in (*sentences, *choice_sentences(summary)):
        console.print(Text(sentence))
    console.print(Text(f"outputs: {published.folder}"))
    if (published.folder / "report.html").is_file():
        console.print(Text(f"report: {published.folder / 'report.html'}"))
    if queue := summary["queue"]:
        console.print(Text(f"next: look at review_queue.parquet from the top: {queue_words(queue)}."))
    else:
        console.print(Text("next: read the findings above; summary.json holds every number."))


def _print_found(console: Console, summary: Mapping[str, Any]) -> None:
    """What was found, what applying it brings, and the numbers of each class."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(summary["verdict_sentence"], style="bold"))
    headings, cells, promised = _words_of(summary)
    if promise := promise_of(summary):
        console.print(Text(promised(promise), style="" if promise.is_safe else "yellow"))
    for sentence in _factory_sentences(summary):
        console.print(Text(printable(sentence)))
    if summary["label_issues"]:
        table = Table("class", box=None, pad_edge=False, header_style="dim")
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in summary["label_issues"]["by_class"]:
            table.add_row(Text(printable(row["class_name"])), *cells(row))
        console.print(table)
        console.print(Text(f"refinement: {summary['refinement']['method']} - {summary['refinement']['why']}"))
