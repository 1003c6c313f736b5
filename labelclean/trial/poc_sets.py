"""`poc` where images have several labels: the steps of a run on a random sample, and what they say of all images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.compute as pc

from labelclean.config import Config
from labelclean.errors import GateError
from labelclean.noise.promise import looks_wanted
from labelclean.runs.extract import extract
from labelclean.runs.ingest import ingest
from labelclean.runs.label_sets import refine_label_sets
from labelclean.runs.part_files import num_usable
from labelclean.runs.record import finding_of, part_of
from labelclean.runs.run import dataset_name, open_run
from labelclean.storage.label_sets import given_answers
from labelclean.storage.parquet import read_table
from labelclean.trial.advice import ClassTrial, recommend, risks
from labelclean.trial.draw import SAMPLE_FILE, begin_trial, check_enough, drawn_labels, review_size
from labelclean.trial.forecast import cleaning_seconds
from labelclean.trial.whole import Whole

Z_95 = 1.96


def run_set_trial(whole: Whole, num_samples: int) -> dict[str, Any]:
    """Return what a trial on some of the images tells of all of them.

    Args:
        whole: The data set, whose images have several labels.
        num_samples: How many images to draw at random.

    Returns:
        JSON values as of `poc.run_trial`, with `several_labels` and a row per class in `set_classes`; nothing is compared.

    Raises:
        GateError: If a run on these images would stop.
        LabelcleanError: As `poc.run_trial`.
    """
    config, samples = whole.config, whole.samples
    with open_run(config) as run:
        num_drawn = drawn_labels(config, samples, num_samples, run.work / SAMPLE_FILE)
        begin_trial(config, run.work, whole.names)
        ingest(run.work)
        extract(run.work)
        codes = read_table(run.work / "rejects.parquet", "rejects").column("reason_code").to_pylist()
        rejects = dict(sorted(Counter(codes).items()))
        judged = num_usable(run.work)
        check_enough(judged, num_drawn, rejects, samples.num_rows)
        goes_on = refine_label_sets(run.work)
        found, extracted = part_of(run.work, "refine"), part_of(run.work, "extract")
        if not goes_on:
            raise GateError(f"poc: {found['stopped']}")
        flags = read_table(run.work / "label_flags.parquet", "label_flags")
    facts = {
        "dataset": dataset_name(config),
        "num_samples": samples.num_rows,
        "num_drawn": num_drawn,
        "rejects": rejects,
        "backbone": extracted["backbone"]["name"],
        "device": extracted["device"],
        "seed": config.run.seed,
        "several_labels": True,
        "num_judged": judged,
        "method": found["refinement"]["method"],
    }
    full = dict(zip(whole.names, given_answers(samples).sum(axis=0).tolist(), strict=True))
    classes = [row | {"num_full": full[row["class_name"]]} for row in found["label_issues"]["by_class"]]
    likely_wrong = float(pc.sum(flags.column("score")).as_py() or 0.0)
    money = _cost(whole, facts, found["label_issues"], likely_wrong)
    return facts | _advised(facts, found, classes, flags.num_rows, money, config)


# --- inside ---------------------------------------------------------------------------------------


def _cost(whole: Whole, facts: Mapping[str, Any], issues: Mapping[str, Any], likely_wrong: float) -> dict[str, Any]:
    """What all images would cost and bring: the trial's numbers for their number, with the sampling's doubt."""
    config, judged = whole.config, facts["num_judged"]
    usable = whole.num_usable(facts["num_drawn"], facts["rejects"])
    up, expected = usable / judged, issues["expected"]
    sampling = Z_95 * np.sqrt(max(expected, 1.0) * max(1.0 - 1.0 / up, 0.0))  # wrong labels are counts
    low = max(expected - float(np.hypot(expected - issues["low"], sampling)), 0.0)
    high = expected + float(np.hypot(issues["high"] - expected, sampling))
    num_review = review_size(issues["num"] * up, usable, config.review.audit_samples)
    clean_s = cleaning_seconds(config, round(usable), whole.cost.num_features, len(issues["by_class"]))
    return whole.effort(usable, num_review, clean_s) | {
        "num_suspects": issues["num"] * up,
        "num_changed": issues["would_change"] * up,
        "errors": expected * up,
        "errors_low": low * up,
        "errors_high": high * up,
        "error_share": expected / judged,
        "found": min(likely_wrong, expected) * up,
    }


def _advised(
    facts: Mapping[str, Any],
    found: Mapping[str, Any],
    classes: Sequence[Mapping[str, Any]],
    num_flags: int,
    money: Mapping[str, Any],
    config: Config,
) -> dict[str, Any]:
    """Gates, classes, risks and the recommendation."""
    up, findings = money["num_usable"] / facts["num_judged"], [finding_of(row) for row in found["findings"]]
    trials = [_class_trial(row) for row in classes]
    warnings = risks(
        trials,
        (),
        (),
        findings,
        reject_share=sum(facts["rejects"].values()) / max(facts["num_drawn"], 1),
        found_share=money["found"] / up / max(num_flags, 1),
    )
    advice, reasons = recommend(warnings, (), expected_errors=money["errors"], found_errors=money["found"])
    return {
        "gain": _gain(found["gain"], facts["num_judged"], money["num_usable"], config),
        "recommendation": {"advice": advice, "reasons": [asdict(reason) for reason in reasons]},
        "cost": dict(money),
        "curve": [],
        "compared": [],
        "classes": [],
        "set_classes": [dict(row) for row in classes],
        "risks": [asdict(reason) for reason in warnings],
        "gates": [asdict(finding) | {"forbids": list(finding.forbids)} for finding in findings],
    }


def _class_trial(row: Mapping[str, Any]) -> ClassTrial:
    """A class with its numbers in the trial; a label that is wrong has gone to no other class."""
    errors = row["expected_missing"] + row["expected_spurious"]
    return ClassTrial(
        row["class_name"], row["num_full"], row["num_samples"], row["lost"], row["gained"], errors, "", 0.0
    )


def _gain(gain: Mapping[str, Any], judged: int, num_usable: float, config: Config) -> dict[str, Any]:
    """What applying brings on 100 images: the trial's points, with the sampling's doubt; a change is worth one answer at most."""
    left = max(1.0 - judged / num_usable, 0.0)
    sampling = Z_95 * 100 * float(np.sqrt(gain["num_changed"] * left)) / judged
    points = gain["points"]
    ends = {name: round(points - float(np.hypot(points - gain[name], sampling)), 2) for name in ("low", "low_after")}
    ends |= {name: round(points + float(np.hypot(gain[name] - points, sampling)), 2) for name in ("high", "high_after")}
    return {
        **gain,
        **ends,
        "num_changed": round(gain["num_changed"] * num_usable / judged),
        "is_safe": gain["num_changed"] == 0 or ends["low"] > 0,
        "num_wanted": min(looks_wanted(config.review.audit_samples), round(num_usable)),
        "num_queued": min(config.review.audit_samples, round(num_usable)),
    }
