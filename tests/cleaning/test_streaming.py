"""`clean_shards` block by block: planted truth, resume, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.cleaning import passes, streaming
from labelclean.cleaning.clean import clean_labels
from labelclean.cleaning.stage import Block
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, StorageError, TableError
from labelclean.labels import given_labels
from labelclean.storage.tables import matrix, vectors

CONFIG = CleaningConfig.model_validate(
    {"neighbours": {"method": "none"}, "teacher": {"landmarks": 60, "choice_rows": 400}}
)
SIZES = (301, 1, 558, 240)


def planted(num_samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Float16 features of separable clusters, true and given classes, and groups of three."""
    random = np.random.default_rng(3)
    true = random.integers(0, 4, num_samples)
    features = (4.0 * np.eye(4, 12)[true] + random.standard_normal((num_samples, 12)) + 2.0).astype(np.float16)
    wrong = random.random(num_samples) < 0.1
    given = np.where(wrong, (true + random.integers(1, 4, num_samples)) % 4, true)
    return (
        features,
        true,
        np.array(["ok", "dent", "scratch", "stain"])[given],
        [f"lot{i // 3}" for i in range(num_samples)],
    )


def write_shards(folder: Path, features: np.ndarray, given: np.ndarray, groups: list[str]) -> None:
    """Parquet shards of odd sizes with all columns."""
    folder.mkdir()
    for number, (start, end) in enumerate(zip(np.cumsum([0, *SIZES[:-1]]), np.cumsum(SIZES), strict=True)):
        rows = slice(start, end)
        columns = {"sample_id": [f"s{i:05d}" for i in range(start, end)], "given_label": given[rows]}
        table = pa.table(columns | {"group_id": groups[rows], "feature": vectors(features[rows])})
        pq.write_table(table, folder / f"shard-{number}.parquet", row_group_size=200)


def refined(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(part) for part in sorted((folder / "refined_labels").glob("*.parquet"))])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features, _, given, groups = planted(sum(SIZES))
    folder = tmp_path_factory.mktemp("shards") / "features"
    write_shards(folder, features, given, groups)
    return folder


@pytest.fixture(scope="module")
def streamed(shards: Path) -> tuple[streaming.CleanedShards, pa.Table]:
    found = streaming.clean_shards(features=shards, out=shards.parent / "out", seed=5, config=CONFIG)
    return found, refined(found.folder)


def test_the_planted_errors_are_found_and_told(streamed: tuple[streaming.CleanedShards, pa.Table]) -> None:
    found, table = streamed
    _, true, given, _ = planted(sum(SIZES))
    wrong = given != np.array(["ok", "dent", "scratch", "stain"])[true]
    issue = table.column("is_label_issue").to_numpy(zero_copy_only=False)
    assert table.column("sample_id").to_pylist() == [f"s{i:05d}" for i in range(sum(SIZES))]
    assert table.column("given_label").to_pylist() == given.tolist()
    assert (issue & wrong).sum() > 0.9 * wrong.sum()
    assert (found.num_samples, found.num_issues) == (sum(SIZES), issue.sum())
    assert found.estimated_errors[1] <= wrong.sum() <= found.estimated_errors[2]
    soft = np.stack(table.column("soft_label").to_pylist())
    predicted = np.array(found.class_names)[soft.argmax(axis=1)]
    assert (predicted == table.column("predicted_label").to_numpy(zero_copy_only=False)).all()


