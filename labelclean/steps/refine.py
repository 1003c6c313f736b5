"""Teach, judge the teacher, refine, queue: all that needs features and labels together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from labelclean.config import Config
from labelclean.decisions import reviewed_labels
from labelclean.flags import build_flags
from labelclean.gates import Verdict, judge_moves, judge_teacher
from labelclean.opinions import inspectors_record, label_opinions, review_opinions
from labelclean.outputs import (
    flag_evidence,
    flag_table,
    noise_by_column,
    queue_record,
    queue_table,
    refined_table,
    refinement_record,
    refinement_tally,
    review_queue,
    standing_record,
    teacher_measurements,
    teacher_record,
    teacher_table,
)
from labelclean.run_sums import KEPT_ROWS, RunSums, write_run_sums
from labelclean.steps.plan import plan_of
from labelclean.steps.record import INTERNAL, OPINIONS, finding_of, finding_record, goes_on, part_of, recorded
from labelclean.steps.run import known_decisions, standing_of
from labelclean.storage import read_pred_probs, read_table, write_table
from labelclean.votes import given_labels_of, groups_of


def refine(work: Path) -> bool:
    """Teach, judge the teacher, refine; leaves teacher predictions, refined labels and flags."""
    from labelclean.cleaning import fit_teacher, refine_labels, teacher_from_pred_probs
    from labelclean.feature_store import FeatureStore
    from labelclean.learning import sums_in_memory
    from labelclean.power import choose_power, powered
    from labelclean.space import build_feature_space

    with recorded(work, "refine") as (config, record):
        if plan_of(work).is_streamed:
            from labelclean.steps.refine_parts import refine_parts

            return refine_parts(work, config, record)
        samples = read_table(work / INTERNAL / "samples.parquet", "samples")
        names = tuple(part_of(work, "ingest")["class_names"])
        standing, decided = standing_of(samples, names, config, known_decisions(config))
        record["reviewed"] = standing_record(standing)
        samples = samples.filter(pa.array(~standing.is_excluded))
        decided = [one for one, is_out in zip(decided, standing.is_excluded.tolist(), strict=True) if not is_out]
        standing = standing.take(~standing.is_excluded)
        labels = reviewed_labels(given_labels_of(samples, names), standing)
        ids = samples.column("sample_id").to_pylist()
        extracted = part_of(work, "extract")
        store = FeatureStore(Path(extracted["store"]), extracted["backbone"]["num_features"])
        features = store.read(samples.column("content_hash").to_pylist())
        seed = config.run.seed
        groups = groups_of(samples)
        power = choose_power(features, ids, groups, labels, config, seed=seed)
        space = build_feature_space(
            powered(features, power), ids, groups, config, seed=seed, device=extracted["device"]
        )
        if config.teacher.pred_probs is not None:
            probs = read_pred_probs(config.teacher.pred_probs, ids, len(names))
            teacher = teacher_from_pred_probs(probs, labels, config)
        else:
            teacher = fit_teacher(space, labels, config, seed=seed)
        write_table(
            work / "teacher_predictions.parquet", teacher_table(ids, teacher, names), "teacher_predictions", names
        )
        earlier = Verdict(tuple(finding_of(row) for row in part_of(work, "check_distribution")["findings"]))
        measured = judge_teacher(teacher_measurements(teacher, labels, names), names, config.gates.top2)
        verdict = Verdict(earlier.findings + measured.findings)
        record |= {
            "findings": [finding_record(finding) for finding in measured.findings],
            "teacher": teacher_record(teacher, labels, space, names) | {"feature_power": power},
        }
        if not goes_on(verdict, config, record):
            return False
        refinement = refine_labels(space, labels, teacher, _permitted(config, verdict), allowed=verdict.allowed)
        evidence = flag_evidence(labels, teacher, refinement, space)
        flags = build_flags(evidence, config.flags, config.gates.top2.unstable_below)
        refined = refined_table(samples, refinement, space, names)
        write_table(work / "refined_labels.parquet", refined, "refined_labels", names)
        write_table(work / "flags.parquet", flag_table(ids, flags), "flags")
        queue, estimate = review_queue(ids, labels, refinement, evidence, standing.is_settled, config)
        write_table(
            work / "review_queue.parquet",
            queue_table(samples, queue, refinement, flags, space, names, config.review.neighbours),
            "review_queue",
            names,
        )
        tally = refinement_tally(labels, teacher, refinement)
        drained = judge_moves(tally.moves, tally.votes, names, config.gates.class_distribution.max_lost_share)
        record["findings"].append(finding_record(drained))
        record |= refinement_record(
            config.refine.method, refinement.method, refinement.why, refinement.noise_matrix, tally, names
        )
        single = work / INTERNAL / OPINIONS
        labelled = label_opinions(read_table(single, "labels"), ids, names) if single.is_file() else None
        reviewed = review_opinions(decided, samples, names)
        record["inspectors"] = inspectors_record(labelled, reviewed, refinement.predicted, names)
        record |= {"queue": queue_record(queue, estimate, config.review.seconds_per_sample)}
        if config.teacher.pred_probs is None:
            sums = sums_in_memory(features, space, labels, teacher, config, is_plain=power == 1.0)
            kept = np.sort(space.selection[:KEPT_ROWS])
            left = RunSums(
                class_names=names,
                backbone=extracted["backbone"]["digest"],
                decode=extracted["decode_digest"],
                seed=seed,
                folds=config.teacher.folds,
                counts=tally.votes,
                sums=sums,
                rows=features[kept].astype(np.float16),
                row_folds=space.design.folds[kept],
                noise=noise_by_column(refined),
                runs=(),
            )
            write_run_sums(work, left)
    return True


def _permitted(config: Config, verdict: Verdict) -> Config:
    """The configuration with a refinement that the gates rule out replaced by `auto`."""
    if config.refine.method in ("auto", *verdict.allowed):
        return config
    return config.model_copy(update={"refine": config.refine.model_copy(update={"method": "auto"})})
