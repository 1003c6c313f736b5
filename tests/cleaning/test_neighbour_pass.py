"""Neighbours by index out of core: lists and votes against slow loops, whole runs against those in memory, resume, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.large_peers import average_precision
from labelclean.cleaning import neighbour_pass as part_neighbours
from labelclean.cleaning import passes, streaming
from labelclean.cleaning.clean import clean_labels
from labelclean.cleaning.memory import Size, fitting_directions, fitting_sample, neighbours_need, streamed_need
from labelclean.cleaning.neighbour_lists import gathered_lists
from labelclean.cleaning.neighbour_pass import find_neighbours
from labelclean.cleaning.passes import Task
from labelclean.cleaning.sample import Chosen, choose_sample, read_sample
from labelclean.cleaning.shard_labels import part_labels, read_part_labels, sample_starts
from labelclean.cleaning.shards import find_shards
from labelclean.cleaning.vote_targets import VoteTargets, join_targets, new_targets, put_targets, write_given_targets
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, StorageError
from labelclean.labels import GivenLabels, given_labels
from labelclean.noise.targets import given_targets
from labelclean.probes import index as neighbour_index
from labelclean.probes.neighbours import Neighbours
from labelclean.probes.sums import unit_block
from labelclean.storage.parquet import read_config, read_json

ROOT = Path(__file__).parents[2]
INDEX = CleaningConfig.model_validate({"neighbours": {"method": "index"}, "teacher": {"landmarks": 0}})
SIZES = (130, 1, 169)


@pytest.fixture
def _all_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that looks into every cell."""
    monkeypatch.setattr(neighbour_index, "LEAST_RECALL", 2.0)
    monkeypatch.setattr(part_neighbours, "LEAST_GAIN", 0.0)


def written(folder: Path, *, with_groups: bool = True) -> tuple[Task, Chosen, np.ndarray, np.ndarray]:
    """Shards of which every seventh sample does not count; task, sample, and the unit rows and groups of all that do."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((sum(SIZES), 10)).astype(np.float32)
    groups = [f"lot{row // 5}" for row in range(sum(SIZES))]
    shards, labels, start = [], [], 0
    for number, size in enumerate(SIZES):
        np.save(folder / f"{number}.npy", rows[start : start + size])
        kept = np.arange(start, start + size) % 7 != 3
        at = start + np.flatnonzero(kept)
        keys = [groups[row] for row in at] if with_groups else None
        said = part_labels(
            at % 3, keys, [str(row) for row in at], num_folds=4, num_buckets=2, seed=0, kept=kept, with_groups=True
        )
        shards.append(folder / f"{number}.npy")
        labels.append(folder / f"labels-{number}.npz")
        said.write(labels[-1])
        start += size
    chosen, found = choose_sample(labels, 3, 1_000), find_shards(shards)
    mean = read_sample(found, chosen).mean(axis=0, dtype=np.float64)
    task = Task(found, tuple(labels), 3, 4, (mean,), None, folder, "digest")
    counts = np.arange(sum(SIZES)) % 7 != 3
    numbers = np.unique(groups, return_inverse=True)[1][counts] if with_groups else np.arange(counts.sum())
    return task, chosen, unit_block(rows[counts], mean), numbers


def neighbours_of(task: Task, chosen: Chosen, config: CleaningConfig = INDEX) -> tuple[Task, Neighbours, Neighbours]:
    """Task with lists, the sample's neighbours, and those of all samples in order."""
    unit_rows = unit_block(read_sample(task.shards, chosen), task.means[0])
    done, of_sample = find_neighbours(task, chosen, unit_rows, config)
    sizes = np.diff(sample_starts(task.labels))
    parts = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.concatenate([np.arange(size) for size in sizes])
    return done, of_sample, gathered_lists(done.lists, parts, rows, of_sample.recall)


@pytest.mark.usefixtures("_all_cells")
@pytest.mark.parametrize("with_groups", [True, False])
def test_lists_are_those_of_a_slow_loop_over_all_that_count(tmp_path: Path, with_groups: bool) -> None:
    task, chosen, rows, groups = written(tmp_path, with_groups=with_groups)
    _, of_sample, found = neighbours_of(task, chosen)
    similarity = rows @ rows.T
    hits = 0
    for row in range(len(rows)):
        strangers = [other for other in range(len(rows)) if groups[other] != groups[row]]
        nearest = sorted(strangers, key=lambda other: -similarity[row, other])[:20]
        assert not set(found.index[row].tolist()) - set(strangers)
        hits += len(set(found.index[row].tolist()) & set(nearest))
        assert found.similarity[row] == pytest.approx(similarity[row, found.index[row]], abs=2e-3)
    assert found.index.shape == (len(rows), 20)
    assert hits > 0.99 * found.index.size  # codes of two bytes swap those that are equally near
    assert of_sample.recall > 0.99
    assert (of_sample.method, found.method) == ("index", "index")
    numbers = sample_starts(task.labels)[chosen.parts] + chosen.rows
    assert np.array_equal(of_sample.index, found.index[numbers])


