"""The command line: exit codes, one clear line for a refusal, JSON for scripts, and nothing heavy for `--help`."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from labelclean.cli.run import _budget_item, _is_news
from labelclean.errors import ConfigError
from labelclean.storage.run_folders import file_digest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def call(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labelclean.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240, check=False)


def test_help_names_every_command() -> None:
    told = call("--help")
    assert told.returncode == 0
    assert all(command in told.stdout for command in ("init", "validate", "run"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_is_a_script_that_completes_and_changes_nothing(tmp_path: Path) -> None:
    env = os.environ | {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = (
        "labelclean --show-completion bash > script && source ./script && COMP_WORDS=(labelclean re) COMP_CWORD=1 && "
        "_labelclean_completion labelclean && echo ${COMPREPLY[@]}"
    )
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert (told.stdout, told.stderr) == ("report record\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["script"]


def test_validate_imports_no_heavy_library() -> None:
    program = (
        "import sys; from labelclean.cli import main; sys.argv = ['labelclean', 'validate', 'config.yaml']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'timm', 'prefect', 'great_expectations', 'matplotlib', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert told.returncode == 0, told.stderr
    assert "700 rows, 700 samples, 6 classes" in told.stdout


def test_bad_input_ends_with_code_2_and_one_letter(tmp_path: Path) -> None:
    told = call("run", str(ROOT / "config.yaml"), "--plain", "--set", "refine.method=magic")
    assert told.returncode == 2
    assert told.stderr.startswith("labelclean: config.yaml: 1 setting cannot be used")
    assert "Traceback" not in told.stderr
    assert call("validate", "gone.yaml", cwd=tmp_path).returncode == 2


def test_a_folder_that_is_no_run_is_refused_in_words(tmp_path: Path) -> None:
    told = call("export", str(tmp_path), "--to", "sheet", "--out", str(tmp_path / "queue"))
    assert told.returncode == 5
    assert "must be a run folder, as `labelclean run` leaves them" in told.stderr


@pytest.mark.long
def test_init_validate_run_from_another_folder(tmp_path: Path, sample_cache: Path) -> None:
    labels = ROOT / "sample_data" / "labels.parquet"
    told = call(
        "init", str(labels), "--image-root", str(labels.parent), "--out", "mine.yaml",
        "--set", "backbone.name=resnet14t",
        "--set", f"backbone.weights={labels.parent / 'backbone.safetensors'}",
        "--set", "backbone.options={channels: [16, 32, 64, 128], stem_width: 16, output_stride: 16, global_pool: catavgmax}",
        "--set", "backbone.mean=[0.5, 0.5, 0.5]",
        "--set", "backbone.std=[0.25, 0.25, 0.25]",
        "--set", "backbone.input_size=112",
        cwd=tmp_path,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert call("init", str(labels), "--out", "mine.yaml", cwd=tmp_path).returncode == 2
    run = ["run", "mine.yaml", "--plain", "--set", f"storage.cache={sample_cache}"]
    told = call(*run, "--json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    summary = json.loads(told.stdout)
    assert summary["verdict"] == "done"
    assert Path(summary["run_folder"]).parent == tmp_path / "runs"
    told = call(*run, "--set", "rejects.max_share=0", cwd=tmp_path)
    assert told.returncode == 3
    assert "rejects.max_share = 0" in told.stderr
    assert "outputs:" in told.stdout


@pytest.mark.long
def test_the_review_loop_from_queue_to_ledger_and_back(sample_run: Path, sample_cache: Path, tmp_path: Path) -> None:
    truth = dict(
        pq.read_table(ROOT / "sample_data" / "truth.parquet").select(["sample_id", "true_label"]).to_pandas().values
    )
    export, answers = tmp_path / "queue", tmp_path / "answers.csv"
    told = call("export", str(sample_run), "--to", "csv", "--out", str(export))
    assert told.returncode == 0, told.stderr
    with (export / "part_001" / "queue.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:20]:
        row["label"] = truth[row["sample_id"]]
    with answers.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    where = ["--set", f"storage.runs={tmp_path / 'runs'}", "--set", f"storage.cache={sample_cache}"]
    load = ["import", str(answers), "--from", "csv", "--export", str(export), "--config", "config.yaml", *where]
    assert json.loads(call(*load, "--json").stdout)["num_new"] == 20
    assert json.loads(call(*load, "--json").stdout)["num_new"] == 0

    disputed = next(row for row in rows[:20] if row["label"] != "ok")
    with answers.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerow(disputed | {"label": "ok"})
    assert json.loads(call(*load, "--json", "--annotator", "ben").stdout)["num_new"] == 1

    shutil.copytree(sample_run, tmp_path / "runs" / sample_run.name)
    told = call("status", "config.yaml", *where)
    assert "20 of " in told.stdout, told.stderr
    assert "suspects:" in told.stdout

    told = call("run", "config.yaml", "--plain", "--json", "--budget", "5min", *where)
    assert told.returncode == 0, told.stderr
    summary = json.loads(told.stdout)
    assert (summary["reviewed"]["settled"], summary["reviewed"]["disputed"]) == (20, 1)
    assert (summary["queue"]["num"], summary["queue"]["minutes"]) == (30, 5.0)
    assert summary["inspectors"]["reviews"]["num_shared"] == 1
    folder = Path(summary["run_folder"])
    queue = pq.read_table(folder / "review_queue.parquet").column("sample_id").to_pylist()
    assert len(queue) == 30
    assert not set(queue) & {row["sample_id"] for row in rows[:20]}
    refined = pq.read_table(folder / "refined_labels.parquet").to_pandas().set_index("sample_id")
    for row in rows[:20]:
        if row is not disputed:
            assert refined.predicted_label[row["sample_id"]] == truth[row["sample_id"]]
    soft = dict(zip(summary["class_names"], refined.soft_label[disputed["sample_id"]], strict=True))
    assert {name for name, share in soft.items() if share > 0} == {"ok", disputed["label"]}

    out = tmp_path / "labels_v2.parquet"
    apply = ["apply", str(folder), "--config", "config.yaml", "--out", str(out), *where]
    told = call(*apply)  # 5 of the 20 were drawn at random: too few to rule out harm
    assert told.returncode == 3
    assert "--unreviewed" in told.stderr
    assert not out.exists()
    assert call(*apply, "--unreviewed").returncode == 0
    original = pq.read_table(ROOT / "sample_data" / "labels.parquet")
    assert pq.read_table(out).select(original.column_names).equals(original)
    written = {row["sample_id"]: row for row in pq.read_table(out).to_pylist()}[disputed["sample_id"]]
    assert (written["review_status"], written["verified_label"]) == ("disputed", None)
    assert dict(zip(summary["class_names"], written["verified_votes"], strict=True))["ok"] == 0.5
    assert call(*apply, "--unreviewed").returncode == 5

    told = call("history", disputed["sample_id"], "--config", "config.yaml", *where, "--json")
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert sorted(event["kind"] for event in events) == ["application", "decision", "decision", "judged", "judged"]
    assert next(event["file_digest"] for event in events if event["file"]) == file_digest(out)
    assert call("history", "nobody", "--config", "config.yaml", *where).returncode == 2
    record = ["record", "--config", "config.yaml", *where, "--out"]
    assert (
        "every row is as it was written (decisions: 21, applications: 1)"
        in call(*record, str(tmp_path / "r.html")).stdout
    )
    assert call(*record, str(tmp_path / "r.csv")).returncode == 0
    assert len((tmp_path / "r.csv").read_text(encoding="utf-8-sig").splitlines()) > 700
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        ledger.execute("UPDATE decisions SET annotator_id = 'cora' WHERE place = 3")
    assert "not as it was written (places: 1)" in call(*record, str(tmp_path / "again.html")).stdout


@pytest.mark.parametrize(
    ("said", "is_news"),
    [
        ("Encountered exception during execution: TableError('x')", False),
        ("Task run failed with exception: StorageError('x') - Retries are exhausted", False),
        ("Finished in state Failed('Task run encountered an exception GateError: x')", False),
        ("Task run failed with exception: StorageError('x\ny') - Retry 1/2 will start 5 second(s) from now", True),
        ("Encountered exception during execution: ZeroDivisionError('x')", True),
    ],
)
def test_what_prefect_says_of_a_refusal_is_not_said_twice(said: str, is_news: bool) -> None:
    record = logging.LogRecord("prefect.flow_runs", logging.ERROR, "", 1, "%s", (said,), None)
    assert _is_news(record) is is_news


def test_the_report_is_written_from_a_run(sample_run: Path, tmp_path: Path) -> None:
    told = call("report", str(sample_run), "--lang", "ja", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    (page,) = tmp_path.glob("report-*.ja.html")
    assert '<html lang="ja"' in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("budget", "item"),
    [
        ("50", "review.budget=50"),
        ("45min", "review.minutes=45"),
        ("1.5h", "review.minutes=90"),
        ("7 min", "review.minutes=7"),
    ],
)
def test_a_budget_is_samples_or_time(budget: str, item: str) -> None:
    assert _budget_item(budget) == item


@pytest.mark.parametrize("budget", ["1.5", "45 s", "-3", "many", ""])
def test_a_budget_that_is_neither_is_refused(budget: str) -> None:
    with pytest.raises(ConfigError, match="--budget must be a number of samples, or a time such as 45min"):
        _budget_item(budget)


@pytest.mark.long
def test_a_window_that_is_done_is_not_cleaned_again_and_old_runs_are_pruned(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / "runs" / f"2026-11-2{number}T170000.000Z"
        folder.mkdir(parents=True)
        manifest = {"dataset": "labels.parquet", "exit_code": 0, "window": f"2026-11-2{number}"}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    where = ["--set", f"storage.runs={tmp_path / 'runs'}"]
    again = call("run", "config.yaml", "--plain", "--window", "2026-11-21", *where)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("nothing to do: window '2026-11-21' of 'labels.parquet' is done: run 2026-11-21T")
    told = json.loads(call("run", "config.yaml", "--plain", "--window", "2026-11-22", "--json", *where).stdout)
    assert told["run_folder"] == str(tmp_path / "runs" / "2026-11-22T170000.000Z")
    pruned = json.loads(call("prune", "config.yaml", "--keep", "1", "--json", *where).stdout)
    assert pruned["removed"] == ["2026-11-21T170000.000Z"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["2026-11-22T170000.000Z"]


@pytest.mark.long
def test_doctor_tells_what_is_wrong_and_ends_with_code_2(tmp_path: Path) -> None:
    where = ["--set", f"storage.runs={tmp_path / 'runs'}", "--set", f"storage.cache={tmp_path / 'cache'}"]
    told = call("doctor", "config.yaml", "--json", "--set", "backbone.weights=gone.safetensors", *where)
    assert told.returncode == 2
    (check,) = [check for check in json.loads(told.stdout) if check["outcome"] == "fail"]
    assert check["name"] == "backbone"
    assert "backbone.weights must name a file" in check["sentence"]


@pytest.mark.long
def test_the_worked_study_finds_the_habits_that_were_planted(
    sample_run: Path, sample_cache: Path, tmp_path: Path
) -> None:
    config = [str(ROOT / "config.yaml"), "--set", f"ledger.url=sqlite:///{tmp_path / 'ledger.db'}"]
    study, answers = tmp_path / "study", tmp_path / "answers"
    told = call("study", "plan", str(sample_run), "--samples", "60", "--out", str(study))
    assert "planned 60 samples (border 20, sure 20, suspected 20) for 3 x 2 sittings" in told.stdout, told.stderr
    program = [sys.executable, "-m", "sample_data.inspectors", str(study), "--out", str(answers)]
    subprocess.run(program, cwd=ROOT, check=True, capture_output=True)
    files = sorted(map(str, answers.glob("[abc]*.json")))
    standard = ["--from", "sheet", "--export", str(study / "standard"), "--config", *config]
    assert "60 new in the ledger" in call("import", str(answers / "standard.json"), *standard).stdout
    refused = call(
        "import", files[0], "--from", "sheet", "--export", str(study / "appraiser_1/trial_1"), "--config", *config
    )
    assert (refused.returncode, "decide nothing" in refused.stderr) == (2, True)
    assert "appraiser 3 (Chie), trial 2: 60 of 60" in call("study", "import", *files, "--study", str(study)).stdout
    told = call("study", "report", str(study), "--config", *config, "--ok", "ok", "--json")
    record = json.loads(told.stdout)
    missed = {row["who"]: row["outcome"] for row in record["calls"] if row["measure"] == "missed"}
    assert (missed["Aiko"], missed["Ben"], missed["Chie"]) == ("pass", "refuse", "pass")
    mixed = {(row["who"], row["true"], row["given"]) for row in record["confusions"]}
    assert {("Chie", "crack", "scratch"), ("Chie", "pore", "dent")} <= mixed
    rows = call("study", "report", "--rows", "ledger", "--config", *config, "--out", str(tmp_path / "rows"))
    assert "at least two answers to one sample are needed" in rows.stderr
    assert call("study", "report", "--config", *config).returncode == 2
