"""`poc`: a small trial on a random sample, with what the whole data set would cost and bring, and one recommendation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.cleaning.chance import find_unvouched
from labelclean.cleaning.power import choose_power, powered
from labelclean.cleaning.student import Refinement, refine_labels
from labelclean.cleaning.teacher import fit_teacher
from labelclean.config import Config
from labelclean.errors import TableError
from labelclean.labels import GivenLabels
from labelclean.noise.distribution import measure_distribution, measure_moves
from labelclean.noise.promise import RANDOM_LOOKS, WrongShare, looks_wanted, wrong_share
from labelclean.noise.readings import mixture
from labelclean.noise.scores import RandomLooks
from labelclean.probes.feature_space import build_feature_space, sample_keys
from labelclean.review.part_views import PART
from labelclean.review.queue import estimate_queue
from labelclean.runs.class_rules import check_class_settings, check_part_labels
from labelclean.runs.gates import Verdict, judge_distribution, judge_moves, judge_teacher
from labelclean.runs.ingest import samples_of
from labelclean.runs.outputs import gain_record, teacher_measurements
from labelclean.runs.run import dataset_name
from labelclean.runs.tiling import settled
from labelclean.storage.label_sets import GIVEN
from labelclean.storage.parquet import atomic_path, write_json
from labelclean.storage.samples import given_labels_of, groups_of
from labelclean.texts import Texts
from labelclean.trial.advice import ClassTrial, recommend, risks
from labelclean.trial.draw import LEAST_SAMPLES, DrawnSamples, draw_features, first_of_parts, review_size
from labelclean.trial.forecast import cleaning_seconds, measure_images, some_sources
from labelclean.trial.one_class import one_class_trial
from labelclean.trial.poc_sets import run_set_trial
from labelclean.trial.trial import Material, compare_refinements, learning_curve
from labelclean.trial.whole import Whole


def run_trial(config: Config, *, num_samples: int, seconds_per_sample: float) -> dict[str, Any]:
    """Return what a trial on some of the samples tells of all of them.

    Features that the trial extracts stay in the cache: a run on the whole data set uses them.

    Args:
        config: The configuration of the whole data set.
        num_samples: Size of the sample, drawn at random.
        seconds_per_sample: Seconds that a person takes to review one sample.

    Returns:
        JSON values: the trial's `poc.json`.

    Raises:
        LabelcleanError: If the labels, images, backbone or device cannot be used, or fewer than 60
            images of the sample can be.
    """
    samples, names, has_bytes = samples_of(config, None)
    config, is_set = settled(config), GIVEN in samples.column_names
    if not is_set:
        check_class_settings(config, names, samples.column_names, samples.num_rows)
    if samples.num_rows < LEAST_SAMPLES:
        raise TableError(
            f"poc: at least {LEAST_SAMPLES} samples are needed for a judgement, but {config.data.labels} has {samples.num_rows}. "
            "Add labels; `labelclean run` also takes fewer."
        )
    cost = measure_images(config, some_sources(config, samples, has_bytes))
    whole = Whole(config, samples, names, samples.num_rows, cost, seconds_per_sample)
    if is_set:
        return run_set_trial(whole, num_samples)
    drawn = draw_features(config, samples, names, num_samples)
    if config.data.label_of == "part":
        check_part_labels(config, samples.column(PART), samples.column("given_label"))
        whole = replace(whole, samples=first_of_parts(samples)[0])
    facts = _facts(whole, drawn)
    if len(names) == 1:
        return facts | one_class_trial(whole, drawn)
    return facts | _measured(whole, drawn)


def _facts(whole: Whole, drawn: DrawnSamples) -> dict[str, Any]:
    """What was tried on what."""
    num_samples, num_images = whole.samples.num_rows, whole.num_images
    facts = {
        "dataset": dataset_name(whole.config),
        "num_samples": num_samples,
        "num_drawn": drawn.num_drawn,
        "rejects": drawn.rejects,
        "backbone": drawn.extracted["backbone"]["name"],
        "device": drawn.extracted["device"],
        "seed": whole.config.run.seed,
    }
    return facts if num_images == num_samples else facts | {"num_images": num_images}


def write_trial(record: Mapping[str, Any], out: Path, texts: Texts) -> Path:
    """Write a trial as `poc.json` and as one HTML file beside it.

    Args:
        record: What `run_trial` returned.
        out: Folder; made where it is missing.
        texts: The language of the page.

    Returns:
        The page.
    """
    from labelclean.report.trial_page import render_trial

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "poc.json", record)
    with atomic_path(out / "poc.html") as temporary:
        temporary.write_text(render_trial(record, texts), encoding="utf-8", newline="\n")
    return out / "poc.html"


# --- inside ---------------------------------------------------------------------------------------


def _material(drawn: DrawnSamples, names: tuple[str, ...], config: Config) -> Material:
    """What classes are told apart by."""
    labels = given_labels_of(drawn.samples, names)
    ids, groups = drawn.samples.column("sample_id").to_pylist(), groups_of(drawn.samples)
    keys = sample_keys(ids, groups, num_folds=config.teacher.folds, seed=config.run.seed)
    power = choose_power(drawn.features, keys, [labels], config)
    return Material(powered(drawn.features, power), labels, ids, groups)


def _measured(whole: Whole, drawn: DrawnSamples) -> dict[str, Any]:
    """Curve, gates, comparison, classes, risks, cost and recommendation."""
    config, names = whole.config, whole.names
    material = _material(drawn, names, config)
    seed, labels = config.run.seed, material.labels
    curve = learning_curve(material, config, seed=seed)
    space = build_feature_space(material.features, material.sample_ids, material.groups, config, seed=seed)
    labels = find_unvouched(labels.given, len(names), space.groups, space.duplicate_sets).standing(labels)
    teacher = fit_teacher(space, labels, config, seed=seed)
    report = measure_distribution(labels)
    shares = judge_distribution(report, names, config.gates.class_distribution, config.data.spellings)
    taught = judge_teacher(teacher_measurements(teacher, labels, names), names, config.gates.top2)
    verdict = Verdict(shares.findings + taught.findings)
    compared = compare_refinements(material, config, verdict.allowed, seed=seed)
    auto = config.model_copy(update={"refine": config.refine.model_copy(update={"method": "auto"})})
    refined = refine_labels(space, labels, teacher, auto, allowed=verdict.allowed)
    moves = measure_moves(labels.given, refined.predicted, len(names))
    drained = judge_moves(moves, report.counts, names, config.gates.class_distribution.max_lost_share)
    findings = (*verdict.findings, drained)
    classes = _classes(labels, refined, whole)
    money = _cost(whole, drawn, refined)
    reject_share = sum(drawn.rejects.values()) / max(drawn.num_drawn, 1)
    found_share = money["found"] / max(money["num_suspects"], 1)
    warnings = risks(classes, curve, compared, findings, reject_share=reject_share, found_share=found_share)
    advice, reasons = recommend(warnings, compared, expected_errors=money["errors"], found_errors=money["found"])
    return {
        "num_judged": len(labels),
        "method": refined.method,
        "gain": _gain(refined, config, money["num_usable"]),
        "wrong": asdict(_wrong(money)),
        "recommendation": {"advice": advice, "reasons": [asdict(reason) for reason in reasons]},
        "cost": money,
        "curve": [asdict(point) for point in curve],
        "compared": [asdict(row) for row in compared],
        "classes": [asdict(row) | {"net_lost_share": row.net_lost_share} for row in classes],
        "risks": [asdict(reason) for reason in warnings],
        "gates": [asdict(finding) | {"forbids": list(finding.forbids)} for finding in findings],
    }


def _classes(labels: GivenLabels, refined: Refinement, whole: Whole) -> tuple[ClassTrial, ...]:
    names = whole.names
    full = np.rint(given_labels_of(whole.samples, names).votes.sum(axis=0)).astype(int).tolist()
    moves = measure_moves(labels.given, refined.predicted, len(names))
    counts = np.bincount(labels.given, minlength=len(names))
    errors = np.zeros((len(names), len(names)))
    np.add.at(errors, labels.given, refined.soft_labels.astype(np.float64))
    np.fill_diagonal(errors, 0.0)
    confuser, total = errors.argmax(axis=1), errors.sum(axis=1)
    return tuple(
        ClassTrial(
            name,
            full[k],
            int(counts[k]),
            int(moves.lost[k]),
            int(moves.gained[k]),
            float(refined.estimated_errors.per_class[k]),
            names[int(confuser[k])],
            float(errors[k].max() / total[k]) if total[k] > 0 else 0.0,
        )
        for k, name in enumerate(names)
    )


def _gain(refined: Refinement, config: Config, num_usable: float) -> dict[str, Any]:
    """What applying all predicted labels of the whole data set would bring: the trial's points, with the sampling's doubt."""
    tally, readings = refined.tally, refined.trust.readings
    gain, judged = gain_record(tally, readings), tally.num_samples
    by_sample = mixture(readings.beliefs.soft, refined.judged.reading_gains)
    left = max(1.0 - judged / num_usable, 0.0)
    sampling = 1.96 * 100 * float(by_sample.std()) * float(np.sqrt(left / judged))
    for low, high in (("low", "high"), ("low_after", "high_after")):
        gain[low] = round(gain["points"] - float(np.hypot(gain["points"] - gain[low], sampling)), 2)
        gain[high] = round(gain["points"] + float(np.hypot(gain[high] - gain["points"], sampling)), 2)
    return gain | {
        "num_changed": round(gain["num_changed"] * num_usable / judged),
        "is_safe": gain["num_changed"] == 0 or gain["low"] > 0,
        "num_wanted": min(looks_wanted(config.review.audit_samples), round(num_usable)),
        "num_queued": min(config.review.audit_samples, round(num_usable)),
    }


def _wrong(money: Mapping[str, Any]) -> WrongShare:
    """The share of wrong labels by the trial, and what random looks would tell of it."""
    num_usable = money["num_usable"]
    interval = (money["errors_low"] / num_usable, min(money["errors_high"] / num_usable, 1.0))
    return wrong_share(money["error_share"], interval, RandomLooks(), min(RANDOM_LOOKS, round(num_usable)))


def _cost(whole: Whole, drawn: DrawnSamples, refined: Refinement) -> dict[str, Any]:
    """What the whole data set would cost and bring: the trial's shares, with its own and the sampling's uncertainty."""
    config, judged = whole.config, drawn.samples.num_rows
    usable = whole.num_usable(drawn.num_drawn, drawn.rejects)
    up = usable / judged
    estimate = refined.estimated_errors
    sampling = 1.96 * np.sqrt(max(estimate.value, 1.0) * max(1.0 - estimate.value / judged, 0.0) * max(1 - 1 / up, 0))
    low = max(estimate.value - np.hypot(estimate.value - estimate.low, sampling), 0.0)
    high = min(estimate.value + np.hypot(estimate.high - estimate.value, sampling), float(judged))
    rows = np.flatnonzero(refined.is_label_issue)
    queue = estimate_queue(refined.label_scores, rows, np.zeros(judged, dtype=bool))
    num_review = review_size(len(rows) * up, usable, config.review.audit_samples)
    clean_s = cleaning_seconds(config, round(usable), whole.cost.num_features, len(whole.names))
    return whole.effort(usable, num_review, clean_s) | {
        "num_suspects": len(rows) * up,
        "num_changed": refined.tally.num_changed * up,
        "errors": estimate.value * up,
        "errors_low": float(low * up),
        "errors_high": float(high * up),
        "error_share": estimate.value / judged,
        "found": min(queue.expected_errors, estimate.value) * up,
    }