@pytest.mark.usefixtures("_all_cells")
def test_a_group_that_fills_the_first_search_is_searched_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, chosen, rows, _ = written(tmp_path)
    groups = np.where(np.arange(len(rows)) < 230, 7, np.arange(len(rows)))
    start = 0
    for path in task.labels:
        known = read_part_labels(path)
        replace(known, groups=groups[start : start + len(known)]).write(path)
        start += len(known)
    _, _, found = neighbours_of(task, chosen)
    assert (found.index[:230] >= 230).all()  # 26 places are mostly taken by the 230 of the same group
    monkeypatch.setattr(part_neighbours, "MOST_WANTED", 27)
    _, _, short = neighbours_of(replace(task, digest="short"), chosen)
    assert (short.index[:230] < 0).any()
    assert (short.similarity[short.index < 0] == 0).all()


def test_the_recall_is_that_of_an_exact_search_among_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_neighbours, "MOST_PROBES", 8)
    monkeypatch.setattr(neighbour_index, "WIDTHS", (2, 4))
    task, chosen, rows, _ = written(tmp_path, with_groups=False)
    unit_rows = unit_block(read_sample(task.shards, chosen), task.means[0])
    _, of_sample = find_neighbours(task, chosen, unit_rows, INDEX, 4)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -9)
    queries = np.sort(chosen.order[:200])
    numbers = sample_starts(task.labels)[chosen.parts] + chosen.rows
    hits = [
        len(set(np.argsort(-similarity[numbers[query]])[:10].tolist()) & set(of_sample.index[query].tolist()))
        for query in queries.tolist()
    ]
    assert of_sample.recall == pytest.approx(np.mean(hits) / 10, abs=0.01)
    assert of_sample.recall < 0.95  # four directions of ten do not tell the nearest apart


