"""What a run found, for machines (`summary.json`), for the terminal and for the flow's artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labelclean.arrivals import arrival_sentences
from labelclean.drift_report import drift_sentences
from labelclean.opinions import inspector_sentences

if TYPE_CHECKING:
    from labelclean.steps import Outcome


def build_summary(parts: dict[str, Any], *, rejects_limit: float) -> dict[str, Any]:
    """Return the summary of a run from what its steps recorded.

    Args:
        parts: Record of each step that ran, by step name.
        rejects_limit: `rejects.max_share`.

    Returns:
        JSON values; nothing in it depends on time or place.
    """
    ingest, extract = parts.get("ingest", {}), parts.get("extract", {})
    refine = parts.get("refine", {})
    num_rejects = sum(extract.get("rejects", {}).values())
    reject_share = num_rejects / max(ingest.get("num_samples", 0), 1)
    findings = [finding for part in parts.values() for finding in part.get("findings", [])]
    stopped = next((part["stopped"] for part in parts.values() if "stopped" in part), None)
    summary = {
        "num_samples": ingest.get("num_samples", 0),
        "num_rejects": num_rejects,
        "num_label_issues": refine.get("num_label_issues"),
        "class_names": ingest.get("class_names", []),
        "rejects": extract.get("rejects", {}),
        "label_issues": refine.get("label_issues"),
        "refinement": refine.get("refinement"),
        "teacher": refine.get("teacher"),
        "gates": findings,
        "reviewed": refine.get("reviewed"),
        "inspectors": refine.get("inspectors"),
        "queue": refine.get("queue"),
        "arrivals": ingest.get("arrivals"),
        "reference": refine.get("reference"),
        "out_of_core": refine.get("out_of_core"),
    }
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
    found = summary["label_issues"]
    usable = summary["num_samples"] - summary["num_rejects"]
    sentence = (
        f"{found['num']:,} of {usable:,} labels look wrong ({found['num'] / max(usable, 1):.1%}); "
        f"about {found['expected']:,.0f} are expected to be ({found['low']:,.0f} to {found['high']:,.0f})."
    )
    fell_back = summary["refinement"]["requested"] not in ("auto", summary["refinement"]["method"])
    return ("fell_back" if fell_back else "done"), sentence


def markdown_summary(outcome: Outcome) -> str:
    """Return the summary as Markdown, for the flow's artifact.

    Args:
        outcome: A published run.

    Returns:
        Markdown text.
    """
    summary = outcome.summary
    lines = [f"## {outcome.manifest['dataset']}: {summary['verdict_sentence']}", "", f"`{outcome.folder}`", ""]
    if summary["label_issues"]:
        lines += ["| class | samples | look wrong | would leave | would join |", "|---|---:|---:|---:|---:|"]
        lines += [
            f"| {row['class_name']} | {row['num_samples']:,} | {row['num']:,} | {row['lost']:,} | {row['gained']:,} |"
            for row in summary["label_issues"]["by_class"]
        ]
        lines += ["", f"Refinement: `{summary['refinement']['method']}`: {summary['refinement']['why']}"]
    lines += ["", *(f"- {sentence}" for sentence in arrival_sentences(summary.get("arrivals")))]
    lines += [f"- {sentence}" for sentence in drift_sentences(summary.get("reference"))]
    lines += ["", *(f"- {_gate_line(gate)}" for gate in summary["gates"])]
    lines += [f"- {sentence}" for sentence in inspector_sentences(summary["inspectors"])]
    return "\n".join(lines) + "\n"


def _gate_line(gate: dict[str, Any]) -> str:
    """One finding, led by what follows from it."""
    ruled_out = [method for method in gate["forbids"] if method != "none"]
    lead = f"rules out {', '.join(ruled_out)}" if ruled_out else "note" if gate["outcome"] == "warn" else "in order"
    return f"{lead}: {gate['sentence']}"


def _reject_sentences(outcome: Outcome) -> list[str]:
    """The three most frequent causes, each with what to do, told of its first image."""
    import pyarrow.compute as pc

    from labelclean.storage import read_table

    if not outcome.summary["rejects"]:
        return []
    rejects = read_table(outcome.folder / "rejects.parquet", "rejects", ["reason_code", "message"])
    found = sorted(outcome.summary["rejects"].items(), key=lambda item: (-item[1], item[0]))
    said = []
    for code, count in found[:3]:
        first = rejects.column("message")[pc.index(rejects.column("reason_code"), code).as_py()]
        said.append(f"rejected: {count:,} x {code}, such as {first}")
    if len(found) > 3:
        said.append(f"and {len(found) - 3} more causes; rejects.parquet names every image")
    return said


def out_of_core_sentences(summary: dict[str, Any]) -> list[str]:
    """Return what a run out of core did otherwise, for people."""
    if not summary.get("out_of_core"):
        return []
    neighbours = (summary.get("teacher") or {}).get("neighbours")
    near = "neighbours and near-duplicates were not looked for"
    if neighbours:
        held = 100 * neighbours["recall_at_10"]
        near = f"the index held {held:.1f}% of the 10 nearest neighbours, near-duplicates were not looked for"
    choices = summary["out_of_core"]["samples_for_choices"]
    said = [f"{summary['out_of_core']['why']}; choices were made on {choices:,} samples, {near}"]
    queue = summary.get("queue") or {}
    if queue.get("cut_from"):
        said.append(
            f"the queue holds the most doubtful of {queue['cut_from']:,} flagged samples; review.budget sets its size"
        )
    return said


def print_summary(outcome: Outcome) -> None:
    """Print the summary for people: where the outputs are, what looks wrong per class, what to do next.

    Args:
        outcome: A published run.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    summary = outcome.summary
    console.print(Text(summary["verdict_sentence"], style="bold"))
    if summary["label_issues"]:
        table = Table("class", box=None, pad_edge=False, header_style="dim")
        for heading in ("samples", "look wrong", "would leave", "would join"):
            table.add_column(heading, justify="right")
        for row in summary["label_issues"]["by_class"]:
            cells = (f"{row[key]:,}" for key in ("num_samples", "num", "lost", "gained"))
            table.add_row(Text(row["class_name"]), *cells)
        console.print(table)
        console.print(Text(f"refinement: {summary['refinement']['method']} - {summary['refinement']['why']}"))
    for gate in summary["gates"]:
        if gate["outcome"] != "pass":
            console.print(Text(_gate_line(gate), style="yellow"))
    for sentence in inspector_sentences(summary["inspectors"]):
        console.print(Text(sentence))
    for sentence in _reject_sentences(outcome):
        console.print(Text(sentence, style="yellow"))
    said = (*arrival_sentences(summary.get("arrivals")), *drift_sentences(summary.get("reference")))
    for sentence in (*said, *out_of_core_sentences(summary)):
        console.print(Text(sentence))
    console.print(Text(f"outputs: {outcome.folder}"))
    console.print(Text(f"report: {outcome.folder / 'report.html'}"))
    if summary["queue"]:
        console.print(
            Text(
                f"next: look at review_queue.parquet from the top: {summary['queue']['num']:,} samples, about "
                f"{summary['queue']['minutes']:,.0f} min; about {summary['queue']['expected']:,.0f} are expected to be wrong "
                f"({summary['queue']['low']:,.0f} to {summary['queue']['high']:,.0f}), "
                f"{summary['queue']['expected_left']:,.0f} outside."
            )
        )
    else:
        console.print(Text("next: read the findings above; summary.json holds every number."))