def test_a_killed_run_goes_on_and_ends_alike(
    shards: Path, streamed: tuple[streaming.CleanedShards, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "CHECKPOINT_ROWS", 1)
    read: list[int] = []
    blocks = passes.Blocks.of

    def stops(self: passes.Blocks, number: int) -> Iterator[Block]:
        if len(read) in (2, 6, 11):  # once in each pass
            read.append(-1)
            raise KeyboardInterrupt
        read.append(number)
        return blocks(self, number)

    monkeypatch.setattr(passes.Blocks, "of", stops)
    out = shards.parent / "killed"
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            streaming.clean_shards(features=shards, out=out, seed=5, config=CONFIG)
    streaming.clean_shards(features=shards, out=out, seed=5, config=CONFIG)
    assert [number for number in read if number >= 0] == [0, 1, 2, 3] * 3
    assert refined(out).equals(streamed[1])


def test_a_small_sample_still_finds_the_planted_errors(tmp_path: Path) -> None:
    features, true, given, _ = planted(9_000)
    np.save(tmp_path / "a.npy", features[:4_001])
    np.save(tmp_path / "b.npy", features[4_001:].astype(np.float32))
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    out = tmp_path / "out"
    streaming.clean_shards(features=files, labels=given, out=out, seed=0, config=CONFIG, sample_rows=5_000)
    table = refined(out)
    wrong = given != np.array(["ok", "dent", "scratch", "stain"])[true]
    issue = table.column("is_label_issue").to_numpy()
    assert (issue & wrong).sum() > 0.9 * wrong.sum()
    assert (issue & ~wrong).sum() < 0.02 * len(wrong)
    assert table.column("sample_id").to_pylist() == [str(row) for row in range(9_000)]


def test_too_little_memory_is_refused_with_the_need_before_anything_starts(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least [\d,]+ MiB .* Nothing was started"):
        streaming.clean_shards(features=shards, out=tmp_path / "out", seed=0, max_memory="100MiB")
    assert not (tmp_path / "out").exists()


def test_results_of_other_data_are_not_overwritten(
    shards: Path, streamed: tuple[streaming.CleanedShards, pa.Table]
) -> None:
    with pytest.raises(StorageError, match="another seed"):
        streaming.clean_shards(features=shards, out=streamed[0].folder, seed=6, config=CONFIG)


def test_a_run_of_another_version_does_not_go_on(
    shards: Path, streamed: tuple[streaming.CleanedShards, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    streaming.clean_shards(features=shards, out=streamed[0].folder, seed=5, config=CONFIG)  # that of its own does
    monkeypatch.setattr(streaming, "version", lambda _: "0.0.1", raising=False)
    with pytest.raises(StorageError, match="another version of labelclean"):
        streaming.clean_shards(features=shards, out=streamed[0].folder, seed=5, config=CONFIG)


def test_repeated_ids_and_bad_numbers_are_named(tmp_path: Path) -> None:
    features, _, given, groups = planted(sum(SIZES))
    features[700, 3] = np.nan
    write_shards(tmp_path / "bad", features, given, groups)
    with pytest.raises(TableError, match=r"NaN or infinity"):
        streaming.clean_shards(features=tmp_path / "bad", out=tmp_path / "out", seed=0, config=CONFIG)
    pq.write_table(pq.read_table(tmp_path / "bad" / "shard-1.parquet"), tmp_path / "bad" / "shard-9.parquet")
    with pytest.raises(TableError, match=r"distinct over all shards.*s00301"):
        streaming.clean_shards(features=tmp_path / "bad", out=tmp_path / "out2", seed=0, config=CONFIG)


@pytest.mark.long
def test_above_256_classes_the_likeliest_stand_in_pairs(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    num_classes = 260
    true = np.repeat(np.arange(num_classes), 8)
    centres = 6.0 * random.standard_normal((num_classes, 24))
    features = (centres[true] + random.standard_normal((len(true), 24))).astype(np.float16)
    wrong = random.random(len(true)) < 0.05
    given = np.where(wrong, (true + random.integers(1, num_classes, len(true))) % num_classes, true)
    np.save(tmp_path / "a.npy", features)
    config = {"neighbours": {"method": "none"}, "teacher": {"landmarks": 0, "lambdas": [0.001, 0.01]}}
    out = tmp_path / "out"
    streaming.clean_shards(features=[tmp_path / "a.npy"], labels=given, out=out, seed=0, config=config)
    table = refined(out)
    assert "soft_label" not in table.column_names
    index, prob = (matrix(table.column(f"soft_label_topk_{name}")) for name in ("index", "prob"))
    assert index.shape == prob.shape == (len(true), 32)
    assert (np.diff(prob, axis=1) <= 0).all()
    assert (index[:, 0] == table.column("predicted_label").to_numpy()).all()
    assert np.abs(prob.sum(axis=1) - 1).max() < 0.05
    right = (table.column("predicted_label").to_numpy() == true).mean()
    assert right > (given == true).mean() + 0.01


def test_sums_on_a_device_are_those_of_the_processor() -> None:
    random = np.random.default_rng(0)
    rows, targets = random.standard_normal((50, 6)).astype(np.float32), random.random((50, 3)).astype(np.float32)
    labels = given_labels(random.integers(0, 3, 50), 3)
    block = Block((rows,), np.sort(random.integers(0, 4, 50)), np.zeros(50, int), labels, np.arange(50))
    states = []
    for adder in (passes._Adder, lambda state, folds: passes._DeviceAdder(state, folds, "cpu")):
        state = {"count": np.zeros(4), "targets": np.zeros((4, 3)), "cross0": np.zeros((4, 6, 3))}
        state |= {"total0": np.zeros((4, 6)), "gram0": np.zeros((4, 6, 6))}
        adding = adder(state, 4)
        adding.add(block, targets)
        adding.add(block, targets)
        adding.finish()
        states.append(state)
    assert states[0]["count"].sum() == 100
    wanted = 2 * sum(np.outer(row, row) for row in rows.astype(np.float64))
    assert states[0]["gram0"].sum(axis=0) == pytest.approx(wanted, abs=1e-4)
    for name, value in states[0].items():
        assert states[1][name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.gpu
def test_labels_from_a_gpu_are_those_of_the_processor(
    shards: Path, streamed: tuple[streaming.CleanedShards, pa.Table]
) -> None:
    out = shards.parent / "gpu"
    streaming.clean_shards(features=shards, out=out, seed=5, config=CONFIG, device="cuda")
    gaps = np.abs(refined(out).column("label_score").to_numpy() - streamed[1].column("label_score").to_numpy())
    assert gaps.max() < 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("choice_rows", [1_000, 200])
def test_bad_numbers_are_named_wherever_they_stand(value: float, choice_rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    given = np.arange(600) % 2
    features = (3 * np.eye(2, 8)[given] + random.standard_normal((600, 8))).astype(np.float32)
    for row in (3, 4, 5, 6):  # a third of the samples chooses: with a few rows both kinds are met
        bad = features.copy()
        bad[row, 5] = value
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(TableError, match=rf"bad.npy: .* NaN or infinity: rows \[{row}\]"):
            streaming.clean_shards(
                features=tmp_path / "bad.npy", labels=given, out=tmp_path / f"{row}", seed=0, sample_rows=choice_rows
            )


@pytest.mark.parametrize("sample_rows", [None, 200], ids=["held together", "in passes"])
def test_one_class_in_shards_is_ranked_as_in_memory(tmp_path: Path, sample_rows: int | None) -> None:
    random = np.random.default_rng(0)
    centres = np.concatenate([np.eye(24)[random.integers(0, 6, 480)], np.eye(24)[6 + np.arange(12)]])
    features = (3 * centres + 0.3 * random.standard_normal(centres.shape)).astype(np.float32)
    config = {"neighbours": {"odd_share": 12 / 492}}
    for number, rows in enumerate((slice(0, 200), slice(200, 492))):
        np.save(tmp_path / f"part-{number}.npy", features[rows])
    found = streaming.clean_shards(
        features=sorted(tmp_path.glob("*.npy")), labels=["good"] * 492, out=tmp_path / "out", seed=0, config=config,
        sample_rows=sample_rows,
    )  # fmt: skip
    table = refined(found.folder)
    assert found.num_issues == 12
    assert np.flatnonzero(table.column("is_label_issue").to_numpy()).tolist() == list(range(480, 492))
    assert set(table.column("predicted_label").to_pylist()) == {"good"}
    in_memory = clean_labels(["good"] * 492, features=features, seed=0, config=config).table
    same, scores = in_memory.label_score.to_numpy(), table.column("label_score").to_numpy()
    assert np.corrcoef(np.argsort(np.argsort(scores)), np.argsort(np.argsort(same)))[0, 1] > 0.99
    if sample_rows is None:  # in passes neighbours come from an index
        assert scores == pytest.approx(same, abs=1e-6)