def test_finished_index_and_lists_are_kept_and_those_of_other_data_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, chosen, _, _ = written(tmp_path)
    (tmp_path / "whole").mkdir()
    whole, _, _ = neighbours_of(replace(task, folder=tmp_path / "whole"), chosen)
    read: list[int] = []
    blocks = passes.Blocks.of

    def stops(self: passes.Blocks, number: int) -> Iterator[passes.Block]:
        read.append(number)
        if len(read) in (2, 7):  # while the index is filled, and in the lists of shard 1
            raise KeyboardInterrupt
        return blocks(self, number)

    monkeypatch.setattr(passes.Blocks, "of", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            neighbours_of(task, chosen)
    done, _, _ = neighbours_of(task, chosen)
    assert read == [0, 1, 0, 1, 2, 0, 1, 1, 2]
    for one, other in zip(done.lists, whole.lists, strict=True):
        assert one.read_bytes() == other.read_bytes()
    neighbours_of(replace(task, digest="other"), chosen)
    assert read[9:] == [0, 1, 2] * 2
    neighbours_of(task, chosen, INDEX.model_copy(update={"neighbours": INDEX.neighbours.model_copy(update={"k": 5})}))
    assert read[15:] == [0, 1, 2] * 2


def odd_labels(num_samples: int, num_classes: int) -> GivenLabels:
    """One-hot labels, some of them verified, ruled out or of two minds."""
    random = np.random.default_rng(1)
    labels = given_labels(random.integers(0, num_classes, num_samples), num_classes)
    observed = labels.votes.copy()
    labels.votes[5] = np.eye(num_classes)[2]
    labels.candidates[5] = np.arange(num_classes) == 2
    labels.candidates[8, int(labels.votes[8].argmax())] = False
    labels.votes[11] = observed[11] = np.bincount([0, 1], minlength=num_classes) / 2
    return GivenLabels(labels.votes, labels.candidates, observed)


@pytest.mark.parametrize("num_classes", [4, 300])
def test_votes_from_the_disk_are_those_of_a_slow_loop(tmp_path: Path, num_classes: int) -> None:
    random = np.random.default_rng(2)
    labels = odd_labels(40, num_classes)
    parts, paths = (slice(0, 25), slice(25, 25), slice(25, 40)), []
    for number, rows in enumerate(parts):
        some = labels.take(np.arange(40)[rows])
        ids = [str(row) for row in range(40)][rows]
        paths.append(tmp_path / f"{number}.npz")
        part_labels(some, None, ids, num_folds=3, num_buckets=1, seed=0).write(paths[-1])
    write_given_targets(tmp_path / "votes.npy", paths, sample_starts(paths), num_classes)
    index = random.integers(-1, 40, (6, 7))
    similarity = random.uniform(-0.2, 1, (6, 7)).astype(np.float32)
    found = VoteTargets(tmp_path / "votes.npy", num_classes)(Neighbours(index, similarity))
    # a class ruled out spreads over all others: of 299 equal shares 32 are kept
    targets = given_targets(labels)
    wanted = np.zeros((6, num_classes))
    for row, place in np.ndindex(index.shape):
        if index[row, place] >= 0 and (num_classes == 4 or index[row, place] != 8):
            wanted[row] += similarity[row, place].clip(0) * targets[index[row, place]]
    assert found == pytest.approx(wanted, abs=1e-3 if num_classes == 4 else 4e-3)
    assert targets[5].tolist() == np.eye(num_classes)[2].tolist()


@pytest.mark.parametrize("num_classes", [20, 300])
def test_posteriors_of_single_shards_are_joined_in_order(tmp_path: Path, num_classes: int) -> None:
    random = np.random.default_rng(0)
    probs = np.zeros((5, num_classes), dtype=np.float32)
    probs[:, random.permutation(num_classes)[:20]] = random.dirichlet(np.ones(20), 5)  # 32 of 300 hold all of it
    for name, rows in (("a", [1, 0]), ("c", [2, 4, 3])):
        with new_targets(tmp_path / name, len(rows), num_classes) as kept:
            put_targets(kept, np.array(rows) - min(rows), probs[rows])
    join_targets(tmp_path / "all.npy", [tmp_path / name for name in "abc"], 5, num_classes)
    alone = Neighbours(np.arange(5)[:, None], np.ones((5, 1), dtype=np.float32))
    assert VoteTargets(tmp_path / "all.npy", num_classes)(alone) == pytest.approx(probs, abs=1e-3)
    assert not (tmp_path / "a").exists()


def rings(num_samples: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Many small clusters whose classes no plane tells apart; true and given classes, a tenth of them wrong."""
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 48, num_samples)
    true = random.integers(0, 3, 48)[cluster]
    centres = random.standard_normal((48, 8))
    features = (centres[cluster] + 0.25 * random.standard_normal((num_samples, 8))).astype(np.float32)
    wrong = random.random(num_samples) < 0.1
    return features, true, np.where(wrong, (true + random.integers(1, 3, num_samples)) % 3, true)


def cleaned(folder: Path, features: np.ndarray, given: np.ndarray, groups: list[str] | None = None) -> pa.Table:
    """Table of a run out of core over three shards in `folder`, whose results go to `out`."""
    if not folder.exists():
        folder.mkdir()
        for number, rows in enumerate((slice(0, 400), slice(400, 401), slice(401, len(given)))):
            np.save(folder / f"{number}.npy", features[rows])
    streaming.clean_shards(
        features=folder, labels=given, groups=groups, out=folder / "out", seed=5, config=INDEX, sample_rows=5_000
    )
    return refined(folder / "out")


def refined(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "refined_labels").glob("*.parquet"))])


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, pa.Table]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbour_index, "LEAST_RECALL", 2.0)
        patch.setattr(part_neighbours, "LEAST_GAIN", 0.0)
        folder = tmp_path_factory.mktemp("near") / "shards"
        features, _, given = rings(1_200)
        yield folder, cleaned(folder, features, given, [f"lot{row // 3}" for row in range(1_200)])


@pytest.mark.slow
def test_where_the_sample_holds_all_and_all_cells_are_searched_memory_gives_the_same(
    streamed: tuple[Path, pa.Table],
) -> None:
    folder, table = streamed
    features, _, given = rings(1_200)
    lots = [f"lot{row // 3}" for row in range(1_200)]
    config: dict[str, Any] = {
        "neighbours": {"method": "exact"},
        "teacher": {"landmarks": 0, "left_out": "fold", "power": 1.0},
    }
    wanted = clean_labels(given, features=features, groups=lots, seed=5, config=config)
    assert (wanted.refinement.duplicate_sets == -1).all()
    assert wanted.teacher.view_names[:2] == ("ridge", "votes")
    soft = np.stack(table.column("soft_label").to_pylist())
    assert np.quantile(np.abs(soft - wanted.soft_labels), 0.995) < 5e-3
    gaps = np.abs(table.column("label_score").to_numpy() - wanted.table["label_score"].to_numpy())
    assert np.quantile(gaps, 0.99) < 1e-2
    for column in ("predicted_label", "is_label_issue"):
        assert (table.column(column).to_numpy(zero_copy_only=False) != wanted.table[column].to_numpy()).sum() <= 2
    assert read_json(folder / "out" / "summary.json")["neighbours"] == {"method": "index", "recall_at_10": 1.0}
    assert not list((folder / "out" / "work" / "neighbours").rglob("*.npy"))


@pytest.mark.slow
def test_neighbours_find_what_planes_do_not(streamed: tuple[Path, pa.Table], tmp_path: Path) -> None:
    folder, table = streamed
    _, true, given = rings(1_200)
    none = {"neighbours": {"method": "auto"}, "teacher": {"landmarks": 0}}
    streaming.clean_shards(features=sorted(folder.glob("*.npy")), labels=given, out=tmp_path / "o", seed=5, config=none)
    with_, without = (
        average_precision(one.column("label_score").to_numpy(), given != true)
        for one in (table, refined(tmp_path / "o"))
    )
    assert with_ > 0.85
    assert without < 0.7
    assert read_json(tmp_path / "o" / "summary.json")["neighbours"] is None


@pytest.mark.slow
@pytest.mark.usefixtures("_all_cells")
def test_a_killed_run_with_neighbours_goes_on_and_ends_alike(
    streamed: tuple[Path, pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "CHECKPOINT_ROWS", 1)
    read: list[int] = []
    blocks = passes.Blocks.of

    def stops(self: passes.Blocks, number: int) -> Iterator[passes.Block]:
        if len(read) in (7, 12, 15):  # lists, student, outputs
            read.append(-1)
            raise KeyboardInterrupt
        read.append(number)
        return blocks(self, number)

    monkeypatch.setattr(passes.Blocks, "of", stops)
    features, _, given = rings(1_200)
    lots = [f"lot{row // 3}" for row in range(1_200)]
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            cleaned(tmp_path / "killed", features, given, lots)
    table = cleaned(tmp_path / "killed", features, given, lots)
    assert [number for number in read if number >= 0] == [0, 1, 2] * 5
    assert table.equals(streamed[1])


def test_memory_for_neighbours_is_reckoned_before_anything_starts(tmp_path: Path) -> None:
    million = Size(10**6, 768, 20)
    assert neighbours_need(million, 64) > 10**6 * 2 * (2 * 64 + 8)
    assert streamed_need(million, INDEX, 50_000, 64) < 2 * 2**30
    directions = fitting_directions(million, INDEX, 4 * 2**30)
    assert directions >= 256
    rows = fitting_sample(million, INDEX, 50_000, 4 * 2**30, directions)
    assert streamed_need(million, INDEX, rows, directions) <= 4 * 2**30
    assert fitting_directions(million, INDEX, 2 * 2**30) < directions
    assert fitting_directions(million, CleaningConfig(), 4 * 2**30) == 0
    with pytest.raises(ConfigError, match=r"leave neighbours out \(neighbours.method: none\)"):
        fitting_sample(Size(10**8, 768, 20), INDEX, 50_000, 4 * 2**30, 64)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["neighbours.method=exact"], r"auto, index or none, but is 'exact', which compares all pairs"),
        (["neighbours.method=index", "run.reference=runs/before"], r"of earlier samples only sums are kept"),
    ],
)
def test_what_neighbours_cannot_do_out_of_core_is_refused_in_runs(overrides: list[str], said: str) -> None:
    from labelclean.runs.plan import _check_streamed

    config = read_config(ROOT / "config.yaml", overrides)
    with pytest.raises(ConfigError, match=said):
        _check_streamed(config, "out of core")


def test_a_disk_that_refuses_the_index_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(index: object, file_name: str) -> None:
        raise RuntimeError("write error in: No space left on device")

    monkeypatch.setattr(part_neighbours, "write_cells", full)
    task, chosen, _, _ = written(tmp_path)
    with pytest.raises(StorageError, match="cannot be written: write error in: No space left"):
        neighbours_of(task, chosen)
    assert not list((tmp_path / "neighbours").glob("*.npz"))


def test_clean_shards_refuses_exact_neighbours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'exact', which compares all pairs"):
        streaming.clean_shards(
            features=tmp_path, out=tmp_path / "o", seed=0, config={"neighbours": {"method": "exact"}}
        )
    assert not (tmp_path / "o").exists()
