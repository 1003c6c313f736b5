"""Every refusal names value, limit and config key, and says which refinement it rules out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelclean.config import DistributionGateConfig, ShortcutsGateConfig, Top2GateConfig
from labelclean.noise.distribution import ClassMoves, DistributionReport
from labelclean.review.leaks import Leaks
from labelclean.runs.gates import (
    TeacherMeasurements,
    Verdict,
    judge_distribution,
    judge_leaks,
    judge_moves,
    judge_shortcuts,
    judge_teacher,
)

NAMES = ("ok", "scratch", "dent")
SPREAD = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
GOOD = TeacherMeasurements(
    num_classes=3,
    mean_agreement=0.95,
    unstable_share=0.05,
    worst_classes=("dent",),
    coverage=0.9,
    likelihood_gain=0.5,
    noise_matrix=SPREAD,
    estimated_noise=0.2,
)


def distribution(
    counts: list[float], psi: float | None = None, limits: DistributionGateConfig | None = None
) -> Verdict:
    array = np.array(counts)
    present = array[array > 0]
    report = DistributionReport(array, array / array.sum(), None, float(present.max() / present.min()), psi, psi)
    return judge_distribution(report, NAMES, limits or DistributionGateConfig())


def test_a_healthy_distribution_passes_and_allows_everything() -> None:
    verdict = distribution([100, 80, 90])
    assert verdict.outcome == "pass"
    assert verdict.allowed == ("two_hot", "multi_round", "adaptive", "posterior", "none")


def test_a_tiny_class_rules_out_averaging_and_is_named_with_its_limit() -> None:
    verdict = distribution([100, 80, 3])
    assert verdict.allowed == ("adaptive", "posterior", "none")
    assert "'dent' (3) has few samples, under gates.class_distribution.min_class_count = 5" in said(verdict, "two_hot")


def test_a_rare_class_only_warns() -> None:
    verdict = distribution([100, 80, 12])
    assert verdict.outcome == "warn"
    assert "two_hot" in verdict.allowed


def test_names_that_look_alike_are_refused_with_how_often_and_what_joins_them() -> None:
    counts = np.array([100.0, 3.0, 90.0])
    report = DistributionReport(counts, counts / counts.sum(), None, 33.3, None, None)
    names, limits = ("ok", "OK", "dent"), DistributionGateConfig()
    verdict = judge_distribution(report, names, limits)
    assert verdict.allowed == ("none",)
    assert "'OK' (3) and 'ok' (100). Join them in the config, such as data.spellings: {\"OK\": \"ok\"}" in said(
        verdict, "posterior"
    )
    both = judge_distribution(report, names, limits, {"ok": "ok", "OK": "OK"})
    assert "posterior" in both.allowed


def test_a_missing_class_is_named() -> None:
    assert any("no sample is labelled 'dent'" in finding.sentence for finding in distribution([100, 80, 0]).findings)


def test_one_class_alone_cannot_be_refined() -> None:
    verdict = distribution([100, 0, 0])
    assert verdict.allowed == ("none",)
    assert "1 of 3 classes have samples" in said(verdict, "posterior")


def test_imbalance_and_shift_name_their_keys() -> None:
    assert "gates.class_distribution.max_imbalance = 1000" in said(distribution([99_999, 90, 50]), "multi_round")
    shifted = distribution([100, 80, 90], psi=0.4)
    assert shifted.allowed == ("none",)
    assert "(PSI): 0.4, above gates.class_distribution.max_psi = 0.25" in said(shifted, "adaptive")


def test_a_steady_teacher_allows_two_hot() -> None:
    assert "two_hot" in judge_teacher(GOOD, NAMES, Top2GateConfig()).allowed


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"num_classes": 2}, "with two classes both always stand in the top-2 pair"),
        ({"mean_agreement": 0.7}, "0.7, below gates.top2.min_agreement = 0.8"),
        ({"unstable_share": 0.4}, "0.4, above gates.top2.max_unstable_share = 0.3"),
        ({"coverage": 0.5}, "0.5, below gates.top2.min_coverage = 0.6"),
        (
            {"noise_matrix": np.array([[0.7, 0.29, 0.01], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])},
            "97% of the errors of 'ok' go to 'scratch'",
        ),
        ({"noise_matrix": np.eye(3)}, "two-hot labels are not needed"),
    ],
)
def test_two_hot_is_ruled_out_for_its_own_reasons(change: dict[str, object], fragment: str) -> None:
    verdict = judge_teacher(replace(GOOD, **change), NAMES, Top2GateConfig())  # type: ignore[arg-type]
    assert verdict.allowed == ("multi_round", "adaptive", "posterior", "none")
    assert fragment in said(verdict, "two_hot")


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"likelihood_gain": -0.01}, "gain over the class shares, in nats per given label: -0.01, below 0"),
        ({"estimated_noise": 0.7}, "0.7, above gates.top2.max_noise = 0.6"),
    ],
)
def test_a_teacher_without_skill_or_hopeless_noise_rules_out_all_refining(
    change: dict[str, object], fragment: str
) -> None:
    verdict = judge_teacher(replace(GOOD, **change), NAMES, Top2GateConfig())  # type: ignore[arg-type]
    assert verdict.allowed == ("none",)
    assert fragment in said(verdict, "posterior")


def test_a_drained_class_is_told_with_losses_and_gains() -> None:
    moves = ClassMoves(np.array([1, 2, 8]), np.array([8, 3, 0]))
    finding = judge_moves(moves, np.array([100.0, 50.0, 10.0]), NAMES, 0.5)
    assert finding.outcome == "warn"
    assert "'dent' would lose 8 and gain 0 of its 10 samples" in finding.sentence


def said(verdict: Verdict, method: str) -> str:
    return " ".join(finding.sentence for finding in verdict.why_not(method))


@pytest.mark.parametrize(
    ("share", "outcome", "names"), [(0.3, "warn", ["camera"]), (0.05, "pass", []), (None, "pass", [])]
)
def test_what_tells_more_of_the_label_than_the_limit_warns_and_rules_nothing_out(
    share: float | None, outcome: str, names: list[str]
) -> None:
    chance = {"name": "line", "share": 0.4, "exceeds_chance": False}
    rows = [chance] if share is None else [{"name": "camera", "share": share, "exceeds_chance": True}, chance]
    finding = judge_shortcuts(rows, ShortcutsGateConfig())
    assert (finding.outcome, finding.value, finding.forbids) == (outcome, share or 0.0, ())
    assert finding.facts.get("names", []) == names


def test_leaks_warn_with_how_many_samples_would_be_left_out() -> None:
    splits = np.array([0, 1, 1, 1])
    finding = judge_leaks(Leaks(np.array([0, 0, -1, -1]), splits, ["test", "train"]))
    assert (finding.outcome, finding.value, finding.facts) == ("warn", 2.0, {"total": 1, "lost": 1})
    assert finding.sentence.startswith(
        "2 samples in 1 set of near-copies or pictures of one part stand in more than one"
    )
    assert judge_leaks(Leaks(np.full(4, -1), splits, ["test", "train"])).outcome == "pass"
