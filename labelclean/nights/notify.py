"""Who is told how a run ended: a webhook that takes Slack's JSON, and a text file for Prometheus.

Telling never fails a run: what goes wrong here is a line in the log, without the webhook's URL.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from labelclean.errors import StorageError
from labelclean.review.part_views import num_judged
from labelclean.storage.parquet import atomic_path

LOG = logging.getLogger("labelclean")
URL_VARIABLE = "LABELCLEAN_WEBHOOK_URL"
TIMEOUT_S = 5.0
MAX_CHARACTERS = 3_000
RUN_VERDICTS = ("done", "fell_back", "refused", "too_many_rejects")


@dataclass(frozen=True)
class Attempt:
    """One call of `labelclean run`, whatever came of it.

    Attributes:
        at: When it ended, with time zone.
        exit_code: What it ended with; 0 also where nothing was to do.
    """

    at: datetime
    exit_code: int


@dataclass(frozen=True)
class RunNumbers:
    """What is told of a published run.

    Attributes:
        run_id: The run.
        verdict: One of RUN_VERDICTS.
        finished: When it was published, with time zone.
        duration_s: Seconds from its start.
        num_samples: Samples it looked at.
        num_rejects: Samples whose image could not be used.
        num_issues: Labels worth a look, or None where the run stopped before.
        num_expected: Labels expected to be wrong, or None.
        num_queue: Samples in the review queue, or None.
        num_waiting: Label files that wait for the next run.
        peak_memory_bytes: Peak memory of its process.
        num_judged: Labels that were judged: of usable images, or of the parts that they show.
        num_answers: Answers that a sample has: one label, or yes or no for each class where it may have several.
    """

    run_id: str
    verdict: str
    finished: datetime
    duration_s: float
    num_samples: int
    num_rejects: int
    num_issues: int | None
    num_expected: float | None
    num_queue: int | None
    num_waiting: int
    peak_memory_bytes: int
    num_judged: int = 0
    num_answers: int = 1

    @property
    def expected_share(self) -> float | None:
        """Share of the usable samples whose label is expected to be wrong; of several labels, of the answers."""
        usable = self.num_judged * self.num_answers
        return None if self.num_expected is None or usable <= 0 else self.num_expected / usable


def run_numbers(summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> RunNumbers:
    """Return what is told of a run.

    Args:
        summary: Its `summary.json`.
        manifest: Its `manifest.json`.

    Returns:
        The numbers.
    """
    started, finished = (datetime.fromisoformat(manifest[key]) for key in ("started_at", "finished_at"))
    issues, queue = summary.get("label_issues") or {}, summary.get("queue") or {}
    return RunNumbers(
        run_id=manifest["run_id"],
        verdict=summary["verdict"],
        finished=finished,
        duration_s=(finished - started).total_seconds(),
        num_samples=summary["num_samples"],
        num_rejects=summary["num_rejects"],
        num_issues=summary["num_label_issues"],
        num_expected=issues.get("expected"),
        num_queue=queue.get("num"),
        num_waiting=len((summary.get("arrivals") or {}).get("waiting", {})),
        peak_memory_bytes=manifest["peak_memory_bytes"],
        num_judged=num_judged(summary),
        num_answers=len(summary["class_names"]) if summary.get("several_labels") else 1,
    )


def post_message(text: str, environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> bool:
    """Send a message to the webhook that the environment names, if it names one.

    Args:
        text: What to say; cut at 3,000 characters, and made safe for Slack's markup.
        environ: Environment variables; the URL is in LABELCLEAN_WEBHOOK_URL.
        timeout_s: Longest wait in seconds, all in all.

    Returns:
        Whether the webhook took it.
    """
    url = environ.get(URL_VARIABLE, "").strip()
    if not url:
        return False
    if not url.startswith(("https://", "http://")):
        LOG.warning("%s must start with https:// or http://; the message was not sent", URL_VARIABLE)
        return False
    for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # or a class name could call a whole channel
        text = text.replace(plain, safe)
    body = json.dumps({"text": text[:MAX_CHARACTERS]}, ensure_ascii=False).encode()
    outcome = ["no answer in time"]

    def send() -> None:
        try:
            request = Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")  # noqa: S310 - checked above
            with urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
                outcome[0] = "" if answer.status < 300 else f"status {answer.status}"
        except HTTPError as fault:
            outcome[0] = f"status {fault.code}"
            fault.close()
        except (OSError, ValueError, HTTPException) as fault:
            outcome[0] = type(fault).__name__  # its words could hold the URL

    sender = threading.Thread(target=send, daemon=True)  # the library's own limit is per read, not in all
    sender.start()
    sender.join(timeout_s)
    if outcome[0]:
        LOG.warning("the webhook of %s was not told (%s); the run goes on", URL_VARIABLE, outcome[0])
    return not outcome[0]


def write_prometheus(
    path: Path, dataset: str, attempt: Attempt, newest: RunNumbers | None, last_good: RunNumbers | None
) -> None:
    """Write the text file that node_exporter reads, whole or not at all.

    Args:
        path: The file, ending with .prom.
        dataset: The data set's name, a label of every line.
        attempt: How this call ended.
        newest: The newest published run, or None.
        last_good: The newest run that no gate refused, or None.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(prometheus_text(dataset, attempt, newest, last_good), encoding="utf-8")
    except (OSError, StorageError) as fault:
        LOG.warning("notify.prometheus_file: %s", fault)


def prometheus_text(dataset: str, attempt: Attempt, newest: RunNumbers | None, last_good: RunNumbers | None) -> str:
    """Return the metrics in Prometheus' text format.

    Args:
        dataset: The data set's name.
        attempt: How this call ended.
        newest: The newest published run, or None.
        last_good: The newest run that no gate refused, or None.

    Returns:
        Lines of `# HELP`, `# TYPE` and one gauge each; what is not known is left out.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    gauges: list[tuple[str, str, float | None]] = [
        ("last_attempt_timestamp_seconds", "When labelclean run was last called and ended.", attempt.at.timestamp()),
        ("last_attempt_exit_code", "Its exit code.", attempt.exit_code),
        (
            "last_success_timestamp_seconds",
            "When the newest good run was published.",
            last_good.finished.timestamp() if last_good else None,
        ),
    ]
    if newest is not None:
        gauges += [
            ("samples", "Samples of the newest run.", newest.num_samples),
            ("rejects", "Samples whose image could not be used.", newest.num_rejects),
            ("label_issues", "Labels worth a look.", newest.num_issues),
            ("expected_wrong", "Labels expected to be wrong.", newest.num_expected),
            ("expected_wrong_share", "The same as a share of the usable samples.", newest.expected_share),
            ("review_queue", "Samples in the review queue.", newest.num_queue),
            ("label_files_waiting", "Label files that wait for the next run.", newest.num_waiting),
            ("run_duration_seconds", "Duration of the newest run.", newest.duration_s),
            ("peak_memory_bytes", "Peak memory of its process.", newest.peak_memory_bytes),
        ]
    registry = CollectorRegistry()
    for key, meaning, value in gauges:
        if value is not None:
            Gauge(f"labelclean_{key}", meaning, ["dataset"], registry=registry).labels(dataset).set(value)
    if newest is not None:
        meaning = "1 for the verdict of the newest run."
        verdicts = Gauge("labelclean_verdict", meaning, ["dataset", "verdict"], registry=registry)
        for verdict in RUN_VERDICTS:
            verdicts.labels(dataset, verdict).set(verdict == newest.verdict)
    return generate_latest(registry).decode()
