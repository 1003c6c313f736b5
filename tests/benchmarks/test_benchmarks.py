"""The benchmark measures what it says, and no method sees the truth."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks import checks, cleaning_power, measures, noise_kinds, peers, results, simifeat
from benchmarks.data import DataSet, kept_apart, synthetic
from benchmarks.problem import Output, Problem

NEEDS = {"cleanlab Datalab": "datasets", "cleanlab noise rate": "cleanlab"}
NEEDS["cleanlab confident learning"] = "cleanlab"


def problem_and_truth() -> tuple[Problem, measures.Truth]:
    rng = np.random.default_rng(0)
    true = np.arange(150) % 3
    features = (np.eye(3)[true] * 3 + rng.standard_normal((150, 3))).astype(np.float32)
    given = np.where(rng.random(150) < 0.1, (true + 1) % 3, true)
    return Problem(features, given, np.arange(150) % 5, 3, 0), measures.Truth(true, features[:60], true[:60])


def answers(output: Output) -> list[bytes]:
    return [np.asarray(part).tobytes() for part in (output.scores, output.is_issue, output.predicted, output.soft)]


def test_a_method_is_given_a_problem_alone_and_a_problem_holds_no_truth() -> None:
    assert {field.name for field in dataclasses.fields(Problem)} == {
        "features",
        "given",
        "folds",
        "num_classes",
        "seed",
        "pred_probs",
        "votes",
        "audit",
    }
    for method in peers.METHODS.values():
        assert list(inspect.signature(method).parameters) == ["problem"]


@pytest.mark.parametrize("module", ["peers", "problem", "simifeat"])
def test_the_modules_of_the_methods_import_nothing_that_knows_the_truth(module: str) -> None:
    text = Path(inspect.getfile(peers)).with_name(f"{module}.py").read_text()
    assert not any(f"benchmarks.{name}" in text for name in ("data", "measures", "noise_kinds", "cleaning_power"))
    assert "truth" not in text.replace("datasets/truth", "").lower()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the peers warn of many things
@pytest.mark.parametrize("method", [name for name in peers.METHODS if name != peers.AUDITED])
def test_poisoned_truth_changes_no_answer_of_any_method(
    method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if method in NEEDS:
        pytest.importorskip(NEEDS[method])
    problem, truth = problem_and_truth()
    seen = []

    def measure(output: Output, *_: object) -> dict[str, float]:
        seen.append(answers(output))
        return {}

    monkeypatch.setattr(cleaning_power, "measure", measure)
    monkeypatch.setattr(cleaning_power, "folds_of", lambda *_: problem.folds)
    monkeypatch.setattr(cleaning_power, "noisy_labels", lambda *_: problem.given)
    for true in (truth.true, truth.true[::-1].copy()):
        data = DataSet("toy", problem.features, true, problem.features, true, np.zeros((150, 3), np.float32))
        poisoned = measures.Truth(true, problem.features, true)
        ready = (data, poisoned, measures.build_downstream(problem.features, poisoned))
        monkeypatch.setattr(cleaning_power, "prepared", lambda *_, ready=ready: ready)
        cleaning_power.run_cell(cleaning_power.Cell("toy", "uniform", 0.1, 0), {method: "digest"}, tmp_path)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("kind", list(noise_kinds.KINDS))
def test_every_noise_kind_has_its_rate(kind: str) -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(0, 4, 20_000)
    probs = rng.dirichlet(np.ones(4), 20_000) / 2
    probs[np.arange(20_000), true] += 0.5
    given = noise_kinds.KINDS[kind](true, probs, 0.2, rng)
    assert (given != true).mean() == pytest.approx(0.2, abs=0.012)


def test_uniform_noise_spreads_over_all_other_classes() -> None:
    true = np.zeros(30_000, dtype=np.int64)
    given = noise_kinds.uniform(true, np.zeros((30_000, 4)), 0.3, np.random.default_rng(0))
    assert np.bincount(given) / 30_000 == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.01)


def test_asymmetric_noise_goes_to_the_next_class_and_from_the_last_to_the_first() -> None:
    given = noise_kinds.asymmetric(np.array([0, 1, 2]), np.zeros((3, 3)), 1.0, np.random.default_rng(0))
    assert given.tolist() == [1, 2, 0]


def test_class_dependent_noise_follows_the_confusions_of_the_features() -> None:
    true = np.array([0, 1, 2] * 10)
    probs = np.array([[0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])[true]
    matrix = noise_kinds.confusion_matrix(true, probs, 0.1)
    # Off-diagonal weights plus .02 / 3: classes 0 and 1 .21333, class 2 .01333; rate .3 = factor x .44.
    assert matrix[0, 1] == pytest.approx(0.3 / 0.44 * (0.2 + 0.02 / 3))
    assert 1 - np.diag(matrix) == pytest.approx(0.3 / 0.44 * np.array([0.21333, 0.21333, 0.01333]), rel=1e-3)


def test_instance_dependent_noise_picks_the_runner_up_and_the_narrow_margins() -> None:
    true = np.zeros(20_000, dtype=np.int64)
    probs = np.tile([[0.5, 0.1, 0.4], [0.98, 0.015, 0.005]], (10_000, 1))
    wrong = noise_kinds.instance_dependent(true, probs, 0.1, np.random.default_rng(0))
    assert set(wrong[::2]) == {0, 2}
    assert set(wrong[1::2]) == {0, 1}
    ratio = (wrong[::2] > 0).mean() / (wrong[1::2] > 0).mean()
    assert ratio == pytest.approx(np.exp(3 * (0.965 - 0.1)), rel=0.2)


def test_one_tired_line_makes_most_errors() -> None:
    rng, shares = np.random.default_rng(0), []
    true = np.zeros(50_000, dtype=np.int64)
    lines = np.random.default_rng(0).integers(0, 5, 50_000)
    given = noise_kinds.tired_inspector(true, np.zeros((50_000, 3)), 0.1, rng)
    shares = [(given[lines == line] > 0).mean() for line in range(5)]
    assert shares == pytest.approx([0.34, 0.04, 0.04, 0.04, 0.04], abs=0.015)


def test_ranking_measures_agree_with_hand_numbers() -> None:
    found = measures.ranking(np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, False, True, False]))
    assert found == pytest.approx({"ap": (1 + 2 / 3) / 2, "auroc": 0.75, "top": 1.0})


def test_flag_measures_agree_with_hand_numbers() -> None:
    found = measures.flags(np.array([True, True, False, False]), np.array([True, False, True, True]))
    assert found == pytest.approx({"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5})


def test_brier_and_calibration_agree_with_hand_numbers() -> None:
    assert measures.brier(np.array([[0.8, 0.2], [0.5, 0.5]]), np.array([0, 1])) == pytest.approx((0.08 + 0.5) / 2)
    scores = np.repeat([0.2, 0.9], 200)
    right = np.arange(400) % 2 == 0
    assert measures.calibration_error(scores, right) == pytest.approx((0.3 + 0.4) / 2)


def test_a_fresh_probe_learns_separable_labels_and_swapped_labels_wrongly() -> None:
    problem, truth = problem_and_truth()
    judge = measures.build_downstream(problem.features, truth)
    clean = np.eye(3)[truth.true]
    assert judge.accuracy(clean, 0.1) > 0.9
    assert judge.accuracy(clean[:, [1, 2, 0]], 0.1) < 0.1
    assert judge.accuracy(problem.targets, 0.1, problem.given == truth.true) > 0.9


def test_three_neighbours_that_agree_prove_the_label() -> None:
    given = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1] * 20 + [1] * 200)
    near = np.where(np.arange(400)[:, None] < 200, 0, 1).repeat(2, axis=1)
    right = simifeat.clusterability(np.eye(2, dtype=np.float32)[given], near)
    assert right[0] == pytest.approx(1.0, abs=0.01)
    assert right[1] == pytest.approx(30 / 31, abs=0.01)  # 20 of 600 labels near class 0 are 1: .5 / (.5 + .5 / 30)


def test_margins_are_those_of_the_aum_package(tmp_path: Path) -> None:
    calculator = pytest.importorskip("aum").AUMCalculator(str(tmp_path))
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).standard_normal((2, 6, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2])
    for epoch in logits:
        calculator.update(torch.from_numpy(epoch), torch.from_numpy(labels), list(range(6)))
    expected = [calculator.sums[row] / calculator.counts[row] for row in range(6)]
    assert np.mean([peers.label_margins(epoch, labels) for epoch in logits], axis=0) == pytest.approx(expected)


def test_margins_agree_with_hand_numbers() -> None:
    logits = np.array([[1.0, 3.0, 0.5], [2.0, 0.0, -1.0]])
    assert peers.label_margins(logits, np.array([0, 0])).tolist() == [-2.0, 2.0]


def test_a_clean_share_of_each_class_is_kept_apart() -> None:
    true = np.repeat([0, 1], [100, 20])
    assert np.bincount(true[kept_apart(true)]).tolist() == [30, 6]


def test_the_synthetic_family_has_its_classes() -> None:
    assert np.bincount(synthetic(6)[1]).min() >= 366


def test_a_line_cut_short_by_a_kill_is_measured_again(tmp_path: Path) -> None:
    row = results.Row("a", "uniform", 0.1, 0, "m", "d", 4, {"ap": 0.5})
    store = tmp_path / "results.jsonl"
    results.append_rows(store, [row])
    with store.open("a") as file:
        file.write('{"data": "a", "ki')
    results.append_rows(store, [row._replace(seed=1)])
    assert [found.seed for found in results.read_rows(store)] == [0, 1]


def test_checks_say_what_holds_and_what_does_not() -> None:
    def rows(method: str, ap: float, f1: float) -> list[results.Row]:
        found = {"ap": ap, "f1": f1}
        return [results.Row("a", "uniform", 0.02, seed, method, "d", 9, found) for seed in range(3)]

    table = results.table_of([*rows("labelclean", 0.9, 0.5), *rows("cleanlab noise rate", 0.5, 0.6)])
    lines = checks.check_lines(table)
    assert lines[0] == "- **holds**: AP at least the best peer's in 1 of 1 cells."
    assert "0.20 of the best cleanlab's" in lines[1]
    assert lines[3].startswith("- **does not hold**: F1 at least the best peer's in 0% of cells")
    assert "(-0.100)" in checks.worst_lines(table)[1]


def test_without_cells_nothing_is_said_to_hold_or_to_fail() -> None:
    assert all("not measured" in line for line in checks.check_lines({}))


def test_the_gpu_benchmark_says_what_it_needs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from benchmarks import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu"])
    assert gpu.main() == 5
    assert "a CUDA device is needed" in capfd.readouterr().err


def test_a_part_that_is_too_slow_or_comes_too_late_is_told() -> None:
    from benchmarks.gpu import page, run_part

    slow = run_part(["-c", "import time; print('begun', flush=True); time.sleep(60)"], 3)
    assert slow == "begun\nnot finished after 3 s"
    assert run_part(["-c", ""], -1) == "left out: the eight minutes were over"
    assert page("a card", [("Tests", slow), ("Scale", "| a |")]) == (
        "# GPU\n\n`python -m benchmarks.gpu` on a card.\n\n## Tests\n\n```\nbegun\nnot finished after 3 s\n```\n\n"
        "## Scale\n\n| a |\n"
    )


def test_a_section_takes_the_place_of_the_one_with_its_heading(tmp_path: Path) -> None:
    from benchmarks.labels import INTRO, write_section

    page = tmp_path / "page.md"
    for section in ("## Boxes\n\n| old |", "## Several\n\ntext\n\n| a |", "## Boxes\n\n| new |"):
        write_section(page, section)
    assert (
        page.read_text(encoding="utf-8") == f"{INTRO.strip()}\n\n## Boxes\n\n| new |\n\n## Several\n\ntext\n\n| a |\n"
    )
